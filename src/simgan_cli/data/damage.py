"""What a file is that could not be decoded as an image, and what to do about it."""

import re

from PIL import UnidentifiedImageError

from simgan_cli.data.archives import Readable
from simgan_cli.data.codecs import PNG_SIGNATURE, Damage, jpeg_end, jpeg_segments, png_chunks
from simgan_cli.data.texts import decode_text
from simgan_cli.data.tiff import blocks, read_directory
from simgan_cli.errors import UnreadableImage

MAX_PIXELS = 100_000_000  # a decoded image of this size is 0.3 GB in colour; larger ones are refused unread
HEAD = 4096  # bytes that tell what a file is
_FORMATS = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n": "JPEG XL",
    b"\0\0\0\x0cjP  \r\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"v/1\x01": "EXR",
    b"#?RADIANCE": "Radiance HDR",
    b"#?RGBE": "Radiance HDR",
    b"8BPS": "Photoshop",
    b"DDS ": "DDS",
    b"qoif": "QOI",
    b"\0\0\1\0": "ICO",
    b"%!PS": "EPS",
    b"P7\n": "PAM",
    b"PF\n": "PFM",
    b"Pf\n": "PFM",
    b"\x8aMNG": "MNG",
    b"MM\0+": "big-endian BigTIFF",
}
_OTHERS = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "gzip data",
    b"\xfd7zXZ\0": "xz data",
    b"\x89HDF\r\n": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"SQLite format 3": "an SQLite database",
    b"\x7fELF": "a program",
}
_UNREAD_JPEGS = {0xC3: "lossless JPEG", 0xF7: "JPEG-LS"}  # by the marker of its frame
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF"}


def refuse_many_pixels(path: Readable, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableImage(path, f"{width}x{height} pixels; at most {MAX_PIXELS:,} are read")


def reason_of(content: bytes, error: Exception) -> str:
    """Return why `content` is not an image that can be read, where a decoder raised `error`."""
    if not content:
        return "empty file"
    if isinstance(error, Damage):
        return str(error)
    if foreign := _foreign(content[:HEAD]):
        return foreign
    if kind := _unread_jpeg(content):
        return f"{_article(kind)} image, which is not read; convert it to PNG"
    try:
        if content.startswith((b"II", b"MM")):
            blocks(content, read_directory(content))
        needed = _least_size(content)
    except Damage as damage:
        return str(damage)
    if needed:
        return f"ends early: {len(content):,} of at least {needed:,} bytes; render or copy it again"
    if not _is_known(content):
        return "not an image, or one of an unknown format"
    if isinstance(error, UnidentifiedImageError):
        return "an image of a kind that is not read, or damaged; convert it to PNG, or copy it again"
    why = str(error) if "upported" in str(error) else "its content cannot be decoded"  # other words tell of code
    return f"damaged: {why}; render or copy it again"


def _foreign(head: bytes) -> str | None:
    """Return what a file is whose first bytes are those of something else."""
    if not head.strip(b"\0"):
        return "begins with zero bytes, as an interrupted copy does; render or copy it again"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image; get the image with: git lfs pull"
    if b"/annex/objects/" in head:
        return "a git-annex pointer, not the image; get the image with: git annex get"
    if re.match(rb"(\x89|\xc2\x89|\xef\xbf\xbd|\t|\?)PNG\r?\r?\n", head) and not head.startswith(PNG_SIGNATURE):
        return "a PNG damaged by a transfer as text; copy it again, in binary mode"
    if head[:4] == b"RIFF" and not b"WEBP".startswith(head[8:12]):
        return "not an image but sound or video (RIFF)"
    if head[4:8] == b"ftyp":
        name = _BRANDS.get(head[8:12])
        return f"{_article(name)} image, which is not read; convert it to PNG" if name else "not an image but a video"
    for start, name in _FORMATS.items():
        if head.startswith(start):
            return f"{_article(name)} image, which is not read; convert it to PNG"
    for start, what in _OTHERS.items():
        if head.startswith(start):
            return f"not an image but {what}"
    return _text(head)


def _text(head: bytes) -> str | None:
    """Return which text a file holds; None where it holds none."""
    is_text = not _is_known(head)
    try:
        cut = HEAD if len(head) < HEAD else len(head.rstrip(bytes(range(0x80, 0x100))))  # no letter in part
        head = decode_text(head[:cut]).encode()
    except ValueError:  # of an older encoding, or no text
        is_text = False
    text = head.lstrip().lower()
    if re.match(rb"<!doctype html|<html|<head|<body", text):
        return "an HTML page, as a failed download leaves; download the image again"
    if re.search(rb"<svg[\s>]", text):
        return "an SVG drawing, which is not read; render it to PNG"
    if text.startswith(b"<?xml"):
        return "not an image but XML"
    if re.match(rb'[{\[]\s*["{\[\]}\d-]', text):
        return "not an image but JSON"
    return "not an image but text" if is_text and not re.search(rb"[^\t\n\r\x20-\x7e\x80-\xff]", head) else None


def _is_known(content: bytes) -> bool:
    starts = (PNG_SIGNATURE, b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM", b"GIF8", b"RIFF")
    return content.startswith(starts) or re.match(rb"P[1-6][\s#]", content) is not None


def _unread_jpeg(content: bytes) -> str | None:
    """Return the kind of a JPEG that Pillow does not decode."""
    for marker, start, _ in jpeg_segments(content) if content.startswith(b"\xff\xd8\xff") else ():
        if marker in _UNREAD_JPEGS:
            return _UNREAD_JPEGS[marker]
        if marker in (0xC0, 0xC1, 0xC2) and content[start + 4 : start + 5] == b"\x0c":
            return "12-bit JPEG"
    return None


def _least_size(content: bytes) -> int | None:
    """Return how many bytes a file that was cut off had at least; None where it has its end, or that is not known."""
    size = len(content)
    if content.startswith(PNG_SIGNATURE):
        kind, _, needed = [(b"", 0, len(PNG_SIGNATURE)), *png_chunks(content)][-1]
        needed += 0 if kind == b"IEND" else 12  # of the chunk that ends each file
    elif content.startswith(b"\xff\xd8\xff"):
        *_, (_, _, scan) = [(0, 0, 2), *jpeg_segments(content)]
        needed = 0 if jpeg_end(content, scan) else size + 2
    elif content.startswith(b"RIFF"):
        needed = 8 + int.from_bytes(content[4:8], "little")
    elif content.startswith(b"BM") and size >= 6:
        needed = int.from_bytes(content[2:6], "little")
    else:
        needed = 0
    return needed if needed > size else None


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOH' and name[:3] != 'HEI' else 'a'} {name}"
