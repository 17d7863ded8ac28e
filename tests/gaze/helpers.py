"""Small labelled eyes: discs whose place tells the direction."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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


def write_csv(folder: Path, count: int, seed: int, persons: int = 0) -> Path:
    """Write PNGs and labels.csv."""
    images, gaze, centres = discs(count, seed)
    folder.mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "gx", "gy", "gz", "pupil_x", "pupil_y", *(["person"] if persons else [])])
        for index, image in enumerate(images):
            Image.fromarray(image).save(folder / f"{index}.png")
            person = [f"p{index % persons:02}"] if persons else []
            table.writerow([f"{index}.png", *gaze[index], *centres[index], *person])
    return folder
