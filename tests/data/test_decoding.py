"""Image files to pixels and back: modes, depths, transparency, EXIF, fits, equalization, and files that are damaged."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from simgan_cli.data.decoding import Preparation, decode, equalize, hidden_share, prepare, read_pixels, resize
from simgan_cli.data.sampler import to_network, to_pixels
from simgan_cli.errors import UnreadableImage

PLAIN, KEEP, REAL = Preparation(), Preparation(background="keep"), Preparation(background="real")
DTYPES = pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
RNG = np.random.default_rng(0)


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
    pixels = read_pixels(saved(Image.new(mode, (5, 4), color), tmp_path / f"image{suffix}"), KEEP)
    assert pixels.shape == (len(expected), 4, 5)
    assert pixels.dtype == (np.uint16 if mode == "I;16" else np.uint8)
    assert pixels[:, 0, 0].tolist() == expected


@pytest.mark.parametrize(
    ("mode", "color", "transparency", "expected"),
    [("1", 1, 0, [255]), ("L", 90, 90, [90]), ("RGB", (1, 2, 3), (1, 2, 3), [1, 2, 3])],
)
def test_a_transparent_colour_changes_no_pixel_that_is_kept(
    tmp_path: Path, mode: str, color: Any, transparency: Any, expected: list[int]
) -> None:
    path = saved(Image.new(mode, (5, 4), color), tmp_path / "a.png", transparency=transparency)
    assert read_pixels(path, KEEP)[:, 0, 0].tolist() == expected


def test_palettes_become_colour_also_of_a_transparent_entry(tmp_path: Path) -> None:
    image = Image.new("RGB", (5, 4), (200, 30, 40)).convert("P", palette=Image.Palette.ADAPTIVE)
    for options in ({}, {"transparency": image.getpixel((0, 0))}):
        pixels = read_pixels(saved(image, tmp_path / "a.png", **options), KEEP)
        assert (pixels == np.array([200, 30, 40])[:, None, None]).all()


def test_16_bits_of_pgm_and_big_endian_tiff_are_decoded(tmp_path: Path) -> None:
    values = np.array([[0, 1, 256], [4095, 65534, 65535]], dtype=np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 3 2 65535\n" + values.astype(">u2").tobytes())
    assert read_pixels(tmp_path / "a.pgm", PLAIN).tolist() == [values.tolist()]
    Image.fromarray(values.astype(">u2")).save(tmp_path / "a.tif")
    assert read_pixels(tmp_path / "a.tif", PLAIN).tolist() == [values.tolist()]


@pytest.mark.parametrize(
    ("mode", "color", "channels", "value"),
    [("RGB", (50, 50, 50), "1", 50), ("L", 250, "3", 250), ("I;16", 900, "3", 900)],
)
def test_channels_are_converted_on_request(tmp_path: Path, mode: str, color: Any, channels: Any, value: int) -> None:
    path = saved(Image.new(mode, (5, 4), color), tmp_path / "a.png")
    assert read_pixels(path, Preparation(channels=channels)).tolist() == np.full((int(channels), 4, 5), value).tolist()


def test_more_than_16_bits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="16 bits"):
        read_pixels(saved(Image.new("I", (5, 4), 70_000), tmp_path / "i.tif"), PLAIN)


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [(1, [[1, 2], [3, 4]]), (2, [[2, 1], [4, 3]]), (3, [[4, 3], [2, 1]]), (6, [[3, 1], [4, 2]]), (8, [[2, 4], [1, 3]])],
)
@DTYPES
def test_exif_orientation_turns_the_pixels(tmp_path: Path, orientation: int, expected: Any, dtype: Any) -> None:
    image = Image.fromarray(np.array([[1, 2], [3, 4]], dtype))
    exif = image.getexif()
    exif[0x0112] = orientation
    assert read_pixels(saved(image, tmp_path / "a.png", exif=exif), PLAIN).tolist() == [expected]


def test_exif_orientation_turns_a_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    assert read_pixels(saved(Image.new("L", (6, 3)), tmp_path / "a.jpg", exif=exif), PLAIN).shape == (1, 6, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("exif", [b"garbage", b"II*\0\b\0"])
def test_damaged_exif_leaves_the_pixels_readable(tmp_path: Path, suffix: str, exif: bytes) -> None:
    image = saved(Image.new("RGB", (6, 3)), tmp_path / f"a.{suffix}", exif=b"Exif\0\0" + exif)
    assert read_pixels(image, PLAIN).shape == (3, 3, 6)


def test_a_png_may_hold_megabytes_of_text_and_colour_profile(tmp_path: Path) -> None:
    long = os.urandom(1_500_000)
    text = PngInfo()
    text.add_text("history", long.hex(), zip=True)
    image = saved(Image.new("L", (6, 3), 7), tmp_path / "a.png", pnginfo=text, icc_profile=long)
    assert read_pixels(image, PLAIN).tolist() == [[[7] * 6] * 3]


@DTYPES
def test_pad_fits_inside_and_centres_between_black_bars(dtype: Any) -> None:
    top = np.iinfo(dtype).max
    tall = resize(np.full((40, 20), top, dtype), (10, 10), "pad")
    wide = resize(np.full((20, 40), top, dtype), (10, 10), "pad")
    assert tall.dtype == dtype
    assert (wide == tall.T).all()
    assert (tall[:, 3:7] == top).all()  # 10 x 5 of the image in the middle of 10 x 10
    assert (tall[:, :2] == 0).all()
    assert (tall[:, 8:] == 0).all()


@DTYPES
@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_a_constant_image_stays_constant(dtype: Any, fit: Any) -> None:
    resized = resize(np.full((40, 20), np.iinfo(dtype).max, dtype), (10, 10), fit)
    assert resized.dtype == dtype
    assert (resized == np.iinfo(dtype).max).all()


def test_crop_keeps_the_middle_at_its_proportions() -> None:
    image = np.zeros((10, 30), np.uint8)
    image[:, :10], image[:, 10:20], image[:, 20:] = 50, 200, 250
    assert (resize(image, (10, 10), "crop") == 200).all()
    assert (resize(image.T, (10, 10), "crop") == 200).all()


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert resize(image, (3, 4), "crop") is image


@DTYPES
def test_a_sharp_edge_does_not_overshoot_the_range(dtype: Any) -> None:
    top = int(np.iinfo(dtype).max)
    edge = np.zeros((8, 8), dtype)
    edge[:, 4:] = top
    enlarged = resize(edge, (32, 32), "resize")
    assert enlarged.dtype == dtype
    assert (enlarged[:, :12] < top // 4).all()
    assert (enlarged[:, 20:] > top - top // 4).all()


def test_colour_is_resized_band_by_band() -> None:
    image = RNG.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    bands = [resize(np.ascontiguousarray(image[..., band]), (5, 6), "resize") for band in range(3)]
    assert np.array_equal(resize(image, (5, 6), "resize"), np.stack(bands, axis=-1))


def equalized_by_hand(image: Any) -> list[list[int]]:
    """(cdf(v) - cdf_min) / (n - cdf_min) * top, counted pixel by pixel; a constant image stays."""
    values: list[int] = image.ravel().tolist()
    top, lowest = int(np.iinfo(image.dtype).max), values.count(min(values))
    if lowest == len(values):
        return image.tolist()  # type: ignore[no-any-return]

    def new(value: int) -> int:
        at_most = sum(other <= value for other in values)
        return round((at_most - lowest) / (len(values) - lowest) * top)

    return [[new(value) for value in row] for row in image.tolist()]


@given(
    image=arrays.arrays(st.sampled_from([np.uint8, np.uint16]), arrays.array_shapes(min_dims=2, max_dims=2, max_side=6))
)
def test_equalization_is_the_scaled_cumulative_histogram(image: Any) -> None:
    assert equalize(image).tolist() == equalized_by_hand(image)


def test_equalized_colour_keeps_grey_grey() -> None:
    ramp = np.repeat(np.arange(100, 120, dtype=np.uint8)[None, :, None], 3, axis=2)
    spread = equalize(ramp)
    assert spread.min() == 0
    assert spread.max() == 255
    assert np.ptp(spread.astype(int), axis=2).max() <= 2
    grey = np.array([[7, 65_000], [300, 300]], np.uint16)
    assert np.array_equal(equalize(np.stack([grey] * 3, axis=-1)), np.stack([equalize(grey)] * 3, axis=-1))


def test_deep_colour_is_equalized_by_its_luma() -> None:
    colour = RNG.integers(20_000, 40_000, (6, 7, 3)).astype(np.uint16)
    grey = (colour.astype(int) @ [19595, 38470, 7471] + 32768) // 65536
    change = equalize(grey.astype(np.uint16)).astype(int) - grey
    assert np.array_equal(equalize(colour), np.clip(colour + change[..., None], 0, 65535))


@DTYPES
def test_preparing_resizes_before_it_equalizes(tmp_path: Path, dtype: Any) -> None:
    pixels = RNG.integers(50, 90, (20, 30)).astype(dtype)
    path = saved(Image.fromarray(pixels), tmp_path / "a.png")
    prepared = read_pixels(path, Preparation(size=(10, 12), preprocess="equalize"))
    assert np.array_equal(prepared[0], equalize(resize(pixels, (10, 12), "resize")))


@DTYPES
def test_every_pixel_value_survives_the_round_trip(dtype: Any) -> None:
    pixels = torch.from_numpy(np.arange(np.iinfo(dtype).max + 1).astype(dtype))
    before = pixels.clone()
    images = to_network(pixels)
    assert torch.equal(pixels, before)
    assert images.min() == -1
    assert images.max() == 1
    assert (to_pixels(images, np.dtype(dtype)) == before.numpy()).all()


def test_values_out_of_range_are_clipped_and_halves_rounded_to_even() -> None:
    levels = torch.tensor([-5.0, -1.001, 0.0, 1.0, 1.004, 7.0])
    assert to_pixels(levels, np.dtype(np.uint8)).tolist() == [0, 0, 128, 255, 255, 255]
    assert to_pixels(levels, np.dtype(np.uint16)).tolist() == [0, 0, 32768, 65535, 65535, 65535]
    halves = torch.tensor([126.5, 100.5, 127.5]) / 127.5 - 1  # exact in float32 after the conversion
    assert to_pixels(halves, np.dtype(np.uint8)).tolist() == [126, 100, 128]


def test_a_photograph_shows_through_transparent_pixels(tmp_path: Path) -> None:
    own = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [100, 0, 0, 51]]], np.uint8)
    photograph = np.full((3, 1, 3), 200, np.uint8)
    path = saved(Image.fromarray(own), tmp_path / "a.png")
    pixels = prepare(decode(path), REAL, photograph)
    assert pixels[:, 0].T.tolist() == [[10, 20, 30], [200, 200, 200], [180, 160, 160]]
    assert read_pixels(path, REAL)[:, 0, 1].tolist() == [0, 0, 0]
    with pytest.raises(UnreadableImage, match="photographs are 1x3 grey, 8 bits"):
        prepare(decode(path), REAL, photograph[:1])


def test_the_bars_of_padding_show_no_photograph(tmp_path: Path) -> None:
    path = saved(Image.new("RGBA", (40, 10), (0, 0, 0, 0)), tmp_path / "a.png")
    preparation = Preparation(size=(20, 20), fit="pad", background="real")
    pixels = prepare(decode(path), preparation, np.full((3, 20, 20), 200, np.uint8))
    assert (pixels[:, 8:12] == 200).all()
    assert (pixels[:, :6] == 0).all()


@pytest.mark.parametrize("background", ["#000000", "#80ff01"])
def test_opaque_pixels_are_the_same_on_any_background(tmp_path: Path, background: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    path = saved(Image.fromarray(np.dstack([pixels, np.full((9, 8), 255, np.uint8)])), tmp_path / "a.png")
    assert np.array_equal(read_pixels(path, Preparation(background=background)), pixels.transpose(2, 0, 1))


def test_the_share_of_hidden_pixels_is_counted(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 1), (1, 2, 3, 0))
    image.putpixel((0, 0), (1, 2, 3, 1))
    assert hidden_share(decode(saved(image, tmp_path / "a.png"))) == 0.75
    assert hidden_share(decode(saved(Image.new("L", (4, 1)), tmp_path / "b.png"))) == 0


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((40, 30), 60).convert("RGB").save(file, kind)
    return file.getvalue()


def overwritten(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


PNG, JPEG = encoded("PNG"), encoded("JPEG")
FRAME = JPEG.index(b"\xff\xc0")  # its kind, two bytes of length, bits of a sample


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "git lfs pull"),
        (b"../.git/annex/objects/x1/2z/SHA256E-s9--ab.png/SHA256E-s9--ab.png", "git annex get"),
        (b"/annex/objects/SHA256E-s9--ab.png\n", "git annex get"),
        (b"\n<!DOCTYPE html><html>404</html>", "HTML page"),
        (b"\xef\xbb\xbf<HTML>", "HTML page"),
        (b'<?xml version="1.0"?><Error/>', "XML"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "SVG"),
        (b'{"message": "not found"}', "JSON"),
        (b"file,pitch,yaw\n", "not an image but text"),
        ("für später\n".encode(), "not an image but text"),
        (bytes(5000), "zero bytes"),
        (b"v/1\x01" + bytes(90), "damaged or cut off EXR"),
        (b"\0\0\0\x18ftypheic" + bytes(90), "a HEIC image"),
        (b"\0\0\0\x18ftypisom" + bytes(90), "a video"),
        (b"\xff\x0a" + bytes(90), "a JPEG XL image"),
        (b"\x93NUMPY\1\0", "damaged or cut off .npy"),
        (bytes(range(256)), "unknown format"),
        (b"P5 4 4 255\n" + bytes(15), "ends early: 26 of 27 bytes"),
        (b"P2 2 2 255\n1 2 3", "ends early: 3 of 4 samples"),
        (b"P2 2 1 7\n1 9", "damaged: a sample is not in 0 to 7"),
        (b"P5 2 2 0\n1234", "damaged: the header"),
        (b"P5 2 two 255\n1234", "damaged: the header"),
        (b"P2 2 1 255\n1 2.5", "damaged: a sample is not in 0 to 255"),
        (b"P2 1 1 255\n" + b"9" * 30, "damaged: a sample is not in 0 to 255"),
        (b"P1 2 1\n0 x", "damaged: a sample is not in 0 to 1"),
        ("<html><body>404</body>".encode("utf-16"), "HTML page"),
        ('{"message": "gone"}'.encode("utf-16-le"), "JSON"),
        ("no image\n".encode("utf-16"), "not an image but text"),
        (b"\x89PNG\n\x1a\n\0\0\0\rIHDR", "damaged by a transfer as text"),
        (b"\x89PNG\r\r\n\x1a\r\n\0\0\0\rIHDR", "damaged by a transfer as text"),
        ("\x89PNG\r\n\x1a\n".encode(), "damaged by a transfer as text"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "sound or video"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rI?DR" + bytes(17) + b"\0\0\0\0IEND\xaeB`\x82", "of a kind that is not read, or"),
        (overwritten(PNG, 60, bytes(140)), "damaged: .*; render or copy it again"),
        (overwritten(JPEG, FRAME + 1, b"\xf7"), "a JPEG-LS image, which is not read"),
        (overwritten(JPEG, FRAME + 1, b"\xc3"), "a lossless JPEG image, which is not read"),
        (overwritten(JPEG, FRAME + 4, b"\x0c"), "a 12-bit JPEG image, which is not read"),
        # Pillow reads more formats than we do, some by other programs.
        (encoded("EPS"), "an EPS image, which is not read"),
        (encoded("PDF"), "a PDF document"),
        (encoded("ICO"), "an ICO image, which is not read"),
        (encoded("TGA"), "unknown format"),
        (encoded("JPEG2000"), "a JPEG 2000 image, which is not read"),
        (encoded("AVIF"), "an AVIF image, which is not read"),
        (encoded("DDS"), "a DDS image, which is not read"),
    ],
)
def test_an_unreadable_file_is_named_by_its_kind(content: bytes, says: str) -> None:
    with pytest.raises(UnreadableImage, match=says):
        decode(Path("a.png"), content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_cut_off_file_is_named_as_such(kind: str, share: float) -> None:
    content = encoded(kind)
    part = content[: int(len(content) * share)]
    with pytest.raises(UnreadableImage, match=rf"ends early: {len(part):,} of .*bytes|outside"):
        decode(Path("a.png"), part)


@pytest.mark.slow
def test_damaged_tags_give_no_warning(tmp_path: Path) -> None:
    saved(Image.new("L", (9, 9)), tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\5\1\x12")
    program = (
        "import sys; from pathlib import Path; from simgan_cli.data.decoding import decode;"
        "print(decode(Path(sys.argv[1])).array.shape)"
    )
    result = subprocess.run([sys.executable, "-c", program, tmp_path / "a.jpg"], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("(9, 9)\n", "")
