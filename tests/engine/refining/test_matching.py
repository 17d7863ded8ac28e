"""Refined images get the tones of photographs that the model stores."""

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from simgan_cli.data.augmentation import augment
from simgan_cli.data.decoding import luma
from simgan_cli.data.matching import quantiles_of
from simgan_cli.engine.export.refiner_model import open_model, save_tones
from simgan_cli.engine.method.noise import choices
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.runtime.device import resolve_device
from simgan_cli.errors import DataError, SettingsError
from tests.helpers import write_refiner

CPU = resolve_device("cpu")
PHOTOGRAPHS = np.random.default_rng(1).integers(0, 90, (3, 1, 20, 30)).astype(np.uint8)


def renders(count: int, channels: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (count, channels, 20, 30)).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_refiner(tmp_path_factory.mktemp("model"))
    save_tones(folder, quantiles_of(PHOTOGRAPHS))
    return folder


def test_results_have_the_levels_of_a_photograph(model: Path) -> None:
    refined = ImageRefiner(open_model(model), CPU, match="histogram").refine(renders(6))
    levels = np.sort(PHOTOGRAPHS.reshape(3, -1), axis=1).astype(int)
    for image in refined:
        distances = np.abs(levels - np.sort(image.ravel())).mean(axis=1)
        assert distances.min() < 2


def test_with_strength_0_the_render_itself_is_matched(model: Path) -> None:
    images = renders(2)
    matched = ImageRefiner(open_model(model), CPU, strength=0, match="mean-std").refine(images).astype(float)
    for before, after in zip(images, matched, strict=True):
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.999
        assert np.abs(PHOTOGRAPHS.mean((1, 2, 3)) - after.mean()).min() < 1.5


def test_images_of_one_look_take_one_photograph(model: Path) -> None:
    refiner = ImageRefiner(open_model(model), CPU, match="histogram")
    means = refiner.refine(renders(12), ["pair"] * 12).mean((1, 2, 3))
    assert np.ptp(means) < 1
    assert np.ptp(refiner.refine(renders(12)).mean((1, 2, 3))) > 1


def test_colour_images_keep_their_hues(model: Path) -> None:
    images = renders(2, channels=3)
    matched = ImageRefiner(open_model(model), CPU, match="histogram").refine(images)
    assert np.abs(luma(matched).mean((1, 2, 3)) - 45).max() < 15
    unmatched = ImageRefiner(open_model(model), CPU, match="off").refine(images)
    assert luma(unmatched).mean() > 90


def test_with_strength_0_matching_is_the_histogram_baseline(model: Path) -> None:
    images = renders(4)
    matched = ImageRefiner(open_model(model), CPU, strength=0, match="histogram", seed=3).refine(images)
    for before, after in zip(images, matched, strict=True):
        ordered = np.sort(before.ravel())
        ranks = (np.searchsorted(ordered, before, "left") + np.searchsorted(ordered, before, "right")) / 2 / 600
        shares = (np.arange(256) + 0.5) / 256
        made = [np.interp(ranks, shares, np.quantile(photograph, shares)) for photograph in PHOTOGRAPHS]
        assert min(np.abs(after - levels).max() for levels in made) < 0.501  # rounded


def test_grey_results_are_matched_by_default(model: Path) -> None:
    images, opened = renders(3), open_model(model)
    by_default = ImageRefiner(opened, CPU).refine(images)
    assert np.array_equal(by_default, ImageRefiner(opened, CPU, match="mean-std").refine(images))
    assert not np.array_equal(by_default, ImageRefiner(opened, CPU, match="off").refine(images))


def test_strength_0_gives_the_input_by_default(model: Path) -> None:
    assert np.array_equal(ImageRefiner(open_model(model), CPU, strength=0).refine(renders(2)), renders(2))


def test_colour_refiners_and_those_without_tones_do_not_match_by_default(tmp_path: Path) -> None:
    colour = write_refiner(tmp_path / "colour", channels=3)
    save_tones(colour, quantiles_of(renders(2, channels=3)))
    for folder, channels in ((colour, 3), (write_refiner(tmp_path / "grey"), 1)):
        opened = open_model(folder)
        by_default = ImageRefiner(opened, CPU).refine(renders(2, channels))
        assert np.array_equal(by_default, ImageRefiner(opened, CPU, match="off").refine(renders(2, channels)))


def test_floats_and_integers_of_an_image_are_matched_alike(model: Path) -> None:
    refiner = ImageRefiner(open_model(model), CPU)
    images = renders(4)[:, 0, ..., None]
    matched = refiner(images)
    of_one, of_two = refiner((images / 255).astype("f4")), refiner((images / 127.5 - 1).astype("f4"), (-1, 1))
    assert np.abs(of_one * 255 - matched).max() < 0.51
    assert np.abs((of_two + 1) * 127.5 - matched).max() < 0.51


def test_each_photograph_is_chosen_about_as_often() -> None:
    keys = np.random.default_rng(0).integers(0, 2**32, (6000, 2), dtype=np.uint32)
    counts = np.bincount(choices(keys, 6), minlength=6)
    assert len(counts) == 6
    assert np.abs(counts - 1000).max() < 120  # four standard deviations
    assert choices(keys[:5], 6) == choices(keys, 6)[:5]


def test_results_are_augmented_after_they_are_matched(model: Path) -> None:
    images = renders(3)
    matched = ImageRefiner(open_model(model), CPU, match="histogram").refine(images)
    both = ImageRefiner(open_model(model), CPU, match="histogram", augment=True).refine(images)
    for image, before, after in zip(images, matched, both, strict=True):
        rng = np.random.default_rng([0, zlib.crc32(image.tobytes()), 1])
        assert np.array_equal(after[0], augment(before[0], rng))


def test_a_copy_is_the_look_of_a_higher_seed(model: Path) -> None:
    images = renders(3)
    opened = open_model(model)
    looks = [ImageRefiner(opened, CPU, seed=1, augment=True).refine(images, copy=copy) for copy in (0, 2)]
    assert not np.array_equal(looks[0], looks[1])
    assert np.array_equal(looks[1], ImageRefiner(opened, CPU, seed=3, augment=True).refine(images))


def test_results_are_equalized_last_where_photographs_are(model: Path) -> None:
    flat = replace(open_model(model), equalized=True)
    images = renders(3)
    augmented = ImageRefiner(open_model(model), CPU, augment=True).refine(images)
    made = ImageRefiner(flat, CPU, augment=True).refine(images)
    for before, after in zip(augmented, made, strict=True):
        below = np.array([(before <= level).sum() for level in range(256)])  # OpenCV's equalizeHist
        darkest = below[before.min()]
        assert np.array_equal(after, np.rint((below - darkest) * (255 / (before.size - darkest)))[before])
    unmatched = ImageRefiner(open_model(model), CPU, match="off").refine(images)
    assert np.array_equal(ImageRefiner(flat, CPU, match="off").refine(images), unmatched)


@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (1, np.uint16)])
def test_colour_and_16_bits_are_augmented(model: Path, channels: int, dtype: Any) -> None:
    top = np.iinfo(dtype).max
    images = np.random.default_rng(5).integers(0, top, (2, channels, 20, 30)).astype(dtype)
    made = ImageRefiner(open_model(model), CPU, strength=0, augment=True).refine(images)
    assert (made.shape, made.dtype) == (images.shape, images.dtype)
    assert np.abs(made.astype(int) - images).mean() > top / 100


def test_a_model_without_tones_is_refused(tmp_path: Path) -> None:
    model = open_model(write_refiner(tmp_path))
    with pytest.raises(SettingsError, match=r"--match histogram: .* has no tones of photographs"):
        ImageRefiner(model, CPU, match="histogram")
    with pytest.raises(SettingsError, match=r"--augment: .* has no tones of photographs"):
        ImageRefiner(model, CPU, augment=True)


def test_floating_point_images_are_not_augmented(model: Path) -> None:
    with pytest.raises(DataError, match="augment takes uint8 or uint16"):
        ImageRefiner(open_model(model), CPU, augment=True)(np.zeros((4, 4), np.float32))
