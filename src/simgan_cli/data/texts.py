"""Read text as editors, shells and spreadsheets write it."""

import codecs
import os
import re
from collections.abc import Callable
from pathlib import Path

# Longer marks come first: that of UTF-32 (little-endian) begins with that of UTF-16.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
MIN_NUL_FRACTION = 0.75  # of every second byte, in UTF-16 of mostly Latin letters


def decode_text(content: bytes) -> str:
    """Return text, decoded by its byte order mark, as UTF-16 where every second byte is NUL, or as UTF-8.

    Raises ValueError with what to do.
    """
    encoding, mark = _encoding_of(content)
    try:
        return content[mark:].decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"not text in UTF-8, UTF-16 or UTF-32 (byte {error.start + mark:,} is not {encoding.upper()}); "
            "save it as UTF-8"
        ) from error


def edit_text(content: bytes, edit: Callable[[str], str]) -> bytes:
    """Return an edited text in its own encoding, with its byte order mark. Raises ValueError for other content."""
    encoding, mark = _encoding_of(content)
    return content[:mark] + edit(decode_text(content)).encode(encoding)


def read_text(path: Path) -> str:
    r"""Return the text of a file, its lines ended by \n. Raises OSError, or ValueError with what to do."""
    return re.sub(r"\r\n?", "\n", decode_text(path.read_bytes()))


def names_in(content: bytes) -> list[str]:
    """Return the names in a list, one a line, or split at NULs where there are any.

    Blanks around a name and backslashes in it are part of it only where such a file exists. Raises ValueError with
    what to do.
    """
    encoding, mark = _encoding_of(content)
    if encoding == "utf-8" or (not mark and _exist(content.split(b"\0"))):
        text = os.fsdecode(content[mark:])  # names may be bytes that are not UTF-8
    else:
        text = decode_text(content)
    names = text.split("\0") if "\0" in text else re.split(r"[\r\n]+", text)
    return [existing for name in names if (existing := _existing(name))]


def _encoding_of(content: bytes) -> tuple[str, int]:
    """Return the encoding of a text and the length of its byte order mark."""
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return encoding, len(mark)
    halves = content[::2], content[1::2]
    if content and len(content) % 2 == 0:
        for encoding, high, low in (("utf-16-le", halves[1], halves[0]), ("utf-16-be", halves[0], halves[1])):
            if b"\0" not in low and high.count(0) >= MIN_NUL_FRACTION * len(high):
                return encoding, 0
    return "utf-8", 0


def _exist(names: list[bytes]) -> bool:
    """Return whether all names are those of files; names of one letter, ended by NULs, look like UTF-16."""
    return all(map(os.path.lexists, filter(None, names)))


def _existing(name: str) -> str:
    bare = name.replace("\N{ZERO WIDTH NO-BREAK SPACE}", "").strip()  # a byte order mark inside joined lists
    forms = (name, bare, bare.replace("\\", "/"))
    return next(filter(os.path.lexists, forms), bare)
