"""A set of images as one memory-mapped array of integers, decoded once and shared by later runs."""

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
from simgan_cli.errors import DataError, UnreadableImage
from simgan_cli.files import (
    TEMPORARY_PREFIX,
    atomic_directory,
    locked_file,
    parse_json,
    with_filename,
    write_json,
)

CACHE_VERSION = 5  # of the cache; raise it when the same files would give other pixels
BATCH_IMAGES = 1024  # decoded between two reports of progress
PHOTOGRAPH_STEP = 2_654_435_761  # a prime: neighbouring images meet photographs from all over
MAX_WAITING = 4  # decoded images that wait for the writer, for each thread: bounds memory
Progress = Callable[[int, int], None]  # images done, images in all
Index = dict[str, Any]  # what describes a cache entry's pixels
PIXELS, INDEX = "pixels.bin", "index.json"  # the files of a cache entry
_KEY_LENGTH = 32  # hexadecimal digits


@dataclass(frozen=True)
class PixelSet:
    """The images of one folder or archive: `pixels` is N x C x H x W, uint8 or uint16, in the order of their names."""

    folder: Path
    pixels: Pixels
    skipped: list[tuple[str, str]]  # path and reason of each unreadable file
    fingerprint: str  # SHA-256 of shape and pixels: the same for the same images anywhere
    notes: list[str] = field(default_factory=list)  # what a person should know of the folder
    files: list[str] = field(default_factory=list)  # each image's path in the folder or in its archive

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width


@dataclass(frozen=True)
class Source:
    """A folder or archive of images, and which of its files are pictures; `flags` are the options that say so."""

    folder: Path
    patterns: Patterns = ANY
    flags: tuple[str, str] = INCLUDE_EXCLUDE

    def read(self) -> Tree:
        """Return its files; raises DataError where none is an image or an archive, or there is no access."""
        with reading(self.folder):
            tree = read_tree(self.folder, self.patterns)
        if not tree.images and not tree.archives:
            raise no_image(self.folder, [tree], [], self.patterns, self.flags)
        return tree

    def select(self, tree: Tree) -> Selection:
        """Return the pictures of its files; raises DataError where there is none."""
        selection = select_pictures(tree, self.patterns, self.flags)
        if not selection.count:
            raise no_image(self.folder, [selection.tree], selection.archives, self.patterns, self.flags)
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
    images are laid on `photographs` where there are any. Raises DataError for a folder that cannot be read, holds no
    readable image, mixes sizes, channels or depths, or holds label images among its pictures.
    """
    tree = source.read()
    work = _Work(source, tree, preparation, workers, progress, photographs)
    if cache == "off":
        # Unnamed: gone with the process, even a killed one.
        with tempfile.TemporaryFile() as file, with_filename(Path(tempfile.gettempdir())):
            return _open(source, file, _decode_to(file, work), tree)
    entry = cache_folder(cache) / _key(work)
    index = _index_of(entry)
    if index is not None:
        return _open(source, entry / PIXELS, index, tree)
    entry.parent.mkdir(parents=True, exist_ok=True)
    with locked_file(_lock_of(entry)):
        index = _index_of(entry) or _build(entry, work)  # another process may have built it while we waited
        pixels = _open(source, entry / PIXELS, index, tree)
        if index["failed"]:
            # Another run may read what a disk did not give to this one. Open pixels stay, on Windows with their file.
            shutil.rmtree(entry, ignore_errors=True)
    return pixels


@dataclass(frozen=True)
class _Work:
    """What is to be decoded, and how."""

    source: Source
    tree: Tree
    preparation: Preparation
    workers: int | None
    progress: Progress
    photographs: PixelSet | None


def _build(entry: Path, work: _Work) -> Index:
    """Make a cache entry and return its index; its lock is ours."""
    for left in entry.parent.glob(f"{TEMPORARY_PREFIX}{entry.name}-*"):  # by a process that was killed
        shutil.rmtree(left)
    with atomic_directory(entry) as building:
        with (building / PIXELS).open("w+b") as file, with_filename(building / PIXELS):
            index = _decode_to(file, work)
            file.flush()
            os.fsync(file.fileno())
        write_json(building / INDEX, index)
    return index


def cache_folder(cache: str | None) -> Path:
    """Return the folder of cached pixels, which holds nothing else: below `cache`, or the platform's cache folder."""
    return Path(cache or platformdirs.user_cache_dir()) / "simgan-pixels"


def _lock_of(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.lock")


def _decode_to(file: BinaryIO, work: _Work) -> Index:
    """Append the pixels of every readable picture to `file`; return the index that describes it."""
    selection = work.source.select(work.tree)
    total = selection.count
    first: tuple[Readable, Pixels] | None = None
    digest = hashlib.sha256()
    # Links that lead nowhere and the like are listed again each time; what archives are like is kept with the pixels.
    unusable = selection.tree.unusable[len(work.tree.unusable) :]
    skipped = [(str(work.tree.root / name), reason) for name, reason in unusable]
    odd: dict[str, str] = {}
    surprises: dict[str, str] = {}  # those that the look at the folder missed
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
        raise DataError(f"none of {total} images can be read; the first is {bad}: {reason}")
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
        "failed": failed,  # to read an image that another attempt may read
    }


def _hidden_note(hidden: list[float], count: int, background: str) -> str:
    ways = {"keep": "the colours hidden there are trained on", "real": "photographs are laid behind them"}
    return (
        f"{len(hidden):,} of {count:,} images are transparent, in {np.mean(hidden):.0%} of their pixels: "
        f"{ways.get(background, f'laid on {background}')} (--background)"
    )


def _may_pass(error: UnreadableImage) -> bool:
    """Return whether an image could not be read for no fault of its own, as where a disk or a network failed.

    Permissions are part of a cache entry's key.
    """
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno not in (None, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Prepared:
    """An image in the form that the networks train on, C x H x W; `hidden` is the share of transparent pixels."""

    pixels: Pixels
    hidden: float


def decoded(
    batches: Iterable[Sequence[Readable]],
    preparation: Preparation,
    workers: int | None,
    selection: Selection | None = None,
    photographs: Pixels | None = None,
) -> Generator[tuple[Readable, Prepared | UnreadableImage], None, None]:
    """Yield each image of `batches` as prepared, or why it is not, decoded by as many threads.

    One that is no picture of its `selection` is an OddImage. Image i is laid on one of the `photographs`, each
    with another.
    """

    def read(number: int, path: Readable) -> Prepared | UnreadableImage:
        try:
            if selection is not None and (why := selection.oddity(path)):
                return OddImage(path, why)
            image = decode(path, curve=preparation.tone_curve)
            if selection is not None and (why := selection.oddity(path, image)):
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
    """Return a cache entry's index; None unless it is complete: people and tools delete single files."""
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
    # Copy-on-write, for torch warns of arrays that cannot be written to. Nothing writes: pages stay shared.
    pixels = np.memmap(place, dtype=index["dtype"], mode="c", shape=tuple(index["shape"]))
    skipped = tree.unusable_images() + [(path, reason) for path, reason in index["skipped"]]
    return PixelSet(source.folder, pixels, skipped, index["fingerprint"], index["notes"], index["files"])


def _key(work: _Work) -> str:
    """Return the name of a cache entry: another one when any file has another name, size or time, or more go unread.

    The time of its last change of any kind is one that unpacking an archive cannot set.
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
    return digest.hexdigest()[:_KEY_LENGTH]
