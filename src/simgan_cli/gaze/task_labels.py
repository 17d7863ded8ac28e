"""Read the labels of renders, for the estimator that `simgan train` trains beside the refiner."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simgan_cli.data.decoding import stored_size
from simgan_cli.data.patterns import Patterns
from simgan_cli.engine.training.task import TaskLabels
from simgan_cli.errors import DataError, SimganError, UnreadableImage
from simgan_cli.gaze.geometry import unit
from simgan_cli.gaze.labels import LabelFormat, Sample, as_points, check_inside, check_names, direction_warnings
from simgan_cli.gaze.layouts.common import paired
from simgan_cli.gaze.readers import READERS
from simgan_cli.settings.base import Target
from simgan_cli.settings.eval_gaze import Layout
from simgan_cli.settings.train import TrainConfig

LAYOUTS: tuple[Layout, ...] = ("csv", "unityeyes", "coco")  # of folders; the first that fits is read


def read_task_labels(
    config: TrainConfig, report: Callable[[str], None], warn: Callable[[str], None]
) -> TaskLabels | None:
    """Return the labels of `--synthetic`; None where it has none, or with `--labels off`.

    With `--labels auto`, `warn` gets the reason why labels are unusable. Otherwise they raise DataError.
    """
    folder = config.synthetic
    if not folder.is_dir() or config.labels == "off":
        return None
    found = (name for name in LAYOUTS if READERS[name].recognises(folder))
    layout = config.labels if config.labels != "auto" else next(found, None)
    if layout is None:
        return None
    if config.flip:
        warn("labels: not used, since --flip mirrors images but not labels; leave --flip out to use them")
        return None
    try:
        labels = _read(config, folder, layout, warn)
    except SimganError as error:
        if config.labels != "auto":
            raise
        warn(f"labels: not used ({error})")
        return None
    known = sum(not np.isnan(row).all() for row in labels.by_file.values())
    unusable = (
        f", {len(labels.by_file) - known:,} left out as missing or invalid" if known < len(labels.by_file) else ""
    )
    report(f"labels: {known:,} of {labels.target} ({layout}){unusable}; the run trains an estimator on them")
    return labels


def _read(config: TrainConfig, folder: Path, layout: Layout, warn: Callable[[str], None]) -> TaskLabels:
    target = config.target
    if layout == "unityeyes" and target != "gaze":
        raise DataError(f"{folder}: UnityEyes' points are read only from crops of its images; use --target gaze")
    patterns = Patterns(config.include, config.exclude)
    label_format = LabelFormat(target, convention=config.convention, degrees=config.degrees, patterns=patterns)
    samples, _ = READERS[layout].read(folder, label_format)
    points = check_names(samples, folder)
    targets = _usable(np.array([sample.target for sample in samples], np.float64, ndmin=2), target)
    if np.isnan(targets).all():
        raise DataError(f"{folder}: no label of {target} is a finite number; correct or remove them")
    if target == "gaze":
        targets = unit(targets)
        for warning in direction_warnings(targets[~np.isnan(targets[:, 0])], folder, config.degrees):
            warn(warning)
    else:
        targets = _in_fractions(config, folder, samples, targets)
    return TaskLabels(
        target, {sample.file: row for sample, row in zip(samples, targets.astype(np.float32), strict=True)}, points
    )


def _usable(targets: NDArray[np.float64], target: Target) -> NDArray[np.float64]:
    """Return targets with NaN for each point that is not finite, and each direction that is not or has no length."""
    finite = np.where(np.isfinite(targets), targets, np.nan)
    if target != "gaze":
        return paired(finite)
    is_direction = np.linalg.norm(finite, axis=1, keepdims=True) > 0
    return np.where(is_direction, finite, np.nan)


def _in_fractions(
    config: TrainConfig, folder: Path, samples: Sequence[Sample], points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return points, in pixels of the stored images, as fractions of the training images' width and height.

    Raises DataError where most lie outside the stored images.
    """
    stored, fractions = (np.full(points.shape, np.nan) for _ in range(2))
    for row, (sample, of_image) in enumerate(zip(samples, as_points(points), strict=True)):
        try:
            height, width = stored_size(folder / sample.file)
        except UnreadableImage:
            continue  # training reports it
        stored[row] = (of_image / (width, height)).ravel()
        fractions[row] = moved_by_fit(of_image, (width, height), config).ravel()
    check_inside(stored, (1, 1), [sample.file for sample in samples], folder)
    return fractions


def moved_by_fit(points: NDArray[np.float64], stored: tuple[int, int], config: TrainConfig) -> NDArray[np.float64]:
    """Return points K x 2 of an image `stored` (W, H) as fractions of the image after `--size` and `--fit`."""
    original = np.array(stored, np.float64)
    if config.size is None or config.fit in (None, "resize"):
        return points / original
    wanted = np.array(config.size[::-1], np.float64)
    scales = wanted / original
    scale = scales.max() if config.fit == "crop" else scales.min()
    moved: NDArray[np.float64] = 0.5 + (points - original / 2) * scale / wanted  # cut or filled evenly on all sides
    return moved
