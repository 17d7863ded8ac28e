"""List the files below a folder in natural order, following links but never in circles."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from simgan_cli.data.patterns import ANY, Patterns
from simgan_cli.data.signatures import Content, content_of
from simgan_cli.errors import DataError, is_shortage

SUFFIXES = frozenset(
    ".png .apng .jpg .jpeg .jpe .jfif .jif .jfi .pjpeg .pjp .tif .tiff .bmp .dib .webp .pgm .ppm .pnm".split()
)
# Read only where a pattern names them: beside other images they often hold depth or poses.
RENDER_SUFFIXES = frozenset({".exr", ".npy", ".h5", ".hdf5"})
# Images, videos and archives that we do not read: copied unrefined, with a warning.
FOREIGN_SUFFIXES = frozenset(
    ".gif .exr .hdr .tga .jp2 .j2k .avif .heic .heif .jxl .psd .dds .pbm .pam .svg .mp4 .avi .mov .mkv .webm "
    ".xz .txz .bz2 .tbz2 .zst .7z .rar .lz4".split()
)
# Their content is not examined: one may lie beside each of a million images.
TEXT_SUFFIXES = frozenset(
    ".json .jsonl .txt .csv .tsv .xml .yaml .yml .toml .md .log .html .npz .npy .h5 .hdf5 .mat .pkl".split()
)
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
SUFFIXES_IN_WORDS = ".png, .jpg, .tif, .bmp, .webp, .pgm, .ppm and their other names"
OWN_FILE = re.compile(r"\.simgan-.*|\.tmp-[0-9a-f]{16}(-link)?")  # our own files in a refined folder
N_FIRST_BYTES = 264  # show the kind of a file; a tar has its magic at 257
Item = TypeVar("Item")
FILE, FOLDER = "file", "folder"
Identity = tuple[int, int]  # device and inode
FirstBytes = Callable[[], bytes]


@dataclass(frozen=True)
class Tree:
    """The files below `root`: paths relative to it, in natural order, folder by folder.

    Archives are only named here; `open_archives` finds those that hold images.
    """

    root: Path
    images: list[str] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)  # a name in their path starts with a dot: copied, never read
    empty: list[str] = field(default_factory=list)  # folders
    foreign: Counter[str] = field(default_factory=Counter)  # suffixes of images among `others` that we do not read
    unusable: list[tuple[str, str]] = field(default_factory=list)  # (path, reason)

    def unusable_images(self) -> list[tuple[str, str]]:
        """Return path and reason of each image or archive that cannot be used."""
        return [(str(self.root / path), reason) for path, reason in self.unusable if holds_images(path)]


def read_tree(folder: Path, patterns: Patterns = ANY) -> Tree:
    """Return the files below `folder`; links to folders are followed, but never back to one above.

    If `folder` is an archive, it is the only file of the tree. Images that `patterns` do not take are others. Raises
    OSError for a folder that cannot be read.
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
        is_empty = True
        for name, kind in _entries(folder / place):
            is_empty = False
            path = f"{place}/{name}" if place else name
            if kind == FOLDER:
                folders.append((path, (*above, identity)))
            elif kind == FILE:
                _sort_in(tree, path, patterns)
            else:
                tree.unusable.append((path, kind))
        if is_empty and place:
            tree.empty.append(place)
        pending += reversed(folders)
    return tree


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Raise DataError where the block cannot read `folder` or a file in it."""
    try:
        yield
    except OSError as error:
        if is_shortage(error):
            raise
        place = error.filename or folder
        raise DataError(f"{place}: cannot be read ({error.strerror}); check its permissions") from error


def _sort_in(tree: Tree, path: str, patterns: Patterns) -> None:
    if is_hidden(path):
        if not OWN_FILE.fullmatch(path.rpartition("/")[2]):
            tree.hidden.append(path)
    elif is_archive(path):
        (tree.others if patterns.excludes(path) else tree.archives).append(path)
    elif is_picture(path, patterns, lambda: _first_bytes(tree.root / path), tree.foreign):
        tree.images.append(path)
    else:
        tree.others.append(path)


def is_picture(path: str, patterns: Patterns, first: FirstBytes, foreign: Counter[str]) -> bool:
    """Return whether a file is an image that we read, by its name or its `first` bytes, and that `patterns` take.

    Images of formats that we do not read are counted in `foreign`.
    """
    suffix = suffix_of(path)
    if suffix in SUFFIXES:
        return patterns.takes(path)
    if suffix in RENDER_SUFFIXES and patterns.names(suffix) and patterns.takes(path):
        return True
    content: Content | None = "foreign" if suffix in FOREIGN_SUFFIXES or is_archive(path) else None
    if content is None and suffix not in TEXT_SUFFIXES:
        content = content_of(first())
    if content == "foreign":
        foreign[suffix or "nameless"] += 1
    return content == "image" and patterns.takes(path)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(N_FIRST_BYTES)
    except OSError:
        return b""  # the copy of the file will report why


def suffix_of(path: str) -> str:
    """Return the lower-case suffix of a file's name, with its dot; "" where it has none."""
    return os.path.splitext(path)[1].lower()  # noqa: PTH122 - called for every file, and ten times as fast


def is_image(name: str) -> bool:
    """Return whether a file's name has the suffix of an image that we read."""
    return suffix_of(name) in SUFFIXES


def is_archive(name: str) -> bool:
    """Return whether a file's name has the suffix of an archive that we read."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def is_hidden(path: str) -> bool:
    """Return whether a name in a path starts with a dot, such as the resource forks that macOS packs."""
    return path.startswith(".") or "/." in path


def holds_images(name: str) -> bool:
    """Return whether a file's name has the suffix of an image or archive that we read."""
    return is_image(name) or is_archive(name)


def suffixes_found(paths: Sequence[str]) -> str:
    """Return the suffixes of files and their counts in words, the most frequent first."""
    counts = Counter(suffix_of(path) or "without suffix" for path in paths)
    listed = [f"{count:,} {suffix}" for suffix, count in counts.most_common(5)]
    return ", ".join(listed + ["others"] * (len(counts) > 5)) or "no file"


def walk_order(path: str) -> str:
    """Return a sort key for the order of `read_tree`: a folder's files, then its folders, each in natural order."""
    *folders, name = path.split("/")
    return "".join(f"\2{natural(folder)}\0{folder}\0" for folder in folders) + f"\1{natural(name)}\0{name}"


def part_of(items: Sequence[Item], index: int, count: int) -> Sequence[Item]:
    """Return part `index` (from 0) of `count`: every count-th item, so sizes differ by one at most."""
    return items[index::count]


def _entries(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield name and kind of each entry of a folder, in natural order.

    Each entry is one string while it is sorted, to save memory: a folder may hold a million.
    """
    with os.scandir(folder) as entries:
        lines = [f"{natural(entry.name)}\0{entry.name}\0{_kind(entry)}" for entry in entries]
    lines.sort()
    for line in lines:
        _, name, kind = line.split("\0")
        yield name, kind


def _kind(entry: "os.DirEntry[str]") -> str:
    """Return FILE, FOLDER, or the reason why an entry is neither."""
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
    """Return a sort key that puts 2.png before 10.png: digits by value, other text unchanged."""
    return re.sub("[0-9]+", lambda digits: digits[0].zfill(20), name)
