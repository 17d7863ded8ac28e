"""Carry the metadata of an image file over to its refined copy.

Within a format it is copied byte for byte. Another format gets the colour profile, EXIF, XMP, the resolution and a
comment. Everything that is lost is named.
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simgan_cli.data.codecs import (
    Damage,
    jpeg_end,
    jpeg_segments,
    others_in_pnm,
    png_chunk,
    png_chunks,
    png_head,
    pnm_header,
    webp_chunks,
    write_png,
)  # fmt: skip
from simgan_cli.data.signatures import PNG
from simgan_cli.data.tiff import (
    DUPLICATE,
    EXTRA,
    Directory,
    blocks,
    laid_out,
    numbers,
    rationals,
    read_directory,
    shorts,
    write_tiff,
)  # fmt: skip

# the first bytes of a JPEG's segments
_EXIF, _ICC = b"Exif\0\0", b"ICC_PROFILE\0"
_XMP, _MORE_XMP = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_MAX_SEGMENT_BYTES = 65_000  # of EXIF or XMP, with room for their headers: a JPEG's segment holds 65,533
_TIFF_XMP, _TIFF_ICC, _TIFF_OTHER_IMAGES = 700, 34675, 330
_RESOLUTION = frozenset({282, 283, 296})
_EXIF_TAGS = frozenset({270, 271, 272, 274, 305, 306, 315, 316, 33432, 34665, 34853})  # of a TIFF
# How a TIFF stores its pixels: the result has its own tags for that.
_STRUCTURE = frozenset(
    {*range(256, 260), 262, 266, 273, *range(277, 282), 284, *range(288, 294), 317, 320, *range(322, 326), 332, 333}
    | {334, 336, *range(338, 343), 347, *range(512, 522), *range(529, 533)}
)
_UNTIED = frozenset({b"tRNS", b"iDOT"})  # chunks of a PNG that describe its pixels or its compressed bytes
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
_UNKEPT = _ANIMATION | {b"hIST"}  # hIST belongs to the palette, which is lost
_OF_SAMPLES = frozenset({b"bKGD", b"sBIT"})  # chunks whose form depends on the colour type and the number of bits
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_WEBP_KNOWN = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"EXIF", b"XMP "})

Carried = tuple[bytes, set[str]]  # a file's content, and the names of lost metadata


_NAMES = {"icc_profile": "ICC", "exif": "EXIF", "xmp": "XMP", "dpi": "resolution", "comment": "comment"}


@dataclass(frozen=True)
class Notes:
    """Metadata that several formats can hold, by Pillow's names; `lost` names everything else in the source."""

    icc_profile: bytes | None = None
    exif: bytes | None = None  # in the form of a TIFF
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    comment: bytes | None = None
    lost: frozenset[str] = frozenset()

    def held(self, name: str) -> dict[str, Any]:
        """Return the metadata that a file of the format `name` can hold."""
        return {key: getattr(self, key) for key in _HELD[name] if getattr(self, key) is not None}

    def unheld(self, name: str) -> set[str]:
        """Return the names of the metadata that a file of the format `name` cannot hold."""
        return {shown for key, shown in _NAMES.items() if getattr(self, key) is not None and key not in _HELD[name]}


NOTHING = Notes()
_HELD: dict[str, frozenset[str]] = {
    "png": frozenset(_NAMES),
    "jpeg": frozenset(_NAMES),
    "tiff": frozenset({"icc_profile", "exif", "xmp", "dpi"}),
    "webp": frozenset({"icc_profile", "exif", "xmp"}),
    "bmp": frozenset({"dpi"}),
    "pgm": frozenset(),
    "ppm": frozenset(),
}


def carry(name: str, source: bytes, result: bytes, *, other_space: bool = False) -> Carried:
    """Return `result`, which has pixels alone, with the metadata of `source`, a file of the same format.

    `other_space` means that the source has another colour space, such as CMYK, so its profile does not fit.
    """
    if name == "png":
        return _carry_png(source, result)
    if name == "jpeg":
        return _carry_jpeg(source, result, other_space)
    if name == "tiff":
        return _carry_tiff(source, result, other_space)
    if name == "bmp" and int.from_bytes(source[14:18], "little") >= 40:
        return result[:38] + source[38:46] + result[46:], _others_in_bmp(source)  # pixels a metre
    return result, others_in_pnm(source) if name in ("pgm", "ppm") else set()


def notes_of(format_read: str, content: bytes, info: Mapping[Any, Any], *, other_space: bool = False) -> Notes:
    """Return the metadata of the file `content`; `info` is Pillow's."""
    exif, lost = info.get("exif"), set()
    if exif is None and "Raw profile type exif" in info:  # as ImageMagick writes it
        exif = bytes.fromhex("".join(str(info["Raw profile type exif"]).split("\n")[3:]))
    xmp, icc, dpi = info.get("xmp"), info.get("icc_profile"), info.get("dpi")
    if dpi is not None and not all(0 < float(number) < 1e6 for number in dpi):
        dpi = None
    if format_read in ("JPEG", "MPO") and info.get("jfif_unit") not in (1, 2):
        dpi = None  # Pillow's default, or that of EXIF, which is carried anyway
    if format_read == "TIFF":
        everything = read_directory(content)
        tags = {tag: value for tag, value in everything.items() if tag % DUPLICATE not in _STRUCTURE}
        descriptive = {tag: value for tag, value in tags.items() if tag in _EXIF_TAGS}
        exif = write_tiff(descriptive) if descriptive else None
        dpi = dpi if 282 in tags else None  # without the tag it is Pillow's default
        others = tags.keys() - _EXIF_TAGS - _RESOLUTION - {_TIFF_XMP, _TIFF_ICC}
        lost |= {f"TIFF tag {tag % DUPLICATE}" for tag in others} | _premultiplied(everything)
    elif format_read in _OTHERS:
        lost |= _OTHERS[format_read](content)
    if format_read == "PPM" and b"#" in content[: pnm_header(content).start]:
        lost.add("PNM comment")
    if other_space and icc:
        icc = None
        lost.add("ICC")
    comment = info.get("comment")
    return Notes(
        icc_profile=icc or None,
        exif=exif.removeprefix(_EXIF) if exif else None,
        xmp=xmp if isinstance(xmp, bytes) else None,
        dpi=None if dpi is None else (float(dpi[0]), float(dpi[1])),
        comment=comment if isinstance(comment, bytes) else None,
        lost=frozenset(lost),
    )


def options(name: str, notes: Notes) -> tuple[dict[str, Any], set[str]]:
    """Return Pillow's options that write metadata, and the names of metadata too large for the format.

    A PNG or TIFF has no options here; `annotate` adds its metadata.
    """
    held = {} if name in ("png", "tiff") else notes.held(name)
    too_large = set()
    if name == "jpeg":
        too_large = {key for key in ("exif", "xmp", "comment") if len(held.get(key, b"")) > _MAX_SEGMENT_BYTES}
        held = {key: _EXIF + value if key == "exif" else value for key, value in held.items() if key not in too_large}
    return held, {_NAMES[key] for key in too_large}


def annotate(name: str, result: bytes, notes: Notes) -> Carried:
    """Return a PNG or TIFF with the metadata of a file of another format; other formats unchanged."""
    if name == "png":
        return _insert_in_png(result, b"".join(png_chunk(*chunk) for chunk in _png_notes(notes)), b""), set()
    if name == "tiff":
        own = read_directory(result)
        tags, lost = _tiff_notes(notes)
        return laid_out(tags | own, blocks(result, own)), lost
    return result, set()


def _carry_png(source: bytes, result: bytes) -> Carried:
    if source[37:41] == b"IDAT" and len(source) == 57 + int.from_bytes(source[33:37]):
        return result, set()  # most files have three chunks only
    lost, place, groups, end = set(), 0, (bytearray(), bytearray()), 0
    same_samples = png_head(source) == png_head(result)
    for kind, start, end in png_chunks(source):
        if kind == b"IDAT":
            place = 1
        elif kind[0] & 0x20 and kind not in _UNTIED:  # bit 5 marks chunks that are not part of the pixels
            if kind in _UNKEPT or (kind in _OF_SAMPLES and not same_samples):
                lost.add(_png_name(kind))
            else:
                groups[place].extend(source[start:end])
    if source[end:].strip(b"\0"):
        lost.add("data after its end")
    return _insert_in_png(result, *map(bytes, groups)), lost


def emptied_png(source: bytes) -> bytes:
    """Return a PNG of one pixel with the metadata of `source`."""
    return _carry_png(source, write_png(np.zeros((1, 1), np.uint8), 1))[0]


def _insert_in_png(result: bytes, before: bytes, after: bytes) -> bytes:
    header = len(PNG) + 25
    return result[:header] + before + result[header:-12] + after + result[-12:] if before or after else result


def _png_name(kind: bytes) -> str:
    return "PNG text" if kind in _TEXTS else "animation" if kind in _ANIMATION else kind.decode("latin-1")


def _others_in_png(content: bytes) -> set[str]:
    """Return the names of metadata that Notes does not cover."""
    noted = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
    names, end = set(), 0
    for kind, start, end in png_chunks(content):
        data = content[start + 8 : end - 4]
        if (
            kind[0] & 0x20
            and kind not in _UNTIED | {b"iCCP", b"eXIf"}
            and not (kind in _TEXTS and data.startswith(noted))
            and not (kind == b"pHYs" and data[8:] == b"\1")
        ):
            names.add(_png_name(kind))
    return names | ({"data after its end"} if content[end:].strip(b"\0") else set())


def _png_notes(notes: Notes) -> list[tuple[bytes, bytes]]:
    chunks = []
    if notes.icc_profile:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(notes.icc_profile)))
    if notes.dpi:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(number / 0.0254) for number in notes.dpi), 1)))
    if notes.exif:
        chunks.append((b"eXIf", notes.exif))
    if notes.xmp:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + notes.xmp))
    if notes.comment:
        chunks.append((b"iTXt", b"Comment\0\0\0\0\0" + _as_utf8(notes.comment).replace(b"\0", b"")))
    return chunks


def _as_utf8(text: bytes) -> bytes:
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1").encode()
    return text


def _is_note(marker: int) -> bool:
    return 0xE0 <= marker <= 0xEF or marker == 0xFE  # APP0 to APP15, comment


def _carry_jpeg(source: bytes, result: bytes, other_space: bool) -> Carried:
    kept, lost, end = bytearray(), set(), 2
    for marker, start, end in jpeg_segments(source):
        if not _is_note(marker):
            continue
        data = source[start + 4 : end]
        if marker == 0xE2 and data.startswith(b"MPF\0"):
            lost.add("MPF")  # offsets of other images in the file
        elif marker == 0xE2 and data.startswith(_ICC) and other_space:
            lost.add("ICC")
        elif marker == 0xEE and data.startswith(b"Adobe") and (data[11:12] != b"\1" or other_space):
            pass  # names another colour transform than the result's
        else:
            kept += source[start:end]
    if source[jpeg_end(source, end) :].strip(b"\0\r\n"):
        lost.add("data after its end")
    first = 4 + int.from_bytes(result[4:6])  # behind JFIF, the first segment that Pillow writes
    return b"".join((result[:2], kept, result[first:])), lost


def _others_in_jpeg(content: bytes) -> set[str]:
    """Return the names of metadata that Notes does not cover."""
    names, end = set(), 2
    for marker, start, end in jpeg_segments(content):
        data = content[start + 4 : end]
        noted = data.startswith((_EXIF, _XMP, _ICC)) or marker in (0xE0, 0xEE, 0xFE)
        if _is_note(marker) and not noted:
            known = {b"Photoshop": "IPTC", _MORE_XMP: "extended XMP", b"MPF\0": "MPF"}
            names.add(
                next((name for opening, name in known.items() if data.startswith(opening)), f"APP{marker - 0xE0}")
            )
    return names | ({"data after its end"} if content[jpeg_end(content, end) :].strip(b"\0\r\n") else set())


def _carry_tiff(source: bytes, result: bytes, other_space: bool) -> Carried:
    own, everything = read_directory(result), read_directory(source)
    tags, lost = _carried_tags(everything, {_TIFF_ICC} if other_space else set())
    return (laid_out(tags | own, blocks(result, own)) if tags else result), lost | _premultiplied(everything)


def _premultiplied(tags: Directory) -> set[str]:
    """Return the name of premultiplied alpha where a TIFF has it: the result has straight alpha."""
    return {"premultiplied alpha"} if numbers(tags, EXTRA) == (1,) else set()


def _carried_tags(tags: Directory, misfits: set[int]) -> tuple[Directory, set[str]]:
    """Return the tags to carry to another TIFF, and the names of the lost ones."""
    left = misfits | {_TIFF_OTHER_IMAGES} | {tag for tag, (kind, _, _) in tags.items() if kind > 13}  # BigTIFF's types
    descriptive = {tag: value for tag, value in tags.items() if tag % DUPLICATE not in _STRUCTURE}
    lost = {"ICC" if tag == _TIFF_ICC else f"TIFF tag {tag % DUPLICATE}" for tag in descriptive.keys() & left}
    return {tag: value for tag, value in descriptive.items() if tag not in left}, lost


def _tiff_notes(notes: Notes) -> tuple[Directory, set[str]]:
    tags: Directory = {}
    lost = set()
    if notes.exif:
        try:
            tags = _carried_tags(read_directory(notes.exif), set())[0]
        except Damage:
            lost.add("EXIF")
    if notes.xmp:
        tags[_TIFF_XMP] = (1, len(notes.xmp), notes.xmp)
    if notes.icc_profile:
        tags[_TIFF_ICC] = (7, len(notes.icc_profile), notes.icc_profile)
    if notes.dpi:
        tags |= {282: rationals(notes.dpi[0]), 283: rationals(notes.dpi[1]), 296: shorts(2)}
    return tags, lost


def _others_in_bmp(content: bytes) -> set[str]:
    """Return the names of metadata in a BMP, except its resolution."""
    header = int.from_bytes(content[14:18], "little")
    if header < 40:
        return set()
    start, width, height, bits, packing, size = struct.unpack_from("<I4xii2xHII", content, 10)
    end, lost = start + (-(-width * bits // 32) * 4 * abs(height)), set()
    if packing in (1, 2):  # run lengths
        end = start + size
    if header >= 124 and content[70:74] in (b"DEBM", b"KNIL"):  # embedded or linked
        lost.add("ICC")
        end = max(end, 14 + sum(struct.unpack_from("<II", content, 126)))
    elif header >= 108 and content[70:74] == bytes(4) and any(content[74:122]):
        lost.add("gamma and primaries")
    return lost | ({"data after its end"} if content[end:].strip(b"\0") else set())


def _others_in_webp(content: bytes) -> set[str]:
    """Return the names of the chunks of a WebP that are neither pixels nor covered by Notes."""
    return {f"WebP chunk {kind.decode('latin-1')}" for kind in webp_chunks(content) if kind not in _WEBP_KNOWN}


_OTHERS: dict[str, Callable[[bytes], set[str]]] = {
    "PNG": _others_in_png,
    "JPEG": _others_in_jpeg,
    "MPO": _others_in_jpeg,
    "WEBP": _others_in_webp,
    "BMP": _others_in_bmp,
    "PPM": others_in_pnm,
}
