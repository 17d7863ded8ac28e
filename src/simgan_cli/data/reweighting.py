"""Weights under which a training set's labels are distributed as an estimator predicts those of unlabelled images.

Renders that look where real eyes seldom do teach an estimator the wrong expectation, however real they look.
Importance weights correct that without labels of the target (label shift: Lipton et al., ICML 2018). Where predictions
are not exact, their distribution is still close.
"""

import numpy as np
from numpy.typing import NDArray

MAX_BINS = 9  # along each of the first two coordinates of the labels
MIN_IN_A_BIN = 10  # of either set, on average, at least
# Percentiles of both sets' coordinates between which bins lie, for weights within the labels' own range; what is beyond
# joins the outer ones.
SPAN = (0.5, 99.5)

Targets = NDArray[np.float64]
Places = NDArray[np.int64]  # of bins


def weights_like(labels: Targets, wanted: Targets) -> tuple[NDArray[np.float64], float]:
    """Return how often to draw each of `labels`, on average 1, so that their distribution is that of `wanted`.

    Both are N x 2 pixels or N x 3 unit vectors, compared in coarse bins of x and y. What is wanted where no label lies
    counts for the nearest bin that has some; the second result is the share of `wanted` there.
    """
    both = np.concatenate([labels[:, :2], wanted[:, :2]])
    least, most = labels[:, :2].min(axis=0), labels[:, :2].max(axis=0)
    low, high = np.clip(np.percentile(both, SPAN, axis=0), least, most)
    ours, theirs, side = _in_bins(labels, wanted, low, high)
    there = np.bincount(ours, minlength=side * side)
    asked = np.bincount(_nearest_filled(there, side)[theirs], minlength=side * side)
    weights = (asked / np.maximum(there, 1))[ours]
    outside = (wanted[:, :2] < least) | (wanted[:, :2] > most)
    unmatched = outside.any(axis=1) | (there[theirs] == 0)
    return np.asarray(weights / weights.mean(), np.float64), float(unmatched.mean())


def overlap(ours: Targets, theirs: Targets, resamples: int) -> tuple[float, float, float]:
    """Return how much two distributions of labels share, from 0 to 1, and its 95% interval: the sum of smaller shares.

    Both are as in `weights_like`, in bins over the range of both. Finite sets of one distribution share less than 1,
    and resampled ones still less: the basic bootstrap (Davison and Hinkley 1997, Eq. 5.6) takes that off again.
    """
    low, high = np.percentile(np.concatenate([ours[:, :2], theirs[:, :2]]), SPAN, axis=0)
    *both, side = _in_bins(ours, theirs, low, high)
    rng, shares = np.random.default_rng(0), []
    for places in both:
        share = np.bincount(places, minlength=side * side) / len(places)
        shares.append([share[None], rng.multinomial(len(places), share, resamples) / len(places)])
    (found,), resampled = (np.minimum(one, other).sum(axis=1) for one, other in zip(*shares, strict=True))
    low, high = np.clip(2 * found - np.percentile(resampled, [97.5, 2.5]), 0, 1)
    return float(found), float(low), float(high)


def _in_bins(labels: Targets, wanted: Targets, low: Targets, high: Targets) -> tuple[Places, Places, int]:
    """Return the bin of each of `labels` and of `wanted`, of side x side from `low` to `high`, and that side."""
    both = np.concatenate([labels[:, :2], wanted[:, :2]])
    side = int(np.clip(np.sqrt(min(len(labels), len(wanted)) / MIN_IN_A_BIN), 1, MAX_BINS))
    edges = np.linspace(low, high, side + 1)[1:-1]
    column, row = (np.digitize(both[:, axis], edges[:, axis]) for axis in (0, 1))
    ours, theirs = np.split(column * side + row, [len(labels)])
    return ours, theirs, side


def _nearest_filled(there: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Return for each bin of side x side the nearest that has labels, itself if it has some."""
    places = np.stack(np.divmod(np.arange(side * side), side), axis=1)
    filled = np.flatnonzero(there)
    distances = np.square(places[:, None] - places[filled]).sum(axis=2)
    return np.asarray(filled[distances.argmin(axis=1)], np.int64)


def effective_number(weights: NDArray[np.float64]) -> float:
    """Return how many images of equal weight vary as much as these do (Kish): between 1 and their number."""
    return float(weights.sum() ** 2 / np.square(weights).sum())
