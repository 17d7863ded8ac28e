#!/usr/bin/env bash
# Refine a data set in the ImageFolder layout of Hugging Face `datasets`: images with metadata.csv beside them.
#
#     examples/imagefolder.sh DATA_DIR MODEL OUT_DIR
#
# metadata.csv names images by relative path, so each row stays with its image. Rerun it after an interruption.
set -euo pipefail
data=${1:?DATA_DIR} model=${2:?MODEL} out=${3:?OUT_DIR}

simgan refine "$data" --model "$model" --out "$out" --skip-existing

echo "from datasets import load_dataset; dataset = load_dataset('imagefolder', data_dir='$out')"
