"""One image file to one array of pixels, and pixels to and from the networks' range."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from simgan_cli.data.archives import Member, Readable
from simgan_cli.errors import UnreadableImage, is_shortage

MAX_PIXELS = 100_000_000  # a decoded image of this size is 0.3 GB in colour; larger ones are refused unread
# Pillow's other decoders are for formats that no suffix of ours names; some start programs, as that of EPS does.
FORMATS_READ = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "WEBP", "PPM", "GIF")
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # in a TIFF
Pixels = NDArray[Any]  # C x H x W, uint8 or uint16

# We refuse by our own limit before anything is decoded; Pillow's warning would come on top of the error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Preparation:
    """How an image is brought into the form that the networks train on; `size` is (H, W)."""

    size: tuple[int, int] | None = None
    fit: Literal["resize", "crop", "pad"] = "resize"
    channels: Literal["1", "3"] | None = None
    preprocess: Literal["none", "equalize"] = "none"


def read_pixels(path: Readable, preparation: Preparation) -> Pixels:
    """Decode the file `path` and prepare it: C x H x W, uint8 or (16-bit grey) uint16.

    Raises UnreadableImage with the reason.
    """
    with decoding(path) as image:
        array = pixel_array(ImageOps.exif_transpose(image), preparation.channels, path)
    if preparation.size is not None:
        array = resize(array, preparation.size, preparation.fit)
    if preparation.preprocess == "equalize":
        array = equalize(array)
    return channels_first(array)


@contextmanager
def decoding(path: Readable, content: bytes | None = None) -> Iterator[Image.Image]:
    """Yield the image of `path`, its pixels not yet decoded; the file's `content` may have been read before.

    Raises UnreadableImage with the reason, also for 16-bit colour, which would be lost in part, and for what happens
    inside the block: no decoder's own exception gets out, but that of a process without memory, file descriptors or
    disk, which is not the image's fault.
    """
    try:
        with (
            path.open("rb") if content is None else io.BytesIO(content) as file,
            Image.open(file, formats=FORMATS_READ) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImage(path, f"{image.width}x{image.height} pixels; at most {MAX_PIXELS:,} are read")
            _refuse_lost_bits(image, path)
            yield image
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(path, f"{error}; at most {MAX_PIXELS:,} pixels are read") from error
    except PermissionError as error:
        raise UnreadableImage(path, "permission denied") from error
    except (
        Exception
    ) as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError, zlib.error ...
        if is_shortage(error):
            raise
        raise UnreadableImage(path, _reason(path, error)) from error


def _refuse_lost_bits(image: Image.Image, path: Readable) -> None:
    """Raise UnreadableImage where Pillow would drop or invert bits without a word; before the pixels are decoded."""
    if not is_deep(image) and image.mode != "F" and _bits(image) > 8:
        raise UnreadableImage(path, "16 bits a channel in colour or with alpha, of which 8 would be lost; convert it")
    if is_deep(image) and "transparency" in image.info:
        raise UnreadableImage(path, "16 bits with a transparent grey level; convert it")
    if is_deep(image) and isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        raise UnreadableImage(path, "16 bits with 0 for white; convert it")  # Pillow inverts 8 bits alone


def _bits(image: Image.Image) -> int:
    """Return the bits of a channel in the file, where they are more than 8; Pillow decodes colour to 8."""
    if isinstance(image, TiffImageFile):
        return int(max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))))
    tiles = getattr(image, "tile", [])  # what is still to decode, with the file's own layout of pixels
    arguments = tiles[0].args if tiles else None
    raw, depth = (arguments[0], arguments[-1]) if isinstance(arguments, tuple) else (arguments, 0)
    deep_raw = isinstance(raw, str) and re.search(r";16[BLN]$", raw)
    deep_ppm = image.format == "PPM" and isinstance(depth, int) and depth > 255
    return 16 if deep_raw or deep_ppm else 8


def channels_first(array: Pixels) -> Pixels:
    """Return H x W or H x W x C pixels as C x H x W: a copy of its own, that may be written to."""
    return np.array(np.atleast_3d(array).transpose(2, 0, 1), order="C")


def resize(array: Pixels, size: tuple[int, int], fit: Literal["resize", "crop", "pad"]) -> Pixels:
    """Bring an H x W or H x W x 3 array to `size` (H, W), antialiased; the same array where it has that size.

    resize stretches; crop scales to cover and cuts the middle; pad scales to fit inside and fills with black.
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
    """Spread the histogram over the whole range; colour images by their luma, so that hues stay.

    The lookup is that of OpenCV's equalizeHist, which stored the gaze data sets: (cdf - cdf_min) / (n - cdf_min).
    """
    if array.ndim == 3 and array.dtype != np.uint8:  # grey as three equal channels: there is no other 16-bit colour
        return np.repeat(equalize(array[..., 0])[..., None], 3, axis=2)
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
    """Return N x 1 x H x W grey of N x 3 x H x W colour (ITU-R 601, in Pillow's integers: equal channels stay)."""
    wide = pixels.astype(np.int64)
    red, green, blue = wide[:, 0:1], wide[:, 1:2], wide[:, 2:3]
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(pixels.dtype)


def top_of(dtype: np.dtype[Any]) -> int:
    """Return the largest value of an integer pixel: 255 or 65535."""
    return int(np.iinfo(dtype).max)


def pixel_array(image: Image.Image, channels: Literal["1", "3"] | None, path: Readable) -> Pixels:
    """Return H x W or H x W x 3 pixels; alpha is left out, palettes and CMYK become colour.

    Raises UnreadableImage for pixels of more than 16 bits.
    """
    if is_deep(image):
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise UnreadableImage(path, "more than 16 bits a pixel; convert it to 8 or 16 bits")
        grey = wide.astype(np.uint16)
        return np.stack([grey] * 3, axis=-1) if channels == "3" else grey
    if image.mode == "F":
        raise UnreadableImage(path, "floating-point pixels; convert it to 8 or 16 bits")
    is_grey = image.mode in {"1", "L", "LA", "La"}
    mode = {"1": "L", "3": "RGB", None: "L" if is_grey else "RGB"}[channels]
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image if image.mode == mode else image.convert(mode))


def is_deep(image: Image.Image) -> bool:
    """Say whether an image has more than 8 bits a pixel: grey always, in Pillow."""
    return image.mode.startswith("I;16") or image.mode == "I"


def _reason(path: Readable, error: Exception) -> str:
    if path.entry.size == 0 if isinstance(path, Member) else path.is_file() and path.stat().st_size == 0:
        return "empty file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or one of an unknown format"
    return str(error) or type(error).__name__
