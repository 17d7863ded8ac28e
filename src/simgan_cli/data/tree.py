"""The files below a folder: in natural order, through links but never in circles, and split into parts."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".pgm", ".ppm"})
# Images to people, but not to us: carried along unrefined, which deserves a word.
FOREIGN_SUFFIXES = frozenset(
    {".gif", ".exr", ".hdr", ".tga", ".jp2", ".avif", ".heic", ".heif", ".jxl", ".psd", ".dds", ".pbm", ".pnm", ".pam"}
)
Item = TypeVar("Item")
Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True)
class Tree:
    """What lies below a folder: paths relative to it, in natural order, folder by folder; hidden names are left out."""

    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    unusable: list[tuple[str, str]] = field(default_factory=list)  # (path, reason)


def read_tree(folder: Path) -> Tree:
    """List the files below `folder`, following links to folders but never back to one above.

    Raises OSError for a folder that cannot be read.
    """
    tree = Tree()
    pending: list[tuple[str, tuple[Identity, ...]]] = [("", ())]
    while pending:
        place, above = pending.pop()
        status = (folder / place).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            tree.unusable.append((place, "a link to a folder above it; not followed"))
            continue
        with os.scandir(folder / place) as entries:
            found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=_natural)
        folders = []
        for entry in found:
            path = f"{place}/{entry.name}" if place else entry.name
            if _leads_to_folder(entry):
                folders.append((path, (*above, identity)))
            else:
                _sort_in(tree, path, entry)
        pending += reversed(folders)
    return tree


def is_image(name: str) -> bool:
    """Say whether a file's name is that of an image we read."""
    return Path(name).suffix.lower() in SUFFIXES


def part_of(items: Sequence[Item], index: int, count: int) -> Sequence[Item]:
    """Return part `index` (from 0) of `count`: every count-th item, so that parts differ by one item at most."""
    return items[index::count]


def _leads_to_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _sort_in(tree: Tree, path: str, entry: "os.DirEntry[str]") -> None:
    try:
        is_file, is_link = entry.is_file(), entry.is_symlink()
    except OSError:
        is_file, is_link = False, True
    if not is_file:
        reason = "a link that leads nowhere" if is_link else "neither a file nor a folder"
        tree.unusable.append((path, reason))
    elif is_image(entry.name):
        tree.images.append(path)
    else:
        tree.others.append(path)


def _natural(entry: "os.DirEntry[str]") -> tuple[str, str]:
    """Sort 2.png before 10.png: digits by value, other text as it stands."""
    return re.sub("[0-9]+", lambda digits: digits[0].zfill(20), entry.name), entry.name
