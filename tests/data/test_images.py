"""What test_pixels.py leaves open: transparency, EXIF of deep images, the borders of fits, rounding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simgan_cli.data.images import Preparation, equalize, read_pixels, resize
from simgan_cli.data.sampler import to_network, to_pixels
from simgan_cli.errors import UnreadableImage

PLAIN = Preparation()


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "color", "transparency", "expected"),
    [("1", 1, 0, [255]), ("L", 90, 90, [90]), ("RGB", (1, 2, 3), (1, 2, 3), [1, 2, 3])],
)
def test_a_transparent_colour_changes_no_pixel(
    tmp_path: Path, mode: str, color: Any, transparency: Any, expected: list[int]
) -> None:
    path = saved(Image.new(mode, (5, 4), color), tmp_path / "a.png", transparency=transparency)
    assert read_pixels(path, PLAIN)[:, 0, 0].tolist() == expected


def test_a_transparent_palette_entry_keeps_its_colour(tmp_path: Path) -> None:
    image = Image.new("RGB", (5, 4), (200, 30, 40)).convert("P", palette=Image.Palette.ADAPTIVE)
    path = saved(image, tmp_path / "a.png", transparency=image.getpixel((0, 0)))
    assert read_pixels(path, PLAIN)[:, 0, 0].tolist() == [200, 30, 40]


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [(1, [[1, 2], [3, 4]]), (2, [[2, 1], [4, 3]]), (3, [[4, 3], [2, 1]]), (6, [[3, 1], [4, 2]]), (8, [[2, 4], [1, 3]])],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_exif_orientation_turns_the_pixels(tmp_path: Path, orientation: int, expected: Any, dtype: Any) -> None:
    image = Image.fromarray(np.array([[1, 2], [3, 4]], dtype))
    exif = image.getexif()
    exif[0x0112] = orientation
    assert read_pixels(saved(image, tmp_path / "a.png", exif=exif), PLAIN).tolist() == [expected]


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    path = saved(Image.fromarray(np.array([[7, 250]], np.uint8)), tmp_path / "a.png")
    assert read_pixels(path, Preparation(channels="3")).tolist() == [[[7, 250]]] * 3


def test_deep_grey_as_colour_is_equalized_as_grey() -> None:
    grey = np.array([[7, 65_000], [300, 300]], np.uint16)
    assert np.array_equal(equalize(np.stack([grey] * 3, axis=-1)), np.stack([equalize(grey)] * 3, axis=-1))


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "TGA", "JPEG2000"])
def test_formats_that_no_suffix_names_are_not_decoded(tmp_path: Path, kind: str) -> None:
    """Pillow reads more than we do, and hands some to other programs."""
    path = saved(Image.new("RGB", (32, 32)), tmp_path / "a.png", format=kind)
    with pytest.raises(UnreadableImage, match="unknown format"):
        read_pixels(path, PLAIN)


def test_pad_centres_a_wide_image_between_black_rows() -> None:
    padded = resize(np.full((10, 40), 200, np.uint8), (20, 20), "pad")
    assert (padded[8:12] == 200).all()
    assert (padded[:7] == 0).all()
    assert (padded[13:] == 0).all()


def test_crop_cuts_the_same_from_both_sides() -> None:
    image = np.zeros((10, 30), np.uint8)
    image[:, :10], image[:, 20:] = 50, 250
    assert (resize(image, (10, 10), "crop") == 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_sharp_edge_does_not_overshoot_the_range(dtype: Any) -> None:
    top = int(np.iinfo(dtype).max)
    edge = np.zeros((8, 8), dtype)
    edge[:, 4:] = top
    enlarged = resize(edge, (32, 32), "resize")
    assert enlarged.dtype == dtype
    assert (enlarged[:, :12] < top // 4).all()
    assert (enlarged[:, 20:] > top - top // 4).all()


def test_colour_is_resized_band_by_band() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    bands = [resize(np.ascontiguousarray(image[..., band]), (5, 6), "resize") for band in range(3)]
    assert np.array_equal(resize(image, (5, 6), "resize"), np.stack(bands, axis=-1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_equalisation_leaves_a_constant_image_alone(dtype: Any) -> None:
    assert (equalize(np.full((3, 4), 77, dtype)) == 77).all()


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_preparing_resizes_before_it_equalises(tmp_path: Path, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(50, 90, (20, 30)).astype(np.uint8 if mode == "L" else np.uint16)
    path = saved(Image.fromarray(pixels), tmp_path / "a.png")
    found = read_pixels(path, Preparation(size=(10, 12), preprocess="equalize"))
    assert np.array_equal(found[0], equalize(resize(pixels, (10, 12), "resize")))


def test_halves_are_rounded_to_even() -> None:
    images = torch.tensor([126.5, 100.5, 127.5]) / 127.5 - 1  # exact in float32 after the way back
    assert to_pixels(images, np.dtype(np.uint8)).tolist() == [126, 100, 128]


def test_values_beyond_the_range_do_not_wrap_around() -> None:
    levels = torch.tensor([-1.3, 1.0, 1.2])
    assert to_pixels(levels, np.dtype(np.uint8)).tolist() == [0, 255, 255]
    assert to_pixels(levels, np.dtype(np.uint16)).tolist() == [0, 65535, 65535]


def test_to_network_leaves_its_input_alone() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8)
    to_network(pixels)
    assert pixels.tolist() == [0, 255]
