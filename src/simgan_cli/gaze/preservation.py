"""How far refining moved labels: content, the pupil's surroundings, and an estimator's reading."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simgan_cli.engine.metrics.label_drift import drift
from simgan_cli.errors import DataError
from simgan_cli.gaze.estimator_training import predict
from simgan_cli.gaze.labels import UNIT, LabelFormat
from simgan_cli.gaze.preparation import KNN, REFINED, Evaluation, load_estimator
from simgan_cli.gaze.readers import read
from simgan_cli.gaze.scores import errors_of

MAX_PAIRS = 2000  # of x and R(x) whose drift is measured
PUPIL_WINDOW = 10  # pixels from the pupil's centre to the edge of the window whose shift is measured


def measure_preservation(evaluation: Evaluation) -> dict[str, Any]:
    """Return the shifts in pixels or degrees from x to R(x): of content, pupils, and a frozen estimator's reading."""
    first = next(iter(evaluation.sets))
    count = len(evaluation.sets[first])
    index = np.linspace(0, count - 1, min(MAX_PAIRS, count)).astype(np.int64)
    before, after = (evaluation.sets[name].part(index) for name in (first, REFINED))
    shifts = drift(torch.from_numpy(before.pixels)[:, None], torch.from_numpy(after.pixels)[:, None]).numpy()
    result: dict[str, Any] = {
        "images": len(index),
        "content_shift_px": {"mean": float(shifts.mean()), "p95": float(np.percentile(shifts, 95))},
    }
    centres = _pupils(evaluation, first)
    if centres is not None:
        windows = [_windows(images.pixels, centres[index]) for images in (before, after)]
        moved = drift(*windows).numpy()
        result["pupil_shift_px"] = {"mean": float(moved.mean()), "sd": float(moved.std())}
    estimators = [name for name in evaluation.config.estimator if name != KNN]
    if estimators:
        folder = evaluation.config.out / "estimators" / f"{first}-{estimators[0]}-seed{evaluation.config.seed}"
        network = load_estimator(folder, evaluation.config.target)
        a, b = (predict(network, images.pixels, evaluation.device, evaluation.precision) for images in (before, after))
        moved = errors_of(a, b, before.target)
        result[f"estimate_shift_{UNIT[before.target]}"] = {"mean": float(moved.mean()), "sd": float(moved.std())}
    return result


def _pupils(evaluation: Evaluation, name: str) -> NDArray[np.float64] | None:
    """Return the pupils' centres of a training set where its labels hold them."""
    images = evaluation.sets[name]
    if images.target == "pupil":
        return images.targets
    label_format = LabelFormat("pupil", images.size, evaluation.config.preprocess)
    try:
        pupils = read(images.source, label_format, evaluation.config.labels)
    except DataError:
        return None
    return pupils.targets if pupils.files == images.files else None


def _windows(pixels: NDArray[np.uint8], centres: NDArray[np.float64]) -> torch.Tensor:
    """Return the square round each pupil, N x 1 x 20 x 20; beyond an image's edge its last pixels repeat."""
    offsets = np.arange(-PUPIL_WINDOW, PUPIL_WINDOW)
    height, width = pixels.shape[1:]
    rows = np.clip(np.floor(centres[:, 1]).astype(np.int64)[:, None] + offsets, 0, height - 1)
    columns = np.clip(np.floor(centres[:, 0]).astype(np.int64)[:, None] + offsets, 0, width - 1)
    numbers = np.arange(len(pixels))[:, None, None]
    return torch.from_numpy(pixels[numbers, rows[:, :, None], columns[:, None, :]])[:, None]
