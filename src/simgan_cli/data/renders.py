"""Read and write renders in formats for numbers: OpenEXR, float TIFF, NumPy arrays and BlenderProc's HDF5.

Networks see display values: linear light, clipped to 0 to 1, through a tone curve. A change comes back through the
inverse curve as a difference, so highlights, negative values and unchanged pixels stay.
"""

import functools
import importlib
import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simgan_cli.data.archives import Readable
from simgan_cli.data.codecs import COPY_AGAIN, Damage
from simgan_cli.data.damage import refuse_many_pixels, refuse_pages
from simgan_cli.data.signatures import EXR, HDF5, NPY, TIFF
from simgan_cli.data.tiff import SAMPLE_FORMAT, numbers, read_directory
from simgan_cli.data.tree import RENDER_SUFFIXES, suffix_of
from simgan_cli.errors import UnreadableImage, is_shortage, plural

MIN_SIDE = 8  # pixels; smaller arrays are poses, landmarks or cameras
MAX_WHITE_FRACTION = 0.9  # of the positive values above 1; more means depth in metres, or 0 to 255 as floats
SAMPLE_TYPES = frozenset({"u1", "u2", "f2", "f4", "f8"})
IEEE_FLOAT, OFFSETS, COUNTS = 3, (273, 324), (279, 325)  # in a TIFF, of strips and of tiles
TIFF_COMPRESSIONS = frozenset({1, 5, 8, 32773, 32946, 50000})  # none, LZW, Deflate, PackBits, old Deflate, Zstandard
LOSSY_EXR = frozenset({"PXR24", "B44", "B44A", "DWAA", "DWAB"})
Curve = Literal["srgb", "linear"]
Array = NDArray[Any]


class NoColours(UnreadableImage):
    """A valid file that holds other data than one picture, such as depth or poses."""


@dataclass(frozen=True)
class Render:
    """One file of a renderer; `values` are H x W or H x W x 3, linear light (float32) or integers as stored."""

    path: Readable
    content: bytes
    kind: Literal["exr", "tiff", "npy", "hdf5"]
    values: Array
    alpha: NDArray[np.float32] | None  # H x W, 0 to 1
    is_premultiplied: bool = False  # colours were multiplied by alpha
    is_lossy: bool = False  # its compression loses pixels, and is applied again
    channels: tuple[str, ...] = ()  # the colour channels of an EXR

    @property
    def is_linear(self) -> bool:
        """Return whether the values are linear light, to which the tone curve applies."""
        return self.values.dtype.kind == "f"

    @property
    def straight(self) -> Array:
        """The colours divided by alpha where they were multiplied by it; unchanged where alpha is 0."""
        if not self.is_premultiplied or self.alpha is None:
            return self.values
        alpha = np.where(self.alpha == 0, 1, self.alpha)
        return self.values / (alpha if self.values.ndim == 2 else alpha[..., None])


def is_render(path: Readable, start: bytes) -> bool:
    """Return whether a file may be for `read_render`, by its name and its first 8 bytes."""
    return start.startswith(_MAGICS) or suffix_of(str(path)) in RENDER_SUFFIXES


def recoloured(render: Render, refined: Array, original: Array, curve: Curve) -> Array:
    """Return the values of `render` with the change from `original` to `refined`, both display values of `straight`."""
    if not render.is_linear:
        return refined
    values = from_display(refined, original, render.straight, curve)
    if render.is_premultiplied and render.alpha is not None:
        values = values * (render.alpha if values.ndim == 2 else render.alpha[..., None])
    return np.where(refined == original, render.values, values.astype(render.values.dtype))


def read_render(path: Readable, content: bytes) -> Render | None:
    """Return the picture in a file's `content`, or None for a file of another kind.

    Raises NoColours for a file of other data, and UnreadableImage with the reason for one that cannot be read.
    """
    read = next((reader for magic, reader in _READERS.items() if content.startswith(magic)), None)
    suffix = PurePath(str(path)).suffix.lower()
    if read is None and suffix in RENDER_SUFFIXES:
        reason = f"does not start as {suffix} files do; {COPY_AGAIN}" if content else "empty file"
        raise UnreadableImage(path, reason)
    return read(path, content) if read else None


def write_render(render: Render, values: Array) -> bytes:
    """Return the file of `render` with other `values`, of the same shape and type.

    Everything else stays: other channels and data sets, header, tags, compression, and each unchanged value. Raises
    UnreadableImage.
    """
    return render.content if np.array_equal(values, render.values) else _WRITERS[render.kind](render, values)


def to_display(values: Array, curve: Curve) -> NDArray[np.uint16]:
    """Return linear light as 16-bit display values: clipped to 0 to 1, through the curve, rounded half to even."""
    light = np.clip(values, 0, 1).astype(np.float64)
    if curve == "srgb":  # IEC 61966-2-1
        light = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(light * 65535).astype(np.uint16)


def from_display(refined: NDArray[np.uint16], original: NDArray[np.uint16], values: Array, curve: Curve) -> Array:
    """Return `values` (float32) plus the difference in light between the display values `refined` and `original`.

    A value of 0 or more never becomes negative, and becomes 0 only where `refined` is 0. Values are exactly the same
    where `refined` equals `original`.
    """
    light = _light(curve)
    least = light[np.minimum(refined, 1)]
    changed = np.maximum(values + (light[refined] - light[original]), np.minimum(values, least))
    return np.where(refined == original, values, changed.astype(np.float32))


@functools.cache
def _light(curve: Curve) -> NDArray[np.float64]:
    """Return the linear light of each of the 65,536 display values."""
    shown = np.arange(65536) / 65535
    return shown if curve == "linear" else np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)


def _read_exr(path: Readable, content: bytes) -> Render:
    part = _exr_parts(path, content)[0]
    channels = part.channels
    names = _colour_channels(channels)
    wanted = [*names, *({names[0][:-1] + "A"} & channels.keys())]
    planes = [channels[name].pixels.astype(np.float32) for name in wanted]
    values = np.stack(planes[:3], axis=-1) if len(names) == 3 else planes[0]
    alpha = planes[-1] if len(wanted) > len(names) else None
    lossy = part.header["compression"].name.removesuffix("_COMPRESSION") in LOSSY_EXR
    return _checked(Render(path, content, "exr", values, alpha, alpha is not None, lossy, tuple(names)))


_stdout_lock = threading.Lock()


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Redirect what a C++ library prints from stdout to stderr: stdout belongs to the document of --json."""
    with _stdout_lock:
        stdout = os.dup(1)
        os.dup2(2, 1)
        try:
            yield
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)


def _exr_parts(path: Readable, content: bytes) -> Any:
    """Return the parts of an EXR; the first has colours, and all can be written again."""
    openexr = _library(path, "OpenEXR")
    with _parsing(path, "EXR"):
        headers = [part.header for part in openexr.File(io.BytesIO(content), header_only=True).parts]
        channels = [channel for header in headers for channel in header["channels"]]
        names = _colour_channels([channel.name for channel in headers[0]["channels"]])
        if not names:
            listed = _listed([channel.name for channel in channels])
            raise NoColours(path, f"holds the channels {listed}; wanted R, G and B, one Combined layer or Y in part 1")
        is_deep = any(header["type"] in (openexr.deepscanline, openexr.deeptile) for header in headers)
        one_level = openexr.LevelMode.ONE_LEVEL
        is_in_levels = any("tiles" in header and header["tiles"].mode != one_level for header in headers)
        is_sampled = any((channel.xSampling, channel.ySampling) != (1, 1) for channel in channels)
        if is_deep or is_in_levels or is_sampled or len(headers[0].get("multiView", ())) > 1:
            raise UnreadableImage(path, "has deep pixels, mipmaps, subsampled channels or views; export it flat")
        for header in headers:
            (left, top), (right, bottom) = header["dataWindow"]
            refuse_many_pixels(path, int(right) - int(left) + 1, int(bottom) - int(top) + 1)
        with _stdout_to_stderr():
            parts = openexr.File(io.BytesIO(content), separate_channels=True).parts
        if len(parts) < len(headers):
            raise UnreadableImage(path, f"damaged or cut off EXR; {COPY_AGAIN}")  # the library skips incomplete parts
        if any(parts[0].channels[name].pixels.dtype.kind != "f" for name in names):
            raise NoColours(path, f"holds integers in {', '.join(names)}; wanted half or float")
    return parts


def _colour_channels(names: Iterable[str]) -> list[str]:
    """Return the names of red, green and blue, at top level or in Blender's one Combined layer, or of grey, or [].

    Beside X, Y is part of a vector, such as a normal.
    """
    names = set(names)
    combined = [name[:-1] for name in names if name.endswith(".Combined.R")]
    layers = ["", *combined] if len(combined) == 1 else [""]
    choices = [*([layer + band for band in "RGB"] for layer in layers), *([["Y"]] if "X" not in names else [])]
    return next((bands for bands in choices if names >= set(bands)), [])


def _write_exr(render: Render, values: Array) -> bytes:
    openexr = _library(render.path, "OpenEXR")
    parts = _exr_parts(render.path, render.content)
    for band, name in enumerate(render.channels):
        at = (..., band) if values.ndim == 3 else ...
        _replace(parts[0].channels[name].pixels, render.values[at], values[at])
    written = io.BytesIO()
    with _parsing(render.path, "EXR"):
        openexr.File(parts).write(written)
    return written.getvalue()


def _read_tiff(path: Readable, content: bytes) -> Render | None:
    if not _has_float_samples(content):
        return None
    tifffile = _library(path, "tifffile")
    with _parsing(path, "TIFF"), tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        refuse_pages(path, len(file.pages))
        refuse_many_pixels(path, page.imagewidth, page.imagelength)
        extra = len(page.extrasamples)
        if page.photometric not in (1, 2) or page.samplesperpixel not in (1 + extra, 3 + extra) or extra > 1:
            raise NoColours(path, f"holds {page.samplesperpixel} float samples a pixel; wanted grey or RGB, and alpha")
        turned, packing = page.tags.valueof("Orientation", 1), page.compression
        if turned != 1 or packing not in TIFF_COMPRESSIONS:
            wanted = "wanted orientation 1 and LZW, Deflate, PackBits, Zstandard or no compression"
            raise UnreadableImage(path, f"float TIFF of orientation {turned} and compression {packing:d}; {wanted}")
        if any(at + size > len(content) for at, size in zip(page.dataoffsets, page.databytecounts, strict=True)):
            raise UnreadableImage(path, f"cut off; {COPY_AGAIN}")  # the library would fill in zeros
        stored = _bands_last(page, page.asarray(maxworkers=1))
        return _of_array(path, content, "tiff", stored, is_premultiplied=tuple(page.extrasamples) == (1,))


def _has_float_samples(content: bytes) -> bool:
    """Return whether the first page of a TIFF holds floats."""
    try:
        return IEEE_FLOAT in numbers(read_directory(content), SAMPLE_FORMAT)
    except Damage:  # the reader of other images will report it
        return False


def _bands_last(page: Any, stored: Array) -> Array:
    """Return a view of stored samples as H x W [x C]; planar TIFFs store C x H x W."""
    return np.moveaxis(stored, 0, -1) if stored.ndim == 3 and page.planarconfig == 2 else stored


def _write_tiff(render: Render, values: Array) -> bytes:
    """Write the packed pixels in place, or at the end where they need more room, so that no tag is lost."""
    tifffile = _library(render.path, "tifffile")
    with _parsing(render.path, "TIFF"):
        written = io.BytesIO(render.content)
        with tifffile.TiffFile(written, mode="r+b") as file:
            page = file.pages[0]
            stored = page.asarray(maxworkers=1)
            _replace(_split(_bands_last(page, stored))[0], render.values, values)
            offsets, counts = list(page.dataoffsets), list(page.databytecounts)
            for place, segment in enumerate(_segments(tifffile, file, page, stored)):
                if len(segment) > counts[place]:
                    offsets[place] = written.seek(0, io.SEEK_END) + written.tell() % 2
                written.seek(offsets[place])
                written.write(segment)
                counts[place] = len(segment)
            for codes, numbers in ((OFFSETS, offsets), (COUNTS, counts)):
                tag = next(page.tags[code] for code in codes if code in page.tags)
                tag.overwrite(numbers, dtype=4 if tag.dtype == 3 and max(numbers) > 65535 else None)  # 3: 16 bits
        return written.getvalue()


def _segments(tifffile: Any, file: Any, page: Any, stored: Array) -> Iterator[bytes]:
    """Yield the strips or tiles of `stored`, compressed as those of `page`."""
    packed = io.BytesIO()
    tifffile.imwrite(
        packed,
        stored,
        byteorder=file.byteorder,
        photometric=page.photometric,
        planarconfig=page.planarconfig if stored.ndim == 3 else None,
        extrasamples=page.extrasamples,
        compression=page.compression,
        predictor=page.predictor,
        tile=page.tile,
        rowsperstrip=page.rowsperstrip or None,
        metadata=None,
        maxworkers=1,
    )
    packed.seek(0)  # the reader starts at the current position
    with tifffile.TiffFile(packed) as copy:
        for at, size in zip(copy.pages[0].dataoffsets, copy.pages[0].databytecounts, strict=True):
            yield packed.getvalue()[at : at + size]


def _read_npy(path: Readable, content: bytes) -> Render:
    stored = _npy_array(path, content)[0]
    return _of_array(path, content, "npy", stored)


def _npy_array(path: Readable, content: bytes) -> tuple[Array, int]:
    """Return the array, in the file's own order and type, and its offset in the file."""
    with _parsing(path, ".npy"):
        file = io.BytesIO(content)
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = header(file)
        _refuse_array(path, "an array", shape, dtype)
        flat = np.frombuffer(content, dtype, int(np.prod(shape)), file.tell())
        return flat.reshape(shape, order="F" if is_fortran else "C"), file.tell()


def _write_npy(render: Render, values: Array) -> bytes:
    stored, start = _npy_array(render.path, render.content)
    stored = stored.copy(order="K")
    _replace(_split(stored)[0], render.values, values)
    return render.content[:start] + stored.tobytes("A") + render.content[start + stored.nbytes :]


def _read_hdf5(path: Readable, content: bytes) -> Render:
    h5py = _library(path, "h5py")
    with _parsing(path, "HDF5"), h5py.File(io.BytesIO(content), "r") as file:
        link = file.get("colors", getlink=True)
        data = file["colors"] if isinstance(link, h5py.HardLink) else None  # other links may lead into another file
        if not isinstance(data, h5py.Dataset):
            content_name = "colors, a link" if data is None else f"colors, a {type(data).__name__.lower()}"
            raise NoColours(path, f"holds {content_name if link else _listed(list(file))}; wanted the data set colors")
        if data.is_virtual or data.external:
            raise UnreadableImage(path, "colors lies in other files; store it in this one")
        _refuse_array(path, "colors", data.shape, data.dtype)
        stored = data[...]
    return _of_array(path, content, "hdf5", stored)


def _write_hdf5(render: Render, values: Array) -> bytes:
    h5py = _library(render.path, "h5py")
    written = io.BytesIO(render.content)
    with _parsing(render.path, "HDF5"), h5py.File(written, "r+") as file:
        stored = file["colors"][...]
        _replace(_split(stored)[0], render.values, values)
        file["colors"][...] = stored
    return written.getvalue()


def _of_array(
    path: Readable,
    content: bytes,
    kind: Literal["tiff", "npy", "hdf5"],
    stored: Array,
    is_premultiplied: bool = False,
) -> Render:
    """Return the picture in an array of H x W [x C]; with 2 or 4 bands, the last is alpha."""
    values, alpha = _split(stored)
    if stored.dtype.kind == "f":
        with np.errstate(over="ignore"):  # float64 beyond float32 is refused as infinite
            values, alpha = values.astype(np.float32), None if alpha is None else alpha.astype(np.float32)
    else:
        values = values.astype(values.dtype.newbyteorder("="))
        alpha = None if alpha is None else (alpha / np.iinfo(alpha.dtype).max).astype(np.float32)
    return _checked(Render(path, content, kind, values, alpha, is_premultiplied))


def _split(stored: Array) -> tuple[Array, Array | None]:
    """Return views of colours (H x W or H x W x 3) and of alpha (H x W), if any."""
    if stored.ndim == 2:
        return stored, None
    bands = stored.shape[2]
    return stored[..., :3] if bands > 2 else stored[..., 0], stored[..., -1] if bands in (2, 4) else None


def _replace(stored: Array, original: Array, values: Array) -> None:
    """Write `values` into `stored` where they differ from `original`, clipped to the range of its type."""
    changed = values != original
    new = values[changed]
    if stored.dtype.kind == "f":
        limit = np.finfo(stored.dtype).max
        new = np.clip(new, -limit, limit)
    stored[changed] = new


def _checked(render: Render) -> Render:
    height, width = render.values.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise NoColours(
            render.path, f"holds {height} x {width} values; a picture has at least {MIN_SIDE} x {MIN_SIDE} pixels"
        )
    if not render.is_linear:
        return render
    broken = sum(
        int(np.count_nonzero(~np.isfinite(array))) for array in (render.values, render.alpha) if array is not None
    )
    if broken:
        raise UnreadableImage(render.path, f"{plural(broken, 'infinite or NaN value')}; render it again")
    positive = render.values[render.values > 0]
    if positive.size and np.mean(positive > 1) > MAX_WHITE_FRACTION:
        kind = f"holds values up to {positive.max():g}; nearly all exceed 1 and would be white"
        raise NoColours(render.path, f"{kind}; scale colours to 0 to 1, or pass --exclude for depth")
    return render


def _refuse_array(path: Readable, name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    is_picture = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
    if not is_picture or 0 in shape or dtype.str[1:] not in SAMPLE_TYPES:
        kind = f"holds {name} of {' x '.join(map(str, shape)) or 'one value'}, {dtype}"
        stereo = "; split a stereo pair into two files" if name == "colors" and len(shape) == 4 else ""
        raise NoColours(path, f"{kind}; wanted H x W or H x W x 3 of uint8, uint16 or floats{stereo}")
    refuse_many_pixels(path, shape[1], shape[0])


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more or "nothing"


@contextmanager
def _parsing(path: Readable, format_name: str) -> Iterator[None]:
    """Raise UnreadableImage for any error of a library; their errors have no common class."""
    try:
        yield
    except UnreadableImage:
        raise
    except Exception as error:
        if is_shortage(error):
            raise
        raise UnreadableImage(path, f"damaged or cut off {format_name}; {COPY_AGAIN}") from error


def _library(path: Readable, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UnreadableImage(path, f"reading it needs {module}; pip install 'simgan-cli[renders]'") from error


_READERS: dict[bytes, Callable[[Readable, bytes], Render | None]] = {
    EXR: _read_exr,
    NPY: _read_npy,
    HDF5: _read_hdf5,
    **dict.fromkeys(TIFF, _read_tiff),
}
_MAGICS = tuple(_READERS)
_WRITERS: dict[str, Callable[[Render, Array], bytes]] = {
    "exr": _write_exr,
    "tiff": _write_tiff,
    "npy": _write_npy,
    "hdf5": _write_hdf5,
}
