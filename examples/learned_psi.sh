#!/usr/bin/env bash
# Self-regularization on the features of a gaze estimator: psi is the convolutional part of one trained on the renders.
#
#     examples/learned_psi.sh LABELLED_RENDERS_DIR REAL_DIR OUT_DIR [LAMBDA]
#
# LABELLED_RENDERS_DIR has a labels.csv; REAL_DIR needs none. The scale of learned features is arbitrary, so LAMBDA is
# auto by default, which needs 80 images in each folder.
set -euo pipefail
renders=${1:?LABELLED_RENDERS_DIR} real=${2:?REAL_DIR} out=${3:?OUT_DIR} lambda=${4:-auto}
case $out in *[,=]*) echo "OUT_DIR $out: choose a name without , and =, which have a meaning in --psi" >&2 && exit 2 ;; esac

# 1. An estimator from one half of the renders, tested on the other half. It never sees a real image.
python - "$renders" "$out" <<'PYTHON'
import csv
import shutil
import sys
from pathlib import Path

renders, out = map(Path, sys.argv[1:])
rows = list(csv.DictReader((renders / "labels.csv").open()))
for name, half in (("fit", rows[::2]), ("check", rows[1::2])):
    folder = out / name
    for row in half:
        (folder / row["file"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(renders / row["file"], folder / row["file"])
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(half)
PYTHON
simgan eval-gaze --train fit="$out/fit" --test "$out/check" --estimator cnn --out "$out/estimator" --skip-existing

# 2. A refiner that keeps those features; all else is free.
simgan train --synthetic "$renders" --real "$real" --out "$out/run" --resume auto \
  --psi "$out/estimator/estimators/fit-cnn-seed0" --lambda "$lambda"
