"""Shared parts of the readers of labels: images by their names, angles and errors."""

import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan_cli.data.decoding import Preparation, read_pixels
from simgan_cli.data.tree import Tree, is_image, read_tree, suffixes_found
from simgan_cli.errors import DataError, plural
from simgan_cli.gaze.geometry import Vectors, facing_camera, vectors_from_angles
from simgan_cli.gaze.labels import LabelFormat, Sample

STORED_GREY = Preparation(channels="1", background="keep")
Samples = tuple[list[Sample], list[str]]  # with warnings
MAX_LISTED = 12  # names in a message


def decode_grey(path: Path) -> NDArray[Any]:
    """Return an image file as upright grey pixels, H x W, uint8 or uint16. Raises UnreadableImage."""
    grey: NDArray[Any] = read_pixels(path, STORED_GREY)[0]
    return grey


def to_vectors(angles: NDArray[np.float64], label_format: LabelFormat, source: Path) -> Vectors:
    """Return the unit vectors N x 3 of angles N x 2; raises DataError for degrees without --degrees."""
    largest = float(np.nanmax(np.abs(angles), initial=0))
    if label_format.degrees:
        angles = np.radians(angles)
    elif np.isfinite(largest) and largest > np.pi + 1e-6:
        raise DataError(f"{source}: angles up to {largest:.1f} are degrees; pass --degrees, or convert them to radians")
    vectors = vectors_from_angles(angles, label_format.convention)
    return facing_camera(vectors) if label_format.convention == "xgaze" else vectors


def paired(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points N x 2K in which both coordinates are NaN where one is."""
    missing = np.isnan(points[:, ::2]) | np.isnan(points[:, 1::2])
    return np.where(np.repeat(missing, 2, axis=1), np.nan, points)


def match_images(tree: Tree, names: Sequence[str], source: Path) -> tuple[list[str], list[str]]:
    """Return the image that each label names, with or without its suffix, and a warning of images without a label.

    Images that the patterns exclude are matched too. Raises DataError for a name without an image, for a name that
    fits several images, and for a repeated image.
    """
    images, excluded = _by_name(tree.images), _by_name(filter(is_image, tree.others))
    slashed = [posixpath.normpath(name.replace("\\", "/")) for name in names]
    candidates = [images.get(name) or excluded.get(name, [])[:1] for name in slashed]
    missing = [name for name, matches in zip(names, candidates, strict=True) if not matches]
    if missing:
        raise DataError(
            f"{source}: {len(missing):,} of {plural(len(names), 'label')} without an image ({list_names(missing)}); "
            f"found the images {list_names(tree.images)}; restore the images or remove the labels"
        )
    if ambiguous := [f"{matches[0]}, {matches[1]}" for matches in candidates if len(matches) > 1]:
        raise DataError(
            f"{source}: more than one image for {plural(len(ambiguous), 'label')} ({list_names(ambiguous)}); "
            "add the suffix to the labels, or select images, such as --include '*.jpg'"
        )
    files = [matches[0] for matches in candidates]
    if repeated := [file for file, count in Counter(files).items() if count > 1]:
        raise DataError(f"{source}: more than one label for {list_names(repeated)}; keep one for each image")
    unlabelled = len(set(tree.images) - set(files))
    return files, [f"{tree.root}: left out {plural(unlabelled, 'image')} without a label"] if unlabelled else []


def _by_name(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return paths by the names that a label may use for them: with or without their suffix."""
    names = defaultdict[str, list[str]](list)
    for path in paths:
        for name in {path, os.path.splitext(path)[0]}:  # noqa: PTH122 - a million Paths are slow
            names[name].append(path)
    return names


def list_names(names: Iterable[str]) -> str:
    """Return a list of the first names, for a message."""
    first = [str(name) for name in islice(names, MAX_LISTED + 1)]
    return ", ".join([*first[:MAX_LISTED], *(["..."] if len(first) > MAX_LISTED else [])]) or "nothing"


def describe_content(path: Path) -> str:
    """Return the kinds of files below a folder in words, or "a file"."""
    if path.is_file():
        return "a file"
    tree = read_tree(path)
    return suffixes_found([*tree.images, *tree.archives, *tree.others])


def check_size(path: Path, size: int, most: int) -> None:
    """Raise DataError where `size` bytes of a file are more than `most`."""
    if size > most:
        raise DataError(f"{path}: {size:,} bytes; at most {most:,} are read; split it")


@contextmanager
def damage_as_data_error(path: Path, problem: str) -> Iterator[None]:
    """Raise DataError with the file and the `problem` for any error of a library that reads `path`."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # damage shows as OSError, ValueError, KeyError, zlib.error, MemoryError and more
        raise DataError(f"{path}: {problem} ({type(error).__name__}: {error}); copy it again") from error
