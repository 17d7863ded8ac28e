"""MPIIGaze as published: Data/Normalized/pXX/dayYY.mat, and the lists of its evaluation subset."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from simgan_cli.data.texts import read_text
from simgan_cli.errors import DataError
from simgan_cli.gaze.geometry import mirrored
from simgan_cli.gaze.labels import LabelFormat, Sample
from simgan_cli.gaze.layouts.common import Samples, check_size, damage_as_data_error, list_names

MAX_MAT_BYTES = 64_000_000  # of a file; the largest published day has 7 million


def is_mpiigaze_folder(path: Path) -> bool:
    """Return whether a folder holds days of MPIIGaze."""
    return bool(_days(path))


def _days(folder: Path) -> list[Path]:
    """Return the pXX/dayYY.mat at a folder, its Data/Normalized or Normalized."""
    for root in (folder, folder / "Data" / "Normalized", folder / "Normalized"):
        days = sorted(root.glob("p[0-9][0-9]/day*.mat"))
        if days:
            return days
    return []


def read_mpiigaze(folder: Path, label_format: LabelFormat) -> Samples:
    """Return the eyes of the evaluation subset, or all where its lists are not there. Raises DataError."""
    if label_format.target != "gaze":
        raise DataError(f"{folder}: MPIIGaze holds no pupil centres; use --target gaze, or other data")
    days = _days(folder)
    if not days:
        raise DataError(f"{folder}: no pXX/dayYY.mat; wanted MPIIGaze's Data/Normalized or a folder that holds it")
    subset = _evaluation_subset(days[0].parents[1])
    samples = [sample for day in days for sample in _read_day(day)]
    warnings = []
    if subset is None:
        warnings.append(f"{folder}: no list of the evaluation subset found; all {len(samples):,} eyes are used")
    else:
        by_name = {sample.file: sample for sample in samples}
        missing = [name for name in subset if name not in by_name]
        if missing:
            raise DataError(
                f"{folder}: {len(missing):,} eyes of the evaluation subset are not there ({list_names(missing)})"
            )
        samples = [by_name[name] for name in subset]
    empty = {day.parent.name for day in days} - {sample.person for sample in samples}
    warnings += [f"{folder}: {person} has no eyes" for person in sorted(empty)]
    return samples, warnings


def _read_day(path: Path) -> Iterator[Sample]:
    """Yield the eyes of one day: left ones as they are, right ones mirrored to left ones."""
    content = _load_mat(path)
    try:
        names = np.atleast_1d(content["filenames"])
        for side in ("left", "right"):
            eyes = getattr(content["data"], side)
            images = np.asarray(eyes.image, np.uint8).reshape(len(names), *np.shape(eyes.image)[-2:])
            gazes = np.asarray(eyes.gaze, np.float64).reshape(len(names), 3)
            if side == "right":
                images, gazes = images[:, :, ::-1], mirrored(gazes)
            for name, image, gaze in zip(names, images, gazes, strict=True):
                file = f"{path.parent.name}/{path.stem}/{name} {side}"
                yield Sample(file, partial(np.ascontiguousarray, image), gaze, path.parent.name)
    except (KeyError, AttributeError, ValueError, TypeError, IndexError) as error:
        raise DataError(
            f"{path}: not a day of MPIIGaze ({type(error).__name__}: {error}); found {list_names(_fields(content))}; "
            "wanted data.left and data.right with image (N, 36, 60) and gaze (N, 3), and filenames"
        ) from error


def _fields(content: dict[str, Any]) -> Iterator[str]:
    """Yield the names of what a .mat holds, such as "data.left.image"."""
    for name, value in content.items():
        if hasattr(value, "_fieldnames"):
            yield from (f"{name}.{field}" for field in _fields(vars(value)))
        elif not name.startswith("_"):
            yield name


def _load_mat(path: Path) -> Any:
    with damage_as_data_error(path, "cannot be read as .mat"):
        check_size(path, path.stat().st_size, MAX_MAT_BYTES)
        try:
            return scipy.io.loadmat(path, struct_as_record=False, squeeze_me=True)
        except NotImplementedError as error:
            raise DataError(
                f"{path}: a .mat of version 7.3 (HDF5); MPIIGaze's own are version 5: load it again"
            ) from error


def _evaluation_subset(normalized: Path) -> list[str] | None:
    """Return the names of the eyes that the data set's authors evaluate on, if their lists lie at the usual place."""
    normalized = Path(os.path.abspath(normalized))  # noqa: PTH100 - "." has parents, too; links stay as they are
    for root in [*list(normalized.parents)[:2], normalized]:
        lists = sorted((root / "Evaluation Subset" / "sample list for eye image").glob("p[0-9][0-9].txt"))
        if lists:
            lines = [(path, line.split()) for path in lists for line in _lines(path)]
            for path, words in lines:
                if len(words) != 2 or words[1] not in ("left", "right"):
                    raise DataError(f"{path}: {' '.join(words)[:60]!r} is not 'dayNN/file.jpg left|right'")
            return [f"{path.stem}/{name} {side}" for path, (name, side) in lines]
    return None


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in read_text(path).splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a list ({error})") from error
