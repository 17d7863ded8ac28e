"""Explain why a file could not be decoded as an image, and what to do."""

import re

from PIL import UnidentifiedImageError

from simgan_cli.data.archives import Readable
from simgan_cli.data.codecs import COPY_AGAIN, Damage, ends_early, jpeg_end, jpeg_segments, png_chunks
from simgan_cli.data.signatures import ARCHIVES, JPEG, OTHERS, PNG, UNREAD_IMAGES, content_of
from simgan_cli.data.texts import decode_text
from simgan_cli.data.tiff import blocks, read_directory
from simgan_cli.errors import UnreadableImage

MAX_PIXELS = 100_000_000  # a decoded image of this size is 0.3 GB in colour; larger ones are refused unread
N_HEAD_BYTES = 4096  # examined to recognise a file
_UNREAD_JPEGS = {0xC3: "a lossless JPEG image", 0xF7: "a JPEG-LS image"}  # by the marker of its frame
_AVIF, _HEIC, _HEIF = "an AVIF image", "a HEIC image", "a HEIF image"
_BRANDS = {b"avif": _AVIF, b"avis": _AVIF, b"heic": _HEIC, b"heix": _HEIC, b"mif1": _HEIF, b"msf1": _HEIF}
_CONVERT = "which is not read; convert it to PNG"


def refuse_pages(path: Readable, pages: int) -> None:
    """Raise UnreadableImage where a file holds several pages or frames."""
    if pages > 1:
        raise UnreadableImage(path, f"holds {pages} pages or frames; split it into files of one each")


def refuse_many_pixels(path: Readable, width: int, height: int) -> None:
    """Raise UnreadableImage where an image is too large to decode."""
    if width * height > MAX_PIXELS:
        raise UnreadableImage(path, f"{width}x{height} pixels; at most {MAX_PIXELS:,} are read, so scale it down")


def reason_of(content: bytes, error: Exception) -> str:
    """Return why `content` could not be decoded, and what to do; `error` is the decoder's."""
    if not content:
        return "empty file"
    if isinstance(error, Damage):
        return str(error)
    if foreign := _foreign(content[:N_HEAD_BYTES]):
        return foreign
    if kind := _unread_jpeg(content):
        return f"{kind}, {_CONVERT}"
    try:
        _check_end(content)
    except Damage as damage:
        return str(damage)
    if content_of(content) is None:
        return "not an image, or of an unknown format"
    if isinstance(error, UnidentifiedImageError):
        return "an image of a kind that is not read, or damaged; convert it to PNG, or copy it again"
    why = str(error) if "upported" in str(error) else "its content cannot be decoded"  # other messages describe code
    return f"damaged: {why}; {COPY_AGAIN}"


def _foreign(head: bytes) -> str | None:
    """Return the kind of a file that is not a readable image, by its first bytes, or None."""
    if not head.strip(b"\0"):
        return f"begins with zero bytes, as an interrupted copy does; {COPY_AGAIN}"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image; get the image with: git lfs pull"
    if b"/annex/objects/" in head:
        return "a git-annex pointer, not the image; get the image with: git annex get"
    if re.match(rb"(\x89|\xc2\x89|\xef\xbf\xbd|\t|\?)PNG\r?\r?\n", head) and not head.startswith(PNG):
        return "a PNG damaged by a transfer as text; copy it again, in binary mode"
    if head[:4] == b"RIFF" and not b"WEBP".startswith(head[8:12]):
        return "not an image but sound or video (RIFF)"
    if head[4:8] == b"ftyp":
        name = _BRANDS.get(head[8:12])
        return f"{name}, {_CONVERT}" if name else "not an image but a video"
    for start, name in UNREAD_IMAGES.items():
        if head.startswith(start):
            return f"{name}, {_CONVERT}"
    for start, what in (ARCHIVES | OTHERS).items():
        if head.startswith(start):
            return f"not an image but {what}"
    return _text(head)


def _text(head: bytes) -> str | None:
    """Return the kind of text that a file holds, or None."""
    is_text = content_of(head) is None
    try:
        cut = (
            N_HEAD_BYTES if len(head) < N_HEAD_BYTES else len(head.rstrip(bytes(range(0x80, 0x100))))
        )  # no letter in part
        head = decode_text(head[:cut]).encode()
    except ValueError:  # an older encoding, or not text
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


def _unread_jpeg(content: bytes) -> str | None:
    """Return the kind of a JPEG that Pillow cannot decode, or None."""
    for marker, start, _ in jpeg_segments(content) if content.startswith(JPEG) else ():
        if marker in _UNREAD_JPEGS:
            return _UNREAD_JPEGS[marker]
        if marker in (0xC0, 0xC1, 0xC2) and content[start + 4 : start + 5] == b"\x0c":
            return "a 12-bit JPEG image"
    return None


def _check_end(content: bytes) -> None:
    """Raise Damage where a file was cut off."""
    size, needed = len(content), 0
    if content.startswith((b"II", b"MM")):
        blocks(content, read_directory(content))
    elif content.startswith(PNG):
        kind, _, needed = [(b"", 0, len(PNG)), *png_chunks(content)][-1]
        needed += 0 if kind == b"IEND" else 12  # the size of IEND, which ends every PNG
    elif content.startswith(JPEG):
        *_, (_, _, scan) = [(0, 0, 2), *jpeg_segments(content)]
        needed = 0 if jpeg_end(content, scan) else size + 2
    elif content.startswith(b"RIFF"):
        needed = 8 + int.from_bytes(content[4:8], "little")
    elif content.startswith(b"BM"):
        needed = int.from_bytes(content[2:6], "little")
    if needed > size:
        raise ends_early(size, f"at least {needed:,} bytes")
