"""UnityEyes renders: N.json beside N.jpg, cut to the eye."""

import re
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simgan_cli.data.decoding import stored_size
from simgan_cli.data.texts import read_text
from simgan_cli.data.tree import read_tree
from simgan_cli.errors import DataError, UnreadableImage
from simgan_cli.files import parse_json
from simgan_cli.gaze.labels import LabelFormat, Sample
from simgan_cli.gaze.layouts.common import Samples, decode_grey, describe_content, match_images

EYE_SIZE = (35, 55)  # H, W of the paper's eyes
LABEL_NAME = re.compile(r"\d+(_\d+)?\.json")  # a second number, of the look, may follow that of the render
LANDMARKS = ("interior_margin_2d", "caruncle_2d", "iris_2d")
EYE_WINDOW = 1.6  # width of the window round an eye, in widths of the box of its lid margin


def is_unityeyes_folder(path: Path) -> bool:
    """Return whether a folder holds N.json."""
    return path.is_dir() and any(LABEL_NAME.fullmatch(entry.name) for entry in path.iterdir())


def read_unityeyes(folder: Path, label_format: LabelFormat) -> Samples:
    """Return a sample for each N.json; its image is cropped to the eye and resized to `size`, by default 35x55.

    Raises DataError for JSON that is not UnityEyes', or that has no image or several.
    """
    tree = read_tree(folder, label_format.patterns)
    labels = [name for name in tree.others if LABEL_NAME.fullmatch(name.rpartition("/")[2])]
    if not labels:
        raise DataError(
            f"{folder}: found {describe_content(folder)}; wanted N.json beside N.jpg, as UnityEyes writes them"
        )
    images, warnings = match_images(tree, [label.removesuffix(".json") for label in labels], folder)
    taken = [(image, label) for image, label in zip(images, labels, strict=True) if label_format.patterns.takes(image)]
    return [_sample(folder, image, label, label_format) for image, label in taken], warnings


def _sample(folder: Path, image: str, label: str, label_format: LabelFormat) -> Sample:
    path, size, names = folder / label, label_format.size or EYE_SIZE, tuple[str, ...]()
    try:
        content = parse_json(read_text(path))
        margin = np.array([parse_vector(text)[:2] for text in content["interior_margin_2d"]])
        if label_format.target == "gaze":
            look_x, look_y, look_z, *_ = parse_vector(content["eye_details"]["look_vec"])
        elif label_format.target == "pupil":
            points = np.mean([parse_vector(text)[:2] for text in content["iris_2d"]], axis=0, keepdims=True)
        else:
            points = np.array([parse_vector(text)[:2] for key in LANDMARKS for text in content[key]])
            names = tuple(f"{key.removesuffix('_2d')}_{n}" for key in LANDMARKS for n in range(len(content[key])))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: not the JSON of a UnityEyes render ({type(error).__name__}: {error}); render or copy it again"
        ) from error
    if margin.ndim != 2 or not np.isfinite(margin).all() or np.ptp(margin[:, 0]) <= 0:
        raise DataError(f"{path}: interior_margin_2d spans no box; remove this render")
    height, _ = stored_size(folder / image)
    left, top, width, rows = eye_window(margin, height, size)
    crop = partial(_cropped, folder / image, (left, top, width, rows), size)
    if label_format.target == "gaze":
        return Sample(image, crop, (look_x, -look_y, look_z))  # Unity's y points up
    x, y = points.T
    inside = np.stack([(x - left) * size[1] / width, (height - y - top) * size[0] / rows], axis=1)
    return Sample(image, crop, inside.ravel(), points=names)


def parse_vector(text: str) -> list[float]:
    """Return the three or four numbers of "(x, y, z)". Raises ValueError for anything else.

    In some locales UnityEyes writes decimal commas, "(0,0100, 0,2000, -0,9800)"; a blank follows each separator.
    """
    numbers = [float(part.replace(",", ".")) for part in text.strip("()").split(", ")]
    if len(numbers) not in (3, 4):
        raise ValueError(f"{text[:40]!r} is not (x, y, z)")
    return numbers


def eye_window(margin: NDArray[np.float64], height: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the window round an eye as left, top, width, height in pixels, y down.

    It has the aspect of `size` (H, W), and the centre and 1.6 times the width of the box of the lid's margin. `margin`
    are points with y up in an image of `height`.
    """
    low, high = margin.min(axis=0), margin.max(axis=0)
    (x, y), width = (low + high) / 2, EYE_WINDOW * (high[0] - low[0])
    rows = width * size[0] / size[1]
    return float(x - width / 2), float(height - y - rows / 2), float(width), float(rows)


def _cropped(path: Path, window: tuple[float, float, float, float], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the window of an image, antialiased, as H x W grey; the edges repeat beyond the image."""
    grey = decode_grey(path)
    left, top, width, rows = window
    beyond = max(0.0, -left, -top, left + width - grey.shape[1], top + rows - grey.shape[0])
    if beyond > max(grey.shape):  # padding would need endless memory
        raise UnreadableImage(path, "its landmarks lie far outside the image; remove this render")
    pad = int(np.ceil(beyond))
    padded = Image.fromarray(np.pad(grey, pad, mode="edge"))
    box = (left + pad, top + pad, left + pad + width, top + pad + rows)
    return np.asarray(padded.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box))
