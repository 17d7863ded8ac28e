"""Weight a training set so that its labels are distributed as predicted for unlabelled images.

Renders that look where real eyes seldom do teach an estimator a wrong prior, however real they look. Importance weights
correct it without labels of the target (label shift: Lipton et al., ICML 2018). Predictions need not be exact for that:
their distribution is close.
"""

import numpy as np
from numpy.typing import NDArray

MAX_BINS = 9  # along each of the first two coordinates of the labels
MIN_IN_A_BIN = 10  # of either set, on average
SPAN = (0.5, 99.5)  # percentiles between which bins lie; values beyond them join the outer bins

Targets = NDArray[np.float64]
Places = NDArray[np.int64]  # of bins


def weights_like(labels: Targets, wanted: Targets) -> tuple[NDArray[np.float64], float]:
    """Return a weight for each of `labels`, 1 on average, that gives them the distribution of `wanted`.

    Both are N x 2 pixels or N x 3 unit vectors, compared in coarse bins of x and y. A wanted label in an empty bin
    counts for the nearest filled bin; the second result is the share of such labels.
    """
    both = np.concatenate([labels[:, :2], wanted[:, :2]])
    least, most = labels[:, :2].min(axis=0), labels[:, :2].max(axis=0)
    low, high = np.clip(np.percentile(both, SPAN, axis=0), least, most)
    ours, theirs, side = _in_bins(labels, wanted, low, high)
    counts = np.bincount(ours, minlength=side * side)
    wanted_counts = np.bincount(_nearest_filled(counts, side)[theirs], minlength=side * side)
    weights = (wanted_counts / np.maximum(counts, 1))[ours]
    outside = (wanted[:, :2] < least) | (wanted[:, :2] > most)
    unmatched = outside.any(axis=1) | (counts[theirs] == 0)
    return np.asarray(weights / weights.mean(), np.float64), float(unmatched.mean())


def overlap(ours: Targets, theirs: Targets, resamples: int) -> tuple[float, float, float]:
    """Return the overlap of two distributions of labels, 0 to 1, and the ends of its 95% interval.

    The overlap is the sum over bins of the smaller share; labels are as in `weights_like`. Finite samples of one
    distribution overlap by less than 1, and resampled ones by still less. The basic bootstrap (Davison and Hinkley
    1997, Eq. 5.6) corrects that bias. With fewer than 40 labels of either set nothing is known: 0 to 1.
    """
    low, high = np.percentile(np.concatenate([ours[:, :2], theirs[:, :2]]), SPAN, axis=0)
    *both, side = _in_bins(ours, theirs, low, high)
    if side == 1:  # too few labels to see a difference
        return 1.0, 0.0, 1.0
    rng, shares = np.random.default_rng(0), []
    for places in both:
        share = np.bincount(places, minlength=side * side) / len(places)
        shares.append([share[None], rng.multinomial(len(places), share, resamples) / len(places)])
    (share,), resampled = (np.minimum(one, other).sum(axis=1) for one, other in zip(*shares, strict=True))
    low, high = np.clip(2 * share - np.percentile(resampled, [97.5, 2.5]), 0, 1)
    return float(share), float(low), float(high)


def _in_bins(labels: Targets, wanted: Targets, low: Targets, high: Targets) -> tuple[Places, Places, int]:
    """Return the bin of each of `labels` and of `wanted`, and the number of bins along a side from `low` to `high`."""
    both = np.concatenate([labels[:, :2], wanted[:, :2]])
    side = int(np.clip(np.sqrt(min(len(labels), len(wanted)) / MIN_IN_A_BIN), 1, MAX_BINS))
    edges = np.linspace(low, high, side + 1)[1:-1]
    column, row = (np.digitize(both[:, axis], edges[:, axis]) for axis in (0, 1))
    ours, theirs = np.split(column * side + row, [len(labels)])
    return ours, theirs, side


def _nearest_filled(counts: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Return for each bin of side x side the nearest one that has labels, which may be itself."""
    places = np.stack(np.divmod(np.arange(side * side), side), axis=1)
    filled = np.flatnonzero(counts)
    distances = np.square(places[:, None] - places[filled]).sum(axis=2)
    return np.asarray(filled[distances.argmin(axis=1)], np.int64)


def effective_number(weights: NDArray[np.float64]) -> float:
    """Return Kish's effective sample size of these weights, between 1 and their number."""
    return float(weights.sum() ** 2 / np.square(weights).sum())
