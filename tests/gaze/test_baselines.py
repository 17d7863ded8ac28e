"""Each baseline against its definition, pixel by pixel in numpy."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from simgan_cli.data.decoding import equalize
from simgan_cli.data.matching import are_equalized
from simgan_cli.gaze.baselines import BETA, make_baseline
from simgan_cli.gaze.labels import LabelledImages
from simgan_cli.settings.eval_gaze import BaselineName

SIZE = (24, 32)


def eyes(count: int, seed: int, low: int, high: int) -> NDArray[np.uint8]:
    """Return images of all levels from `low` to `high`, each at random places."""
    rng = np.random.default_rng(seed)
    levels = np.linspace(low, high, SIZE[0] * SIZE[1])
    return np.stack([rng.permutation(levels).reshape(SIZE) for _ in range(count)]).round().astype(np.uint8)


def labelled(pixels: NDArray[np.uint8]) -> LabelledImages:
    """Return images whose labels are their indices."""
    targets = np.arange(2.0 * len(pixels)).reshape(-1, 2)
    return LabelledImages(Path("renders"), "csv", "pupil", pixels, targets, [f"{i}.png" for i in range(len(pixels))])


RENDERS, PHOTOGRAPHS = eyes(3, 1, 60, 250), eyes(1, 2, 5, 90)


def test_histogram_gives_each_rank_the_photographs_level() -> None:
    pixels = make_baseline("histogram", labelled(RENDERS), PHOTOGRAPHS, 0).pixels
    for before, after in zip(RENDERS, pixels, strict=True):
        order = np.argsort(before.ravel(), kind="stable")
        expected = np.sort(PHOTOGRAPHS[0].ravel())
        assert np.abs(after.ravel()[order].astype(int) - expected).max() <= 1


def test_reinhard_gives_mean_and_deviation() -> None:
    pixels = make_baseline("reinhard", labelled(RENDERS), PHOTOGRAPHS, 0).pixels.astype(float)
    z = (RENDERS - RENDERS.mean((1, 2), keepdims=True)) / RENDERS.std((1, 2), keepdims=True)
    expected = z * PHOTOGRAPHS.std() + PHOTOGRAPHS.mean()
    assert np.abs(pixels - expected).max() <= 1.2


def test_fda_takes_amplitudes_of_low_frequencies_and_keeps_phases() -> None:
    side = int(BETA * min(SIZE))
    ours, theirs = np.fft.fftshift(np.fft.fft2(RENDERS[0])), np.fft.fftshift(np.fft.fft2(PHOTOGRAPHS[0]))
    amplitude, (row, column) = np.abs(ours), (SIZE[0] // 2, SIZE[1] // 2)
    low = np.s_[row - side : row + side + 1, column - side : column + side + 1]
    amplitude[low] = np.abs(theirs)[low]
    expected = np.fft.ifft2(np.fft.ifftshift(amplitude * np.exp(1j * np.angle(ours)))).real
    changed = make_baseline("fda", labelled(RENDERS), PHOTOGRAPHS, 0).pixels[0]
    assert np.abs(changed - np.clip(expected, 0, 255)).max() <= 0.51


@pytest.mark.parametrize("name", ["histogram", "reinhard", "fda"])
def test_many_images_are_not_all_floating_point_at_once(name: BaselineName) -> None:
    many = labelled(np.resize(RENDERS, (3000, *SIZE)))
    tracemalloc.start()
    try:
        pixels = make_baseline(name, many, PHOTOGRAPHS, 0).pixels
        assert tracemalloc.get_traced_memory()[1] < 16 * pixels.nbytes
    finally:
        tracemalloc.stop()
    assert (pixels == np.resize(make_baseline(name, labelled(RENDERS), PHOTOGRAPHS, 0).pixels, pixels.shape)).all()


def test_augmented_images_differ_from_each_other_and_follow_from_the_seed() -> None:
    same = labelled(np.repeat(RENDERS[:1], 6, axis=0))
    first, again, other = (make_baseline("augment", same, PHOTOGRAPHS, seed).pixels for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    assert len(np.unique(first.reshape(6, -1), axis=0)) == 6


def test_mixed_has_the_photographs_levels_in_the_augmented_order() -> None:
    augmented = make_baseline("augment", labelled(RENDERS), PHOTOGRAPHS, 0).pixels
    mixed = make_baseline("mixed", labelled(RENDERS), PHOTOGRAPHS, 0).pixels
    for before, after in zip(augmented, mixed, strict=True):
        levels = [np.unique(after[before == level]) for level in np.unique(before)]
        assert all(len(of_one) == 1 for of_one in levels)
        assert (np.diff([of_one[0] for of_one in levels]) >= 0).all()
    assert abs(float(mixed.mean()) - float(PHOTOGRAPHS.mean())) < 2


@pytest.mark.parametrize("name", ["histogram", "reinhard", "fda", "augment", "mixed"])
def test_a_baseline_of_equalized_photographs_is_equalized(name: BaselineName) -> None:
    photographs = np.stack([equalize(image) for image in eyes(3, 3, 5, 90)])
    pixels = make_baseline(name, labelled(RENDERS), photographs, 0).pixels
    assert are_equalized(pixels[:, None])
    assert not are_equalized(make_baseline(name, labelled(RENDERS), PHOTOGRAPHS, 0).pixels[:, None])


def test_baselines_keep_labels() -> None:
    before = labelled(RENDERS)
    after = make_baseline("mixed", before, PHOTOGRAPHS, 0)
    assert (after.targets == before.targets).all()
    assert after.files == before.files
