"""What a file is that could not be decoded as an image, and what to do about it."""

import re

from simgan_cli.data.archives import Readable
from simgan_cli.data.codecs import PNG_SIGNATURE, Damage, jpeg_end, jpeg_segments, png_chunks
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
    if content.startswith((b"II", b"MM")):
        try:
            blocks(content, read_directory(content))
        except Damage as damage:
            return str(damage)
    if needed := _least_size(content):
        return f"ends early: {len(content):,} of at least {needed:,} bytes; render or copy it again"
    if _is_known(content):
        return f"damaged: {str(error) or type(error).__name__}; render or copy it again"
    return "not an image, or one of an unknown format"


def _foreign(head: bytes) -> str | None:
    """Return what a file is whose first bytes are those of something else."""
    if not head.strip(b"\0"):
        return "begins with zero bytes, as an interrupted copy does; render or copy it again"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image; get the image with: git lfs pull"
    if b"/annex/objects/" in head:
        return "a git-annex pointer, not the image; get the image with: git annex get"
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
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if re.match(rb"<!doctype html|<html|<head|<body", text):
        return "an HTML page, as a failed download leaves; download the image again"
    if re.search(rb"<svg[\s>]", text):
        return "an SVG drawing, which is not read; render it to PNG"
    if text.startswith(b"<?xml"):
        return "not an image but XML"
    if re.match(rb'[{\[]\s*["{\[\]}\d-]', text):
        return "not an image but JSON"
    if re.search(rb"[^\t\n\r\x20-\x7e\x80-\xff]", head) or _is_known(head):
        return None
    try:
        head[:-4].decode() if len(head) == HEAD else head.decode()
    except UnicodeDecodeError:
        return None
    return "not an image but text"


def _is_known(content: bytes) -> bool:
    starts = (PNG_SIGNATURE, b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM", b"GIF8", b"RIFF")
    return content.startswith(starts) or re.match(rb"P[1-6][\s#]", content) is not None


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
