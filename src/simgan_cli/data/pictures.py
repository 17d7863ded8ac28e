"""One image file in full, to be written again with other pixels: size, mode, depth, alpha and format stay."""

import hashlib
import io
import os
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from simgan_cli.data.archives import Member, Readable
from simgan_cli.data.images import Pixels, channels_first, decoding, is_deep, pixel_array
from simgan_cli.errors import UnreadableImage, is_shortage

FormatName = Literal["png", "jpeg", "tiff", "bmp", "webp", "pgm", "ppm"]
QUALITY = 95  # of lossy outputs
ORIENTATION = 0x0112  # EXIF tag
OTHER_SPACES = frozenset({"CMYK", "LAB", "HSV", "YCbCr"})  # than grey and RGB


@dataclass(frozen=True)
class Format:
    """A way to write images: Pillow's name, the suffixes of such files (the first is given to new ones), its modes."""

    pillow: str
    suffixes: tuple[str, ...]
    modes: frozenset[str]
    options: dict[str, Any] = field(default_factory=dict)


FORMATS: dict[FormatName, Format] = {
    "png": Format("PNG", (".png",), frozenset({"L", "LA", "RGB", "RGBA", "I;16"})),
    "jpeg": Format("JPEG", (".jpg", ".jpeg"), frozenset({"L", "RGB"}), {"quality": QUALITY, "subsampling": 0}),
    "tiff": Format("TIFF", (".tif", ".tiff"), frozenset({"L", "LA", "RGB", "RGBA", "I;16"})),
    "bmp": Format("BMP", (".bmp",), frozenset({"L", "RGB"})),
    "webp": Format("WEBP", (".webp",), frozenset({"L", "LA", "RGB", "RGBA"}), {"lossless": True, "exact": True}),
    "pgm": Format("PPM", (".pgm",), frozenset({"L", "I;16"})),
    "ppm": Format("PPM", (".ppm",), frozenset({"RGB"})),
}
_LOSSLESS_TIFF = {"raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "zstd", "lzma"}


@dataclass(frozen=True)
class Picture:
    """A decoded image file: `pixels` C x H x W, uint8 or (grey only) uint16, C 1 or 3; `alpha` H x W, uint8."""

    path: Readable
    content: bytes
    pixels: Pixels
    alpha: NDArray[np.uint8] | None
    format: FormatName | None  # None: readable, but not a format that is written
    lossy: bool
    converted: str | None  # what the output cannot keep, such as a palette
    turned: bool  # by its EXIF orientation
    info: dict[str, Any]  # colour profile, resolution, EXIF

    @property
    def sha256(self) -> str:
        """The hash of the file's content."""
        return hashlib.sha256(self.content).hexdigest()


def read_picture(path: Readable) -> Picture:
    """Read the image file `path` whole.

    Raises UnreadableImage with the reason, also for several pages, and for a file that changes meanwhile.
    """
    content = _read_settled(path)
    with decoding(path, content) as image:
        pages = getattr(image, "n_frames", 1)
        if pages > 1:
            raise UnreadableImage(path, f"holds {pages} pages or frames; split it into files of one each")
        stored = image.format
        lossy = _is_lossy(image, content)
        mode = image.mode
        compression = image.info.get("compression")
        turned = _is_turned(image)  # asked first: Pillow turns a TIFF while it loads it
        image.load()
        upright = ImageOps.exif_transpose(image) if turned else image
        alpha = _alpha(upright)
        array = pixel_array(upright, None, path)
        info = _kept(upright, stored, compression)
    return Picture(
        path=path,
        content=content,
        pixels=channels_first(array),
        alpha=alpha,
        format=_format_of(stored, array),
        lossy=lossy,
        converted=_conversion(mode),
        turned=turned,
        info=info,
    )


def write_picture(picture: Picture, pixels: Pixels, wanted: FormatName | None) -> bytes:
    """Return the content of an image file like `picture` with other `pixels` (C x H x W), in its format or `wanted`.

    Where nothing changed it is the content that was read, byte for byte. Lossless unless the format is JPEG, or the
    same as a lossy input's. Raises UnreadableImage for a format that cannot hold the image.
    """
    name = wanted or picture.format
    if name is None:
        raise UnreadableImage(picture.path, "of a format that is not written; pass --format png")
    unchanged = name == picture.format and not picture.converted and not picture.turned
    if unchanged and np.array_equal(pixels, picture.pixels):
        return picture.content
    way = FORMATS[name]
    image = _image(pixels, picture.alpha)
    if image.mode not in way.modes:
        what = {"I;16": "16 bits a pixel", "LA": "transparency", "RGBA": "transparency"}.get(image.mode, "colour")
        raise UnreadableImage(picture.path, f"{name.upper()} cannot hold its {what}; pass --format png")
    file = io.BytesIO()
    try:
        image.save(file, way.pillow, **way.options | _options(picture, name))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UnreadableImage(picture.path, f"cannot be written as {name.upper()} ({error})") from error
    return file.getvalue()


def is_written_lossy(picture: Picture, wanted: FormatName | None) -> bool:
    """Say whether `write_picture` loses something."""
    if wanted in (None, picture.format):
        return picture.lossy
    return wanted == "jpeg"


def _read_settled(path: Readable) -> bytes:
    """Return a file's content, once it stays the same while it is read."""
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
    raise UnreadableImage(path, "changes while it is read; run again when it is finished")


def _is_lossy(image: Image.Image, content: bytes) -> bool:
    if image.format == "WEBP":
        return not _has_webp_chunk(content, b"VP8L")
    return image.format in {"JPEG", "MPO"} or (image.format == "TIFF" and image.info.get("compression") == "jpeg")


def _has_webp_chunk(content: bytes, wanted: bytes) -> bool:
    """Say whether a WebP file holds a chunk: VP8L is lossless, "VP8 " lossy, VP8X announces either further on."""
    position = 12  # after RIFF, size, WEBP
    while position + 8 <= len(content):
        if content[position : position + 4] == wanted:
            return True
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    return False


def _is_turned(image: Image.Image) -> bool:
    # Pillow parses EXIF each time it is asked; few images have any.
    told = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"} & image.info.keys()
    return (image.format == "TIFF" or bool(told)) and image.getexif().get(ORIENTATION, 1) != 1


def _alpha(image: Image.Image) -> NDArray[np.uint8] | None:
    if is_deep(image) or not image.has_transparency_data:
        return None
    return np.asarray(image.convert("RGBA").getchannel("A"))


def _kept(image: Image.Image, stored: str | None, compression: Any) -> dict[str, Any]:
    """Return what else is written again: compression of a TIFF, colour profile, resolution, EXIF."""
    kept = {key: image.info[key] for key in ("icc_profile", "dpi") if image.info.get(key)}
    if image.mode in OTHER_SPACES:
        kept.pop("icc_profile", None)  # it is of that space, and what is written is RGB
    if stored in {"PNG", "JPEG", "WEBP"} and image.info.get("exif"):
        kept["exif"] = image.info["exif"]
    if stored == "TIFF":
        kept["compression"] = compression if compression in _LOSSLESS_TIFF | {"jpeg"} else "tiff_adobe_deflate"
    return kept


def _format_of(stored: str | None, array: Pixels) -> FormatName | None:
    if stored == "PPM":
        return "pgm" if array.ndim == 2 else "ppm"
    return next((name for name, way in FORMATS.items() if way.pillow == stored), None)


def _conversion(mode: str) -> str | None:
    """Return words for a mode that is written as another one."""
    if mode in {"L", "LA", "RGB", "RGBA", "I"} or mode.startswith("I;16"):
        return None
    names = {"P": "palette", "PA": "palette", "1": "1-bit"}
    return names.get(mode, mode)


def _image(pixels: Pixels, alpha: NDArray[np.uint8] | None) -> Image.Image:
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(np.moveaxis(pixels, 0, -1)))
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    return image


def _options(picture: Picture, name: FormatName) -> dict[str, Any]:
    takes: set[str] = {
        "png": {"icc_profile", "dpi", "exif"},
        "jpeg": {"icc_profile", "dpi", "exif"},
        "tiff": {"icc_profile", "dpi", "compression"},
        "bmp": {"dpi"},
        "webp": {"icc_profile", "exif"},
    }.get(name, set())
    options = {key: value for key, value in picture.info.items() if key in takes}
    same = name == picture.format
    if name == "tiff" and not same:
        options["compression"] = "tiff_adobe_deflate"
    if name == "webp" and same and picture.lossy:
        options |= {"lossless": False, "quality": QUALITY}
    if name == "tiff" and options["compression"] == "jpeg":
        options["quality"] = QUALITY
    return options
