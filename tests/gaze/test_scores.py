from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simgan_cli.gaze.labels import LabelledImages
from simgan_cli.gaze.scores import Result, compare, interval, mirrored_axes, result_of, summary, with_seeds


def row(errors: object, name: str = "a", predictions: object = None) -> Result:
    result = np.atleast_2d(np.asarray(errors, float))
    return Result(name, "cnn", 10, [np.asarray(predictions)] * len(result), result)


def test_a_summary_equals_that_by_hand() -> None:
    eyes = LabelledImages(
        Path("d"), "csv", "gaze", np.zeros((4, 2, 2), np.uint8), np.ones((4, 3)), list("abcd"), ["x", "x", "y", "y"]
    )
    result = summary(row([[1, 2, 6, 11], [3, 4, 8, 13]]), eyes, 200)
    assert (result["mean"], result["median"], result["seed_means"]) == (6, 5, [5, 7])
    assert result["seed_sd"] == pytest.approx(np.sqrt(2))
    assert result["within"] == {"3": 3 / 8, "5": 0.5, "7": 5 / 8, "10": 6 / 8, "13": 1, "15": 1, "20": 1}
    assert result["persons"] == {"x": 2.5, "y": 9.5}


def test_points_count_one_by_one_and_missing_ones_do_not() -> None:
    true = np.array([[10, 10, 20, 20], [10, 10, np.nan, np.nan]])
    hands = LabelledImages(
        Path("d"), "csv", "points", np.zeros((2, 30, 30), np.uint8), true, ["a", "b"], points=("tip", "root")
    )
    predictions = [np.array([[13, 14, 20, 21], [10, 16, 0, 0]]), np.array([[10, 10, 20, 20], [10, 10, 5, 5]])]
    result: Any = summary(result_of("raw", "cnn", 9, predictions, hands), hands, 200)  # distances 5, 1; 6, and 0, 0; 0
    assert (result["mean"], result["seed_means"]) == (pytest.approx((3 + 6 + 0 + 0) / 4), [4.5, 0])
    assert result["within"] == pytest.approx({"1": 4 / 6, "2": 4 / 6, "3": 4 / 6, "5": 5 / 6, "10": 1})
    assert result["points"]["tip"]["mean"] == (5 + 6 + 0 + 0) / 4
    assert result["points"]["root"] == {"mean": 0.5, "within": {"1": 1, "2": 1, "3": 1, "5": 1, "10": 1}}


def test_the_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(5, 2, (1, 400))
    low, high = interval(values, None, 4000)
    assert np.allclose((low, high), values.mean() + np.array([-1.96, 1.96]) * values.std() / 20, atol=0.03)


@pytest.mark.parametrize(("seeds", "published"), [(2, 12.706), (3, 4.303), (5, 2.776), (31, 2.042)])
def test_other_seeds_widen_an_interval_by_students_t(seeds: int, published: float) -> None:
    by_seed = np.linspace(0, 1, seeds)
    low, high = with_seeds(by_seed, 0.5, 0.5)
    half_width = published * by_seed.std(ddof=1) / np.sqrt(seeds)
    assert (0.5 - low, high - 0.5) == pytest.approx((half_width, half_width), rel=3e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "persons"), [(2, 0), (5, 0), (1, 5)])
def test_95_percent_of_intervals_contain_the_truth(seeds: int, persons: int) -> None:
    """Simulate 400 evaluations without a difference; 5% of intervals, to 3 standard deviations, miss 0."""
    rng = np.random.default_rng(0)
    names = [str(index % persons) for index in range(60)] if persons else None
    missed = 0
    for _ in range(400):
        values = rng.normal(0, 0.5, (1, 60)) + rng.normal(0, 0.5, (seeds, 60))
        if seeds > 1:
            values += rng.normal(0, 0.3, (seeds, 1))
        if persons:
            values += np.resize(rng.normal(0, 0.5, persons), 60)
        low, high = interval(values, names, 200)
        missed += not low < 0 < high
    assert abs(missed - 400 * 0.05) < 3 * np.sqrt(400 * 0.05 * 0.95)


def test_intervals_resample_persons_not_images() -> None:
    values = np.repeat(np.arange(5.0), 100)[None]
    persons = [str(i) for i in np.repeat(np.arange(5), 100)]
    by_person, by_image = (interval(values, given, 2000) for given in (persons, None))
    assert by_person[1] - by_person[0] > 5 * (by_image[1] - by_image[0])


def test_a_comparison_has_a_verdict_in_words() -> None:
    base = np.random.default_rng(0).uniform(5, 9, (2, 200))
    for shift, verdict in ((-1, "helps"), (1, "hurts")):
        result = compare(row(base), row(base + shift, "b"), None, 500)
        assert (result["verdict"], result["pair"]) == (verdict, ["a", "b"])
        assert result["difference"] == pytest.approx(shift)
    noise = np.random.default_rng(1).normal(0, 3, base.shape)
    assert (
        compare(row(base), row(base + noise - noise.mean(), "b"), None, 500)["verdict"] == "no significant difference"
    )


def test_mirrored_signs_are_named() -> None:
    rng = np.random.default_rng(0)
    yaw = rng.uniform(-0.4, 0.4, 50)
    true = np.stack([-np.sin(yaw), np.zeros(50), -np.cos(yaw)], axis=1)
    named = mirrored_axes(row(np.zeros(50), predictions=true * (-1, 1, 1)), true, "gaze")
    assert len(named) == 1
    assert named[0].startswith("yaw (correlation -1.00")
    assert mirrored_axes(row(np.zeros(50), predictions=true), true, "gaze") == []
