"""Recognise a file by its first bytes."""

import re
from typing import Literal

Content = Literal["image", "foreign"]

PNG, JPEG, TIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
EXR, NPY, HDF5 = b"v/1\x01", b"\x93NUMPY", b"\x89HDF\r\n\x1a\n"
UNREAD_IMAGES = {
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL \r\n": "a JPEG XL image",
    b"\0\0\0\x0cjP  \r\n": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    EXR: "an EXR image",
    b"#?RADIANCE": "a Radiance HDR image",
    b"#?RGBE": "a Radiance HDR image",
    b"8BPS": "a Photoshop image",
    b"DDS ": "a DDS image",
    b"qoif": "a QOI image",
    b"\0\0\1\0": "an ICO image",
    b"%!PS": "an EPS image",
    b"P7\n": "a PAM image",
    b"PF\n": "a PFM image",
    b"Pf\n": "a PFM image",
    b"\x8aMNG": "a MNG image",
    b"MM\0+": "a big-endian BigTIFF image",
}
ARCHIVES = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "gzip data",
    b"\xfd7zXZ\0": "xz data",
    b"BZh": "bzip2 data",
    b"\x28\xb5\x2f\xfd": "Zstandard data",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
}
OTHERS = {
    b"%PDF": "a PDF document",
    HDF5: "an HDF5 file",
    NPY: "a NumPy array",
    b"SQLite format 3": "an SQLite database",
    b"\x7fELF": "a program",
}
_FOREIGN = (*UNREAD_IMAGES, *ARCHIVES, b"GIF8")
_BMP_HEADERS = {size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124)}


def content_of(first: bytes) -> Content | None:
    """Return "image" for an image that we read, "foreign" for another image, video or archive, None for the rest."""
    is_webp = first[:4] == b"RIFF" and first[8:12] == b"WEBP"
    is_bmp = first[:2] == b"BM" and first[6:10] == bytes(4) and first[14:18] in _BMP_HEADERS
    if first.startswith((PNG, JPEG, *TIFF)) or is_webp or is_bmp or re.match(rb"P[2356](#[^\n]*\n|\s)+\d", first):
        return "image"
    return "foreign" if first.startswith(_FOREIGN) or first[4:8] == b"ftyp" or first[257:262] == b"ustar" else None
