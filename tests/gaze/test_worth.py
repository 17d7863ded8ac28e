"""Subsets of photographs, and what a set is worth on their learning curve."""

from pathlib import Path

import numpy as np
import pytest

from simgan_cli.gaze.labels import LabelledImages
from simgan_cli.gaze.scores import Result
from simgan_cli.gaze.worth import subset, with_few, worth
from tests.gaze.helpers import discs

NOISE = np.random.default_rng(0).uniform(-1, 1, (3, 100))
NOISE -= NOISE.mean(axis=1, keepdims=True)


def row(images: int, error: float, name: str = "refined") -> Result:
    return Result(name, "cnn", images, [], error + NOISE)


def images_of(count: int, seed: int) -> LabelledImages:
    pixels, gaze, _ = discs(count, seed)
    persons = [f"p{index % 3}" for index in range(count)]
    return LabelledImages(Path("d"), "csv", "gaze", pixels, gaze, [f"{index}.png" for index in range(count)], persons)


@pytest.mark.parametrize(
    ("error", "count", "sentence"),
    [
        # The curve falls by 1 from 100 to 1,000: half of that is the geometric mean of the two.
        (2.5, 1000 / 10**0.5, "refined is worth about 320 labelled photographs"),
        (3.0, 100, "refined is worth about 100 labelled photographs"),
        (4.5, 50, "refined is worth fewer than 50 labelled photographs"),
        (1.9, 1000, "refined is worth more than all 1,000 labelled photographs"),
    ],
)
def test_a_row_is_worth_the_photographs_of_its_error(error: float, count: float, sentence: str) -> None:
    result = worth(row(10, error), [row(50, 4), row(100, 3), row(1000, 2)], None, 100)
    assert result["photographs"] == pytest.approx(count)
    assert result["ci95"] == pytest.approx([count, count])  # the same noise everywhere, so the interval is a point
    assert result["sentence"] == sentence


def test_a_learning_curve_that_rises_by_chance_is_pooled() -> None:
    curve = [row(50, 4), row(100, 2.5), row(300, 3.5), row(1000, 2)]  # 100 and 300 pool at 3
    assert worth(row(10, 3.5), curve, None, 100)["photographs"] == pytest.approx((50 * 100) ** 0.5)
    assert 300 < worth(row(10, 2.9), curve, None, 100)["photographs"] < 1000


def test_the_interval_contains_the_truth_and_ends_with_the_curve() -> None:
    rng = np.random.default_rng(1)
    others = [Result("real", "cnn", count, [], error + rng.normal(0, 1, (3, 100))) for count, error in CURVE.items()]
    result = worth(Result("refined", "cnn", 10, [], 2.5 + rng.normal(0, 1, (3, 100))), others, None, 200)
    low, high = result["ci95"]
    assert 50 <= low < 1000 / 10**0.5 < high <= 1000
    assert result["sentence"].startswith("refined is worth about ")
    assert " labelled photographs (95%: " in result["sentence"]


CURVE = {50: 4, 100: 3, 1000: 2}


def test_a_larger_subset_holds_the_smaller_ones_of_its_seed() -> None:
    images = images_of(30, 1)
    small, large, other = subset(images, 5, 0), subset(images, 20, 0), subset(images, 5, 1)
    assert (len(small), len(large)) == (5, 20)
    assert set(small.files) < set(large.files)
    assert set(small.files) != set(other.files)


def test_a_few_photographs_are_half_of_each_batch() -> None:
    few = with_few(images_of(40, 1), images_of(30, 2), 5, 0)
    assert len(few) == 45
    assert few.weights is not None
    assert few.weights.mean() == pytest.approx(1)
    assert few.weights[40:].sum() == pytest.approx(few.weights[:40].sum())
    assert few.files[40:] == subset(images_of(30, 2), 5, 0).files
