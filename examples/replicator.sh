#!/usr/bin/env bash
# Train on a folder of Omniverse Replicator's BasicWriter, and refine it: rgb_0000.png beside masks, boxes and depth.
#
#     examples/replicator.sh OUTPUT_DIR PHOTOS_DIR OUT_DIR [any option of simgan train, such as --size 128x128]
#
# Semantic masks are colour PNGs, too: only rgb_*.png are pictures. Rerun it after an interruption.
set -euo pipefail
renders=${1:?OUTPUT_DIR} photos=${2:?PHOTOS_DIR} out=${3:?OUT_DIR}

simgan train --synthetic "$renders" --real "$photos" --out "$out/run" --include 'rgb_*.png' --resume auto "${@:4}"
simgan refine "$renders" --model "$out/run" --out "$out/refined" --skip-existing # the model knows which are pictures
