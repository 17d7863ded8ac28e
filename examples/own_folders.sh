#!/usr/bin/env bash
# Two folders of images, and nothing else: train, look, refine.
#
#     examples/own_folders.sh SYNTHETIC_DIR REAL_DIR OUT_DIR
#
# Rerun it after an interruption: it resumes. Any setting may be given by name, such as SIMGAN_TRAIN_STEPS=2000.
set -euo pipefail
synthetic=${1:?SYNTHETIC_DIR} real=${2:?REAL_DIR} out=${3:?OUT_DIR}

# 1. Learn the refiner. Read OUT_DIR/run/report.html meanwhile.
simgan train --synthetic "$synthetic" --real "$real" --out "$out/run" --resume auto

# 2. Does its history work?
simgan inspect-buffer "$out/run" --score --grid "$out/history.png"

# 3. Refine everything, labels carried along, and measure how far content moved.
simgan refine "$synthetic" --model "$out/run" --out "$out/refined" --skip-existing --check-labels --compare "$out/sheet.png"
