"""One image file in full, to be written again with other pixels; all its other content stays."""

import io
import os
import zlib
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from simgan_cli.data import metadata
from simgan_cli.data.archives import Member, Readable
from simgan_cli.data.codecs import Damage, webp_chunks, write_png, write_pnm
from simgan_cli.data.decoding import (
    Decoded,
    PixelCoding,
    Pixels,
    Preparation,
    channels_last,
    decode,
    prepare,
    top_of,
    turned,
    unpacked,
)
from simgan_cli.data.renders import Curve, recoloured, write_render
from simgan_cli.data.tiff import write_tiff_samples
from simgan_cli.errors import UnreadableImage, is_shortage
from simgan_cli.settings.refine import FormatName

QUALITY = 95  # of lossy outputs
OTHER_SPACES = frozenset({"CMYK", "HSV", "YCbCr"})  # than grey and RGB


@dataclass(frozen=True)
class Format:
    """A format to write: Pillow's name, its suffixes (new files get the first one), its modes."""

    pillow: str
    suffixes: tuple[str, ...]
    modes: frozenset[str]
    options: dict[str, Any] = field(default_factory=dict)


_SHALLOW, _DEEP = frozenset({"L", "LA", "RGB", "RGBA"}), frozenset({"L;16", "LA;16", "RGB;16", "RGBA;16"})
_JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp")
FORMATS: dict[FormatName, Format] = {
    # Noise repeats no patterns, so deflate looks for runs alone: large files take a seventh of the time.
    "png": Format("PNG", (".png", ".apng"), _SHALLOW | _DEEP, {"compress_type": zlib.Z_RLE}),
    "jpeg": Format("JPEG", _JPEG_SUFFIXES, frozenset({"L", "RGB"}), {"quality": QUALITY, "subsampling": 0}),
    "tiff": Format("TIFF", (".tif", ".tiff"), _SHALLOW | _DEEP - {"LA;16"}),
    "bmp": Format("BMP", (".bmp", ".dib"), frozenset({"L", "RGB"})),
    "webp": Format("WEBP", (".webp",), _SHALLOW, {"lossless": True, "exact": True}),
    "pgm": Format("PPM", (".pgm", ".pnm"), frozenset({"L", "L;16"})),
    "ppm": Format("PPM", (".ppm", ".pnm"), frozenset({"RGB", "RGB;16"})),
}
_LOSSLESS_TIFF = {"raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "zstd", "lzma"}
# contents of renderers' files beside the colours
_OF_RENDERS: dict[str, tuple[str, ...]] = {
    "exr": ("EXR header and other channels",),
    "hdf5": ("other HDF5 data sets",),
    "tiff": ("TIFF tags",),
    "npy": (),
}
_FEW_BITS = frozenset({"png", "tiff", "pgm"})  # formats that hold grey samples of 1, 2 and 4 bits


@dataclass(frozen=True)
class Reading:
    """The reading of files' pixels; samples equal to `keep_value`, in the file's own units, stay unchanged."""

    pixels: PixelCoding = "plain"
    background: str = "#000000"  # behind transparent pixels, or "keep"
    keep_value: int | None = None
    tone_curve: Curve = "srgb"


@dataclass(frozen=True)
class Picture:
    """A decoded image file; `pixels` are a refiner's input, C x H x W, uint8 or uint16, C 1 or 3."""

    path: Readable
    content: bytes
    pixels: Pixels
    decoded: Decoded  # as the file holds it
    reading: Reading
    format: FormatName | None  # None: readable, but not a format that is written
    lossy: bool
    converted: str | None  # a property that the output cannot keep, such as a palette


class Written(NamedTuple):
    """An image file, and the names of its source's contents that it lacks."""

    content: bytes
    lost: tuple[str, ...]


def read_picture(path: Readable, reading: Reading = Reading(), content: bytes | None = None) -> Picture:
    """Read the image file `path` in full, whose `content` may have been read before.

    Raises UnreadableImage with the reason, also for several pages, and for a file that changes meanwhile.
    """
    content = read_content(path) if content is None else content
    decoded = decode(path, content, single=True, curve=reading.tone_curve)
    pixels = prepare(decoded, _preparation(reading.pixels, reading.background))
    if reading.pixels == "plain" and decoded.alpha is None:  # the same pixels: once in memory
        decoded = decoded._replace(array=channels_last(pixels))
    name = _format_of(decoded)
    return Picture(
        path=path,
        content=content,
        pixels=pixels,
        decoded=decoded,
        reading=reading,
        format=name,
        lossy=_is_lossy(decoded, content),
        converted=_name_conversion(decoded, name),
    )


@cache
def _preparation(pixels: PixelCoding, background: str) -> Preparation:
    return Preparation(pixels=pixels, background=background)


def write_picture(picture: Picture, pixels: Pixels, wanted: FormatName | None) -> Written:
    """Return an image file like `picture` with other `pixels` (C x H x W), in its format or `wanted`.

    Where no pixel changed, the result is the file's own content. Lossless unless the format is JPEG, or that of a lossy
    input. Raises UnreadableImage for a format that cannot hold the image, and for damage beside its pixels.
    """
    name, render = wanted or picture.format, picture.decoded.render
    if name == picture.format and (name or render) and np.array_equal(pixels, picture.pixels):
        return Written(picture.content, ())
    needs_exact_values = picture.reading.pixels == "packed16" or picture.reading.keep_value is not None
    if needs_exact_values and is_written_lossy(picture, wanted):
        raise UnreadableImage(picture.path, "packed16 and --keep-value need a lossless format; pass --format png")
    new = _merge_into_file(picture, pixels)
    if name == picture.format and (name or render) and np.array_equal(new, picture.decoded.array):
        return Written(picture.content, ())  # all changes lie under full transparency, or at --keep-value
    if name is None:
        if render is None:
            raise UnreadableImage(picture.path, "its format cannot be written; pass --format png")
        values = recoloured(render, new, picture.decoded.array, picture.reading.tone_curve)
        return Written(write_render(render, values), ())
    try:
        return _encode_as(picture, new, name)
    except UnreadableImage:
        raise
    except Damage as damage:
        raise UnreadableImage(picture.path, str(damage)) from damage
    except Exception as error:  # a damaged file may hold anything beside its pixels
        if is_shortage(error):
            raise
        why = error if isinstance(error, OSError | ValueError) else "its metadata is damaged"
        raise UnreadableImage(picture.path, f"cannot be written as {name.upper()} ({why})") from error


def _encode_as(picture: Picture, new: Pixels, name: FormatName) -> Written:
    decoded = picture.decoded
    array = new if decoded.alpha is None else np.dstack([new, decoded.alpha])
    bands = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[1 if array.ndim == 2 else array.shape[2]]
    mode = bands if array.itemsize == 1 else f"{bands};16"
    if mode not in FORMATS[name].modes:
        raise UnreadableImage(
            picture.path, f"{name.upper()} cannot hold its {_describe_unheld(name, mode)}; pass --format png"
        )
    content, lost = _encode(picture, array, name)
    if (render := decoded.render) is not None:
        lost += (*_OF_RENDERS[render.kind], *(["linear light"] * render.is_linear))
    return Written(content, lost)


def _describe_unheld(name: FormatName, mode: str) -> str:
    """Return the first property of a mode that the format lacks, in words."""
    bands, _, deep = mode.partition(";")
    if deep and not FORMATS[name].modes & _DEEP:
        return "16 bits a channel"
    if mode == "LA;16" and name == "tiff":
        return "16-bit grey with transparency"
    return "transparency" if bands.endswith("A") else "grey" if bands == "L" else "colour"


def _merge_into_file(picture: Picture, pixels: Pixels) -> Pixels:
    """Return new pixels, H x W (x 3), in the coding of `picture`'s file, upright.

    Colours under full transparency stay, and so do pixels of --keep-value.
    """
    decoded, reading = picture.decoded, picture.reading
    is_packed = reading.pixels == "packed16"
    new, old = channels_last(pixels), unpacked(decoded) if is_packed else decoded.array
    if decoded.alpha is not None:
        change = new.astype(np.int32) - channels_last(picture.pixels)
        new = np.clip(old + change, 0, top_of(old.dtype)).astype(old.dtype)
        hidden = decoded.alpha == 0
        new[hidden] = old[hidden]
    if reading.keep_value is not None:
        new = _keep_value(new, old, reading.keep_value, 65535 if is_packed else decoded.maxval)
    if is_packed:
        new = np.stack([decoded.array[..., 0], new >> 8, new & 255], axis=-1).astype(np.uint8)
    return new


def _keep_value(new: Pixels, old: Pixels, value: int, maxval: int) -> Pixels:
    """Return `new` with `value`, in samples of 0 to `maxval`, exactly where `old` has it; others move by one."""
    was, now = (
        equal if equal.ndim == 2 else equal.all(axis=2)
        for equal in (_scale(array, maxval) == value for array in (old, new))
    )
    new = new.copy()
    new[was] = old[was]
    nearest = value + 1 if value < maxval else maxval - 1
    new[now & ~was] = round(nearest * top_of(new.dtype) / maxval)
    return new


def _encode(picture: Picture, array: Pixels, name: FormatName) -> Written:
    """Return a file of these pixels, H x W (x 1 to 4), with the source's contents beside its pixels."""
    decoded, same = picture.decoded, name == picture.format
    other_space = decoded.mode in OTHER_SPACES
    notes = metadata.NOTHING
    options: dict[str, Any] = {}
    lost: set[str] = set()
    if not same or name == "webp":
        notes = metadata.notes_of(str(decoded.format), picture.content, decoded.info, other_space=other_space)
        options, lost = metadata.options(name, notes)
    tells_orientation = same or {"exif", "xmp"} & notes.held(name).keys()
    if decoded.orientation != 1 and tells_orientation:
        array = turned(array, decoded.orientation, back=True)
    maxval, bits = decoded.maxval, decoded.maxval.bit_length()
    if not (name in ("pgm", "ppm") or (bits in (1, 2, 4) and name in _FEW_BITS and array.ndim == 2)):
        maxval, bits = top_of(array.dtype), 8 * array.itemsize
    samples = _scale(array, maxval)
    if decoded.bits != bits and not decoded.is_palette and decoded.bits < 32 and picture.converted is None:
        lost = lost | {f"{decoded.bits} of {bits} bits"}
    content = _encode_pixels(picture, samples, name, maxval, options)
    if same:
        content, left = metadata.carry(name, picture.content, content, other_space=other_space)
        return Written(content, tuple(sorted(lost | left | notes.lost)))
    content, left = metadata.annotate(name, content, notes)
    return Written(content, tuple(sorted(lost | left | notes.lost | notes.unheld(name))))


def _encode_pixels(picture: Picture, samples: Pixels, name: FormatName, maxval: int, options: dict[str, Any]) -> bytes:
    """Return a file of pixels alone; `options` are Pillow's."""
    decoded, same = picture.decoded, name == picture.format
    if name in ("pgm", "ppm"):
        return write_pnm(samples, maxval, picture.content if same else None)
    compression = "tiff_adobe_deflate"
    if name == "tiff" and same and _compression(decoded) in _LOSSLESS_TIFF | {"jpeg"}:
        compression = _compression(decoded)
    bits = maxval.bit_length()
    if bits < 8 or (bits == 16 and samples.ndim == 3):
        return write_png(samples, bits) if name == "png" else write_tiff_samples(samples, bits, compression)
    options = FORMATS[name].options | options
    if name == "tiff":
        options = {"compression": compression} | ({"quality": QUALITY} if compression == "jpeg" else {})
    if name == "webp" and same and picture.lossy:
        options |= {"lossless": False, "quality": QUALITY}
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(samples)).save(file, FORMATS[name].pillow, **options)
    return file.getvalue()


def _scale(array: Pixels, maxval: int) -> Pixels:
    """Return pixels, which use the full range of their type, as samples of 0 to `maxval`."""
    top = top_of(array.dtype)
    return array if maxval == top else np.rint(array * (maxval / top)).astype(array.dtype)


def is_written_lossy(picture: Picture, wanted: FormatName | None) -> bool:
    """Return whether `write_picture` compresses with loss."""
    if wanted in (None, picture.format):
        return picture.lossy
    return wanted == "jpeg"


def read_content(path: Readable) -> bytes:
    """Return a file's content, read again if it changed meanwhile. Raises UnreadableImage."""
    if isinstance(path, Member):
        return path.read_bytes()
    try:
        for _ in range(2):
            with path.open("rb", buffering=0) as file:
                before = os.fstat(file.fileno())
                content = file.readall()
                after = os.fstat(file.fileno())
            if (before.st_mtime_ns, before.st_size, len(content)) == (after.st_mtime_ns, after.st_size, after.st_size):
                return content
    except PermissionError as error:
        raise UnreadableImage(path, "permission denied") from error
    except OSError as error:
        if is_shortage(error):
            raise
        raise UnreadableImage(path, error.strerror or str(error)) from error
    raise UnreadableImage(path, "changes while it is read; rerun when it is finished")


def _is_lossy(decoded: Decoded, content: bytes) -> bool:
    if decoded.render is not None:
        return decoded.render.is_lossy
    if decoded.format == "WEBP":
        return b"VP8L" not in webp_chunks(content)  # lossless; "VP8 " is lossy, and VP8X announces either
    return decoded.format in {"JPEG", "MPO"} or (decoded.format == "TIFF" and _compression(decoded) == "jpeg")


def _compression(decoded: Decoded) -> str:
    """Return Pillow's name of a TIFF's compression."""
    return str(decoded.info.get("compression"))


def _format_of(decoded: Decoded) -> FormatName | None:
    if decoded.format == "PPM":
        return "pgm" if decoded.array.ndim == 2 else "ppm"
    return next((name for name, way in FORMATS.items() if way.pillow == decoded.format), None)


def _name_conversion(decoded: Decoded, name: FormatName | None) -> str | None:
    """Return the name of a mode that is written as another one, None for other modes."""
    mode = decoded.mode
    if mode in {"L", "LA", "RGB", "RGBA", "I"} or mode.startswith("I;16") or (mode == "1" and name in _FEW_BITS):
        return None
    names = {"P": "palette", "PA": "palette", "1": "1-bit"}
    return names.get(mode, mode)
