"""Does refining help an estimator of joints? Toy hands in depth, clean and as a depth camera sees them.

    python -m benchmarks.efficacy.points WORK [--seed 0 1 2] [--steps 400] [--estimator-steps 400] [any flag of train]

For each seed a refiner is trained between clean hands and camera hands without labels. One kind of estimator is trained
on clean, refined and labelled camera hands (oracle), and tested on other camera hands. The table has the mean error in
pixels of images of 48x48, and the share of joints within 5 px; --json writes both with all limits as a line. An
interrupted command resumes.
"""

import argparse
import csv
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks._record import machine
from benchmarks.efficacy.demo_gap import simgan
from benchmarks.speed._table import print_head, print_row
from simgan_cli.gaze.scores import with_seeds

SIZE = 48  # pixels
N_FINGERS, PALM_RADIUS, FINGER_RADIUS = 4, 7.0, 2.4
JOINTS = ("palm", *(f"{part}{finger}" for finger in range(N_FINGERS) for part in ("middle", "tip")))
COUNTS = {"synthetic": 800, "real": 800, "test": 400}
LIMIT = "5"  # pixels, as in the paper's Table 4
Array = NDArray[np.float64]


def draw(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Return depth N x SIZE x SIZE, 0 in the background and up to 1 near by, and joints N x 9 x 2 in pixels."""
    palm = rng.uniform((20, 29), (28, 35), (count, 2))
    turn = rng.uniform(-0.5, 0.5, count) - np.pi / 2
    grid = np.moveaxis(np.mgrid[:SIZE, :SIZE][::-1] + 0.5, 0, -1)
    relief = _relief(_distances(grid, palm, palm), PALM_RADIUS)
    joints = [palm]
    for finger in range(N_FINGERS):
        angle = turn + 0.38 * (finger - (N_FINGERS - 1) / 2) + rng.normal(0, 0.08, count)
        root = palm + (PALM_RADIUS - 1) * _direction(angle)
        middle = root + rng.uniform(5, 8, (count, 1)) * _direction(angle)
        tip = middle + rng.uniform(4, 7, (count, 1)) * _direction(angle + rng.uniform(-0.7, 0.7, count))
        for start, end in ((root, middle), (middle, tip)):
            relief = np.maximum(relief, _relief(_distances(grid, start, end), FINGER_RADIUS))
        joints += [middle, tip]
    tilt = np.einsum("hwc,nc->nhw", grid / SIZE - 0.5, rng.uniform(-0.3, 0.3, (count, 2)))
    return np.where(relief > 0, np.clip(0.6 + tilt + 0.15 * relief, 0.2, 1), 0), np.stack(joints, axis=1)


def seen_by_a_depth_camera(depth: Array, rng: np.random.Generator) -> Array:
    """Return depth with ragged edges, noise and coarse steps, and 0 in the projector's shadow and where it missed."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    jitter = np.rint(rng.normal(0, 0.5, (2, *depth.shape))).astype(int)
    places = (np.clip(axis + by, 0, SIZE - 1) for axis, by in zip((rows, columns), jitter, strict=True))
    ragged = depth[np.arange(len(depth))[:, None, None], *places]
    left, right, above, below = (np.roll(ragged, by, axis) == 0 for by, axis in ((1, 2), (-1, 2), (1, 1), (-1, 1)))
    in_shadow, at_edge = left, right | above | below  # the projector stands to the right
    missing = rng.random(depth.shape) < np.where(in_shadow, 0.7, np.where(at_edge, 0.2, 0.02))
    noisy = np.rint(40 * (ragged + rng.normal(0, 0.02, depth.shape))) / 40
    return np.where((ragged > 0) & ~missing, np.clip(noisy, 0.05, 1), 0)


def _direction(angle: Array) -> Array:
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _distances(grid: Array, start: Array, end: Array) -> Array:
    """Return how far each pixel lies from the lines between points N x 2, N x SIZE x SIZE."""
    along, from_start = (end - start)[:, None, None], grid - start[:, None, None]
    share = (from_start * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-9)
    distances: Array = np.linalg.norm(from_start - share.clip(0, 1)[..., None] * along, axis=-1)
    return distances


def _relief(distances: Array, radius: float) -> Array:
    """Return the height of a ball of that radius, from 0 to 1."""
    return np.sqrt(np.maximum(1 - (distances / radius) ** 2, 0))


def write(folder: Path, depth: Array, joints: Array) -> None:
    """Write 16-bit PNGs and labels.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(depth):
        Image.fromarray(np.rint(65535 * image).astype(np.uint16)).save(folder / f"{number:04}.png")
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", *(f"{name}_{axis}" for name in JOINTS for axis in "xy")])
        table.writerows([f"{number:04}.png", *of_image.ravel().round(3)] for number, of_image in enumerate(joints))


def measure(work: Path, seed: int, options: argparse.Namespace, flags: Sequence[str]) -> list[dict[str, Any]]:
    """Train a refiner and the estimators with a seed; return the rows of results.json without the constant guess."""
    folder = work / f"seed{seed}"
    # Small networks for depth: no tones of photographs, and absolute distance has to stay.
    networks = ["--preset", "hands", "--size", f"{SIZE}x{SIZE}", "--refiner-width", 8, "--refiner-blocks", 3]
    networks += ["--refiner-kernel", 3, "--refiner-block-kernel", 3, "--psi", "identity"]
    sets = ["--synthetic", work / "synthetic", "--real", work / "real", "--target", "points"]
    simgan("train", *sets, *networks, "--steps", options.steps, "--batch-size", 16, "--seed", seed, "--out",
           folder / "run", "--resume", "auto", "--quiet", *flags)  # fmt: skip
    simgan("refine", work / "synthetic", "-m", folder / "run", "-o", folder / "refined", "--skip-existing", "--quiet")
    simgan("eval-gaze", "--target", "points", "--train", f"synthetic={work / 'synthetic'}",
           "--train", f"refined={folder / 'refined'}", "--real-train", work / "real", "--test", work / "test",
           "--steps", options.estimator_steps, "--seed", seed, "--out", folder / "table", "--skip-existing",
           "--quiet")  # fmt: skip
    rows: list[dict[str, Any]] = json.loads((folder / "table" / "results.json").read_text())["rows"]
    return [row for row in rows if row["estimator"] != "mean"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the sets, measure with each seed, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400, help="of the refiner")
    parser.add_argument("--estimator-steps", type=int, default=400)
    parser.add_argument("--json", type=Path, help="file to add a line of results to")
    options, flags = parser.parse_known_args(arguments)
    rng = np.random.default_rng(0)
    for name, count in COUNTS.items():
        depth, joints = draw(rng, count)
        write(options.work / name, depth if name == "synthetic" else seen_by_a_depth_camera(depth, rng), joints)
    by_seed = [measure(options.work, seed, options, flags) for seed in options.seed]
    rows = [
        {
            "name": of_row[0]["name"],
            "errors_px": [row["mean"] for row in of_row],
            "within": {limit: [row["within"][limit] for row in of_row] for limit in of_row[0]["within"]},
        }
        for of_row in zip(*by_seed, strict=True)
    ]
    print_head(("trained on", "error, px (95% over seeds)", f"within {LIMIT} px"), f"seeds {options.seed}")
    for row in rows:
        errors, shares = np.array(row["errors_px"]), np.array(row["within"][LIMIT])
        low, high = with_seeds(errors, errors.mean(), errors.mean())
        print_row((row["name"], f"{errors.mean():.2f} ({low:.2f} to {high:.2f})", f"{shares.mean():.1%}"))
    if options.json is not None:
        command = shlex.join(["python", "-m", "benchmarks.efficacy.points", *(arguments or sys.argv[1:])])
        line = {"job": "toy hands", "rows": rows, "seeds": options.seed, "command": command, "machine": machine()}
        with options.json.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
