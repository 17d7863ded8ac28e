"""MPIIGaze as published: Data/Normalized/pXX/dayYY.mat, and the lists of its evaluation subset."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import scipy.io

from simgan_cli.data.texts import read_text
from simgan_cli.errors import DataError, plural
from simgan_cli.gaze.geometry import mirrored
from simgan_cli.gaze.labels import LabelFormat, Sample
from simgan_cli.gaze.layouts.common import Samples, check_size, damage_as_data_error, list_names

LISTS = "Evaluation Subset/sample list for eye image"

MAX_MAT_BYTES = 64_000_000  # of a file; the largest published one has 7 million


def mpiigaze_days(folder: Path) -> list[Path]:
    """Return the pXX/dayYY.mat at a folder, its Data/Normalized or Normalized."""
    for root in (folder, folder / "Data" / "Normalized", folder / "Normalized"):
        days = sorted(root.glob("p[0-9][0-9]/day*.mat"))
        if days:
            return days
    return []


def read_mpiigaze(folder: Path, label_format: LabelFormat) -> Samples:
    """Return the eyes of the evaluation subset, or all where its lists are missing. Raises DataError."""
    if label_format.target != "gaze":
        raise DataError(f"{folder}: MPIIGaze holds gaze alone; use --target gaze, or other data")
    days = mpiigaze_days(folder)
    if not days:
        raise DataError(f"{folder}: no pXX/dayYY.mat; wanted MPIIGaze's Data/Normalized or a folder that holds it")
    samples = [sample for day in days for sample in _read_day(day)]
    subset = _read_evaluation_subset(days[0].parents[1])
    if subset is None:
        return samples, [f"{folder}: no list of the evaluation subset found; all {len(samples):,} eyes are used"]
    by_name = {sample.file: sample for sample in samples}
    if missing := [name for name in subset if name not in by_name]:
        raise DataError(
            f"{folder}: missing {plural(len(missing), 'eye')} of the evaluation subset ({list_names(missing)}); "
            "restore their .mat files"
        )
    return [by_name[name] for name in subset], []


def _read_day(path: Path) -> Iterator[Sample]:
    """Yield the eyes of one day: left ones unchanged, right ones mirrored."""
    with damage_as_data_error(path, "not a readable day of MPIIGaze"):
        check_size(path, path.stat().st_size, MAX_MAT_BYTES)
        content = scipy.io.loadmat(path, struct_as_record=False, squeeze_me=True)
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


def _read_evaluation_subset(normalized: Path) -> list[str] | None:
    """Return the names of the eyes in the authors' evaluation subset, or None where its lists are missing."""
    roots = Path(os.path.abspath(normalized)).parents[:2]  # noqa: PTH100 - gives "." parents, and resolves no link
    lists = [path for root in roots for path in sorted(root.glob(f"{LISTS}/p[0-9][0-9].txt"))]
    lines = [(path, line.split()) for path in lists for line in read_text(path).splitlines()]
    return [f"{path.stem}/{' '.join(words)}" for path, words in lines if words] or None  # dayNN/file.jpg left|right
