"""Weights of labels, by hand and as a property: drawn by them, labels are distributed as wanted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from simgan_cli.data.reweighting import effective_number, weights_like


def at(*places: tuple[int, tuple[float, float]]) -> NDArray[np.float64]:
    """Return so many pixels at each place."""
    return np.concatenate([np.tile(place, (count, 1)) for count, place in places]).astype(np.float64)


def test_weights_by_hand() -> None:
    left, right = (2.0, 5.0), (8.0, 5.0)
    weights, unmatched = weights_like(at((60, left), (20, right)), at((10, left), (30, right)))
    # A quarter of what is wanted lies left, where three quarters are: a third as often as now; right three times.
    assert weights == pytest.approx([1 / 3] * 60 + [3] * 20)
    assert unmatched == 0
    # (60 / 3 + 20 * 3)^2 / (60 / 9 + 20 * 9)
    assert effective_number(weights) == pytest.approx(6400 / (20 / 3 + 180))
    assert effective_number(np.ones(7)) == 7


def test_where_nothing_is_wanted_nothing_is_drawn() -> None:
    weights, _ = weights_like(at((40, (2, 5)), (40, (8, 5))), at((50, (8, 5))))
    assert weights == pytest.approx([0] * 40 + [2] * 40)


def test_what_is_wanted_where_no_label_lies_counts_for_the_nearest() -> None:
    labels = at((160, (0, 0)), (160, (9, 0)))
    weights, unmatched = weights_like(labels, at((90, (3, 0)), (270, (6, 0)), (40, (9, 0))))
    # 90 are nearest to (0, 0), 310 to (9, 0), and of the 400 only 40 lie where a label does.
    assert weights == pytest.approx([90 / 200] * 160 + [310 / 200] * 160)
    assert unmatched == 0.9
    # All beyond the labels' own range: nothing can be done but to say so.
    weights, unmatched = weights_like(labels, at((200, (50, 1))))
    assert weights == pytest.approx([0] * 160 + [2] * 160)
    assert unmatched == 1


@pytest.mark.parametrize(("wanted", "bins"), [(1, 1), (39, 1), (40, 4), (200, 16)])
def test_few_wanted_make_few_bins(wanted: int, bins: int) -> None:
    """Labels are distributed as these are, but for the luck of the draw, which fine bins would take for more."""
    rng = np.random.default_rng(0)
    labels = rng.uniform(-1, 1, (5000, 2))
    weights, _ = weights_like(labels, rng.uniform(-1, 1, (wanted, 2)))
    assert len(np.unique(weights)) <= bins
    assert effective_number(weights) > 4000


@given(st.integers(0, 2**32 - 1), st.integers(100, 3000), st.floats(0.2, 1.0))
def test_drawn_by_their_weights_labels_have_the_moments_of_what_is_wanted(seed: int, count: int, width: float) -> None:
    rng = np.random.default_rng(seed)
    labels, wanted = rng.uniform(-1, 1, (3000, 2)), rng.uniform(-width, width, (count, 2))
    weights, _ = weights_like(labels, wanted)
    assert weights.mean() == pytest.approx(1)
    assert 1 <= effective_number(weights) <= 3000 * (1 + 1e-9)
    # Within a ninth for nine bins to a side, and half of the wider bins that fewer draws make.
    half = max(0.12, 1 / int((count / 10) ** 0.5))
    assert (weights[:, None] * labels).mean(axis=0) == pytest.approx(wanted.mean(axis=0), abs=half)
    spread = np.sqrt((weights[:, None] * (labels - wanted.mean(axis=0)) ** 2).mean(axis=0))
    assert spread == pytest.approx(wanted.std(axis=0), abs=half)
