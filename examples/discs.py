"""Two toy domains, clean discs and discs from a poor camera, and a refiner trained between them.

python examples/discs.py FOLDER [any option of simgan train, such as --steps 300]

Look at FOLDER/run/samples: the refined discs take on the camera's blur and grey and stay in place. The grain differs
in every photo. The default refiner can make some from the random maps beside the image; with --no-noise it cannot.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

SIZE = 32  # pixels


def disc(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a bright disc of random place and radius on black, SIZE x SIZE."""
    x, y = rng.uniform(8, SIZE - 8, 2)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return np.where((columns - x) ** 2 + (rows - y) ** 2 < rng.uniform(4, 8) ** 2, 230, 20).astype(np.uint8)


def seen_by_a_camera(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the image blurred, of low contrast and grainy."""
    blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1.5)), dtype=float)
    return np.clip(50 + 0.7 * blurred + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def main() -> int:
    """Write both domains, then train."""
    folder, rng = Path(sys.argv[1]), np.random.default_rng(0)
    for name, count in (("renders", 400), ("photos", 200)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = disc(rng)
            if name == "photos":
                image = seen_by_a_camera(image, rng)
            Image.fromarray(image).save(folder / name / f"{number:03}.png")
    command = [sys.executable, "-m", "simgan_cli", "train", "--out", str(folder / "run")]
    command += [
        "--synthetic",
        str(folder / "renders"),
        "--real",
        str(folder / "photos"),
        "--refiner-width",
        "16",
        "--lambda",
        "1",
    ]
    return subprocess.run([*command, *sys.argv[2:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
