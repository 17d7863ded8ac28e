"""Weights under which a training set's labels are distributed as an estimator predicts those of unlabelled images.

Renders that look where real eyes seldom do teach an estimator the wrong expectation, however real they look. Importance
weights of labels mend that without a label of the target (label shift: Lipton et al., ICML 2018); where predictions are
not exact, their distribution still is close.
"""

import numpy as np
from numpy.typing import NDArray

from simgan_cli.errors import DataError

MOST_BINS = 9  # along each of the first two coordinates of the labels
IN_A_BIN = 10  # labels, on average, at least
# Percentiles of both sets' coordinates between which bins lie; what is beyond joins the outer ones.
SPAN = (0.5, 99.5)

Targets = NDArray[np.float64]


def weights_like(labels: Targets, wanted: Targets) -> NDArray[np.float64]:
    """Return how often to draw each of `labels`, on average 1, so that their distribution is that of `wanted`.

    Both are N x 2 pixels or N x 3 unit vectors, compared in coarse bins of x and y. Raises DataError where no label
    lies near anything wanted.
    """
    both = np.concatenate([labels[:, :2], wanted[:, :2]])
    low, high = np.percentile(both, SPAN, axis=0)
    side = int(np.clip(np.sqrt(len(labels) / IN_A_BIN), 1, MOST_BINS))
    edges = np.linspace(low, high, side + 1)[1:-1]
    column, row = (np.digitize(both[:, axis], edges[:, axis]) for axis in (0, 1))
    bins = column * side + row
    there, asked = (np.bincount(part, minlength=side * side) for part in (bins[: len(labels)], bins[len(labels) :]))
    weights = np.asarray((asked / np.maximum(there, 1))[bins[: len(labels)]], np.float64)
    if not weights.any():
        raise DataError("no label lies where an estimator places any of the unlabelled images; render that range")
    return np.asarray(weights / weights.mean(), np.float64)


def effective_number(weights: NDArray[np.float64]) -> float:
    """Return how many images of equal weight vary as much as these do (Kish): between 1 and their number."""
    return float(weights.sum() ** 2 / np.square(weights).sum())
