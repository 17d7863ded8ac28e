"""Decode images once to a memory-mapped array of integers, which later runs share."""

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import platformdirs

from simgan_cli.data.archives import Readable, image_batches
from simgan_cli.data.decoding import Pixels, Preparation, decode, describe, hidden_share, prepare
from simgan_cli.data.patterns import ANY, Patterns
from simgan_cli.data.selection import (
    INCLUDE_EXCLUDE,
    OddImage,
    Selection,
    no_image,
    path_in,
    refuse_many,
    select_pictures,
)
from simgan_cli.data.tree import Tree, read_tree, reading
from simgan_cli.errors import DataError, UnreadableImage, plural
from simgan_cli.files import (
    TEMPORARY_PREFIX,
    atomic_directory,
    locked_file,
    parse_json,
    with_filename,
    write_json,
)

CACHE_VERSION = 6  # raise it when the same files would give other pixels
BATCH_IMAGES = 1024  # decoded between two reports of progress
PHOTOGRAPH_STEP = 2_654_435_761  # a large prime: neighbouring images get photographs that lie far apart
MAX_WAITING = 4  # decoded images for each thread that wait for the writer; bounds memory
Progress = Callable[[int, int], None]  # images done, images in all
Index = dict[str, Any]  # describes the pixels of a cache entry
PIXELS, INDEX = "pixels.bin", "index.json"  # the files of a cache entry


@dataclass(frozen=True)
class PixelSet:
    """The images of one folder or archive: `pixels` is N x C x H x W, uint8 or uint16, in the order of their names."""

    folder: Path
    pixels: Pixels
    skipped: list[tuple[str, str]]  # path and reason of each unreadable file
    fingerprint: str  # SHA-256 of shape and pixels, the same on every machine
    notes: list[str] = field(default_factory=list)  # warnings about the folder
    files: list[str] = field(default_factory=list)  # each image's path in the folder or in its archive

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width


@dataclass(frozen=True)
class Source:
    """A folder or archive of images, and the patterns of its pictures; `flags` are their options, for messages."""

    folder: Path
    patterns: Patterns = ANY
    flags: tuple[str, str] = INCLUDE_EXCLUDE

    def read(self) -> Tree:
        """Return its files; raises DataError where none is an image or archive, or it cannot be read."""
        with reading(self.folder):
            tree = read_tree(self.folder, self.patterns)
        if not tree.images and not tree.archives:
            raise no_image(self.folder, [tree], self.patterns, self.flags)
        return tree

    def select(self, tree: Tree) -> Selection:
        """Return the pictures of its files; raises DataError where there is none."""
        selection = select_pictures(tree, self.patterns, self.flags)
        if not selection.count:
            raise no_image(self.folder, [selection.tree], self.patterns, self.flags)
        return selection


def open_pixels(
    source: Source,
    preparation: Preparation,
    cache: str | None,
    workers: int | None,
    progress: Progress,
    photographs: PixelSet | None = None,
) -> PixelSet:
    """Return the pictures of `source`: from the cache if it holds them, else decoded now.

    `cache` is a folder, "off", or None for the platform's. Unreadable images are left out and listed. Transparent
    images are laid on `photographs`, if given. Raises DataError for a folder that cannot be read, has no readable
    image, mixes sizes, channels or depths, or has many label images.
    """
    tree = source.read()
    work = _Work(source, tree, preparation, workers, progress, photographs)
    if cache == "off":
        # Unnamed, so that it disappears even with a killed process.
        with tempfile.TemporaryFile() as file, with_filename(Path(tempfile.gettempdir())):
            return _open(source, file, _decode_to(file, work), tree)
    entry = cache_folder(cache) / _key(work)
    index = _index_of(entry)
    if index is not None:
        return _open(source, entry / PIXELS, index, tree)
    entry.parent.mkdir(parents=True, exist_ok=True)
    with locked_file(entry.with_name(f"{entry.name}.lock")):
        index = _index_of(entry) or _build(entry, work)  # another process may have built it while we waited
        pixels = _open(source, entry / PIXELS, index, tree)
        if index["failed"]:
            # The disk failed, so the next run should decode again. Windows keeps the file while it is mapped.
            shutil.rmtree(entry, ignore_errors=True)
    return pixels


@dataclass(frozen=True)
class _Work:
    """The images to decode, and how to prepare them."""

    source: Source
    tree: Tree
    preparation: Preparation
    workers: int | None
    progress: Progress
    photographs: PixelSet | None


def _build(entry: Path, work: _Work) -> Index:
    """Build a cache entry and return its index; the caller holds its lock."""
    for left in entry.parent.glob(f"{TEMPORARY_PREFIX}{entry.name}-*"):  # left by a killed process
        shutil.rmtree(left)
    with atomic_directory(entry) as building:
        with (building / PIXELS).open("w+b") as file, with_filename(building / PIXELS):
            index = _decode_to(file, work)
            file.flush()
            os.fsync(file.fileno())
        write_json(building / INDEX, index)
    return index


def cache_folder(cache: str | None) -> Path:
    """Return the folder for cached pixels alone, below `cache` or the platform's cache folder."""
    return Path(cache or platformdirs.user_cache_dir()) / "simgan-pixels"


def _decode_to(file: BinaryIO, work: _Work) -> Index:
    """Append the pixels of every readable picture to `file`, and return their index."""
    selection = work.source.select(work.tree)
    total = selection.count
    first: tuple[Readable, Pixels] | None = None
    digest = hashlib.sha256()
    # The tree's own unusable files, such as broken links, are listed at each run; the index keeps those of archives.
    unusable = selection.tree.unusable[len(work.tree.unusable) :]
    skipped = [(str(work.tree.root / name), reason) for name, reason in unusable]
    odd: dict[str, str] = {}
    surprises: dict[str, str] = {}  # those that `select` missed
    hidden: list[float] = []
    files: list[str] = []
    failed = False
    batches = image_batches(selection.tree, selection.archives, BATCH_IMAGES)
    photographs = work.photographs.pixels if work.photographs is not None else None
    images = decoded(batches, work.preparation, work.workers, selection, photographs)
    for done, (path, image) in enumerate(images, start=1):
        if isinstance(image, OddImage):
            odd[str(path)] = image.reason
            if selection.oddity(path) is None:
                surprises[str(path)] = image.reason
        elif isinstance(image, UnreadableImage):
            skipped.append((str(path), image.reason))
            failed = failed or _may_pass(image)
        else:
            pixels = image.pixels
            first = first or (path, pixels)
            _check_alike(first, (path, pixels), work.source.flags)
            data = pixels.tobytes()
            file.write(data)
            digest.update(data)
            files.append(path_in(selection.tree.root, path))
            hidden += [image.hidden] if image.hidden else []
        if done % BATCH_IMAGES == 0 or done == total:
            work.progress(done, total)
    refuse_many(surprises, total, work.source.flags)
    if first is None:
        bad, reason = [*skipped, *odd.items()][0]
        raise DataError(f"none of {plural(total, 'image')} can be read; the first is {bad}: {reason}")
    shape = [len(files), *first[1].shape]
    digest.update(json.dumps([shape, first[1].dtype.name]).encode())
    return {
        "shape": shape,
        "dtype": first[1].dtype.name,
        "files": files,
        "skipped": skipped,
        "fingerprint": digest.hexdigest(),
        "notes": [
            *selection.notes(work.preparation.pixels, odd),
            *([_hidden_note(hidden, len(files), work.preparation.background)] if hidden else []),
        ],
        "failed": failed,  # an image could not be read, but another attempt may succeed
    }


def _hidden_note(hidden: list[float], count: int, background: str) -> str:
    ways = {"keep": "the colours hidden there are trained on", "real": "photographs are laid behind them"}
    return (
        f"transparent: {len(hidden):,} of {plural(count, 'image')}, in {np.mean(hidden):.0%} of their pixels; "
        f"{ways.get(background, f'laid on {background}')} (--background)"
    )


def _may_pass(error: UnreadableImage) -> bool:
    """Return whether a disk or network failed, so that another attempt may read the image.

    Permissions do not count: a change of them changes the cache entry's key.
    """
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno not in (None, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Prepared:
    """A prepared image, C x H x W; `hidden` is the share of fully transparent pixels."""

    pixels: Pixels
    hidden: float


def decoded(
    batches: Iterable[Sequence[Readable]],
    preparation: Preparation,
    workers: int | None,
    selection: Selection,
    photographs: Pixels | None = None,
) -> Generator[tuple[Readable, Prepared | UnreadableImage], None, None]:
    """Yield each image of `batches`, prepared by `workers` threads, or the error of an unreadable one.

    An image that is not a picture of its `selection` gives OddImage. Transparent images are laid on different
    `photographs`.
    """

    def read(number: int, path: Readable) -> Prepared | UnreadableImage:
        try:
            if why := selection.oddity(path):
                return OddImage(path, why)
            image = decode(path, curve=preparation.tone_curve)
            if why := selection.oddity(path, image):
                return OddImage(path, why)
            photograph = photographs[number * PHOTOGRAPH_STEP % len(photographs)] if photographs is not None else None
            return Prepared(prepare(image, preparation, photograph), hidden_share(image))
        except UnreadableImage as error:
            return error

    waiting: deque[tuple[Readable, Future[Prepared | UnreadableImage]]] = deque()

    def all_but(left: int) -> Iterator[tuple[Readable, Prepared | UnreadableImage]]:
        while len(waiting) > left:
            path, future = waiting.popleft()
            yield path, future.result()

    threads = workers or os.cpu_count() or 1
    number = 0
    with ThreadPoolExecutor(threads) as pool:  # Pillow decodes without holding the interpreter
        for batch in batches:
            for path in batch:
                waiting.append((path, pool.submit(read, number, path)))
                number += 1
                yield from all_but(MAX_WAITING * threads)
            yield from all_but(0)


def _check_alike(first: tuple[Readable, Pixels], other: tuple[Readable, Pixels], flags: tuple[str, str]) -> None:
    (path_a, a), (path_b, b) = first, other
    both = f"{path_a} is {describe(a.shape, a.dtype)}, {path_b} is {describe(b.shape, b.dtype)}"
    patterns = f"; or name the pictures with {flags[0]} or {flags[1]}"
    if a.dtype != b.dtype:
        raise DataError(f"mixed bit depths: {both}; convert them to one depth{patterns}")
    if a.shape[0] != b.shape[0]:
        raise DataError(f"mixed channels: {both}; pass --channels 1 for grey or --channels 3 for colour{patterns}")
    if a.shape != b.shape:
        raise DataError(f"mixed sizes: {both}; pass --size HEIGHTxWIDTH, and --fit{patterns}")


def _index_of(entry: Path) -> Index | None:
    """Return the index of a complete cache entry, else None: people and tools may delete single files."""
    try:
        index: Index = parse_json((entry / INDEX).read_bytes())
        size = math.prod(index["shape"]) * np.dtype(index["dtype"]).itemsize
        is_complete = {"files", "skipped", "notes", "fingerprint"} <= index.keys() and (
            entry / PIXELS
        ).stat().st_size == size
        return index if is_complete and not index["failed"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _open(source: Source, place: Path | BinaryIO, index: Index, tree: Tree) -> PixelSet:
    # Copy-on-write: torch warns of read-only arrays. Nothing writes, so pages stay shared.
    pixels = np.memmap(place, dtype=index["dtype"], mode="c", shape=tuple(index["shape"]))
    skipped = tree.unusable_images() + [(path, reason) for path, reason in index["skipped"]]
    return PixelSet(source.folder, pixels, skipped, index["fingerprint"], index["notes"], index["files"])


def _key(work: _Work) -> str:
    """Return the name of a cache entry, a hash of settings and of each file's name, size and times.

    It includes ctime: unpacking an archive can set mtime, but not ctime.
    """
    behind = work.photographs.fingerprint if work.photographs is not None else ""
    tree = work.tree
    how = [asdict(work.preparation), asdict(work.source.patterns), behind, tree.foreign]
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, str(work.source.folder.resolve()), *how]).encode())
    for name in chain(tree.images, tree.archives):
        status = os.stat(f"{tree.root}/{name}")  # noqa: PTH116 - a million Paths take longer than a million stats
        digest.update(
            f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\n".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()[:32]
