"""Shared parts of the readers of labels: texts, numbers, angles, limits and errors."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan_cli.data.decoding import Preparation, read_pixels
from simgan_cli.data.tree import Tree, is_image, read_tree, suffixes_found
from simgan_cli.errors import DataError
from simgan_cli.gaze.geometry import Vectors, facing_camera, vectors_from_angles
from simgan_cli.gaze.labels import LabelFormat, Sample

Samples = tuple[list[Sample], list[str]]  # with warnings
STORED_GREY = Preparation(channels="1", background="keep")
MAX_NAMED = 3  # examples in a message
MAX_LISTED = 12  # names of a file's content in a message
DECIMAL_COMMA = re.compile(r"\s*[+-\N{MINUS SIGN}]?\d+,\d+([eE][+-]?\d+)?\s*")


def parse_number(text: str) -> float:
    """Return a number with a decimal point or comma, and any minus sign. Raises ValueError for anything else."""
    text = text.strip().replace("\N{MINUS SIGN}", "-")
    return float(text.replace(",", ".") if DECIMAL_COMMA.fullmatch(text) else text)


def decode_grey(path: Path) -> NDArray[Any]:
    """Return an image file as upright grey pixels H x W, uint8 or uint16. Raises UnreadableImage."""
    grey: NDArray[Any] = read_pixels(path, STORED_GREY)[0]
    return grey


def to_vectors(angles: NDArray[np.float64], label_format: LabelFormat, source: Path) -> Vectors:
    """Return vectors of angles N x 2 in the order of the convention; raises DataError for degrees without --degrees."""
    largest = float(np.nanmax(np.abs(angles), initial=0))
    if label_format.degrees:
        angles = np.radians(angles)
    elif np.isfinite(largest) and largest > np.pi + 1e-6:
        raise DataError(
            f"{source}: angles up to {largest:.1f}: degrees; say so with --degrees, or convert them to radians"
        )
    vectors = vectors_from_angles(angles, label_format.convention)
    return facing_camera(vectors) if label_format.convention == "xgaze" else vectors


def images_by_stem(tree: Tree) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the images of a tree, and those that patterns exclude, by their paths without suffix."""
    return _by_stem(tree.images), _by_stem(filter(is_image, tree.others))


def _by_stem(paths: Iterable[str]) -> dict[str, list[str]]:
    stems = defaultdict[str, list[str]](list)
    for path in paths:
        stems[os.path.splitext(path)[0]].append(path)  # noqa: PTH122 - of a million paths
    return stems


def list_names(names: Iterable[str]) -> str:
    """Return the first of some names in words."""
    first = [str(name) for name in islice(names, MAX_LISTED + 1)]
    return ", ".join([*first[:MAX_LISTED], *(["..."] if len(first) > MAX_LISTED else [])]) or "nothing"


def describe_content(path: Path) -> str:
    """Return in words which kinds of files lie below a folder, or that it is a file."""
    if path.is_file():
        return "a file"
    tree = read_tree(path)
    return suffixes_found([*tree.images, *tree.archives, *tree.others])


def warn_of_unlabelled(folder: Path, count: int) -> list[str]:
    """Return a warning of `count` images without a label, if there are any."""
    return [f"{folder}: {count:,} images have no label; left out"] if count else []


def check_size(path: Path, size: int, most: int) -> None:
    """Raise DataError where more than `most` bytes would be read of a file."""
    if size > most:
        raise DataError(f"{path}: {size:,} bytes; at most {most:,} are read; split it")


@contextmanager
def damage_as_data_error(path: Path, problem: str) -> Iterator[None]:
    """Raise DataError that names the file and the `problem` for whatever a library raises while it reads `path`."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # damage shows as OSError, ValueError, KeyError, zlib.error, MemoryError and more
        raise DataError(f"{path}: {problem} ({type(error).__name__}: {error}); copy it again") from error
