"""Image files, decoded and encoded again: kept content, refusals, and losses."""

import io
import os
import struct
import threading
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageOps

from simgan_cli.data.decoding import Preparation, decode, read_pixels
from simgan_cli.engine.refining.image_file import (
    Picture,
    Reading,
    is_written_lossy,
    read_picture,
    write_picture,
)
from simgan_cli.errors import UnreadableImage
from simgan_cli.settings.refine import FormatName

RNG = np.random.default_rng(0)
SHAPES = {"L": (6, 9), "LA": (6, 9, 2), "RGB": (6, 9, 3), "RGBA": (6, 9, 4)}


def noise(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(RNG.integers(0, 65536, (6, 9), dtype=np.uint16))
    return Image.fromarray(RNG.integers(0, 256, SHAPES[mode], dtype=np.uint8), mode=None)


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def alpha_of(picture: Picture) -> Any:
    return None if picture.decoded.alpha is None else picture.decoded.alpha.tolist()


def rewritten(path: Path, wanted: FormatName | None = None) -> Image.Image:
    """Invert the pixels of a file and return what was written."""
    picture = read_picture(path, Reading(background="keep"))
    top = np.iinfo(picture.pixels.dtype).max
    out = path.with_name("out.bin")
    out.write_bytes(write_picture(picture, top - picture.pixels, wanted).content)
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
        hidden = expected[..., -1] == 0
        inverted[hidden] = expected[hidden]
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
    noise("RGBA").save(tmp_path / "b.webp", quality=80)
    assert is_written_lossy(read_picture(tmp_path / "b.webp"), None)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_an_unchanged_image_is_the_same_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise("RGB").save(path)
    picture = read_picture(path)
    assert write_picture(picture, picture.pixels, None) == (path.read_bytes(), ())


def test_changes_under_full_transparency_leave_the_same_file(tmp_path: Path) -> None:
    clear = noise("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert write_picture(picture, 255 - picture.pixels, None) == ((tmp_path / "a.png").read_bytes(), ())


def test_other_modes_become_grey_or_colour_and_report_it(tmp_path: Path) -> None:
    cases = {"1": ("bmp", "L", "1-bit"), "P": ("png", "RGB", "palette"), "CMYK": ("tif", "RGB", "CMYK")}
    for mode, (suffix, expected, name) in cases.items():
        path = tmp_path / f"a{mode}.{suffix}"
        noise("RGB").convert(mode).save(path)
        assert read_picture(path).converted == name
        assert rewritten(path).mode == expected


def test_a_transparent_colour_becomes_alpha(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 3), (10, 20, 30))
    image.putpixel((0, 0), (1, 2, 3))
    image.save(tmp_path / "a.png", transparency=(1, 2, 3))
    picture = read_picture(tmp_path / "a.png")
    assert picture.decoded.alpha is not None
    assert picture.decoded.alpha[0, 0] == 0
    assert picture.decoded.alpha[1:].min() == 255
    assert picture.decoded.array[0, 0].tolist() == [1, 2, 3]
    assert picture.pixels[:, 0, 0].tolist() == [0, 0, 0]
    assert rewritten(tmp_path / "a.png").mode == "RGBA"


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_transparent_grey_of_few_bits_becomes_alpha(tmp_path: Path, bits: int) -> None:
    top = (1 << bits) - 1
    plain = png_of(tmp_path / "a.png", (1, 2), bits, 0, bytes([0, top << (8 - bits)])).read_bytes()  # white, black
    chunk = b"tRNS" + struct.pack(">H", top)
    path = saved(
        tmp_path / "b.png", plain[:33] + b"\0\0\0\2" + chunk + struct.pack(">I", zlib.crc32(chunk)) + plain[33:]
    )
    decoded = read_picture(path).decoded
    assert (decoded.array.tolist(), alpha_of(read_picture(path))) == ([[255, 0]], [[0, 255]])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_a_turned_image_is_refined_upright_and_stored_as_it_was(tmp_path: Path, suffix: str, orientation: int) -> None:
    image, path = noise("RGB"), tmp_path / f"a.{suffix}"
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, lossless=True)
    picture = read_picture(path)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    assert np.array_equal(picture.pixels.transpose(1, 2, 0), shown)
    assert picture.decoded.orientation == orientation
    (tmp_path / "b").write_bytes(write_picture(picture, 255 - picture.pixels, None).content)
    with Image.open(tmp_path / "b") as result:
        assert result.getexif().get(0x0112, 1) == orientation
        assert np.array_equal(np.asarray(ImageOps.exif_transpose(result)), 255 - shown)
    with Image.open(tmp_path / "b") as result, Image.open(path) as source:
        assert result.size == source.size  # before it is turned


@pytest.mark.parametrize("block", ["EXIF", "XMP"])
@pytest.mark.parametrize("wanted", ["png", "tiff", "webp", "bmp", "ppm"])
def test_a_turned_image_is_shown_alike_in_another_format(tmp_path: Path, wanted: FormatName, block: str) -> None:
    image = noise("RGB")
    exif = image.getexif()
    exif[0x0112] = 6
    notes = {"exif": exif} if block == "EXIF" else {"xmp": b'<x tiff:Orientation="6"/>'}
    image.save(tmp_path / "a.jpg", quality=95, **notes)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.decoded.orientation == 6
    written = write_picture(picture, picture.pixels, wanted)
    result = read_picture(saved(tmp_path / "b", written.content))
    assert np.array_equal(result.pixels, picture.pixels)
    is_kept = wanted in ("png", "tiff", "webp")
    assert result.decoded.orientation == (6 if is_kept else 1)
    assert (block in written.lost) != is_kept


def test_a_colour_profile_is_kept_but_for_that_of_four_inks(tmp_path: Path) -> None:
    noise("RGB").save(tmp_path / "a.png", icc_profile=b"a profile", dpi=(300, 300))
    result = rewritten(tmp_path / "a.png")
    assert result.info["icc_profile"] == b"a profile"
    assert round(result.info["dpi"][0]) == 300
    noise("RGB").convert("CMYK").save(tmp_path / "a.tif", icc_profile=b"a profile")
    assert "icc_profile" not in rewritten(tmp_path / "a.tif").info


def png_of(path: Path, size: tuple[int, int], bits: int, colour_type: int, rows: bytes, *, interlaced: int = 0) -> Path:
    """Write a PNG of `size` (H, W) by the letter of its specification; each row begins with its filter."""
    header = struct.pack(">IIBBBBB", size[1], size[0], bits, colour_type, 0, 0, interlaced)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return saved(
        path,
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        ),
    )


def png_of_16_bits(path: Path, colour_type: int) -> Path:
    channels = {2: 3, 4: 2, 6: 4}[colour_type]
    return png_of(path, (2, 2), 16, colour_type, (b"\0" + bytes(range(4 * channels))) * 2)


def tiff_of(path: Path, data: bytes, tags: Mapping[int, list[int]] = {}, order: str = "<") -> Path:
    """Write a TIFF of 4x2 pixels, or with other `tags`, by the letter of its specification."""
    base = {256: [4], 257: [2], 258: [8], 259: [1], 262: [1], 273: [8], 277: [1], 279: [len(data)]}
    entries = base | dict(tags)
    table, behind = struct.pack(f"{order}H", len(entries)), b""
    start = 8 + len(data) + 2 + 12 * len(entries) + 4
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}H", *values)
        if len(packed) > 4:
            packed, behind = struct.pack(f"{order}I", start + len(behind)), behind + packed
        table += struct.pack(f"{order}HHI", tag, 3, len(values)) + packed.ljust(4, b"\0")
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8 + len(data))
    return saved(path, head + data + table + bytes(4) + behind)


def tiff_of_16_bits(
    path: Path, channels: int, photometric: int, order: str = "<", tags: Mapping[int, list[int]] = {}
) -> Path:
    """Write a TIFF of 2x2 pixels; their bytes are 0, 1, 2 and so on in either order."""
    base = {256: [2], 258: [16] * channels, 262: [photometric], 277: [channels]}
    return tiff_of(path, bytes(range(8 * channels)), base | dict(tags), order)


DEEP: dict[str, Callable[[Path], Path]] = {
    "png": lambda path: png_of_16_bits(path, 2),
    "png, grey and alpha": lambda path: png_of_16_bits(path, 4),
    "png, alpha": lambda path: png_of_16_bits(path, 6),
    "tiff": lambda path: tiff_of_16_bits(path, 3, 2),
    "tiff, big-endian": lambda path: tiff_of_16_bits(path, 3, 2, ">"),
    "ppm": lambda path: saved(path, b"P6\n2 2\n65535\n" + bytes(range(24))),
}


@pytest.mark.parametrize("kind", DEEP)
def test_16_bits_a_channel_are_read_and_written_as_they_are(tmp_path: Path, kind: str) -> None:
    path = DEEP[kind](tmp_path / "image")
    order = "<u2" if kind == "tiff" else ">u2"
    channels = {"png, grey and alpha": 2, "png, alpha": 4}.get(kind, 3)
    row = bytes(range(4 * channels)) if "png" in kind else bytes(range(8 * channels))
    stored = np.frombuffer(row * 2 if "png" in kind else row, order).reshape(2, 2, channels)
    colours = stored[..., :1] if channels == 2 else stored[..., :3]
    picture = read_picture(path, Reading(background="keep"))
    assert np.array_equal(picture.pixels.transpose(1, 2, 0), colours)
    assert picture.decoded.bits == 16
    if channels % 2 == 0:
        assert alpha_of(picture) == stored[..., -1].tolist()
    assert np.array_equal(read_pixels(path, Preparation(background="keep")), picture.pixels)
    written = write_picture(picture, 65535 - picture.pixels, None)
    again = read_picture(saved(tmp_path / "b", written.content), Reading(background="keep"))
    assert np.array_equal(again.pixels, 65535 - picture.pixels)
    assert alpha_of(again) == alpha_of(picture)
    assert written.lost == ()


@pytest.mark.parametrize("filters", [(0, 1), (2, 3), (4, 4)])
def test_a_deep_png_of_any_filter_is_unpacked(tmp_path: Path, filters: tuple[int, int]) -> None:
    """The rows of 6 bytes a pixel are filtered here one byte at a time, by the letter of the specification."""
    samples = RNG.integers(0, 65536, (4, 5, 3), dtype=np.uint16)
    raw = samples.astype(">u2").view(np.uint8).reshape(4, -1).astype(int)
    rows = bytearray()
    for y, row in enumerate(raw):
        kind = filters[y % 2]
        rows.append(kind)
        for x, value in enumerate(row):
            left = int(row[x - 6]) if x >= 6 else 0
            up = int(raw[y - 1][x]) if y else 0
            corner = int(raw[y - 1][x - 6]) if y and x >= 6 else 0
            guess = min((left, up, corner), key=lambda near: abs(left + up - corner - near))
            rows.append((int(value) - (0, left, up, (left + up) // 2, guess)[kind]) % 256)
    path = png_of(tmp_path / "a.png", (4, 5), 16, 2, bytes(rows))
    assert np.array_equal(read_picture(path).pixels, samples.transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (13, 9)])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_an_interlaced_deep_png_is_unpacked(tmp_path: Path, size: tuple[int, int], channels: int) -> None:
    samples = RNG.integers(0, 65536, (*size, channels), dtype=np.uint16)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [samples[y::dy, x::dx] for y, x, dy, dx in passes]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for part in parts if part.size for row in part)
    path = png_of(tmp_path / "a.png", size, 16, {2: 4, 3: 2, 4: 6}[channels], rows, interlaced=1)
    assert np.array_equal(decode(path).array, samples[..., 0] if channels == 2 else samples[..., :3])
    assert alpha_of(read_picture(path)) == (None if channels == 3 else samples[..., -1].tolist())


def test_grey_tiffs_of_16_bits_may_have_0_for_white(tmp_path: Path) -> None:
    black_is_zero = read_picture(tiff_of_16_bits(tmp_path / "black.tif", 1, 1))
    assert black_is_zero.pixels.tolist() == [[[0x0100, 0x0302], [0x0504, 0x0706]]]
    white_is_zero = read_picture(tiff_of_16_bits(tmp_path / "white.tif", 1, 0))
    assert np.array_equal(white_is_zero.pixels, 65535 - black_is_zero.pixels)
    written = write_picture(white_is_zero, black_is_zero.pixels, None)
    assert np.array_equal(read_picture(saved(tmp_path / "b", written.content)).pixels, black_is_zero.pixels)


def test_16_bits_of_a_tiff_are_refused_in_planes(tmp_path: Path) -> None:
    planes = tiff_of_16_bits(tmp_path / "planes.tif", 3, 2, tags={273: [8, 16, 24], 279: [8] * 3, 284: [2]})
    for read in (read_picture, lambda path: read_pixels(path, Preparation())):
        with pytest.raises(UnreadableImage, match="16 bits a channel in planes"):
            read(planes)


@pytest.mark.parametrize("suffix", ["tiff", "png", "webp"])
def test_several_pages_or_frames_are_refused(tmp_path: Path, suffix: str) -> None:
    noise("RGB").save(tmp_path / f"a.{suffix}", save_all=True, append_images=[noise("RGB")])
    with pytest.raises(UnreadableImage, match="2 pages or frames"):
        read_picture(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(
    ("mode", "wanted", "what"),
    [
        ("I;16", "jpeg", "16 bits"),
        ("RGBA", "jpeg", "transparency"),
        ("RGB", "pgm", "colour"),
        ("LA", "bmp", "transp"),
        ("LA;16", "tiff", "TIFF cannot hold its 16-bit grey with transparency"),
    ],
)
def test_a_format_that_cannot_hold_an_image_is_refused(
    tmp_path: Path, mode: str, wanted: FormatName, what: str
) -> None:
    if mode == "LA;16":
        png_of_16_bits(tmp_path / "a.png", 4)
    else:
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
    os.truncate(path, 300_000_000)  # a long read, also where other processes delay the writer
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


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_few_bits_keeps_its_scale(tmp_path: Path, bits: int, suffix: str) -> None:
    samples = np.arange(6 * 9).reshape(6, 9) % (1 << bits)
    rows = np.packbits((samples[..., None] >> np.arange(bits)[::-1] & 1).reshape(6, -1).astype(np.uint8), axis=1)
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        png_of(path, (6, 9), bits, 0, b"".join(b"\0" + row.tobytes() for row in rows))
    else:
        tiff_of(path, rows.tobytes(), {256: [9], 257: [6], 258: [bits]})
    picture = read_picture(path)
    top = (1 << bits) - 1
    assert (picture.decoded.bits, picture.decoded.maxval, picture.converted) == (bits, top, None)
    assert np.array_equal(picture.pixels[0], samples * (255 // top))
    written = write_picture(picture, 255 - picture.pixels, None)
    result = read_picture(saved(tmp_path / "b", written.content))
    assert (result.decoded.bits, written.lost) == (bits, ())
    assert np.array_equal(result.pixels[0], (top - samples) * (255 // top))


@given(
    kind=st.sampled_from([2, 3, 5, 6]), maxval=st.integers(1, 65535), data=st.data(),
    comment=st.sampled_from([b"", b"# a camera\n", b"#\r\n#two\n"]),
)  # fmt: skip
def test_a_pnm_keeps_its_scale_header_and_every_sample_that_does_not_change(
    tmp_path_factory: pytest.TempPathFactory, kind: int, maxval: int, data: st.DataObject, comment: bytes
) -> None:
    shape = (2, 3, 3) if kind in (3, 6) else (2, 3)
    samples = data.draw(arrays.arrays(np.uint16, shape, elements=st.integers(0, maxval)))
    header = b"P%d\n%s3 2\n%s%d\n" % (kind, comment, comment, maxval)
    text = b" ".join(b"%d" % value for value in samples.ravel().tolist())
    body = text if kind <= 3 else samples.astype(">u2" if maxval > 255 else "u1").tobytes()
    path = saved(tmp_path_factory.mktemp("pnm") / "a", header + body)
    picture = read_picture(path)
    top = 65535 if maxval > 255 else 255
    expected = [round(value / maxval * top) for value in samples.ravel().tolist()]
    assert picture.pixels.transpose(1, 2, 0).ravel().tolist() == expected
    assert picture.decoded.maxval == maxval
    changed = picture.pixels.copy()
    changed[0, 0, 0] = top - changed[0, 0, 0]
    written = write_picture(picture, changed, None).content
    assert written.startswith(header)
    again = written[len(header) :]
    found = again.split() if kind <= 3 else np.frombuffer(again, ">u2" if maxval > 255 else "u1")
    values = np.array(found).astype(int)
    assert values[1:].tolist() == samples.ravel().tolist()[1:]
    assert abs(values[0] - (maxval - int(samples.ravel()[0]))) <= 1


@pytest.mark.parametrize("kind", [1, 4])
def test_a_bitmap_of_one_bit_stays_one(tmp_path: Path, kind: int) -> None:
    body = b"0 1 1\n010" if kind == 1 else bytes([0b01100000, 0b01000000])
    picture = read_picture(saved(tmp_path / "a.pbm", b"P%d 3 2\n" % kind + body))
    assert picture.pixels.tolist() == [[[255, 0, 0], [255, 0, 255]]]
    written = saved(tmp_path / "b", write_picture(picture, 255 - picture.pixels, None).content)
    with Image.open(written) as result:
        assert result.mode == "1"
        assert np.array_equal(np.asarray(result), picture.pixels[0] == 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparent_pixels_are_refined_on_the_background_and_hidden_colours_stay(tmp_path: Path, dtype: Any) -> None:
    top = int(np.iinfo(dtype).max)
    own = np.array([[[9, 8, 7, 0], [100, 50, 0, top // 3], [200, 100, 50, top]]], dtype)
    path = tmp_path / "a.png"
    if dtype == np.uint8:
        Image.fromarray(own).save(path)
    else:
        png_of(path, (1, 3), 16, 6, b"\0" + own.astype(">u2").tobytes())
    picture = read_picture(path, Reading(background="#ff0000"))
    pixels = picture.pixels[:, 0].T.tolist()
    assert pixels == [[top, 0, 0], [round((100 + 2 * top) / 3), 17, 0], [200, 100, 50]]
    refined = picture.pixels.copy()
    refined[2] += 5
    refined[0] -= 30
    written = write_picture(picture, refined, None)
    result = read_picture(saved(tmp_path / "b", written.content), Reading(background="keep"))
    assert alpha_of(result) == own[..., 3].tolist()
    assert result.pixels[:, 0].T.tolist() == [[9, 8, 7], [70, 50, 5], [170, 100, 55]]


def test_pixels_of_the_value_that_is_kept_stay(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pgm", b"P5 3 1 1023\n" + struct.pack(">3H", 0, 5, 1023))
    for value, expected in ((0, [0, 1018, 1]), (5, [1023, 5, 0]), (None, [1023, 1018, 0])):
        picture = read_picture(path, Reading(keep_value=value))
        written = write_picture(picture, 65535 - picture.pixels, None).content
        assert list(struct.unpack(">3H", written[-6:])) == expected
    colour = np.array([[[0, 0, 0], [0, 0, 1]]], np.uint8)
    Image.fromarray(colour).save(tmp_path / "b.png")
    picture = read_picture(tmp_path / "b.png", Reading(keep_value=0))
    saved(tmp_path / "c", write_picture(picture, 255 - picture.pixels, None).content)
    assert read_picture(tmp_path / "c").pixels[:, 0].T.tolist() == [[0, 0, 0], [255, 255, 254]]


@given(values=arrays.arrays(np.uint16, (3, 4)), red=st.integers(0, 255), shift=st.integers(0, 65535))
def test_packed_values_are_unpacked_and_packed_again(
    tmp_path_factory: pytest.TempPathFactory, values: Any, red: int, shift: int
) -> None:
    packed = np.stack([np.full((3, 4), red), values // 256, values % 256], axis=-1).astype(np.uint8)
    path = tmp_path_factory.mktemp("packed") / "a.png"
    Image.fromarray(packed).save(path)
    picture = read_picture(path, Reading(pixels="packed16"))
    assert np.array_equal(picture.pixels, values[None])
    refined = picture.pixels ^ np.uint16(shift)
    saved(path, write_picture(picture, refined, None).content)
    with Image.open(path) as result:
        found = np.asarray(result).astype(int)
    assert (found[..., 0] == red).all()
    assert np.array_equal(found[..., 1] * 256 + found[..., 2], refined[0])


@pytest.mark.parametrize(("mode", "says"), [("L", "8-bit grey"), ("I;16", "16-bit grey"), ("RGB", "its red is")])
def test_an_image_that_is_not_packed_is_refused(tmp_path: Path, mode: str, says: str) -> None:
    noise(mode).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match=says):
        read_picture(tmp_path / "a.png", Reading(pixels="packed16"))


@pytest.mark.parametrize(
    ("tags", "size", "says"),
    [
        ({258: [12]}, 12, "a TIFF of 12 bits a sample"),
        ({258: [10]}, 10, "a TIFF of 10 bits a sample"),
        ({339: [2]}, 8, "holds signed samples"),
        ({258: [16], 339: [2]}, 16, "holds signed samples"),
        ({258: [8] * 4, 262: [2], 277: [4], 338: [0]}, 32, "other than colour and alpha"),
        ({258: [8] * 5, 262: [2], 277: [5], 338: [2, 0]}, 40, "other than colour and alpha"),
        ({258: [8] * 2, 277: [2], 284: [2], 338: [2]}, 16, "grey and alpha in planes"),
        ({50706: [1]}, 8, "raw file"),
        ({258: [8] * 3, 262: [6], 277: [3]}, 12, "subsampled YCbCr"),
    ],
)
def test_tiffs_that_would_be_misread_are_refused(
    tmp_path: Path, tags: Mapping[int, list[int]], size: int, says: str
) -> None:
    path = tiff_of(tmp_path / "a.tif", bytes(range(size)), tags)
    with pytest.raises(UnreadableImage, match=says):
        read_picture(path)


def test_a_raw_file_is_named_and_pixels_like_its_mark_are_accepted(tmp_path: Path) -> None:
    assert read_picture(tiff_of(tmp_path / "a.tif", b"CR\2\0abcd\0\0")).pixels.tobytes() == b"CR\2\0abcd"
    path = saved(tmp_path / "b.cr2", b"II*\0\x10\0\0\0CR\2\0" + bytes(10))
    with pytest.raises(UnreadableImage, match="raw file"):
        read_picture(path)


@pytest.mark.parametrize("wanted", [None, "png"])
def test_alpha_that_was_multiplied_in_is_named(tmp_path: Path, wanted: FormatName | None) -> None:
    path = tiff_of(tmp_path / "a.tif", bytes([9, 8, 7, 255]) * 8, {258: [8] * 4, 262: [2], 277: [4], 338: [1]})
    picture = read_picture(path)
    assert picture.pixels[:, 0, 0].tolist() == [9, 8, 7]
    assert write_picture(picture, 255 - picture.pixels, wanted).lost == ("premultiplied alpha",)


@pytest.mark.parametrize("reading", [Reading(pixels="packed16"), Reading(keep_value=0)])
@pytest.mark.parametrize(("suffix", "wanted"), [("png", "jpeg"), ("jpg", None), ("webp", None)])
def test_values_that_must_be_exact_are_not_written_lossy(
    tmp_path: Path, reading: Reading, suffix: str, wanted: FormatName | None
) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / f"a.{suffix}")
    picture = read_picture(tmp_path / f"a.{suffix}", reading)
    with pytest.raises(UnreadableImage, match="packed16 and --keep-value need a lossless format; pass --format png"):
        write_picture(picture, picture.pixels + 1, wanted)
    assert write_picture(picture, picture.pixels + 1, "png").content


@given(maxval=st.sampled_from([1, 7, 100, 255, 1023, 65535]), data=st.data())
def test_no_other_pixel_becomes_the_value_that_is_kept(
    tmp_path_factory: pytest.TempPathFactory, maxval: int, data: st.DataObject
) -> None:
    value = data.draw(st.integers(0, maxval))
    kind = ">u2" if maxval > 255 else "u1"
    near = st.integers(max(0, value - 1), min(maxval, value + 1))
    samples = data.draw(arrays.arrays(np.dtype(kind), (2, 5), elements=near))
    path = saved(tmp_path_factory.mktemp("keep") / "a.pgm", b"P5 5 2 %d\n" % maxval + samples.tobytes())
    picture = read_picture(path, Reading(keep_value=value))
    top = int(np.iinfo(picture.pixels.dtype).max)
    refined = data.draw(arrays.arrays(picture.pixels.dtype, (1, 2, 5), elements=near.map(lambda x: x * top // maxval)))
    written = write_picture(picture, refined, None).content
    samples_written = np.frombuffer(written[-samples.nbytes :], kind).reshape(2, 5)
    assert np.array_equal(samples_written == value, samples == value)


@pytest.mark.parametrize("cut", range(1, 21))
def test_a_png_that_is_cut_in_its_end_is_complete_or_named(tmp_path: Path, cut: int) -> None:
    noise("L").save(tmp_path / "a.png")
    picture = read_picture(saved(tmp_path / "b.png", (tmp_path / "a.png").read_bytes()[:-cut]))
    if 5 <= cut < 12:  # in the head of the last chunk
        with pytest.raises(UnreadableImage, match="ends early"):
            write_picture(picture, 255 - picture.pixels, None)
    else:
        written = saved(tmp_path / "c.png", write_picture(picture, 255 - picture.pixels, None).content)
        assert np.array_equal(read_picture(written).pixels, 255 - picture.pixels)


def plain(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((9, 8)).convert("RGB").save(file, kind, **options)
    return file.getvalue()


DAMAGEABLE = [
    plain("PNG", dpi=(300, 300), icc_profile=b"a profile"),
    plain("JPEG", comment=b"frame=7", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
    plain("TIFF", compression="tiff_lzw"),
    plain("BMP"),
    plain("WEBP", lossless=True, xmp=b"<x/>"),
    b"P2\n# a note\n3 2\n255\n1 2 3 4 5 6\n",
]


@given(
    content=st.sampled_from(DAMAGEABLE), places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3),
    kept=st.floats(0.5, 1), wanted=st.sampled_from([None, "png", "tiff", "jpeg"]),
)  # fmt: skip
def test_damage_of_any_kind_is_an_error_of_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    places: list[tuple[float, int]],
    kept: float,
    wanted: FormatName | None,
) -> None:
    damaged = bytearray(content[: int(kept * len(content))])
    for place, value in places:
        damaged[int(place * (len(damaged) - 1))] = value
    try:
        picture = read_picture(saved(tmp_path_factory.mktemp("damage") / "a", bytes(damaged)))
        write_picture(picture, picture.pixels ^ 1, wanted)
    except UnreadableImage as error:
        assert " at 0x" not in str(error)
