"""Weights under which a training set's labels are distributed as an estimator predicts those of unlabelled images.

Renders that look where real eyes seldom do teach an estimator the wrong expectation, however real they look.
Importance weights correct that without labels of the target (label shift: Lipton et al., ICML 2018). Where predictions
are not exact, their distribution is still close.
"""

import numpy as np
from numpy.typing import NDArray

MAX_BINS = 9  # along each of the first two coordinates of the labels
MIN_IN_A_BIN = 10  # of either set, on average, at least
# Percentiles of both sets' coordinates between which, and within the labels' own range, bins lie; what is beyond joins
# the outer ones.
SPAN = (0.5, 99.5)

Targets = NDArray[np.float64]


def weights_like(labels: Targets, wanted: Targets) -> tuple[NDArray[np.float64], float]:
    """Return how often to draw each of `labels`, on average 1, so that their distribution is that of `wanted`.

    Both are N x 2 pixels or N x 3 unit vectors, compared in coarse bins of x and y. What is wanted where no label lies
    counts for the nearest bin that has some; the second result is the share of `wanted` there.
    """
    both = np.concatenate([labels[:, :2], wanted[:, :2]])
    least, most = labels[:, :2].min(axis=0), labels[:, :2].max(axis=0)
    low, high = np.clip(np.percentile(both, SPAN, axis=0), least, most)
    side = int(np.clip(np.sqrt(min(len(labels), len(wanted)) / MIN_IN_A_BIN), 1, MAX_BINS))
    edges = np.linspace(low, high, side + 1)[1:-1]
    column, row = (np.digitize(both[:, axis], edges[:, axis]) for axis in (0, 1))
    ours, theirs = np.split(column * side + row, [len(labels)])
    there = np.bincount(ours, minlength=side * side)
    asked = np.bincount(_nearest_filled(there, side)[theirs], minlength=side * side)
    weights = (asked / np.maximum(there, 1))[ours]
    outside = (wanted[:, :2] < least) | (wanted[:, :2] > most)
    unmatched = outside.any(axis=1) | (there[theirs] == 0)
    return np.asarray(weights / weights.mean(), np.float64), float(unmatched.mean())


def _nearest_filled(there: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Return for each bin of side x side the nearest that has labels, itself if it has some."""
    places = np.stack(np.divmod(np.arange(side * side), side), axis=1)
    filled = np.flatnonzero(there)
    distances = np.square(places[:, None] - places[filled]).sum(axis=2)
    return np.asarray(filled[distances.argmin(axis=1)], np.int64)


def effective_number(weights: NDArray[np.float64]) -> float:
    """Return how many images of equal weight vary as much as these do (Kish): between 1 and their number."""
    return float(weights.sum() ** 2 / np.square(weights).sum())
