#!/usr/bin/env bash
# Refine a detection data set of COCO (images/, annotations/) or YOLO (images/, labels/, data.yaml).
#
#     examples/detection.sh DATA_DIR MODEL OUT_DIR
#
# Boxes stay right because pixels stay in place; --check-labels measures that. Rerun it after an interruption.
set -euo pipefail
data=${1:?DATA_DIR} model=${2:?MODEL} out=${3:?OUT_DIR}

# Panoptic masks in annotations/ are PNGs, too: pictures lie in images/ alone.
simgan refine "$data" --model "$model" --out "$out" --include images --skip-existing --check-labels

# A `path` in YOLO's data.yaml names the old folder, so training would read unrefined images.
if [ -f "$out/data.yaml" ]; then
    sed -i.old "s|^path:.*|path: $(cd "$out" && pwd)|" "$out/data.yaml"
    rm "$out/data.yaml.old"
fi
