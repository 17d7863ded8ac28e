"""Tones of photographs: matched histograms against sorted pixels, mean and deviation against arithmetic."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from simgan_cli.data.decoding import equalize
from simgan_cli.data.matching import Match, are_equalized, look_generators, match_tones, quantiles_of

RNG = np.random.default_rng(0)


def random_images(count: int, channels: int, size: tuple[int, int], dtype: type = np.uint8) -> NDArray[np.uint8]:
    return RNG.integers(0, np.iinfo(dtype).max + 1, (count, channels, *size)).astype(dtype)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["uint8", "uint16"]))
def test_pixels_without_ties_get_the_photographs_sorted_pixels(seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    # 256 different levels in 256 places: the k-th smallest pixel takes the photograph's k-th smallest.
    order = rng.permutation(256)
    photograph = rng.integers(0, np.iinfo(dtype).max + 1, (1, 1, 16, 16)).astype(dtype)
    matched = match_tones(order.reshape(1, 1, 16, 16) / 300, quantiles_of(photograph), [0], "histogram")
    levels = np.sort(photograph.ravel()) / np.iinfo(dtype).max
    # Quantiles lie between two neighbours of the sorted pixels.
    np.testing.assert_allclose(matched.ravel(), levels[order], atol=np.diff(levels).max() + 1e-6)


def test_equal_pixels_stay_equal_and_order_stays() -> None:
    image = np.array([[[[0.1, 0.1, 0.3, 0.9]]]])
    matched = match_tones(image, quantiles_of(random_images(1, 1, (8, 8))), [0], "histogram").ravel()
    assert matched[0] == matched[1] <= matched[2] <= matched[3]


def test_an_image_keeps_its_own_histogram() -> None:
    images = random_images(3, 1, (35, 55))
    matched = match_tones(images / 255, quantiles_of(images), [0, 1, 2], "histogram")
    assert np.abs(matched * 255 - images).max() <= 1


def test_mean_and_deviation_become_the_photographs() -> None:
    renders, photographs = random_images(2, 3, (9, 15)) / 1020 + 0.1, random_images(2, 3, (9, 15)) // 2 + 60
    matched = match_tones(renders, quantiles_of(photographs), [1, 0], "mean-std")
    expected = photographs[[1, 0]] / 255
    np.testing.assert_allclose(matched.mean((2, 3)), expected.mean((2, 3)), atol=0.005)
    np.testing.assert_allclose(matched.std((2, 3)), expected.std((2, 3)), atol=0.005)


@pytest.mark.parametrize(("kind", "tone"), [("mean-std", np.mean), ("histogram", np.median)])
def test_a_flat_image_takes_one_tone(kind: Match, tone: object) -> None:
    photograph = random_images(1, 1, (16, 16))
    matched = match_tones(np.full((1, 1, 4, 4), 0.2), quantiles_of(photograph), [0], kind)
    assert callable(tone)
    assert matched * 255 == pytest.approx(tone(photograph), abs=2)


def test_off_returns_the_images() -> None:
    images = np.zeros((2, 1, 4, 4))
    assert match_tones(images, quantiles_of(random_images(2, 1, (4, 4))), [1, 0], "off") is images


def test_a_look_depends_on_content_and_seed() -> None:
    def draws(*arguments: Any) -> list[int]:
        return [int(generator.integers(7)) for generator in look_generators(*arguments)]

    images = random_images(40, 1, (4, 4))
    drawn = draws(images, 0)
    assert set(drawn) == set(range(7))
    assert draws(images[::-1], 0) == drawn[::-1]
    assert draws(images, 1) != drawn
    assert len(set(draws(images, 0, ["left"] * 20 + ["right"] * 20))) <= 2


def test_equalized_images_are_recognised() -> None:
    images = (random_images(9, 1, (35, 55)) // 3 + 10).astype(np.uint8)
    assert not are_equalized(images)
    assert are_equalized(np.stack([equalize(image[0])[None] for image in images]))
    by_pillow = [np.asarray(ImageOps.equalize(Image.fromarray(image[0])))[None] for image in images]
    assert are_equalized(np.stack(by_pillow))  # whose integer steps clip the last levels
