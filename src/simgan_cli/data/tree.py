"""The files below a folder: in natural order, through links but never in circles, and split into parts."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".pgm", ".ppm"})
# Images to people, but not to us: carried along unrefined, which deserves a word.
FOREIGN_SUFFIXES = frozenset(
    {".gif", ".exr", ".hdr", ".tga", ".jp2", ".avif", ".heic", ".heif", ".jxl", ".psd", ".dds", ".pbm", ".pnm", ".pam"}
)
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
Item = TypeVar("Item")
FILE, FOLDER = "file", "folder"
Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True)
class Tree:
    """What lies below `root`: paths relative to it, in natural order, folder by folder; hidden names are left out.

    Archives are only named here; `look_inside` tells which hold images. Theirs come after those of `images`.
    """

    root: Path
    images: list[str] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    unusable: list[tuple[str, str]] = field(default_factory=list)  # (path, reason)


def read_tree(folder: Path) -> Tree:
    """List the files below `folder`, following links to folders but never back to one above.

    An archive in the place of a folder is all that there is in its own. Raises OSError for a folder that cannot be
    read.
    """
    if is_archive(folder.name) and folder.is_file():
        return Tree(folder.parent, archives=[folder.name])
    tree = Tree(folder)
    pending: list[tuple[str, tuple[Identity, ...]]] = [("", ())]
    while pending:
        place, above = pending.pop()
        status = (folder / place).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            tree.unusable.append((place, "a link to a folder above it; not followed"))
            continue
        folders = []
        for name, kind in _entries(folder / place):
            path = f"{place}/{name}" if place else name
            if kind == FOLDER:
                folders.append((path, (*above, identity)))
            elif kind == FILE:
                kinds = tree.images if is_image(name) else tree.archives if is_archive(name) else tree.others
                kinds.append(path)
            else:
                tree.unusable.append((path, kind))
        pending += reversed(folders)
    return tree


def is_image(name: str) -> bool:
    """Say whether a file's name is that of an image we read."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - asked of every file, and ten times as fast


def is_archive(name: str) -> bool:
    """Say whether a file's name is that of an archive we look into."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def holds_images(name: str) -> bool:
    """Say whether a file's name is that of an image or of an archive."""
    return is_image(name) or is_archive(name)


def walk_order(path: str) -> str:
    """Return what sorts paths as `read_tree` finds them: a folder's files, then the folders in it, by natural order."""
    *folders, name = path.split("/")
    return "".join(f"\2{natural(folder)}\0{folder}\0" for folder in folders) + f"\1{natural(name)}\0{name}"


def part_of(items: Sequence[Item], index: int, count: int) -> Sequence[Item]:
    """Return part `index` (from 0) of `count`: every count-th item, so that parts differ by one item at most."""
    return items[index::count]


def _entries(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield name and kind of what lies in a folder, in natural order.

    Each entry is one string while it is sorted, since a folder may hold a million.
    """
    with os.scandir(folder) as entries:
        lines = [f"{natural(entry.name)}\0{entry.name}\0{_kind(entry)}" for entry in entries if entry.name[0] != "."]
    lines.sort()
    for line in lines:
        _, name, kind = line.split("\0")
        yield name, kind


def _kind(entry: "os.DirEntry[str]") -> str:
    """Return FILE, FOLDER, or why it is neither."""
    try:
        if entry.is_dir():
            return FOLDER
        if entry.is_file():
            return FILE
        is_link = entry.is_symlink()
    except OSError:  # a link in a circle
        is_link = True
    return "a link that leads nowhere" if is_link else "neither a file nor a folder"


def natural(name: str) -> str:
    """Return what sorts 2.png before 10.png: digits by value, other text as it stands."""
    return re.sub("[0-9]+", lambda digits: digits[0].zfill(20), name)
