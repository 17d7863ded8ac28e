"""Weights of labels, by hand; labels drawn by weight have the wanted distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from simgan_cli.data.reweighting import effective_number, weights_like


def at(*places: tuple[int, tuple[float, float]]) -> NDArray[np.float64]:
    """Return a number of pixels at each place."""
    return np.concatenate([np.tile(place, (count, 1)) for count, place in places]).astype(np.float64)


def test_weights_equal_those_by_hand() -> None:
    left, right = (2.0, 5.0), (8.0, 5.0)
    weights, unmatched = weights_like(at((60, left), (20, right)), at((10, left), (30, right)))
    # A quarter of the wanted labels lies left, three quarters of ours do: weight 1/3 there, and 3 right.
    assert weights == pytest.approx([1 / 3] * 60 + [3] * 20)
    assert unmatched == 0
    # (60 / 3 + 20 * 3)^2 / (60 / 9 + 20 * 9)
    assert effective_number(weights) == pytest.approx(6400 / (20 / 3 + 180))
    assert effective_number(np.ones(7)) == 7


def test_labels_where_none_are_wanted_get_weight_0() -> None:
    weights, _ = weights_like(at((40, (2, 5)), (40, (8, 5))), at((50, (8, 5))))
    assert weights == pytest.approx([0] * 40 + [2] * 40)


def test_wanted_labels_in_empty_bins_count_for_the_nearest() -> None:
    labels = at((160, (0, 0)), (160, (9, 0)))
    weights, unmatched = weights_like(labels, at((90, (3, 0)), (270, (6, 0)), (40, (9, 0))))
    # 90 are nearest to (0, 0), 310 to (9, 0), and of the 400 only 40 lie where a label does.
    assert weights == pytest.approx([90 / 200] * 160 + [310 / 200] * 160)
    assert unmatched == 0.9
    # All wanted labels lie beyond the range of ours, which is only reported.
    weights, unmatched = weights_like(labels, at((200, (50, 1))))
    assert weights == pytest.approx([0] * 160 + [2] * 160)
    assert unmatched == 1


@pytest.mark.parametrize(("wanted", "bins"), [(1, 1), (39, 1), (40, 4), (200, 16)])
def test_few_wanted_labels_make_few_bins(wanted: int, bins: int) -> None:
    """Both have the same distribution; fine bins would take the noise of few draws for a difference."""
    rng = np.random.default_rng(0)
    labels = rng.uniform(-1, 1, (5000, 2))
    weights, _ = weights_like(labels, rng.uniform(-1, 1, (wanted, 2)))
    assert len(np.unique(weights)) <= bins
    assert effective_number(weights) > 4000


@given(st.integers(0, 2**32 - 1), st.integers(100, 3000), st.floats(0.2, 1.0))
def test_labels_drawn_by_weight_have_the_moments_of_the_wanted_ones(seed: int, count: int, width: float) -> None:
    rng = np.random.default_rng(seed)
    labels, wanted = rng.uniform(-1, 1, (3000, 2)), rng.uniform(-width, width, (count, 2))
    weights, _ = weights_like(labels, wanted)
    assert weights.mean() == pytest.approx(1)
    assert 1 <= effective_number(weights) <= 3000 * (1 + 1e-9)
    # Within a ninth for nine bins along a side, and half of the wider bins of fewer draws.
    half = max(0.12, 1 / int((count / 10) ** 0.5))
    assert (weights[:, None] * labels).mean(axis=0) == pytest.approx(wanted.mean(axis=0), abs=half)
    spread = np.sqrt((weights[:, None] * (labels - wanted.mean(axis=0)) ** 2).mean(axis=0))
    assert spread == pytest.approx(wanted.std(axis=0), abs=half)
