"""Tiles change no pixel."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from simgan_cli.engine.method.networks import Padding, Refiner, receptive_field
from simgan_cli.engine.refining.tiling import cuts, cuts_needed, in_tiles


@given(st.integers(1, 400), st.integers(5, 120), st.integers(0, 20))
def test_windows_have_one_length_and_keep_each_pixel_once_away_from_their_edges(
    length: int, longest: int, margin: int
) -> None:
    assume(longest > 2 * margin)
    parts = cuts(length, cuts_needed(length, longest, margin), margin)
    lengths = {part.window.stop - part.window.start for part in parts}
    assert len(lengths) == 1
    assert lengths.pop() <= longest
    assert [pixel for part in parts for pixel in range(part.kept.start, part.kept.stop)] == list(range(length))
    for part in parts:
        assert part.window.start >= 0
        assert part.window.stop <= length
        assert part.kept.start - part.window.start >= margin or part.kept.start == 0
        assert part.window.stop - part.kept.stop >= margin or part.kept.stop == length


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
@pytest.mark.parametrize("size", [(70, 33), (21, 100), (61, 62)])
def test_tiles_refine_to_the_same_pixels(padding: Padding, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    refiner = Refiner(1, width=4, blocks=2, output="residual", padding=padding)
    torch.nn.init.normal_(refiner.last.weight)
    margin = receptive_field(refiner) // 2
    assert margin == 5  # by hand: 1 + 2 * 2 blocks, 3x3 each
    x = torch.rand(2, 1, *size) * 2 - 1
    with torch.no_grad():
        for at_once in (1, 3, 100):
            assert (in_tiles(refiner, x, 30, margin, at_once) - refiner(x)).abs().max() < 1e-5
        assert (in_tiles(refiner, x, 30, margin - 1) - refiner(x)).abs().max() > 1e-5  # a smaller margin is too small
