"""Small labelled eyes: discs whose position encodes the gaze."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray
from PIL import Image

from simgan_cli.engine.export.network_folder import save_network
from simgan_cli.engine.method.gaze_estimator import Estimator

HEIGHT, WIDTH = 35, 55


def discs(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Return images N x 35 x 55, gaze vectors N x 3 and the discs' centres N x 2."""
    rng = np.random.default_rng(seed)
    pitch, yaw = rng.uniform(-0.3, 0.3, (2, count))
    gaze = -np.stack([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)], axis=1)
    centres = np.array([WIDTH / 2, HEIGHT / 2]) + 30 * gaze[:, :2]
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    near = (x - centres[:, 0, None, None]) ** 2 + (y - centres[:, 1, None, None]) ** 2 < 36
    images = np.where(near, 30, 200) + rng.integers(-20, 20, (count, HEIGHT, WIDTH))
    return images.astype(np.uint8), gaze, centres


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as a table with the columns of the first."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def write_csv(folder: Path, count: int, seed: int, persons: int = 0) -> Path:
    """Write PNGs and labels.csv."""
    images, gaze, centres = discs(count, seed)
    folder.mkdir(parents=True)
    rows = []
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}.png")
        labels = dict(zip(("gx", "gy", "gz", "pupil_x", "pupil_y"), (*gaze[index], *centres[index]), strict=True))
        person = {"person": f"p{index % persons:02}"} if persons else {}
        rows.append({"file": f"{index}.png"} | labels | person)
    write_table(folder / "labels.csv", rows)
    return folder


def write_unityeyes(folder: Path, images: Any, gaze: Any, centres: Any) -> Path:
    """Put each 35x55 image where the eye window will cut it out of a 640x480 render."""
    folder.mkdir()
    for index, (image, vector, centre) in enumerate(zip(images, gaze, centres, strict=True), 1):
        render = np.full((480, 640), 128, np.uint8)
        render[200:235, 300:355] = image
        Image.fromarray(render).save(folder / f"{index}.png")
        middle_x, middle_y, half = 327.5, 480 - 217.5, 55 / 1.6 / 2
        margin = [(middle_x - half, middle_y - 5), (middle_x + half, middle_y + 5)]
        x, y = 300 + centre[0], 480 - (200 + centre[1])
        labels = {
            "interior_margin_2d": [f"({a:.6f}, {b:.6f}, 50.0)" for a, b in margin],
            "iris_2d": [f"({x - 3:.6f}, {y:.6f}, 50.0)", f"({x + 3:.6f}, {y:.6f}, 50.0)"],
            "eye_details": {"look_vec": f"({vector[0]:.9f}, {-vector[1]:.9f}, {vector[2]:.9f}, 0.0)"},
        }
        (folder / f"{index}.json").write_text(json.dumps(labels))
    return folder


def write_mpiigaze(root: Path, counts: dict[str, int]) -> dict[str, dict[str, NDArray[np.uint8]]]:
    """Write a day of noise images for each person in the published layout; return images by person and side."""
    rng = np.random.default_rng(0)
    written = {}
    for person, count in counts.items():
        images = {
            side: rng.integers(0, 255, (count, 36, 60), dtype=np.uint8, endpoint=True) for side in ("left", "right")
        }
        sides = {
            side: {"image": pixels, "gaze": np.tile([0.1, -0.2, -0.97], (count, 1)), "pose": np.zeros((count, 3))}
            for side, pixels in images.items()
        }
        folder = root / "Data" / "Normalized" / person
        folder.mkdir(parents=True)
        names = np.array([[f"{i:04}.jpg"] for i in range(count)], dtype=object)
        scipy.io.savemat(folder / "day01.mat", {"data": sides, "filenames": names})
        written[person] = images
    return written


def write_estimator(
    folder: Path, preprocess: str = "none", size: tuple[int, int] = (35, 55), target: str = "gaze"
) -> Path:
    """Write an estimator of random weights as an evaluation does."""
    save_network(folder, Estimator("resnet", *size, target), {"made_of": {"preprocess": preprocess}}, {})
    return folder
