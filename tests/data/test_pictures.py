"""An image file, decoded and written again: what stays, what is refused, what is lossy."""

import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simgan_cli.data.images import Preparation, read_pixels
from simgan_cli.data.pictures import FormatName, is_written_lossy, read_picture, write_picture
from simgan_cli.errors import UnreadableImage

RNG = np.random.default_rng(0)
SHAPES = {"L": (6, 9), "LA": (6, 9, 2), "RGB": (6, 9, 3), "RGBA": (6, 9, 4)}


def noise(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(RNG.integers(0, 65536, (6, 9), dtype=np.uint16))
    return Image.fromarray(RNG.integers(0, 256, SHAPES[mode], dtype=np.uint8), mode=None)


def rewritten(path: Path, wanted: FormatName | None = None) -> Image.Image:
    """Invert the pixels of a file and return what was written."""
    picture = read_picture(path)
    top = np.iinfo(picture.pixels.dtype).max
    out = path.with_name("out.bin")
    out.write_bytes(write_picture(picture, top - picture.pixels, wanted))
    with Image.open(out) as image:
        image.load()
        return image


@pytest.mark.parametrize(
    ("mode", "suffix", "options"),
    [
        *((mode, "png", {}) for mode in ("L", "LA", "RGB", "RGBA", "I;16")),
        *((mode, "tiff", {"compression": "tiff_lzw"}) for mode in ("L", "LA", "RGB", "RGBA", "I;16")),
        ("L", "tiff", {}),
        *((mode, "bmp", {}) for mode in ("L", "RGB")),
        *((mode, "webp", {"lossless": True, "exact": True}) for mode in ("RGB", "RGBA")),
        ("L", "pgm", {}),
        ("I;16", "pgm", {}),
        ("RGB", "ppm", {}),
    ],
)
def test_lossless_formats_keep_size_mode_depth_alpha_and_every_pixel(
    tmp_path: Path, mode: str, suffix: str, options: dict[str, Any]
) -> None:
    original = noise(mode)
    path = tmp_path / f"a.{suffix}"
    original.save(path, **options)
    with Image.open(path) as stored:
        stored.load()
    result = rewritten(path)
    assert (result.mode, result.size, result.format) == (stored.mode, stored.size, stored.format)
    assert result.info.get("compression") == stored.info.get("compression")
    expected = np.array(stored).astype(np.int64)
    inverted = (65535 if mode == "I;16" else 255) - expected
    if mode in ("LA", "RGBA"):
        inverted[..., -1] = expected[..., -1]
    assert np.array_equal(np.asarray(result), inverted)
    assert not is_written_lossy(read_picture(path), None)


@pytest.mark.parametrize(("suffix", "options"), [("jpg", {"quality": 80}), ("webp", {"quality": 80})])
def test_lossy_inputs_stay_so_at_high_quality(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    smooth = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    path = tmp_path / f"a.{suffix}"
    smooth.save(path, **options)
    picture = read_picture(path)
    assert is_written_lossy(picture, None)
    assert not is_written_lossy(picture, "png")
    result = rewritten(path)
    assert result.format == ("JPEG" if suffix == "jpg" else "WEBP")
    error = np.asarray(result).astype(int) - (255 - picture.pixels.transpose(1, 2, 0).astype(int))
    assert np.abs(error).mean() < 2


def test_a_lossy_webp_with_alpha_is_recognised(tmp_path: Path) -> None:
    noise("RGBA").save(tmp_path / "a.webp", quality=80)
    assert is_written_lossy(read_picture(tmp_path / "a.webp"), None)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_what_did_not_change_is_the_same_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise("RGB").save(path)
    picture = read_picture(path)
    assert write_picture(picture, picture.pixels, None) == path.read_bytes()


def test_other_modes_become_grey_or_colour_and_say_so(tmp_path: Path) -> None:
    cases = {"1": ("L", "1-bit"), "P": ("RGB", "palette"), "CMYK": ("RGB", "CMYK")}
    for mode, (expected, name) in cases.items():
        path = tmp_path / f"a{mode}.{'tif' if mode == 'CMYK' else 'png'}"
        noise("RGB").convert(mode).save(path)
        assert read_picture(path).converted == name
        assert rewritten(path).mode == expected


def test_a_transparent_colour_becomes_alpha(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 3), (10, 20, 30))
    image.putpixel((0, 0), (1, 2, 3))
    image.save(tmp_path / "a.png", transparency=(1, 2, 3))
    picture = read_picture(tmp_path / "a.png")
    assert picture.alpha is not None
    assert picture.alpha[0, 0] == 0
    assert picture.alpha[1:].min() == 255
    assert picture.pixels[:, 0, 0].tolist() == [1, 2, 3]
    assert rewritten(tmp_path / "a.png").mode == "RGBA"


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff"])
def test_orientation_is_applied_and_not_applied_again(tmp_path: Path, suffix: str) -> None:
    image = Image.linear_gradient("L").resize((20, 10))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    picture = read_picture(tmp_path / f"a.{suffix}")
    assert picture.pixels.shape == (1, 20, 10)
    (tmp_path / "b").write_bytes(write_picture(picture, picture.pixels, None))
    with Image.open(tmp_path / "b") as result:
        assert result.size == (10, 20)
        assert result.getexif().get(0x0112, 1) == 1


def test_colour_profile_and_resolution_are_kept(tmp_path: Path) -> None:
    noise("RGB").save(tmp_path / "a.png", icc_profile=b"a profile", dpi=(300, 300))
    result = rewritten(tmp_path / "a.png")
    assert result.info["icc_profile"] == b"a profile"
    assert round(result.info["dpi"][0]) == 300


def test_a_profile_of_four_inks_does_not_go_with_three_colours(tmp_path: Path) -> None:
    noise("RGB").convert("CMYK").save(tmp_path / "a.tif", icc_profile=b"a profile")
    assert "icc_profile" not in rewritten(tmp_path / "a.tif").info


def png_of_16_bits(path: Path, colour_type: int) -> Path:
    """Write a PNG of 2x2 pixels by the letter of its specification, since Pillow cannot."""
    channels = {2: 3, 4: 2, 6: 4}[colour_type]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 2, 16, colour_type, 0, 0, 0)
    rows = (b"\0" + bytes(range(4 * channels))) * 2
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


def tiff_of_16_bits(path: Path, channels: int, *, photometric: int, planar: int = 1) -> Path:
    """Write a TIFF of 2x2 pixels by the letter of its specification; `planar` 2 stores a plane for each channel."""
    planes = channels if planar == 2 else 1
    data = 8 + 2 + 10 * 12 + 4  # behind the header and the one directory, of ten tags
    short, long, extra = 3, 4, bytearray()

    def array(values: list[int], kind: str) -> int:
        """Return what a tag holds: the value itself, or where several of them are."""
        if len(values) == 1:
            return values[0]
        extra.extend(struct.pack(f"<{len(values)}{kind}", *values))
        return data + len(extra) - len(values) * struct.calcsize(kind)

    bits = array([16] * channels, "H")
    size = 4 * 2 * channels // planes
    counts = array([size] * planes, "I")
    first = data + len(extra) + (4 * planes if planes > 1 else 0)
    offsets = array([first + size * plane for plane in range(planes)], "I")
    tags = [
        (256, short, 1, 2), (257, short, 1, 2), (258, short, channels, bits), (259, short, 1, 1),
        (262, short, 1, photometric), (273, long, planes, offsets), (277, short, 1, channels), (278, short, 1, 2),
        (279, long, planes, counts), (284, short, 1, planar),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + extra + bytes(range(8 * channels)))
    return path


def ppm_of_16_bits(path: Path) -> Path:
    path.write_bytes(b"P6\n2 2\n65535\n" + bytes(24))
    return path


@pytest.mark.parametrize("read", [read_picture, lambda path: read_pixels(path, Preparation())], ids=["refine", "train"])
@pytest.mark.parametrize(
    "write",
    [
        lambda path: png_of_16_bits(path, 2),
        lambda path: png_of_16_bits(path, 4),
        lambda path: png_of_16_bits(path, 6),
        lambda path: tiff_of_16_bits(path, 3, photometric=2),
        lambda path: tiff_of_16_bits(path, 3, photometric=2, planar=2),
        ppm_of_16_bits,
    ],
    ids=["png", "png, grey and alpha", "png, alpha", "tiff", "tiff in planes", "ppm"],
)
def test_16_bits_that_would_become_8_are_refused(
    tmp_path: Path, write: Callable[[Path], Path], read: Callable[[Path], object]
) -> None:
    with pytest.raises(UnreadableImage, match="16 bits a channel"):
        read(write(tmp_path / "image"))


def test_16_bits_of_a_tiff_are_read_as_they_are_or_refused_where_pillow_inverts_8_bits_alone(tmp_path: Path) -> None:
    black_is_zero = read_picture(tiff_of_16_bits(tmp_path / "black.tif", 1, photometric=1))
    assert black_is_zero.pixels.tolist() == [[[0x0100, 0x0302], [0x0504, 0x0706]]]
    with pytest.raises(UnreadableImage, match="0 for white"):
        read_picture(tiff_of_16_bits(tmp_path / "white.tif", 1, photometric=0))


@pytest.mark.parametrize("suffix", ["tiff", "png", "webp"])
def test_several_pages_or_frames_are_refused(tmp_path: Path, suffix: str) -> None:
    noise("RGB").save(tmp_path / f"a.{suffix}", save_all=True, append_images=[noise("RGB")])
    with pytest.raises(UnreadableImage, match="2 pages or frames"):
        read_picture(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(
    ("mode", "wanted", "what"),
    [("I;16", "jpeg", "16 bits"), ("RGBA", "jpeg", "transparency"), ("RGB", "pgm", "colour"), ("LA", "bmp", "transp")],
)
def test_a_format_that_cannot_hold_an_image_is_refused(
    tmp_path: Path, mode: str, wanted: FormatName, what: str
) -> None:
    noise(mode).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match=what):
        write_picture(picture, picture.pixels, wanted)


def test_the_content_decides_the_format_not_the_name(tmp_path: Path) -> None:
    noise("RGB").save(tmp_path / "a.jpg", format="PNG")
    assert rewritten(tmp_path / "a.jpg").format == "PNG"
    noise("RGB").save(tmp_path / "b.png", format="GIF")
    with pytest.raises(UnreadableImage, match="--format png"):
        rewritten(tmp_path / "b.png")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch()
    os.truncate(path, 300_000_000)  # which takes long to read, also where other processes keep the writer waiting
    stop = threading.Event()

    def write_on() -> None:
        with path.open("ab") as file:
            while not stop.is_set():
                file.write(b"more")
                file.flush()

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        with pytest.raises(UnreadableImage, match="changes while it is read"):
            read_picture(path)
    finally:
        stop.set()
        writer.join()
