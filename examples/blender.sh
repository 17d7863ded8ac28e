#!/usr/bin/env bash
# Train on frames that Blender's File Output nodes wrote, and refine them: Image0001.png beside Depth0001.exr, Mask0001.png.
#
#     examples/blender.sh RENDERS_DIR PHOTOS_DIR OUT_DIR [any option of simgan train, such as --size 128x128]
#
# Film > Transparent gives frames without a background: photographs go behind them. Rerun it after an interruption.
set -euo pipefail
renders=${1:?RENDERS_DIR} photos=${2:?PHOTOS_DIR} out=${3:?OUT_DIR}

simgan train --synthetic "$renders" --real "$photos" --out "$out/run" --include 'Image*.png' --background real \
    --resume auto "${@:4}"
simgan refine "$renders" --model "$out/run" --out "$out/refined" --skip-existing # the model knows which are pictures
