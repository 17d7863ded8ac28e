"""Formats that Pillow covers only in part: PNM of any scale, PNG of 16 bits in colour or of less than 8."""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simgan_cli.data.signatures import PNG

Pixels = NDArray[Any]  # H x W (x C), uint8 or uint16
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # of a PNG, by the number of channels
_CHANNELS = {kind: channels for channels, kind in _COLOUR_TYPES.items()}
# x, y, dx, dy of the passes of an interlaced PNG
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PNM = re.compile(rb"P([1-6])(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})")
_MAXVAL = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})")


COPY_AGAIN = "render or copy it again"


class Damage(ValueError):
    """A file is damaged; the message gives the reason and what to do."""

    def __init__(self, reason: str, remedy: str = COPY_AGAIN) -> None:
        super().__init__(f"{reason}; {remedy}")


def ends_early(size: int, needed: str) -> Damage:
    """Return the error of a file with `size` bytes or samples instead of `needed`."""
    return Damage(f"ends early: {size:,} of {needed}")


class Pnm(NamedTuple):
    """The header of a PNM file: `start` is the place of the first sample."""

    kind: int  # of P1 to P6
    width: int
    height: int
    maxval: int
    start: int

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 3 if self.kind in (3, 6) else 1

    @property
    def row(self) -> int:
        """The bytes of a row of pixels, in the binary forms."""
        return -(-self.width // 8) if self.kind == 4 else self.width * self.channels * (2 if self.maxval > 255 else 1)


def pnm_header(content: bytes) -> Pnm:
    """Parse the header of a PNM file, comments included; raises Damage."""
    header = _PNM.match(content)
    if header is None:
        raise Damage("damaged: the header has no width and height")
    kind, width, height = (int(group) for group in header.groups())
    end, maxval = header.end(), 1
    if kind not in (1, 4):
        top = _MAXVAL.match(content, end)
        if top is None or not 0 < int(top[1]) < 65536:
            raise Damage("damaged: the header has no largest value of 1 to 65535")
        end, maxval = top.end(), int(top[1])
    if not width or not height:
        raise Damage(f"damaged: the header gives {width}x{height} pixels")
    return Pnm(kind, width, height, maxval, end + 1)


def read_pnm(content: bytes) -> Pixels:
    """Return the samples of a PNM file as they are stored, H x W or H x W x 3, uint8 or uint16; 0 is black.

    Raises Damage.
    """
    pnm = pnm_header(content)
    shape = (pnm.height, pnm.width, 3) if pnm.channels == 3 else (pnm.height, pnm.width)
    count = int(np.prod(shape))
    deep = pnm.maxval > 255
    if pnm.kind <= 3:
        words = _words(content, pnm)[:count]
        if len(words) < count:
            raise ends_early(len(words), f"{count:,} samples")
        numbers = [int(word) if word.isdigit() and len(word) < 9 else -1 for word in words]
        samples: Pixels = np.array(numbers, np.int64).reshape(shape)
        if samples.min() < 0 or samples.max() > pnm.maxval:
            raise Damage(f"damaged: a sample is not in 0 to {pnm.maxval}")
    else:
        needed = pnm.start + pnm.height * pnm.row
        if len(content) < needed:
            raise ends_early(len(content), f"{needed:,} bytes")
        kind = np.dtype(">u2" if deep else "u1")
        samples = np.frombuffer(content, kind, pnm.height * pnm.row // kind.itemsize, pnm.start)
        if pnm.kind == 4:
            samples = np.unpackbits(samples.reshape(pnm.height, pnm.row), axis=1)[:, : pnm.width]
        samples = np.minimum(samples, pnm.maxval).reshape(shape)
    if pnm.kind in (1, 4):
        samples = 1 - samples
    return samples.astype(np.uint16 if deep else np.uint8)


def _words(content: bytes, pnm: Pnm) -> list[bytes]:
    """Return the words behind the header of a plain PNM: its samples, and any data after them."""
    text = re.sub(rb"#[^\r\n]*", b"", content[pnm.start :])
    return re.findall(rb"\S", text) if pnm.kind == 1 else text.split()


def others_in_pnm(content: bytes) -> set[str]:
    """Return the names of everything behind the header of a PNM that is not pixels."""
    pnm = pnm_header(content)
    if pnm.kind > 3:
        return {"data after its end"} if content[pnm.start + pnm.height * pnm.row :].strip() else set()
    comment = {"PNM comment"} if b"#" in content[pnm.start :] else set()
    is_longer = len(_words(content, pnm)) > pnm.height * pnm.width * pnm.channels
    return comment | ({"data after its end"} if is_longer else set())


def write_pnm(samples: Pixels, maxval: int, source: bytes | None) -> bytes:
    """Return a PNM file of H x W (x 3) samples, with the header and comments of `source`, if there is one."""
    height, width = samples.shape[:2]
    kind = 5 if samples.ndim == 2 else 6
    header = b"P%d\n%d %d\n%d\n" % (kind, width, height, maxval)
    if source is not None:
        pnm = pnm_header(source)
        kind, header = pnm.kind, source[: pnm.start]
    if kind in (1, 4):
        samples = 1 - samples
    if kind <= 3:
        return header + b"".join(b"%d\n" % value for value in samples.ravel().tolist())
    if kind == 4:
        return header + np.packbits(samples, axis=1).tobytes()
    return header + samples.astype(">u2" if maxval > 255 else "u1").tobytes()


def packed_rows(samples: Pixels, bits: int) -> Pixels:
    """Return H x W samples of 1, 2 or 4 bits as H x (bytes of a row); the first sample takes the highest bits."""
    single = samples[..., None] >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(single.reshape(len(samples), -1).astype(np.uint8), axis=1)


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, start and end of each chunk of a PNG; the last may end behind the content.

    Raises Damage where the content ends in the head of a chunk.
    """
    position = len(PNG)
    while position < len(content):
        kind = content[position + 4 : position + 8]
        if len(kind) < 4:
            raise ends_early(len(content), f"at least {position + 12:,} bytes")
        end = position + 12 + int.from_bytes(content[position : position + 4])
        yield kind, position, end
        if kind == b"IEND":
            return
        position = end


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_head(content: bytes) -> tuple[int, int]:
    """Return the bits of a sample and the colour type of a PNG."""
    return content[24], content[25]


def write_png(samples: Pixels, bits: int) -> bytes:
    """Return a PNG of H x W grey samples of 1, 2, 4 or 16 bits, or of H x W x 2 to 4 samples of 16 bits."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    if bits < 8:
        rows = np.pad(packed_rows(samples, bits), ((0, 0), (1, 0)))
    else:
        rows = _filtered(samples.astype(">u2", order="C").view(np.uint8).reshape(height, -1), 2 * channels)
    return _png(width, height, bits, _COLOUR_TYPES[channels], zlib.compress(rows.tobytes(), 6))


def read_deep_png(content: bytes) -> Pixels:
    """Return H x W x 2 to 4 samples, uint16, of a PNG with 16 bits and colour or alpha; raises Damage.

    PNG filters subtract the same byte of a neighbouring pixel, so high and low bytes never mix. Pillow decodes each
    half as a PNG of 8 bits.
    """
    width, height, _, kind, _, _, interlaced = struct.unpack(">IIBBBBB", content[16:29])
    channels = _CHANNELS[kind]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(height - y) // dy), -(-(width - x) // dx)) for x, y, dx, dy in passes if x < width and y < height]
    needed = sum(rows * (1 + 2 * channels * columns) for rows, columns in sizes)
    packed = b"".join(content[start + 8 : end - 4] for name, start, end in png_chunks(content) if name == b"IDAT")
    data = np.frombuffer(zlib.decompressobj().decompress(packed, needed), np.uint8)
    if len(data) < needed:
        raise ends_early(len(data), f"{needed:,} bytes of its pixels")
    halves: tuple[list[bytes], list[bytes]] = ([], [])
    for rows, columns in sizes:
        filtered, data = np.split(data, [rows * (1 + 2 * channels * columns)])
        filtered = filtered.reshape(rows, -1)
        for half, part in enumerate(halves):
            part.append(np.hstack([filtered[:, :1], filtered[:, 1 + half :: 2]]).tobytes())
    high, low = (_of_8_bits(width, height, kind, interlaced, b"".join(part)) for part in halves)
    return high.astype(np.uint16) << 8 | low


def _of_8_bits(width: int, height: int, kind: int, interlaced: int, rows: bytes) -> Pixels:
    with Image.open(io.BytesIO(_png(width, height, 8, kind, zlib.compress(rows, 0), interlaced))) as image:
        return np.asarray(image)


def _png(width: int, height: int, bits: int, kind: int, packed: bytes, interlaced: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return PNG + b"".join(png_chunk(kind, data) for kind, data in chunks)


def _filtered(rows: Pixels, distance: int) -> Pixels:
    """Return the filtered rows of a PNG, each behind its filter's number: Sub, or Up where that is smaller."""
    left, above = rows.copy(), rows.copy()
    left[:, distance:] -= rows[:, :-distance]
    above[1:] -= rows[:-1]
    cost = [np.abs(way.view(np.int8).astype(np.int16)).sum(1) for way in (left, above)]
    is_above = (cost[1] < cost[0])[:, None]
    return np.hstack([np.where(is_above, 2, 1).astype(np.uint8), np.where(is_above, above, left)])


def webp_chunks(content: bytes) -> Iterator[bytes]:
    """Yield the kind of each chunk of a WebP."""
    position = 12  # after RIFF, size, WEBP
    while position + 8 <= len(content):
        yield content[position : position + 4]
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        position += 8 + size + size % 2


def jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment of a JPEG up to the header of its first scan."""
    position = 2
    while (position := content.find(b"\xff", position)) >= 0 and position + 4 <= len(content):
        marker = content[position + 1]
        if marker in (0, 0xFF):  # filling bytes
            position += 1
            continue
        end = position + 2 + (content[position + 2] << 8) + content[position + 3]
        yield marker, position, end
        if marker == 0xDA:
            return
        position = end


def jpeg_end(content: bytes, scan: int) -> int:
    """Return the place behind a JPEG's end mark, searched from the header of the first scan; 0 without a mark."""
    place = content.find(b"\xff\xd9", scan)
    return place + 2 if place >= 0 else 0
