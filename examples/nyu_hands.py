"""NYU's hands as released, cut to the hand: 16-bit depth of 224x224, and 14 joints in labels.csv.

    python examples/nyu_hands.py NYU OUT [VIEW ...]

NYU holds `train` and `test` with `depth_V_NNNNNNN.png`, `synthdepth_V_NNNNNNN.png` and `joint_data.mat`. OUT gets
`train/synthetic`, `train/real` and `test/real`. VIEW is 1, the frontal camera, by default. Training takes all views
given; the test takes view 1.

The paper crops real images by their synthetic ones (Sec. 3.2): the window and the nearest point are those of the
synthetic hand. Depth is scaled as in depth_hands.py, where the paper subtracts 2000 mm.
"""

import csv
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import scipy.io
from depth_hands import Depth, scaled
from numpy.typing import NDArray
from PIL import Image

from simgan_cli.data.decoding import Preparation, read_pixels

# The 14 of 36 joints that Tompson et al. (TOG 2014) evaluate. Names: joint_names of joint_data.mat; conv_joint_names,
# which the release's evaluate_predictions.m prints, has the 14. Places: restrictedJointsEval of NYUImporter in
# github.com/moberweger/deep-prior-pp, src/data/importers.py, which takes view 1, the first of joint_uvd, too.
JOINTS = {
    0: "F1_KNU3_A", 3: "F1_KNU2_B", 6: "F2_KNU3_A", 9: "F2_KNU2_B", 12: "F3_KNU3_A", 15: "F3_KNU2_B", 18: "F4_KNU3_A",
    21: "F4_KNU2_B", 24: "TH_KNU3_A", 25: "TH_KNU3_B", 27: "TH_KNU2_B", 30: "PALM_1", 31: "PALM_2", 32: "PALM_3",
}  # fmt: skip
SIZE = 224  # pixels, Sec. 3.2
MARGIN = 10  # pixels of the release around the synthetic hand, which may miss parts of the real one
SLACK = 20  # mm that the real hand may be nearer than the synthetic one
Window = tuple[float, float, float]  # left, top, side


def window_of(synthetic: Depth) -> Window:
    """Return the square around the pixels that are not 0."""
    rows, columns = np.nonzero(synthetic)
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    side = max(bottom - top, right - left) + 2 * MARGIN
    return (left + right - side) / 2, (top + bottom - side) / 2, side


def cut(depth: Depth, window: Window) -> Depth:
    """Return the window as SIZE x SIZE, 0 beyond the image; nearest pixels, since a mean of two depths is no depth."""
    left, top, side = window
    steps = (np.arange(SIZE) + 0.5) * side / SIZE
    rows, columns = (np.floor(start + steps).astype(int) for start in (top, left))
    height, width = depth.shape
    inside = ((rows >= 0) & (rows < height))[:, None] & (columns >= 0) & (columns < width)
    return np.where(inside, depth[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)], 0).astype(np.uint16)


def moved(joints: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    """Return joints K x 2 in pixels of the cut image, with centres at +0.5, from indices of pixels of the release."""
    left, top, side = window
    return (joints + 0.5 - (left, top)) * SIZE / side


def convert(part: Path, view: int, uv: NDArray[np.float64], out: dict[str, Path], frame: int) -> list[object] | None:
    """Write a frame (from 0) to the folder of each kind; return its line of labels.csv, None where it has no hand."""
    name = f"{view}_{frame + 1:07}.png"
    depths = {
        kind: read_pixels(part / f"{kind}_{name}", Preparation(pixels="packed16"))[0] for kind in ("synthdepth", *out)
    }
    synthetic = depths["synthdepth"]
    if not synthetic.any():
        return None
    window, nearest = window_of(synthetic), float(synthetic[synthetic > 0].min()) - SLACK
    for kind, folder in out.items():
        levels, _ = scaled(cut(depths[kind], window), nearest)
        Image.fromarray(levels).save(folder / name)
    return [name, *moved(uv[frame], window).ravel().round(3)]


def main() -> None:
    """Convert the training set of all views, both domains, and the real test set of the first."""
    source, target = map(Path, sys.argv[1:3])
    views = [int(view) for view in sys.argv[3:]] or [1]
    domains = {"synthdepth": "synthetic", "depth": "real"}
    for part, kinds, taken in (("train", ("synthdepth", "depth"), views), ("test", ("depth",), [1])):
        folders = {kind: target / part / domains[kind] for kind in kinds}
        uvd = scipy.io.loadmat(source / part / "joint_data.mat")["joint_uvd"]  # views x frames x 36 x (u, v, mm)
        lines = []
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        for view in taken:
            uv = uvd[view - 1][:, list(JOINTS), :2].astype(float)
            with ThreadPoolExecutor() as pool:
                frames = pool.map(partial(convert, source / part, view, uv, folders), range(len(uv)))
                lines += [line for line in frames if line is not None]
        for folder in folders.values():
            with (folder / "labels.csv").open("w", newline="") as file:
                table = csv.writer(file)
                table.writerow(["file", *(f"{name}_{axis}" for name in JOINTS.values() for axis in "xy")])
                table.writerows(lines)


if __name__ == "__main__":
    main()
