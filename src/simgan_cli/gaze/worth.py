"""The worth of a set in labelled photographs, read from the learning curve of their subsets."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from simgan_cli.documents import Worth
from simgan_cli.engine.runtime.device import stream_number
from simgan_cli.errors import plural
from simgan_cli.gaze.labels import LabelledImages
from simgan_cli.gaze.scores import Errors, Result, interval_of


def subset(photographs: LabelledImages, count: int, seed: int) -> LabelledImages:
    """Return `count` random photographs; a larger subset includes the smaller ones of the same seed.

    They come from all persons. Photographs of one or two persons would teach less, so the worth of a set is a lower
    bound.
    """
    order = np.random.default_rng([seed, stream_number("subset")]).permutation(len(photographs))
    return photographs.part(np.sort(order[:count]))


def with_few(images: LabelledImages, photographs: LabelledImages, count: int, seed: int) -> LabelledImages:
    """Return images with a subset of the photographs, whose weights make them half of each batch on average."""
    few = subset(photographs, count, seed)
    counts = len(images), len(few)
    return replace(
        images,
        reader=f"{images.reader}, with {plural(len(few), 'labelled photograph')}",
        pixels=np.concatenate([images.pixels, few.pixels]),
        targets=np.concatenate([images.targets, few.targets]),
        files=[*images.files, *few.files],
        persons=None,  # renders show nobody
        weights=np.repeat([sum(counts) / 2 / of_set for of_set in counts], counts),
    )


def worth(row: Result, curve: Sequence[Result], persons: Sequence[str] | None, resamples: int) -> Worth:
    """Return how many labelled photographs give the error of a row, with a 95% interval, and both in words.

    `curve` are rows of increasing numbers of photographs; counts beyond it are clipped to its ends.
    """
    counts = [each.images for each in curve]
    logs = np.log(counts)

    def log_count(of_row: Errors, *of_curve: Errors) -> Errors:
        errors = np.stack(of_curve).reshape(len(counts), -1).T
        log_counts = [_at_error(error, each, logs) for error, each in zip(of_row.ravel(), errors, strict=True)]
        return np.array(log_counts).reshape(of_row.shape)

    errors = np.broadcast_arrays(row.errors, *(each.errors for each in curve))
    log_counts = [float(log_count(*(each.mean(axis=1) for each in errors)).mean())]
    log_counts += interval_of(log_count, errors, persons, resamples)
    middle, low, high = (float(number) for number in np.clip(np.exp(log_counts), counts[0], counts[-1]))
    names = [_in_words(number, counts) for number in (middle, low, high)]
    shown = f" (95%: {names[1]} to {names[2]})" if len(set(names)) > 1 else ""
    about = "" if names[0].startswith(("fewer", "more")) else "about "
    sentence = f"{row.name} is worth {about}{names[0]} labelled photographs{shown}"
    return {"photographs": middle, "ci95": [low, high], "sentence": sentence}


def _at_error(error: float, errors: NDArray[np.float64], logs: NDArray[np.float64]) -> float:
    """Return the logarithm of the count at which the curve, made monotone by regression, first reaches an error."""
    falling = isotonic_regression(errors, increasing=False).x
    return float(np.interp(error, falling[::-1], logs[::-1]))


def _in_words(count: float, counts: Sequence[int]) -> str:
    if count <= counts[0] * (1 + 1e-6):
        return f"fewer than {counts[0]:,}"
    if count >= counts[-1] * (1 - 1e-6):
        return f"more than all {counts[-1]:,}"
    return f"{float(f'{count:.2g}'):,.0f}"
