"""The overlap of label distributions, on draws from known ones."""

import numpy as np
import pytest
from numpy.typing import NDArray

from simgan_cli.data.reweighting import overlap
from simgan_cli.gaze.content import compare_content


def normal(rng: np.random.Generator, count: int, mean: float = 0.0) -> NDArray[np.float64]:
    return rng.normal((mean, 0), 1, (count, 2))


def test_the_overlap_equals_that_by_hand() -> None:
    left, right = (np.tile(place, (count, 1)) for place, count in (([0.0, 0.0], 300), ([9.0, 0.0], 100)))
    ours = np.concatenate([left, right])  # three quarters left
    theirs = np.concatenate([left[:100], right, right, right])  # a quarter left
    share, low, high = overlap(ours, theirs, 500)
    assert share == pytest.approx(0.5)
    assert 0.4 < low < 0.5 < high < 0.6
    assert overlap(ours, ours, 100)[0] == 1
    assert overlap(left, right, 100) == (0, 0, 0)
    assert overlap(left, right[:39], 100) == (1, 0, 1)  # too few to know


@pytest.mark.parametrize(("ours", "theirs"), [(40, 40), (100, 144), (600, 4000), (2000, 6000)])
def test_samples_of_one_distribution_do_not_differ(ours: int, theirs: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        content = compare_content("a", [normal(rng, ours)], [normal(rng, theirs)], 200)
        assert not content.differs


@pytest.mark.parametrize(("ours", "theirs", "apart"), [(200, 144, 2.0), (600, 4000, 1.35)])
def test_distributions_that_overlap_by_half_differ(ours: int, theirs: int, apart: float) -> None:
    """Two unit normals 1.35 apart overlap by 2 * Phi(-0.675) = 0.5; few photographs need a larger distance."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        content = compare_content("a", [normal(rng, ours)], [normal(rng, theirs, apart)], 200)
        assert content.differs
        assert content.sentence.startswith("Labels differ: those predicted for the photographs overlap by ")
