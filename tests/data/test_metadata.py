"""Metadata of image files: carried byte for byte, or named as lost."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, TiffImagePlugin

from simgan_cli.data.tiff import read_directory, write_tiff
from simgan_cli.engine.refining.image_file import read_picture, write_picture
from simgan_cli.settings.refine import FormatName

RNG = np.random.default_rng(0)
COLOUR = Image.fromarray(RNG.integers(60, 200, (6, 9, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


PALETTE = encoded(COLOUR.convert("P"), "PNG")
DATA = PALETTE.index(b"IDAT") - 4


def refined(path: Path, content: bytes, wanted: FormatName | None = None) -> tuple[bytes, tuple[str, ...]]:
    """Invert the pixels of a file; return the new content and the names of lost metadata."""
    path.write_bytes(content)
    picture = read_picture(path)
    written = write_picture(picture, np.iinfo(picture.pixels.dtype).max - picture.pixels, wanted)
    path.write_bytes(written.content)
    error = read_picture(path).pixels.astype(int) + picture.pixels - np.iinfo(picture.pixels.dtype).max
    assert np.abs(error).mean() < (20 if wanted == "jpeg" or picture.lossy else 0.01)
    return written


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def others_of_png(content: bytes) -> list[tuple[bytes, bool]]:
    """Return each chunk without pixels, and whether it follows them."""
    position, found, is_behind = 8, [], False
    while position < len(content):
        end = position + 12 + int.from_bytes(content[position : position + 4])
        kind = content[position + 4 : position + 8]
        is_behind |= kind == b"IDAT"
        if kind not in (b"IHDR", b"IDAT", b"IEND"):
            found.append((content[position:end], is_behind))
        position = end
    return found


texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20).map(str.strip).filter(bool)
chunks = st.one_of(
    st.tuples(st.just(b"tEXt"), st.builds(lambda k, v: f"{k}\0{v}".encode(), texts, texts)),
    st.tuples(st.just(b"zTXt"), st.builds(lambda k, v: f"{k}\0\0".encode() + zlib.compress(v.encode()), texts, texts)),
    st.tuples(st.just(b"iTXt"), st.builds(lambda k, v: f"{k}\0\0\0de\0{k}\0{v}".encode(), texts, st.text(max_size=9))),
    st.tuples(st.just(b"gAMA"), st.just(struct.pack(">I", 45455))),
    st.tuples(st.just(b"tIME"), st.just(bytes([7, 234, 1, 2, 3, 4, 5]))),
    st.tuples(st.just(b"prVt"), st.binary(max_size=30)),
)


@pytest.mark.slow
@given(before=st.lists(chunks, max_size=4), behind=st.lists(chunks, max_size=3))
def test_a_png_keeps_its_chunks_in_their_places(
    tmp_path_factory: pytest.TempPathFactory, before: list[tuple[bytes, bytes]], behind: list[tuple[bytes, bytes]]
) -> None:
    bare = encoded(COLOUR, "PNG")
    first, last = (b"".join(chunk(*one) for one in group) for group in (before, behind))
    content = bare[:33] + first + bare[33:-12] + last + bare[-12:]
    result, lost = refined(tmp_path_factory.mktemp("png") / "a.png", content)
    assert others_of_png(result) == others_of_png(content)
    assert lost == ()


def test_a_png_of_16_bits_in_colour_keeps_its_chunks(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    data = zlib.compress(b"\0" + bytes(range(12)))
    carried = chunk(b"sBIT", bytes([12, 12, 12])), chunk(b"tEXt", b"Camera\x003")
    exif = chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\3\0\0\0\0\0\0")  # turned by half
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + carried[0] + carried[1] + chunk(b"IDAT", data) + exif
    (tmp_path / "a.png").write_bytes(content + chunk(b"IEND", b""))
    picture = read_picture(tmp_path / "a.png")
    assert picture.pixels[0].tolist() == [[0x0607, 0x0001]]
    result, lost = write_picture(picture, 65535 - picture.pixels, None)
    assert others_of_png(result) == [(carried[0], False), (carried[1], False), (exif, True)]
    assert lost == ()


def test_a_palette_png_loses_the_chunks_of_its_palette(tmp_path: Path) -> None:
    gamma, background = chunk(b"gAMA", bytes(4)), chunk(b"bKGD", b"\0")
    content = PALETTE[:33] + gamma + PALETTE[33:DATA] + background + PALETTE[DATA:] + b"more"
    result, lost = refined(tmp_path / "a.png", content)
    assert [one[4:8] for one, _ in others_of_png(result)] == [b"gAMA"]
    assert lost == ("bKGD", "data after its end")


def segments(content: bytes) -> list[bytes]:
    """Return the metadata segments of a JPEG."""
    position, kept = 2, []
    while content[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4])
        if content[position + 1] == 0xFE or content[position + 1] >> 4 == 0xE:
            kept.append(content[position:end])
        position = end
    return kept


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


PHOTOSHOP = b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\0"


def sized(data: bytes) -> bytes:
    return bytes([len(data)]) + data + bytes(len(data) % 2)


any_segment = st.one_of(
    st.tuples(st.just(0xFE), st.binary(max_size=40)),
    st.tuples(st.just(0xE1), st.binary(max_size=40).map(lambda data: b"http://ns.adobe.com/xap/1.0/\0" + data)),
    st.tuples(st.just(0xE1), st.binary(max_size=40).map(lambda data: b"http://ns.adobe.com/xmp/extension/\0" + data)),
    st.tuples(st.just(0xED), st.binary(max_size=40).map(lambda data: PHOTOSHOP + sized(data))),
    st.tuples(st.sampled_from([0xE3, 0xE8, 0xEF]), st.binary(max_size=40)),
    st.tuples(st.just(0xEE), st.just(b"Adobe\0\x64\0\0\0\0\1")),
)


@given(parts=st.lists(any_segment, max_size=5), jfif=st.booleans())
def test_a_jpeg_keeps_its_segments(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, bytes]], jfif: bool
) -> None:
    bare = encoded(COLOUR, "JPEG", quality=95, dpi=(300, 300))
    start = bare[:20] if jfif else bare[:2]
    content = start + b"".join(segment(*part) for part in parts) + bare[20:]
    result, lost = refined(tmp_path_factory.mktemp("jpeg") / "a.jpg", content)
    assert segments(result) == segments(content)
    assert lost == ()


def test_a_jpeg_of_four_inks_loses_its_profile_and_its_marker(tmp_path: Path) -> None:
    content = encoded(COLOUR.convert("CMYK"), "JPEG", icc_profile=b"a profile", comment=b"frame=7", quality=95)
    result, lost = refined(tmp_path / "a.jpg", content + b"more")
    assert lost == ("ICC", "data after its end")
    with Image.open(io.BytesIO(result)) as image:
        assert (image.mode, image.info["comment"], image.info.get("icc_profile")) == ("RGB", b"frame=7", None)
        assert "adobe" not in image.info


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_a_tiff_keeps_its_tags(tmp_path: Path, compression: str) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270], tags[305], tags[306], tags[315] = '{"frame": 7}', "a renderer", "2024:01:02 03:04:05", "nobody"
    tags[33550], tags.tagtype[33550] = (0.5, 0.5, 0.0), 12
    tags[34735], tags.tagtype[34735] = (1, 1, 0, 1, 1024, 0, 1, 1), 3
    tags[700], tags.tagtype[700] = b"<x/>", 1
    tags[65000], tags.tagtype[65000] = b"\1\2\3\4\5", 7
    content = encoded(COLOUR, "TIFF", tiffinfo=tags, compression=compression, dpi=(300, 200), icc_profile=b"a profile")
    result, lost = refined(tmp_path / "a.tif", content)
    with Image.open(io.BytesIO(content)) as before, Image.open(io.BytesIO(result)) as after:
        kept = (270, 305, 306, 315, 33550, 34735, 700, 65000, 282, 283, 296, 34675)
        assert isinstance(before, TiffImagePlugin.TiffImageFile)
        assert isinstance(after, TiffImagePlugin.TiffImageFile)
        assert {tag: after.tag_v2[tag] for tag in kept} == {tag: before.tag_v2[tag] for tag in kept}
        assert after.tag_v2.tagtype[33550] == 12
        assert after.info["compression"] == compression
    assert lost == ()


def directory(order: str, entries: dict[int, tuple[int, int, bytes]], place: int) -> bytes:
    """Write a directory by the letter of the specification, its values already in the order of bytes."""
    behind, table = b"", struct.pack(order + "H", len(entries))
    start = place + 2 + 12 * len(entries) + 4
    for tag, (kind, count, data) in sorted(entries.items()):
        value = data.ljust(4, b"\0")
        if len(data) > 4:
            value, behind = struct.pack(order + "I", start + len(behind)), behind + data + bytes(len(data) % 2)
        table += struct.pack(order + "HHI", tag, kind, count) + value
    return table + bytes(4) + behind


CODES = {1: "B", 2: "c", 3: "H", 4: "I", 5: "II", 6: "b", 7: "c", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}


@given(
    order=st.sampled_from("<>"),
    kinds=st.lists(st.sampled_from(sorted(CODES)), min_size=1, max_size=6),
    count=st.integers(1, 5),
    data=st.data(),
)
def test_tags_of_every_type_and_order_keep_their_values(
    order: str, kinds: list[int], count: int, data: st.DataObject
) -> None:
    little: dict[int, tuple[int, int, bytes]] = {}
    stored: dict[int, tuple[int, int, bytes]] = {}
    for number, kind in enumerate(kinds):
        raw = data.draw(st.binary(min_size=count * struct.calcsize("<" + CODES[kind]), max_size=100))
        values = [
            struct.unpack_from("<" + CODES[kind], raw, struct.calcsize("<" + CODES[kind]) * at) for at in range(count)
        ]
        if any(value != value for one in values for value in one):  # NaN has many forms
            values = [(0.0,)] * count
        for target, way in ((little, "<"), (stored, order)):
            target[40000 + number] = (kind, count, b"".join(struct.pack(way + CODES[kind], *one) for one in values))
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    tags = read_directory(header + directory(order, stored, 8))
    assert tags == little
    assert read_directory(write_tiff(tags)) == tags


def test_exif_and_gps_of_a_tiff_are_carried(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0110] = "a camera"
    exif.get_ifd(0x8769)[0x9003] = "2024:01:02 03:04:05"
    exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.5)
    content, _ = refined(tmp_path / "a.jpg", encoded(COLOUR, "JPEG", exif=exif, quality=98), "tiff")  # not by Pillow
    for wanted in (None, "png", "jpeg", "webp"):
        result, lost = refined(tmp_path / "a.tif", content, wanted)
        with Image.open(io.BytesIO(result)) as image:
            found = image.getexif()
            assert found[0x0110] == "a camera"
            assert found.get_ifd(0x8769)[0x9003] == "2024:01:02 03:04:05"
            assert found.get_ifd(0x8825)[2] == (1.0, 2.0, 3.5)
        assert lost == ()


def test_webp_and_bmp_keep_their_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a note"
    content = encoded(COLOUR, "WEBP", lossless=True, exif=exif, xmp=b"<x/>", icc_profile=b"a profile")
    content += b"note\2\0\0\0hi"
    content = content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
    result, lost = refined(tmp_path / "a.webp", content)
    with Image.open(io.BytesIO(result)) as image:
        assert (image.info["xmp"], image.info["icc_profile"]) == (b"<x/>", b"a profile")
        assert image.getexif()[0x010E] == "a note"
    assert lost == ("WebP chunk note",)
    content = encoded(COLOUR, "BMP", dpi=(123, 45))
    result, lost = refined(tmp_path / "a.bmp", content)
    assert (result[:54], lost) == (content[:54], ())


def with_everything(kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "a note"
    shared: dict[str, Any] = {"exif": exif, "icc_profile": b"a profile", "dpi": (300, 300)}
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", "<x/>")
        info.add_text("BoundingBox", "1,2,3,4")
        info.add(b"gAMA", bytes(4))
        return encoded(COLOUR, kind, pnginfo=info, **shared)
    if kind == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[270], tags[33550], tags.tagtype[33550], tags[700] = "a note", (1.0, 1.0), 12, b"<x/>"
        return encoded(COLOUR, kind, tiffinfo=tags, icc_profile=b"a profile", dpi=(300, 300))
    return encoded(
        COLOUR, kind, xmp=b"<x/>", quality=98, **({"comment": b"frame=7"} if kind == "JPEG" else {}), **shared
    )


@pytest.mark.parametrize("wanted", ["png", "jpeg", "tiff", "webp"])
@pytest.mark.parametrize(
    ("kind", "of_its_own"),
    [("PNG", {"PNG text", "gAMA"}), ("JPEG", {"comment"}), ("TIFF", {"TIFF tag 33550"}), ("WEBP", set())],
)
def test_another_format_keeps_profile_exif_xmp_and_resolution(
    tmp_path: Path, kind: str, of_its_own: set[str], wanted: FormatName
) -> None:
    if kind.lower() == wanted:
        return
    result, lost = refined(tmp_path / "a", with_everything(kind), wanted)
    with Image.open(io.BytesIO(result)) as image:
        image.load()
        assert image.info["icc_profile"] == b"a profile"
        assert image.getexif()[0x010E] == "a note"
        assert image.info["xmp"] == b"<x/>"
        if wanted == "png":
            kinds = [one[4:8] for one, _ in others_of_png(result)]
            assert kinds.count(b"iCCP") == kinds.count(b"eXIf") == 1
        if wanted != "webp" and kind != "WEBP":
            assert [round(float(number)) for number in image.info["dpi"]] == [300, 300]
    expected = set(of_its_own)
    if wanted == "png":
        expected -= {"comment"}
    if wanted == "webp":
        expected |= {"resolution"}
    assert set(lost) == expected


def test_a_repeated_tag_is_kept_twice(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270], tags[271] = "a render of a left eye", '{"shape": [6, 9, 3]}'
    content = encoded(COLOUR, "TIFF", tiffinfo=tags).replace(struct.pack("<HH", 271, 2), struct.pack("<HH", 270, 2))
    result, lost = refined(tmp_path / "a.tif", content)
    assert result.count(struct.pack("<HH", 270, 2)) == 2
    assert result.index(b"a render of a left eye\0") < result.index(b'{"shape": [6, 9, 3]}\0')
    assert lost == ()
    _, lost = refined(tmp_path / "a.tif", content, "png")
    assert lost == ("TIFF tag 270",)


def bmp(header: int, space: bytes, behind: bytes) -> bytes:
    """Write a BMP of 2x1 pixels with a header of version 4 (108 bytes) or 5 (124), by the letter of its description."""
    pixels, start = bytes(range(8)), 14 + header
    content = struct.pack("<IiiHHIIiiII", header, 2, 1, 1, 24, 0, 8, 2835, 2835, 0, 0) + bytes(16) + space
    content += bytes(36) + struct.pack("<III", *[0x20000] * 3) if space == bytes(4) else bytes(48)
    content += struct.pack("<IIII", 4, header + 8, len(behind), 0) if header == 124 else b""
    return struct.pack("<2sIII", b"BM", start + 8 + len(behind), 0, start) + content + pixels + behind


END = "data after its end"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"P5 2 1 255\n\1\2P5 2 1 255\n\1\2", (END,)),
        (b"P2 2 1 255\n1 2\n3", (END,)),
        (b"P4 9 1\n\0\0more", (END,)),
        (encoded(COLOUR, "BMP") + b"more", (END,)),
        (encoded(COLOUR, "PNG") + b"more", (END,)),
        (encoded(COLOUR, "JPEG", quality=98) + b"more", (END,)),
        (b"P2 2 1 255\n1 # a note\n2\n", ("PNM comment",)),
        (PALETTE[:DATA] + chunk(b"hIST", bytes(2 * 256)) + PALETTE[DATA:], ("hIST",)),
        (bmp(124, b"DEBM", b"a profile"), ("ICC",)),
        (bmp(124, b"BGRs", b""), ()),
        (bmp(108, bytes(4), b""), ("gamma and primaries",)),
        (bmp(108, b"BGRs", b"more"), (END,)),
    ],
)
def test_metadata_that_is_lost_in_the_same_format_is_named(
    tmp_path: Path, content: bytes, expected: tuple[str, ...]
) -> None:
    for wanted in (None, "tiff"):
        assert refined(tmp_path / "a", content, wanted)[1] == expected


@pytest.mark.parametrize(
    ("content", "wanted", "expected"),
    [
        (with_everything("JPEG"), "ppm", ("EXIF", "ICC", "XMP", "comment", "resolution")),
        (b"P6\n# a note\n2 1\n255\n" + bytes(6), "png", ("PNM comment",)),
        (b"P5 1 2 1023\n\0\1\3\xff", "png", ("10 of 16 bits",)),
    ],
)
def test_losses_of_another_format_are_named(
    tmp_path: Path, content: bytes, wanted: FormatName, expected: tuple[str, ...]
) -> None:
    assert refined(tmp_path / "a", content, wanted)[1] == expected
