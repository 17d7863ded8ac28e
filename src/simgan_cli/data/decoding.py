"""Decode an image file to an array of pixels, and prepare the pixels for the networks."""

import io
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

from simgan_cli.data import tiff
from simgan_cli.data.archives import Readable
from simgan_cli.data.codecs import pnm_header, read_deep_png, read_pnm
from simgan_cli.data.damage import MAX_PIXELS, reason_of, refuse_many_pixels, refuse_pages
from simgan_cli.data.metadata import emptied_png
from simgan_cli.data.renders import Curve, NoColours, Render, is_render, read_render, to_display
from simgan_cli.data.signatures import TIFF
from simgan_cli.errors import UnreadableImage, is_shortage

# Pillow has other decoders, for formats that we do not read; some start programs, such as that of EPS.
FORMATS_READ = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "WEBP", "PPM", "GIF")
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # TIFF tags, and a value of the second
ORIENTATION = 0x0112  # EXIF tag
_BITS_OF_PNG = {"1": 1, "2": 2, "4": 4, "16B": 16}  # by the end of Pillow's name of its layout
GREY_MODES = frozenset({"1", "L", "LA", "La"})
Pixels = NDArray[Any]  # C x H x W, uint8 or uint16
Fit = Literal["resize", "crop", "pad"]
Channels = Literal["1", "3"]
Preprocess = Literal["none", "equalize"]
PixelCoding = Literal["plain", "packed16"]

# Images above our own limit are refused before decoding; Pillow would warn in addition.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# A colour profile or packed text may exceed Pillow's megabyte; 64 bound memory as well.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
# Pillow's warnings of damaged tags do not name the file.
warnings.filterwarnings("ignore", "Corrupt EXIF data|Truncated File Read|Metadata Warning", module=r"PIL\.")


@dataclass(frozen=True)
class Preparation:
    """How an image is prepared for the networks; `size` is (H, W)."""

    size: tuple[int, int] | None = None
    fit: Fit = "resize"
    channels: Channels | None = None
    preprocess: Preprocess = "none"
    pixels: PixelCoding = "plain"  # packed16: one 16-bit value in the green and the blue byte
    background: str = (
        "#000000"  # behind transparent pixels: #rrggbb, real (a photograph), keep (the file's own colours)
    )
    tone_curve: Curve = "srgb"  # for the linear pixels of float files


class Decoded(NamedTuple):
    """One decoded image file, upright.

    `array` is H x W or H x W x 3, uint8 or uint16, scaled to the full range of its type. Palettes and CMYK become RGB.
    `alpha` is H x W of the same type.
    """

    path: Readable
    array: Pixels
    alpha: Pixels | None = None
    is_palette: bool = False
    bits: int = 8  # of a sample in the file
    maxval: int = 255  # the largest sample that the file can hold
    orientation: int = 1  # of EXIF, 1 to 8, already applied
    format: str | None = None  # Pillow's name
    mode: str = "RGB"  # Pillow's mode of the file
    info: Mapping[Any, Any] = MappingProxyType({})  # Pillow's metadata
    render: Render | None = None  # the numbers of a renderer that `array` shows


def read_pixels(path: Readable, preparation: Preparation) -> Pixels:
    """Return the prepared pixels of a file, C x H x W, uint8 or uint16. Raises UnreadableImage with the reason."""
    return prepare(decode(path, curve=preparation.tone_curve), preparation)


def decode(path: Readable, content: bytes | None = None, *, single: bool = False, curve: Curve = "srgb") -> Decoded:
    """Decode the file `path`, or its `content` if that was read before; `curve` is the tone curve of linear light.

    Decodes the first of several pages; with `single`, refuses several. Raises UnreadableImage with the reason.
    """
    with _opened(path, content) as file:
        start = file.read(8)
        file.seek(0)
        if is_render(path, start):
            content = file.read()
            if (render := read_render(path, content)) is not None:
                return _decode_render(render, curve)
            _refuse_tiff(path, content)  # only a TIFF gives no render here
            file.seek(0)
        if _is_pnm(start):
            return _decode_pnm(path, file.read())
        with Image.open(file, formats=FORMATS_READ) as image:
            refuse_many_pixels(path, image.width, image.height)
            refuse_pages(path, getattr(image, "n_frames", 1) if single else 1)
            bits = _bits(image)
            if bits > 8 and image.mode != "F" and not is_deep(image):
                return _decode_deep(path, image, file)
            return _decode_by_pillow(path, image, bits)


def _decode_render(render: Render, curve: Curve) -> Decoded:
    array = to_display(render.straight, curve) if render.is_linear else render.values
    top = top_of(array.dtype)
    # Filters of renderers leave alpha slightly below 0 and above 1.
    alpha = None if render.alpha is None else np.rint(render.alpha.clip(0, 1) * top).astype(array.dtype)
    bits = 32 if render.is_linear else 8 * array.itemsize
    return Decoded(
        render.path, array, alpha, bits=bits, maxval=top, mode="RGB" if array.ndim == 3 else "L", render=render
    )


def _is_pnm(start: bytes) -> bool:
    return start[:1] == b"P" and b"1" <= start[1:2] <= b"6" and start[2:3] in b" \t\r\n\x0b\x0c#"


def _decode_pnm(path: Readable, content: bytes) -> Decoded:
    header = pnm_header(content)
    refuse_many_pixels(path, header.width, header.height)
    samples, maxval = read_pnm(content), header.maxval
    top = top_of(samples.dtype)
    if maxval != top:
        samples = np.rint(samples / maxval * top).astype(samples.dtype)
    mode = "RGB" if header.channels == 3 else "L"
    return Decoded(path, samples, bits=maxval.bit_length(), maxval=maxval, format="PPM", mode=mode)


def _decode_deep(path: Readable, image: Image.Image, file: IO[bytes]) -> Decoded:
    """Decode 16 bits a channel in colour or with alpha, which Pillow would cut to 8."""
    info, orientation = image.info, 1
    if "transparency" in info:
        raise UnreadableImage(path, "16 bits a channel with a transparent colour; convert it")
    if image.format == "TIFF":
        orientation = _orientation(image)
    file.seek(0)
    content = file.read()
    if image.format == "PNG":
        with Image.open(io.BytesIO(emptied_png(content))) as empty:  # EXIF may follow the pixels
            empty.load()
            info, orientation = empty.info, _orientation(empty)
        samples = read_deep_png(content)
    elif image.format == "TIFF":
        samples = tiff.read_deep_tiff(content)
    else:
        raise UnreadableImage(path, "16 bits a channel in colour or with alpha; convert it to PNG or TIFF")
    samples = turned(samples, orientation)
    alpha = samples[..., -1] if samples.shape[2] in (2, 4) else None
    array = samples[..., 0] if samples.shape[2] == 2 else samples[..., :3]
    return Decoded(
        path, array, alpha, bits=16, maxval=65535, orientation=orientation, format=image.format,
        mode=image.mode, info=info,
    )  # fmt: skip


def _decode_by_pillow(path: Readable, image: Image.Image, bits: int) -> Decoded:
    mode = image.mode
    if is_deep(image) and "transparency" in image.info:
        raise UnreadableImage(path, "16 bits with a transparent grey level; convert it")
    is_tiff = image.format == "TIFF"
    orientation = _orientation(image) if is_tiff else 1  # read first: Pillow turns a TIFF while it loads it
    maxval = 65535 if is_deep(image) else (1 << bits) - 1 if mode in {"1", "L"} and bits < 8 else 255
    info = dict(image.info) if is_tiff else image.info  # Pillow drops a TIFF's compression while it loads it
    if mode == "L" and bits < 8 and "transparency" in info:
        image.info["transparency"] *= 255 // maxval  # Pillow scales the samples alone
    image.load()
    if mode == "LAB":
        raise UnreadableImage(path, "LAB colours; convert it to RGB")
    array, alpha = _pixels_and_alpha(image, path)
    if not is_tiff and (orientation := _orientation(image)) != 1:
        array = turned(array, orientation)
        alpha = None if alpha is None else turned(alpha, orientation)
    return Decoded(
        path, array, alpha, mode in {"P", "PA"}, bits, maxval, orientation, image.format, mode, info,
    )  # fmt: skip


def _pixels_and_alpha(image: Image.Image, path: Readable) -> tuple[Pixels, Pixels | None]:
    if is_deep(image):
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise UnreadableImage(path, "values outside of 0 to 65535; convert it to 8 or 16 bits")
        wide = wide.astype(np.uint16)
        is_inverted = isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
        return 65535 - wide if is_inverted else wide, None  # Pillow inverts only 8 bits
    if image.mode == "F":
        raise UnreadableImage(path, "floating-point pixels; convert it to 8 or 16 bits")
    is_grey = image.mode in GREY_MODES
    if not image.has_transparency_data:
        mode = "L" if is_grey else "RGB"
        return np.asarray(image if image.mode == mode else image.convert(mode)), None
    bands = np.asarray(image if image.mode in {"LA", "RGBA"} else image.convert("RGBA"))
    return bands[..., 0] if is_grey else bands[..., :3], bands[..., -1]


def _orientation(image: Image.Image) -> int:
    # getexif parses each time; few images have EXIF.
    has_any = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"} & image.info.keys()
    if not has_any and image.format != "TIFF":
        return 1
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except (SyntaxError, struct.error):  # damaged EXIF, which viewers ignore
        return 1
    return orientation if orientation in range(1, 9) else 1


def turned(array: Pixels, orientation: int, *, back: bool = False) -> Pixels:
    """Return H x W (x C) pixels turned upright by EXIF's `orientation` (1 to 8), or with `back` turned as stored."""
    if back and orientation in (6, 8):
        orientation = 14 - orientation  # the others are their own inverses
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def prepare(decoded: Decoded, preparation: Preparation, photograph: Pixels | None = None) -> Pixels:
    """Return the prepared pixels of a decoded image, C x H x W, uint8 or uint16.

    With the background "real", transparent pixels show the prepared `photograph`, or black if there is none.
    Raises UnreadableImage where pixels should be packed and are not.
    """
    array, alpha = decoded.array, decoded.alpha
    if preparation.pixels == "packed16":
        array, alpha = unpacked(decoded), None if alpha is None else alpha.astype(np.uint16) * 257
    array = _with_channels(array, preparation.channels)
    if alpha is not None and preparation.background != "keep":
        is_real = preparation.background == "real"
        array = laid_on("#000000" if is_real else preparation.background, array, alpha)
        if is_real and photograph is not None:
            return _over(photograph, array, alpha, decoded.path, preparation)
    return _in_size(array, preparation)


def _in_size(array: Pixels, preparation: Preparation) -> Pixels:
    if preparation.size is not None:
        array = resize(array, preparation.size, preparation.fit)
    if preparation.preprocess == "equalize":
        array = equalize(array)
    return channels_first(array)


def _over(photograph: Pixels, array: Pixels, alpha: Pixels, path: Readable, preparation: Preparation) -> Pixels:
    """Return an image that was laid on black, with the photograph behind it; the bars of the fit "pad" stay black."""
    top = top_of(array.dtype)
    clear = top - alpha
    if preparation.size is not None:
        array, clear = (resize(part, preparation.size, preparation.fit) for part in (array, clear))
    laid = channels_first(array)
    if (photograph.shape, photograph.dtype) != (laid.shape, laid.dtype):
        raise UnreadableImage(
            path,
            f"{describe(laid.shape, laid.dtype)}, with transparent pixels, but photographs are "
            f"{describe(photograph.shape, photograph.dtype)}; pass --background '#000000', or images of one kind",
        )
    shown = laid + (photograph.astype(np.int64) * clear + top // 2) // top
    array = channels_last(np.clip(shown, 0, top).astype(array.dtype))
    return _in_size(array, replace(preparation, size=None))


def describe(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """Return words for pixels of shape C x H x W: "35x55 grey, 8 bits"."""
    channels, height, width = shape
    return f"{height}x{width} {'grey' if channels == 1 else 'colour'}, {8 * dtype.itemsize} bits"


def laid_on(background: str, array: Pixels, alpha: Pixels) -> Pixels:
    """Return H x W (x 3) pixels laid on a colour #rrggbb; grey pixels are laid on its luma."""
    top = top_of(array.dtype)
    colour = np.array([int(background[at : at + 2], 16) for at in (1, 3, 5)], np.uint32) * (top // 255)
    if array.ndim == 2:
        colour = luma(colour.reshape(1, 3, 1, 1)).reshape(())
    else:
        alpha = alpha[..., None]
    wide = array.astype(np.uint32) * alpha + colour * (top - alpha.astype(np.uint32))
    laid: Pixels = ((wide + top // 2) // top).astype(array.dtype)
    return laid


def hidden_share(decoded: Decoded) -> float:
    """Return the share of pixels that are fully transparent."""
    return 0.0 if decoded.alpha is None else float(np.mean(decoded.alpha == 0))


def unpacked(decoded: Decoded) -> Pixels:
    """Return the 16-bit values, H x W, that an image holds in its green (high) and blue (low) bytes.

    Raises UnreadableImage for any other image: grey, of 16 bits, or whose red is not one value.
    """
    array = decoded.array
    if array.ndim != 3 or array.dtype != np.uint8:
        kind = f"{8 * array.itemsize}-bit {'grey' if array.ndim == 2 else 'colour'}"
        raise UnreadableImage(decoded.path, f"{kind}, but packed16 is 8-bit colour; pass --pixels plain")
    lowest, highest = int(array[..., 0].min()), int(array[..., 0].max())
    if lowest != highest:
        raise UnreadableImage(
            decoded.path, f"its red is {lowest} to {highest}, but packed16 has one red value; pass --pixels plain"
        )
    return array[..., 1].astype(np.uint16) << 8 | array[..., 2]


def _with_channels(array: Pixels, channels: Channels | None) -> Pixels:
    if channels == "3" and array.ndim == 2:
        return np.stack([array] * 3, axis=-1)
    if channels == "1" and array.ndim == 3:
        if array.dtype == np.uint8:
            return np.asarray(Image.fromarray(np.ascontiguousarray(array)).convert("L"))
        return luma(array.transpose(2, 0, 1)[None]).reshape(array.shape[:2])
    return array


def stored_size(path: Readable) -> tuple[int, int]:
    """Return the stored H and W of an image. Raises UnreadableImage with the reason."""
    with _opened(path, None) as file:
        start = file.read(8)
        file.seek(0)
        if is_render(path, start) and not start.startswith(TIFF):
            height, width = decode(path).array.shape[:2]
            return height, width
        with Image.open(file, formats=FORMATS_READ) as image:  # without decoding it
            return image.height, image.width


@contextmanager
def _opened(path: Readable, content: bytes | None) -> Iterator[IO[bytes]]:
    """Yield the file, and turn a decoder's exception into an UnreadableImage with the reason.

    A shortage of memory, file descriptors or disk is not the image's fault and is raised as it is.
    """
    try:
        with path.open("rb") if content is None else io.BytesIO(content) as file:
            yield file
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(path, f"{error}; at most {MAX_PIXELS:,} pixels are read") from error
    except PermissionError as error:
        raise UnreadableImage(path, "permission denied") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error ...
        if is_shortage(error):
            raise
        raise UnreadableImage(path, _reason(path, content, error)) from error


def _refuse_tiff(path: Readable, content: bytes) -> None:
    """Raise UnreadableImage for a TIFF that Pillow would misread."""
    tags = tiff.read_directory(content)
    if tiff.has_signed_samples(tags):
        raise NoColours(path, "holds signed samples, which may be negative; convert it to unsigned ones")
    if why := tiff.misread(content, tags):
        raise UnreadableImage(path, why)


def _bits(image: Image.Image) -> int:
    """Return the bits of a sample in a file that is not decoded yet; 8 where Pillow does not report them."""
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))))  # type: ignore[attr-defined]
    tiles = getattr(image, "tile", [])  # not yet decoded, with the file's own layout of pixels
    arguments = tiles[0].args if tiles else None
    if image.format == "PNG" and isinstance(arguments, str):
        return _BITS_OF_PNG.get(arguments.partition(";")[2], 1 if arguments == "1" else 8)
    is_deep_ppm = image.format == "PPM" and isinstance(arguments, tuple) and arguments[-1] > 255
    return 16 if is_deep_ppm else 8


def channels_last(pixels: Pixels) -> Pixels:
    """Return C x H x W pixels as H x W, or H x W x 3: a view."""
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


def channels_first(array: Pixels) -> Pixels:
    """Return H x W or H x W x C pixels as a writable copy, C x H x W."""
    return np.array(np.atleast_3d(array).transpose(2, 0, 1), order="C")


def resize(array: Pixels, size: tuple[int, int], fit: Fit) -> Pixels:
    """Return an H x W or H x W x 3 array in `size` (H, W), antialiased; the same array where it has that size.

    resize stretches; crop scales to cover and keeps the middle; pad scales to fit inside and fills with black.
    """
    if array.shape[:2] == size:
        return array
    height, width = size
    if array.ndim == 3:
        return np.stack([resize(array[..., band], size, fit) for band in range(array.shape[2])], axis=-1)
    image = Image.fromarray(array.astype(np.float32))  # one path for 8 and 16 bits
    method = Image.Resampling.BICUBIC
    if fit == "resize":
        image = image.resize((width, height), method)
    elif fit == "crop":
        image = ImageOps.fit(image, (width, height), method)
    else:
        image = ImageOps.pad(image, (width, height), method, color=0)
    resized: Pixels = np.clip(np.rint(np.asarray(image)), 0, top_of(array.dtype)).astype(array.dtype)
    return resized


def equalize(array: Pixels) -> Pixels:
    """Return an image whose histogram is spread over the full range; colour by its luma, so that hues stay.

    The lookup is that of OpenCV's equalizeHist, which the gaze data sets used: (cdf - cdf_min) / (n - cdf_min).
    """
    if array.ndim == 3 and array.dtype != np.uint8:  # Pillow converts only 8 bits
        grey = _with_channels(array, "1")
        change = equalize(grey).astype(np.int32) - grey
        spread: Pixels = np.clip(array + change[..., None], 0, top_of(array.dtype)).astype(array.dtype)
        return spread
    if array.ndim == 3:
        luma, blue, red = Image.fromarray(array).convert("YCbCr").split()
        luma = Image.fromarray(equalize(np.asarray(luma)))
        return np.asarray(Image.merge("YCbCr", (luma, blue, red)).convert("RGB"))
    top = top_of(array.dtype)
    cumulative = np.bincount(array.ravel(), minlength=top + 1).cumsum()
    lowest = cumulative[array.min()]
    if lowest == array.size:
        return array  # one grey level has nothing to spread
    table = np.rint((cumulative - lowest) / (array.size - lowest) * top)
    equalized: Pixels = np.clip(table, 0, top).astype(array.dtype)[array]
    return equalized


def luma(pixels: Pixels) -> Pixels:
    """Return N x 1 x H x W grey of N x 3 x H x W colour (ITU-R 601, in Pillow's integers: grey pixels stay)."""
    wide = pixels.astype(np.int64)
    red, green, blue = wide[:, 0:1], wide[:, 1:2], wide[:, 2:3]
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(pixels.dtype)


def top_of(dtype: np.dtype[Any]) -> int:
    """Return the largest value of an integer pixel: 255 or 65535."""
    return int((1 << 8 * dtype.itemsize) - 1)


def is_deep(image: Image.Image) -> bool:
    """Return whether Pillow holds an image as grey of more than 8 bits."""
    return image.mode.startswith("I;16") or image.mode == "I"


def _reason(path: Readable, content: bytes | None, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # an error of the disk
    try:
        content = path.read_bytes() if content is None else content
    except OSError as unread:
        return unread.strerror or str(unread)
    return reason_of(content, error)
