"""Image files to pixels and back: modes, depths, fits, equalisation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from simgan_cli.data.decoding import Preparation, equalize, read_pixels, resize
from simgan_cli.data.sampler import to_network, to_pixels
from simgan_cli.errors import UnreadableImage

PLAIN = Preparation()


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("1", 1, [255]),
        ("L", 7, [7]),
        ("LA", (7, 9), [7]),
        ("RGB", (1, 2, 3), [1, 2, 3]),
        ("RGBA", (1, 2, 3, 4), [1, 2, 3]),
        ("I;16", 60_000, [60_000]),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_every_mode_gives_its_pixels(tmp_path: Path, mode: str, color: Any, expected: list[int], suffix: str) -> None:
    path = saved(Image.new(mode, (5, 4), color), tmp_path / f"image{suffix}")
    pixels = read_pixels(path, Preparation(background="keep"))
    assert pixels.shape == (len(expected), 4, 5)
    assert pixels.dtype == (np.uint16 if mode == "I;16" else np.uint8)
    assert pixels[:, 0, 0].tolist() == expected


def test_palettes_become_colour(tmp_path: Path) -> None:
    image = Image.new("RGB", (5, 4), (200, 30, 40)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert read_pixels(saved(image, tmp_path / "p.png"), PLAIN)[:, 0, 0].tolist() == [200, 30, 40]
    assert read_pixels(saved(image, tmp_path / "t.png", transparency=0), PLAIN).shape == (3, 4, 5)


def test_sixteen_bit_pgm_and_big_endian_tiff(tmp_path: Path) -> None:
    values = np.array([[0, 1, 256], [4095, 65534, 65535]], dtype=np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 3 2 65535\n" + values.astype(">u2").tobytes())
    assert read_pixels(tmp_path / "a.pgm", PLAIN).tolist() == [values.tolist()]
    Image.fromarray(values.astype(">u2")).save(tmp_path / "a.tif")
    assert read_pixels(tmp_path / "a.tif", PLAIN).tolist() == [values.tolist()]


def test_channels_are_converted_when_asked(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (5, 4), (50, 50, 50)), tmp_path / "a.png")
    assert read_pixels(path, Preparation(channels="1")).tolist() == np.full((1, 4, 5), 50).tolist()
    deep = saved(Image.new("I;16", (5, 4), 900), tmp_path / "b.png")
    assert read_pixels(deep, Preparation(channels="3")).tolist() == np.full((3, 4, 5), 900).tolist()


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("L", (6, 3))
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    assert read_pixels(saved(image, tmp_path / "a.jpg", exif=exif), PLAIN).shape == (1, 6, 3)


def test_more_than_16_bits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="16 bits"):
        read_pixels(saved(Image.new("I", (5, 4), 70_000), tmp_path / "i.tif"), PLAIN)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("fit", ["resize", "crop", "pad"])
def test_a_constant_image_stays_constant(dtype: Any, fit: Any) -> None:
    top = int(np.iinfo(dtype).max)
    resized = resize(np.full((40, 20), top, dtype), (10, 10), fit)
    assert resized.dtype == dtype
    if fit == "pad":  # 10 x 5 of the image in the middle of 10 x 10
        assert (resized[:, 3:7] == top).all()
        assert (resized[:, :2] == 0).all()
        assert (resized[:, 8:] == 0).all()
    else:
        assert (resized == top).all()


def test_crop_keeps_the_middle_at_its_proportions() -> None:
    image = np.zeros((30, 10), np.uint8)
    image[10:20] = 200
    assert (resize(image, (10, 10), "crop") == 200).all()


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert resize(image, (3, 4), "crop") is image


def equalized_by_hand(image: Any) -> list[list[int]]:
    """(cdf(v) - cdf_min) / (n - cdf_min) * top, counted pixel by pixel."""
    values: list[int] = image.ravel().tolist()
    top, lowest = int(np.iinfo(image.dtype).max), values.count(min(values))
    if lowest == len(values):
        return image.tolist()  # type: ignore[no-any-return]

    def new(value: int) -> int:
        cap_by_pixels = sum(other <= value for other in values)
        return round((cap_by_pixels - lowest) / (len(values) - lowest) * top)

    return [[new(value) for value in row] for row in image.tolist()]


@given(
    image=arrays.arrays(st.sampled_from([np.uint8, np.uint16]), arrays.array_shapes(min_dims=2, max_dims=2, max_side=6))
)
def test_equalisation_is_the_scaled_cumulative_histogram(image: Any) -> None:
    assert equalize(image).tolist() == equalized_by_hand(image)


def test_equalised_colour_keeps_grey_grey() -> None:
    ramp = np.repeat(np.arange(100, 120, dtype=np.uint8)[None, :, None], 3, axis=2)
    spread = equalize(ramp)
    assert spread.min() == 0
    assert spread.max() == 255
    assert np.ptp(spread.astype(int), axis=2).max() <= 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_pixel_value_survives_the_round_trip(dtype: Any) -> None:
    values = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    images = to_network(torch.from_numpy(values))
    assert images.min() == -1
    assert images.max() == 1
    assert (to_pixels(images, np.dtype(dtype)) == values).all()


def test_values_out_of_range_are_clipped_and_never_wrap() -> None:
    levels = torch.tensor([-5.0, -1.001, 0.0, 1.0, 1.004, 7.0])
    assert to_pixels(levels, np.dtype(np.uint8)).tolist() == [0, 0, 128, 255, 255, 255]
    assert to_pixels(torch.zeros(1), np.dtype(np.uint16)).tolist() == [32768]  # 32767.5, half to even
