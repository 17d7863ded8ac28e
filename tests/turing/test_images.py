"""The images of a visual Turing test equal their files; one kind is refined."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simgan_cli import load_refiner
from simgan_cli.documents import Kind
from simgan_cli.errors import DataError, SettingsError
from simgan_cli.settings.turing_test import TuringTestConfig
from simgan_cli.turing.images import N_EXAMPLES, TuringImage, choose_images
from tests.helpers import write_images
from tests.turing.helpers import write_run


class Silent:
    """Ignores everything except warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def decoding(self, domain: str, done: int, total: int) -> None:
        pass

    def message(self, text: str) -> None:
        pass

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def choose(run: Path, **settings: Any) -> dict[Kind, list[TuringImage]]:
    return choose_images(run, TuringTestConfig(device="cpu", **{"trials": 3} | settings), Silent())


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_its_file_and_one_kind_is_refined(tmp_path: Path, channels: int) -> None:
    run = write_run(tmp_path, channels=channels)
    chosen = choose(run, seed=5)
    refine = load_refiner(run, device="cpu", seed=5)
    for image in chosen["real"]:
        assert np.array_equal(image.levels, np.asarray(Image.open(tmp_path / "photos" / image.file)))
    for image in chosen["refined"]:
        render = np.array(Image.open(tmp_path / "renders" / image.file))
        assert np.array_equal(image.levels, refine(render))
        assert not np.array_equal(image.levels, render)
    for kind, images in chosen.items():
        assert {image.kind for image in images} == {kind}
        assert len({image.file for image in images}) == N_EXAMPLES + 3


def test_the_seed_chooses_the_images(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    first, again, other = ([image.file for image in choose(run, seed=seed)["real"]] for seed in (1, 1, 2))
    assert first == again != other


def test_images_of_16_bits_are_stretched_alike(tmp_path: Path) -> None:
    run = write_run(tmp_path, dtype=np.uint16)
    (tmp_path / "new").mkdir()
    for path in (tmp_path / "photos").iterdir():  # a tenth of the range, as of depth
        Image.fromarray(np.asarray(Image.open(path)) // 10).save(tmp_path / "new" / path.name)
    chosen = choose(run, real=tmp_path / "new", synthetic=tmp_path / "photos")
    refine = load_refiner(run, device="cpu")
    refined = [refine(np.array(Image.open(tmp_path / "photos" / image.file))) for image in chosen["refined"]]
    low = min(np.asarray(Image.open(tmp_path / "new" / image.file)).min() for image in chosen["real"])
    low, high = min(low, min(image.min() for image in refined)), max(image.max() for image in refined)
    for image in chosen["real"]:
        values = np.asarray(Image.open(tmp_path / "new" / image.file)).astype(float)
        assert np.abs(image.levels - (values - low) / (high - low) * 255).max() <= 0.5001


def test_images_of_8_bits_beside_some_of_16_bits_keep_their_levels(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (tmp_path / "wide").mkdir()
    for path in (tmp_path / "photos").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) * np.uint16(257)).save(tmp_path / "wide" / path.name)
    narrow, wide = choose(run), choose(run, real=tmp_path / "wide")
    for kind, images in wide.items():
        for image, expected in zip(images, narrow[kind], strict=True):
            assert np.array_equal(image.levels, expected.levels)


def test_other_folders_are_brought_to_the_size_and_channels_of_the_training(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    chosen = choose(run, real=write_images(tmp_path / "colour", 14, 5, (32, 40, 3)))
    assert {image.levels.shape for images in chosen.values() for image in images} == {(16, 20)}


def test_too_few_images_are_an_error_with_the_possible_trials(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    with pytest.raises(DataError, match=r"photos2: 12 images.*give --real a larger folder, or --trials 2$"):
        choose(run, real=write_images(tmp_path / "photos2", 12, 3))
    with pytest.raises(DataError, match=r"renders2: 9 images.*give --synthetic a larger folder$"):
        choose(run, synthetic=write_images(tmp_path / "renders2", 9, 3))


def test_a_folder_without_a_run_or_its_images_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    with pytest.raises(SettingsError, match="photos: not a run of simgan"):
        choose(tmp_path / "photos")
    (tmp_path / "photos").rename(tmp_path / "moved")
    with pytest.raises(SettingsError, match=r"photos, which is missing; give --real DIR"):
        choose(run)
    assert len(choose(run, real=tmp_path / "moved")["real"]) == N_EXAMPLES + 3
