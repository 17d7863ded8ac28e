"""Refined images take the tones of photographs that the model keeps."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from simgan_cli.data.decoding import luma
from simgan_cli.data.matching import quantiles_of
from simgan_cli.engine.export.refiner_model import open_model, save_tones
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.runtime.device import resolve_device
from simgan_cli.errors import SettingsError
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


def test_with_strength_0_the_render_itself_takes_them(model: Path) -> None:
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
    dull = ImageRefiner(open_model(model), CPU).refine(images)
    assert luma(dull).mean() > 90


def test_a_model_without_tones_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has no tones of photographs"):
        ImageRefiner(open_model(write_refiner(tmp_path)), CPU, match="histogram")
