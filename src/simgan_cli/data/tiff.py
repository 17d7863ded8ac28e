"""Read and write a TIFF's directory of tags, and 16 bits a channel in colour, which Pillow cuts to 8."""

import io
import struct

import numpy as np
from PIL import Image

from simgan_cli.data.codecs import Damage, Pixels, ends_early, packed_rows

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIPS, SAMPLES, ROWS, STRIP_SIZES = 273, 277, 278, 279
FILL_ORDER, PLANAR, PREDICTOR, EXTRA, SAMPLE_FORMAT = 266, 284, 317, 338, 339
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_SIZES, SUBSAMPLING = 322, 323, 324, 325, 530
_SHORT, _LONG = 3, 4  # types
DUPLICATE = 1 << 16  # a repeated tag gets its number plus a multiple of this, so that all are kept
# By type: bytes of a value, and of the units in it that have a byte order; 16 to 18 are BigTIFF's.
_UNITS = {
    1: (1, 1), 2: (1, 1), 3: (2, 2), 4: (4, 4), 5: (8, 4), 6: (1, 1), 7: (1, 1), 8: (2, 2), 9: (4, 4), 10: (8, 4),
    11: (4, 4), 12: (8, 8), 13: (4, 4), 16: (8, 8), 17: (8, 8), 18: (8, 8),
}  # fmt: skip
_SIGNED, _DNG_VERSION = 2, 50706
_DIRECTORIES = frozenset({34665, 34853, 40965})  # tags whose value is the offset of a directory: EXIF, GPS, ...
_MAX_DEPTH = 3  # of nested directories

# A tag's type, number of values, and values as little-endian bytes, or the tags of its directory.
Tag = tuple[int, int, "bytes | Directory"]
Directory = dict[int, Tag]


def read_directory(content: bytes) -> Directory:
    """Return the tags of the first page of a TIFF or BigTIFF, of either byte order.

    Tags whose values lie outside the content are left out. Raises Damage where there is no directory.
    """
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    try:
        if order is None:
            raise Damage("damaged: no TIFF header")
        big = struct.unpack_from(order + "H", content, 2)[0] == 43
        (place,) = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)
        return _directory(content, place, order, big, 1)
    except struct.error as error:
        raise Damage("damaged: its directory of tags lies outside the file") from error


def _directory(content: bytes, place: int, order: str, big: bool, depth: int) -> Directory:
    entry, number = (struct.Struct(order + "HHQ8s"), "Q") if big else (struct.Struct(order + "HHI4s"), "H")
    (count,) = struct.unpack_from(order + number, content, place)
    first = place + struct.calcsize(order + number)
    tags: Directory = {}
    for index in range(count):
        tag, kind, values, inline = entry.unpack_from(content, first + index * entry.size)
        size, unit = _UNITS.get(kind, (0, 1))
        length = size * values
        if len(inline) < length:
            (at,) = struct.unpack(order + ("Q" if big else "I"), inline)
            data = content[at : at + length]
        else:
            data = inline[:length]
        if not size or len(data) < length:
            continue
        if order == ">" and unit > 1:
            data = np.frombuffer(data, f">u{unit}").astype(f"<u{unit}").tobytes()
        if tag in tags:
            tag += DUPLICATE * (index + 1)
        tags[tag] = (kind, values, data)
        if tag in _DIRECTORIES and values == 1 and depth < _MAX_DEPTH:
            try:
                inner = _directory(content, int.from_bytes(data, "little"), order, big, depth + 1)
            except struct.error:
                del tags[tag]
                continue
            tags[tag] = (_LONG, 1, inner)
    return tags


def numbers(tags: Directory, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Return the unsigned integers of a tag."""
    if tag not in tags:
        return default
    kind, _, data = tags[tag]
    return tuple(np.frombuffer(data, f"<u{_UNITS[kind][0]}").tolist()) if isinstance(data, bytes) else default


def shorts(*values: int) -> Tag:
    """Return a tag of 16-bit numbers."""
    return _SHORT, len(values), struct.pack(f"<{len(values)}H", *values)


def longs(*values: int) -> Tag:
    """Return a tag of 32-bit numbers."""
    return _LONG, len(values), struct.pack(f"<{len(values)}I", *values)


def rationals(*values: float) -> Tag:
    """Return a tag of fractions with the denominator 100."""
    return 5, len(values), b"".join(struct.pack("<II", round(100 * value), 100) for value in values)


def write_tiff(tags: Directory, data: bytes = b"") -> bytes:
    """Return a little-endian TIFF: `data` at offset 8, then the directory."""
    data += bytes(len(data) % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + _written(tags, 8 + len(data))


def _written(tags: Directory, place: int) -> bytes:
    """Return the bytes of a directory for this offset of a file, followed by its longer values."""
    entries, behind = [struct.pack("<H", len(tags))], bytearray()
    start = place + 2 + 12 * len(tags) + 4
    for tag, (kind, count, data) in sorted(tags.items(), key=lambda item: (item[0] % DUPLICATE, item[0])):
        if isinstance(data, bytes) and len(data) <= 4:
            inline = data.ljust(4, b"\0")
        else:
            inline = struct.pack("<I", start + len(behind))
            blob = data if isinstance(data, bytes) else _written(data, start + len(behind))
            behind += blob + bytes(len(blob) % 2)
        entries.append(struct.pack("<HHI", tag % DUPLICATE, kind, count) + inline)
    return b"".join(entries) + bytes(4) + bytes(behind)


def blocks(content: bytes, tags: Directory) -> list[bytes]:
    """Return the strips or tiles of a TIFF's pixels; raises Damage where the content is too short."""
    places, sizes = (numbers(tags, tag) for tag in ((TILES, TILE_SIZES) if TILES in tags else (STRIPS, STRIP_SIZES)))
    end = max((place + size for place, size in zip(places, sizes, strict=False)), default=0)
    if end > len(content):
        raise ends_early(len(content), f"at least {end:,} bytes")
    return [content[place : place + size] for place, size in zip(places, sizes, strict=False)]


def laid_out(tags: Directory, pixels: list[bytes]) -> bytes:
    """Return a TIFF of these tags and of these strips or tiles, with tags for their offsets and sizes."""
    places = 8 + np.cumsum([0, *map(len, pixels)])[:-1]
    at, size = (TILES, TILE_SIZES) if TILE_WIDTH in tags else (STRIPS, STRIP_SIZES)
    noted = {at: longs(*places.tolist()), size: longs(*map(len, pixels))}
    return write_tiff(tags | noted, b"".join(pixels))


def has_signed_samples(tags: Directory) -> bool:
    """Return whether samples of up to 16 bits may be negative."""
    return _SIGNED in numbers(tags, SAMPLE_FORMAT) and max(numbers(tags, BITS, (1,))) < 32


def misread(content: bytes, tags: Directory) -> str | None:
    """Return why Pillow would misread a TIFF of these tags; None where it reads it correctly, or not at all."""
    bits, extra = max(numbers(tags, BITS, (1,))), numbers(tags, EXTRA)
    if _DNG_VERSION in tags or content[4:12] == b"\x10\0\0\0CR\2\0":
        return "a camera's raw file, which would give only a preview; develop it to PNG or TIFF"
    if bits not in (1, 2, 4, 8, 16, 32):
        return f"a TIFF of {bits} bits a sample, which is not read; convert it to 16 bits"
    if extra and not (len(extra) == 1 and extra[0] in (1, 2, 999)):  # alpha: premultiplied, straight, of Corel Draw
        return "has samples other than colour and alpha, which would be lost; convert it to RGB or RGBA"
    if numbers(tags, PLANAR) == (2,) and numbers(tags, SAMPLES) == (2,):
        return "grey and alpha in planes, which is not read; store them pixel by pixel"
    is_plain_ycbcr = numbers(tags, PHOTOMETRIC) == (6,) and numbers(tags, COMPRESSION, (1,)) == (1,)
    if is_plain_ycbcr and numbers(tags, SUBSAMPLING, (2, 2)) != (1, 1):
        return "subsampled YCbCr without compression, which is not read; convert it to RGB"
    return None


def read_deep_tiff(content: bytes) -> Pixels:
    """Return H x W x 3 or 4 samples, uint16, of a TIFF with 16 bits and colour; raises Damage for another layout.

    libtiff decodes it as a grey, little-endian image that is 3 or 4 times as wide.
    """
    tags = read_directory(content)
    (samples,), (width,), (height,) = (numbers(tags, tag) for tag in (SAMPLES, WIDTH, HEIGHT))
    layout = numbers(tags, PHOTOMETRIC), samples, numbers(tags, EXTRA)
    known = {((2,), 3, ()), ((2,), 4, ()), ((2,), 4, (2,))}
    predictor = numbers(tags, PREDICTOR, (1,))
    is_plain = numbers(tags, PLANAR, (1,)) == (1,) and set(numbers(tags, SAMPLE_FORMAT, (1,))) == {1}
    if layout not in known or not is_plain or set(numbers(tags, BITS)) != {16} or predictor not in ((1,), (2,)):
        raise Damage("16 bits a channel in planes, or not of RGB and straight alpha", "convert it")
    block = numbers(tags, TILE_WIDTH, (width,))[0]
    kept = (HEIGHT, COMPRESSION, FILL_ORDER, ROWS, TILE_HEIGHT)
    grey = {tag: tags[tag] for tag in kept if tag in tags}
    grey |= {WIDTH: longs(width * samples), SAMPLES: shorts(1), BITS: shorts(16), PHOTOMETRIC: shorts(1)}
    if TILE_WIDTH in tags:
        grey[TILE_WIDTH] = longs(block * samples)
    with Image.open(io.BytesIO(laid_out(grey, blocks(content, tags))), formats=["TIFF"]) as image:
        array = np.asarray(image).astype(np.uint16).reshape(height, width, samples)
    if content[:2] == b"MM":
        array = array.byteswap()
    if predictor == (2,):  # differences to the left neighbour, within each tile
        for start in range(0, width, block):
            array[:, start : start + block] = np.cumsum(array[:, start : start + block], axis=1, dtype=np.uint16)
    return array


def write_tiff_samples(samples: Pixels, bits: int, compression: str) -> bytes:
    """Return a TIFF of H x W grey samples of 1, 2 or 4 bits, or of H x W x 3 or 4 samples of 16 bits.

    `compression` is Pillow's name of a lossless one. Pillow compresses the samples as grey of 8 or 16 bits.
    """
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    tags = {WIDTH: longs(width), BITS: shorts(*[bits] * channels), SAMPLES: shorts(channels)}
    tags[PHOTOMETRIC] = shorts(1 if channels == 1 else 2)
    if channels == 4:
        tags[EXTRA] = shorts(2)  # straight alpha
    if bits < 8:
        rows = packed_rows(samples, bits)
    elif compression in ("raw", "packbits"):
        rows = samples.reshape(height, -1)
    else:
        tags[PREDICTOR] = shorts(2)
        rows = np.diff(samples, axis=1, prepend=samples.dtype.type(0)).reshape(height, -1)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rows)).save(file, "TIFF", compression=compression)
    own = read_directory(file.getvalue())
    return laid_out(own | tags, blocks(file.getvalue(), own))
