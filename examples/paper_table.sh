#!/usr/bin/env bash
# The table and figure of Shrivastava et al. (CVPR 2017), Sec. 3.1, from UnityEyes and MPIIGaze as downloaded.
#
#     examples/paper_table.sh UNITYEYES_DIR MPIIGAZE_DIR OUT_DIR
#
# UNITYEYES_DIR holds N.jpg and N.json; MPIIGAZE_DIR holds Data/Normalized and "Evaluation Subset". Needs
# pip install '.[plots]' in the checkout. The paper's mean errors in degrees on MPIIGaze, for comparison:
#
#     CNN on synthetic 11.2    CNN on refined 7.8    k-NN on synthetic 9.9
#
# The real eyes are the 45,000 images of the evaluation subset. Without labels they train the refiner, and with labels
# they are the test: errors on eyes that the refiner has not seen may be larger.
#
# The refiner is that of the default recipe at the paper's width (--preset eyes), not of --recipe paper. This has not run
# on all of UnityEyes (the paper: 1.2 million renders) and MPIIGaze yet.
set -euo pipefail
renders=${1:?UNITYEYES_DIR} mpiigaze=${2:?MPIIGAZE_DIR} out=${3:?OUT_DIR}

# 1. Eyes of 35x55, equalized: renders cut to the eye by their landmarks, real ones unchanged, without their labels.
python - "$renders" "$mpiigaze" "$out" <<'PYTHON'
import csv
import sys
from pathlib import Path

from PIL import Image

from simgan_cli.gaze.labels import LabelFormat
from simgan_cli.gaze.readers import read

renders, mpiigaze, out = map(Path, sys.argv[1:])
for name, source in (("synthetic", renders), ("real", mpiigaze)):
    eyes = read(source, LabelFormat(size=(35, 55), preprocess="equalize"))
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(eyes.pixels):
        Image.fromarray(pixels).save(folder / f"{index:07}.png")
    if name == "synthetic":
        with (folder / "labels.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", "gx", "gy", "gz"])
            table.writerows([f"{index:07}.png", *gaze] for index, gaze in enumerate(eyes.targets))
PYTHON

# 2. The refiner, and the refined set.
simgan train --synthetic "$out/synthetic" --real "$out/real" --preset eyes --out "$out/run" --resume auto
simgan refine "$out/synthetic" --model "$out/run" --out "$out/refined" --skip-existing

# 3. The table, the curve and the error map.
simgan eval-gaze --train synthetic="$out/synthetic" --train refined="$out/refined" --test "$mpiigaze" --preprocess equalize \
  --estimator cnn --estimator knn --seeds 3 --out "$out/table" --skip-existing
