"""The gap between the demonstration's domains, split into looks and shapes.

python -m benchmarks.efficacy.demo_gap FOLDER [--seed S] [any option of simgan eval-gaze, such as --seeds 3]

A gaze estimator is trained on FOLDER/data/synthetic, and one on labelled camera images (oracle). Both are tested on
camera/test. The first is also tested on new synthetic eyes (held out), and on clean renders of the eyes of camera/test
(control). The error of the control above held-out eyes is due to gaze and shapes; the error of camera/test above the
control is due to looks.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from simgan_cli.demo.dataset import BATCH_IMAGES, camera_eyes, synthetic_eyes, write_images, write_labels
from simgan_cli.demo.dataset import test_count as count_of_tests
from simgan_cli.demo.eye_world import CLEAN_LOOK, FACE, Eyes, render

SIZE = (35, 55)
ESTIMATOR = "resnet"


def main() -> int:
    """Write the sets, train, test, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=6000)
    options, extra = parser.parse_known_args()
    folder, seed = options.folder, options.seed
    data = folder / "data"
    simgan("demo-data", data, "--seed", seed, "--count", options.count)
    if not (folder / "control").exists():
        count = count_of_tests(options.count)
        write_clean(folder / "control", clean(camera_eyes(count, np.random.default_rng([seed, 2])), seed))
        write_clean(folder / "held-out", synthetic_eyes(count, [seed, 3]))
    common = ["--estimator", ESTIMATOR, "--overwrite", "--quiet", *extra]
    trained = folder / "camera"
    sets = ["--train", f"synthetic={data / 'synthetic'}", "--real-train", data / "camera" / "oracle"]
    simgan("eval-gaze", *sets, "--test", data / "camera" / "test", "--out", trained, *common)
    rows = {("camera/test", row["name"]): row for row in results(trained)}
    networks = [trained / "estimators" / f"synthetic-{ESTIMATOR}-seed{number}" for number in seeds_of(trained)]
    loads = [argument for i, path in enumerate(networks) for argument in ("--load", f"synthetic-{i}={path}")]
    for name in ("control", "held-out"):
        simgan("eval-gaze", *loads, "--test", folder / name, "--out", folder / f"on-{name}", *common)
        rows |= {(name, row["name"]): row for row in results(folder / f"on-{name}")}
    print("| tested on | trained on | error, deg | 95% |\n|---|---|---|---|")
    for (test, train), row in rows.items():
        print(f"| {test} | {train} | {row['mean']:.2f} | {row['ci95'][0]:.2f}-{row['ci95'][1]:.2f} |")
    return 0


def clean(eyes: Eyes, seed: int) -> Eyes:
    """Return eyes with the same gaze and shapes, and a renderer's look."""
    shapes = eyes.parameters.keys() - CLEAN_LOOK.keys()
    same = {name: getattr(eyes, name).ravel() for name in shapes}
    return Eyes.draw(np.random.default_rng([seed, 4]), len(eyes), {**FACE, **CLEAN_LOOK}, **same)


def write_clean(folder: Path, eyes: Eyes) -> None:
    """Write clean renders with their labels."""
    parts = (eyes[start : start + BATCH_IMAGES] for start in range(0, len(eyes), BATCH_IMAGES))
    for _ in write_images(folder, (np.rint(255 * render(part, SIZE)).astype(np.uint8) for part in parts)):
        pass
    write_labels(folder / "labels.csv", eyes, SIZE)


def simgan(*arguments: object) -> None:
    """Run the program; if it fails, exit with its output."""
    subprocess.run([sys.executable, "-m", "simgan_cli", *map(str, arguments)], check=True, stdout=sys.stderr)


def seeds_of(folder: Path) -> range:
    """Return the seeds of an evaluation; estimators of other seeds may lie beside its own."""
    settings = json.loads((folder / "results.json").read_text())["settings"]
    return range(settings["seed"], settings["seed"] + settings["seeds"])


def results(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of an evaluation, without the constant guess."""
    rows = json.loads((folder / "results.json").read_text())["rows"]
    return [row for row in rows if row["estimator"] != "mean"]


if __name__ == "__main__":
    sys.exit(main())
