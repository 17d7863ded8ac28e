"""Measure how far refining moved labels: by content, and by an estimator's predictions."""

import numpy as np
import torch

from simgan_cli.documents import Preservation
from simgan_cli.engine.metrics.label_drift import drift
from simgan_cli.gaze.estimator_training import predict
from simgan_cli.gaze.preparation import KNN, REFINED, Evaluation, load_estimator
from simgan_cli.gaze.scores import errors_of

MAX_PAIRS = 2000  # of x and R(x) whose drift is measured


def measure_preservation(evaluation: Evaluation) -> Preservation:
    """Return the shifts from x to R(x): of content in pixels, and of a frozen estimator's predictions."""
    first = next(iter(evaluation.sets))
    count = len(evaluation.sets[first])
    index = np.linspace(0, count - 1, min(MAX_PAIRS, count)).astype(np.int64)
    before = evaluation.sets[first].part(index)
    after = evaluation.sets[REFINED].part(index * evaluation.config.copies)  # the first look of each
    shifts = drift(torch.from_numpy(before.pixels)[:, None], torch.from_numpy(after.pixels)[:, None]).numpy()
    result: Preservation = {
        "images": len(index),
        "content_shift_px": {"mean": float(shifts.mean()), "p95": float(np.percentile(shifts, 95))},
        "estimate_shift": None,
    }
    estimators = [name for name in evaluation.config.estimator if name != KNN]
    if estimators:
        folder = evaluation.folder_of(first, estimators[0], evaluation.config.seed)
        network = load_estimator(folder, evaluation.config.target)
        a, b = (predict(network, images.pixels, evaluation.device, evaluation.precision) for images in (before, after))
        moved = errors_of(a, b, before.target)
        result["estimate_shift"] = {"mean": float(moved.mean()), "sd": float(moved.std())}
    return result
