#!/usr/bin/env bash
# Hand pose of Shrivastava et al. (CVPR 2017), Sec. 3.2 and Table 4, from NYU's hands as released.
#
#     examples/paper_hands.sh NYU_DIR OUT_DIR [VIEWS, such as "1 2 3"]
#
# NYU_DIR holds train and test. The paper's shares of joints within 5 px, for comparison:
#
#     synthetic 69.7    refined 72.4    real 74.5    synthetic of three views 77.7    refined of three views 83.3
#
# The refiner has the paper's networks (--preset hands) and the default recipe. The estimator is ours; the paper's is like
# a stacked hourglass network. Ours reads depth in 8 bits, 1.3 mm a level; the refiner has 16. This has not run on all
# frames yet. eval-gaze holds all images in memory, 4 GB for each set of one view.
set -euo pipefail
nyu=${1:?NYU_DIR} out=${2:?OUT_DIR} views=${3:-1}

# 1. Depth cut to the hand, 224x224, and 14 joints.
python "$(dirname "$0")/nyu_hands.py" "$nyu" "$out" $views

# 2. The refiner, and the refined set. identity, since the offset of an image is distance, which must stay.
simgan train --synthetic "$out/train/synthetic" --real "$out/train/real" --preset hands --psi identity --target points \
  --out "$out/run" --resume auto
simgan refine "$out/train/synthetic" --model "$out/run" --out "$out/refined" --skip-existing

# 3. The table, and the share of joints within each distance.
simgan eval-gaze --target points --train synthetic="$out/train/synthetic" --train refined="$out/refined" \
  --real-train "$out/train/real" --test "$out/test/real" --seeds 3 --out "$out/table" --skip-existing
