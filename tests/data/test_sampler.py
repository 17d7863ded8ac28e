"""The stream of mini-batches: complete, repeatable, resumable."""

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from simgan_cli.data.sampler import Sampler

CPU = torch.device("cpu")


def images(count: int) -> Any:
    """Images of 1x2x3 that are recognised by their value, brighter on the right."""
    return (np.arange(count, dtype=np.uint8)[:, None, None, None] + np.array([0, 50, 100], np.uint8)).repeat(2, axis=2)


def sampler(count: int, seed: int = 0, **options: Any) -> Sampler:
    return Sampler(images(count), CPU, (seed, 7), **options)


@given(count=st.integers(1, 20), passes=st.integers(1, 3))
def test_every_pass_has_every_image_once(count: int, passes: int) -> None:
    stream = sampler(count).indices(0, count * passes).reshape(passes, count)
    assert all(sorted(part) == list(range(count)) for part in stream.tolist())


@given(count=st.integers(1, 9), batches=st.lists(st.integers(1, 25), min_size=1, max_size=6))
def test_the_stream_does_not_depend_on_batch_sizes(count: int, batches: list[int]) -> None:
    cut, uncut = sampler(count), sampler(count)
    parts = torch.cat([cut(size) for size in batches])
    assert torch.equal(parts, uncut(sum(batches)))
    assert cut.position == sum(batches)


@given(before=st.integers(0, 30), size=st.integers(1, 12))
def test_a_resume_needs_only_the_position(before: int, size: int) -> None:
    uninterrupted, resumed = sampler(5, flip=True), sampler(5, flip=True)
    if before:
        uninterrupted(before)
    resumed.position = before
    assert torch.equal(uninterrupted(size), resumed(size))


@given(
    batches=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    flip=st.booleans(),
    part=st.sampled_from([(0, 1), (1, 3)]),
)
def test_streamed_batches_equal_resident_ones(batches: list[int], flip: bool, part: tuple[int, int]) -> None:
    streaming, resident = (sampler(7, flip=flip, part=part, resident=resident) for resident in (False, True))
    for size in [*batches, batches[-1]]:  # two batches of one size: the second is prefetched
        assert torch.equal(streaming(size), resident(size))


@given(
    count=st.integers(1, 9),
    parts=st.integers(1, 4),
    batches=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    flip=st.booleans(),
)
def test_parts_together_draw_the_stream_of_one_process(count: int, parts: int, batches: list[int], flip: bool) -> None:
    complete = sampler(count, flip=flip)
    each = [sampler(count, flip=flip, part=(index, parts)) for index in range(parts)]
    for size in batches:
        assert torch.equal(torch.cat([part(size) for part in each]), complete(parts * size))
    assert {part.position for part in each} == {complete.position}


def test_different_seeds_draw_different_streams() -> None:
    assert sampler(50, seed=1).indices(0, 50).tolist() != sampler(50, seed=2).indices(0, 50).tolist()


def test_flips_mirror_some_images_and_change_no_pixel() -> None:
    plain, flipped = sampler(9)(400), sampler(9, flip=True)(400)
    mirrored = (flipped[:, 0, 0, 0] > flipped[:, 0, 0, 2]).float()
    assert 0.4 < mirrored.mean() < 0.6
    assert torch.equal(flipped.sort(dim=-1).values, plain)


def test_images_left_out_are_never_drawn() -> None:
    seven = sampler(9, left_out=np.array([2, 5]))
    drawn = seven.indices(0, 70)
    assert set(drawn) == set(range(9)) - {2, 5}
    assert np.array_equal(np.sort(drawn[:7]), seven.kept)  # a pass draws each image once


@given(batches=st.lists(st.integers(1, 9), min_size=1, max_size=5), resident=st.booleans())
def test_targets_are_those_of_the_images_just_drawn(batches: list[int], resident: bool) -> None:
    labels = np.arange(7, dtype=np.float32)[:, None] * np.array([1, 10], np.float32)
    stream = sampler(7, resident=resident, part=(1, 2), labels=labels)
    for size in batches:
        drawn = ((stream(size)[:, 0, 0, 0] + 1) * 127.5).round()
        assert stream.targets is not None
        assert torch.equal(stream.targets, torch.stack([drawn, 10 * drawn], dim=1))


def test_other_weights_count_from_the_current_position_on() -> None:
    changed, resumed = sampler(5), sampler(5, weights=np.array([0.0, 0, 1, 1, 0]))
    changed(3)
    changed.reweigh(np.array([0.0, 0, 1, 1, 0]))
    resumed.position = 3
    for _ in range(4):
        assert torch.equal(changed(3), resumed(3))
    assert set(changed.indices(3, 50)) == {2, 3}


def test_weights_decide_how_often_an_image_is_drawn() -> None:
    weighted = sampler(5, weights=np.array([0.0, 1, 2, 3, 4]), left_out=np.array([4]))
    counts = np.bincount(weighted.indices(0, 3 * 4000), minlength=5)
    assert counts[0] == counts[4] == 0
    np.testing.assert_allclose(counts[1:4] / counts.sum(), np.array([1, 2, 3]) / 6, atol=0.02)
    assert np.array_equal(weighted.indices(2, 9), weighted.indices(0, 11)[2:])
