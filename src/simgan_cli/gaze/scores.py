"""Score predictions: errors, their summary, bootstrap intervals, and the comparison of two rows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit  # quantiles of the normal distribution and of Student's t

from simgan_cli.data.reweighting import effective_number
from simgan_cli.documents import Comparison, ErrorSummary, GapClosed, PointErrors
from simgan_cli.gaze.geometry import angular_error
from simgan_cli.gaze.labels import LabelledImages, as_points, coordinates_of
from simgan_cli.settings.base import Target

WITHIN: dict[Target, tuple[int, ...]] = {
    "gaze": (3, 5, 7, 10, 13, 15, 20), "pupil": (1, 2, 3, 5), "points": (1, 2, 3, 5, 10),
}  # fmt: skip
PAPERS_LIMIT = 5  # pixels, as in Table 4
MIN_PERSONS_TO_RESAMPLE = 5  # with fewer, intervals resample images
MAX_DRAWS = 4_000_000  # draws in memory at once
Errors = NDArray[np.float64]  # seeds x images


@dataclass(frozen=True)
class Result:
    """The row of a training set and an estimator: predictions by seed, and their errors in degrees or pixels.

    The error of an image is the mean over its known points. `by_point`, seeds x images x points, has the error of each
    point, NaN where it is missing; None for gaze.

    `weights`, seeds x images, are how often training drew each image. `unmatched` is the share of unlabelled images
    whose predicted labels lie where the set has none.
    """

    name: str
    estimator: str
    images: int  # trained on
    predictions: list[NDArray[np.float64]]
    errors: Errors
    weights: NDArray[np.float64] | None = None
    unmatched: float | None = None
    by_point: NDArray[np.float64] | None = None

    @property
    def pooled(self) -> NDArray[np.float64]:
        """The errors of all seeds, images and known points."""
        errors = self.errors if self.by_point is None else self.by_point
        return errors[~np.isnan(errors)]


def result_of(
    name: str, estimator: str, images: int, predictions: list[NDArray[np.float64]], test: LabelledImages
) -> Result:
    """Return the result of predictions on `test`, one for each seed."""
    errors = np.stack([errors_of(predicted, test.targets, test.target) for predicted in predictions])
    by_point = None
    if test.target != "gaze":
        by_point = np.stack([point_errors(predicted, test.targets) for predicted in predictions])
    return Result(name, estimator, images, predictions, errors, by_point=by_point)


def errors_of(predicted: NDArray[np.float64], true: NDArray[np.float64], target: Target) -> NDArray[np.float64]:
    """Return the angle between vectors in degrees, or the mean distance of an image's known points in pixels."""
    if target == "gaze":
        return angular_error(predicted, true)
    mean: NDArray[np.float64] = np.nanmean(point_errors(predicted, true), axis=1)
    return mean


def point_errors(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distances of K points, N x 2K -> N x K; NaN where the true point is missing."""
    return np.asarray(np.linalg.norm(as_points(predicted - true), axis=2), np.float64)


def summary(row: Result, test: LabelledImages, resamples: int) -> ErrorSummary:
    """Return a row of results.json: errors pooled over seeds, and the mean of each seed, person and named point."""
    errors, persons = row.errors, test.persons
    means = errors.mean(axis=1)
    by_person = by_point = None
    if persons is not None:
        names = np.array(persons)
        by_person = {str(name): float(errors[:, names == name].mean()) for name in np.unique(names)}
    if row.by_point is not None and test.points:
        by_point = {name: _of_point(row.by_point[:, :, number]) for number, name in enumerate(test.points)}
    return {
        "name": row.name,
        "estimator": row.estimator,
        "images": row.images,
        "effective_images": None if row.weights is None else float(np.mean([effective_number(w) for w in row.weights])),
        "unmatched": row.unmatched,
        "mean": float(errors.mean()),
        "ci95": interval(errors, persons, resamples),
        "median": float(np.median(errors)),
        "sd": float(errors.std()),
        "p95": float(np.percentile(errors, 95)),
        "within": _shares_within(row.pooled, test.target),
        "seeds": len(errors),
        "seed_means": [float(mean) for mean in means],
        "seed_sd": float(means.std(ddof=1)) if len(means) > 1 else None,
        "persons": by_person,
        "points": by_point,
    }


def _of_point(errors: NDArray[np.float64]) -> PointErrors | None:
    """Return the mean error of a point, and the shares within limits; None where no image has the point."""
    known = errors[~np.isnan(errors)]
    return {"mean": float(known.mean()), "within": _shares_within(known, "points")} if known.size else None


def _shares_within(errors: NDArray[np.float64], target: Target) -> dict[str, float]:
    return {str(limit): float((errors <= limit).mean()) for limit in WITHIN[target]}


def compare(first: Result, second: Result, persons: Sequence[str] | None, resamples: int) -> Comparison:
    """Return the paired difference second - first with its 95% interval, and a verdict."""
    difference = second.errors - first.errors
    low, high = interval(difference, persons, resamples)
    return {
        "pair": [first.name, second.name],
        "estimator": first.estimator,
        "difference": float(difference.mean()),
        "ci95": [low, high],
        "verdict": "helps" if high < 0 else "hurts" if low > 0 else "no significant difference",
    }


def gap_share(first: Errors, row: Errors, oracle: Errors) -> Errors:
    """Return (first - row) / (first - oracle) of mean errors; 1 is as good as labels of the target."""
    return (first - row) / (first - oracle)


def gap_closed(
    first: Result, row: Result, oracle: Result, persons: Sequence[str] | None, resamples: int
) -> GapClosed | None:
    """Return the share of the gap from `first` to `oracle` that a row closes, with its interval; None without a gap."""
    errors = np.broadcast_arrays(first.errors, row.errors, oracle.errors)  # a loaded estimator has one seed
    if first.errors.mean() <= oracle.errors.mean():
        return None
    share = float(gap_share(*(each.mean(axis=1) for each in errors)).mean())
    return {"share": share, "ci95": interval_of(gap_share, errors, persons, resamples)}


def interval(values: Errors, persons: Sequence[str] | None, resamples: int) -> list[float]:
    """Return the 95% interval of the mean of `values`, seeds x images."""
    return interval_of(lambda mean: mean, [values], persons, resamples)


def interval_of(
    number: Callable[..., NDArray[np.float64]],
    errors: Sequence[Errors],
    persons: Sequence[str] | None,
    resamples: int,
) -> list[float]:
    """Return the 95% interval of the mean over seeds of a `number` of the means of `errors`, each seeds x images.

    A percentile bootstrap (Efron 1979) resamples images, or persons where five or more are known. It is widened for
    small numbers of either. `with_seeds` adds the variation between seeds.
    """
    sums = np.stack(errors)
    counts, by_seed = np.ones(sums.shape[-1]), number(*sums.mean(axis=-1))
    if persons is not None and len(set(persons)) >= MIN_PERSONS_TO_RESAMPLE:
        _, group = np.unique(np.array(persons), return_inverse=True)
        sums = np.apply_along_axis(lambda of_images: np.bincount(group, weights=of_images), -1, sums)
        counts = np.bincount(group).astype(np.float64)
    mean, drawn = by_seed.mean(), len(counts)
    wider = stdtrit(drawn - 1, 0.975) / ndtri(0.975) * math.sqrt(drawn / (drawn - 1)) if drawn > 1 else 1.0
    resampled = number(*_resampled_means(sums, counts, resamples)).mean(axis=0)
    low, high = mean + (np.percentile(resampled, [2.5, 97.5]) - mean) * wider
    return list(with_seeds(by_seed, low, high))


def _resampled_means(sums: NDArray[np.float64], counts: NDArray[np.float64], resamples: int) -> NDArray[np.float64]:
    """Return means, errors x seeds x resamples; `sums` is errors x seeds x images or persons, drawn alike for all."""
    rng, drawn = np.random.default_rng(0), len(counts)
    at_once = max(1, MAX_DRAWS // drawn)
    means = []
    for start in range(0, resamples, at_once):
        items = rng.integers(drawn, size=(min(at_once, resamples - start), drawn))
        cells = np.arange(len(items))[:, None] * drawn + items
        times = np.bincount(cells.ravel(), minlength=cells.size).reshape(cells.shape).astype(np.float64)
        means.append(sums @ times.T / (times @ counts))
    return np.concatenate(means, axis=-1)


def with_seeds(by_seed: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """Return the 95% interval of the mean of `by_seed`, whose interval over test images is `low` to `high`.

    The interval over seeds is Student's (1908). The two are independent, so the squares of their half-widths add up.
    One seed adds nothing.
    """
    mean, seeds = by_seed.mean(), len(by_seed)
    of_seeds = stdtrit(seeds - 1, 0.975) * by_seed.std(ddof=1) / math.sqrt(seeds) if seeds > 1 else 0.0
    return float(mean - math.hypot(mean - low, of_seeds)), float(mean + math.hypot(high - mean, of_seeds))


def mirrored_axes(row: Result, true: NDArray[np.float64], target: Target) -> list[str]:
    """Return the coordinates in which predictions correlate negatively with the truth, as with a mirrored sign."""
    predicted = coordinates_of(np.mean(row.predictions, axis=0), target)
    axes = []
    for name, values in coordinates_of(true, target).items():
        if len(values) > 2 and np.ptp(values) > 0 and np.ptp(predicted[name]) > 0:
            correlation = float(np.corrcoef(values, predicted[name])[0, 1])
            if correlation < -0.2:
                axes.append(f"{name} (correlation {correlation:.2f})")
    return axes
