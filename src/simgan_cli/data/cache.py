"""A set of images as one memory-mapped array of integers, decoded once and shared by later runs."""

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import platformdirs

from simgan_cli.data.archives import Archive, Readable, image_batches, look_inside
from simgan_cli.data.files import (
    TEMPORARY_PREFIX,
    atomic_directory,
    locked_file,
    naming,
    parse_json,
    remove_temporaries,
    write_json,
)
from simgan_cli.data.images import Pixels, Preparation, read_pixels
from simgan_cli.data.tree import Tree, holds_images, read_tree
from simgan_cli.errors import DataError, UnreadableImage

FORMAT = 2  # of the cache; raise it when the same files would give other pixels
CHUNK = 1024  # images after which progress is told
AHEAD = 4  # decoded images that wait for the writer, for each thread: bounds memory
Progress = Callable[[int, int], None]  # images done, images in all
Index = dict[str, Any]  # what describes a cache entry's pixels
PIXELS, INDEX = "pixels.bin", "index.json"  # the files of a cache entry
_KEY_LENGTH = 32  # hexadecimal digits
_ENTRY = re.compile(rf"({re.escape(TEMPORARY_PREFIX)})?[0-9a-f]{{{_KEY_LENGTH}}}(-\w+(-retired)?)?")


@dataclass(frozen=True)
class PixelSet:
    """The images of one folder or archive: `pixels` is N x C x H x W, uint8 or uint16, in the order of their names."""

    folder: Path
    pixels: Pixels
    skipped: list[tuple[str, str]]  # path and reason of each unreadable file
    fingerprint: str  # SHA-256 of shape and pixels: the same for the same images anywhere

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width


def open_pixels(
    folder: Path, preparation: Preparation, cache: str | None, workers: int | None, progress: Progress
) -> PixelSet:
    """Return the images below `folder`, which may be an archive: from the cache if it holds them, else decoded now.

    `cache` is a folder, "off", or None for the platform's. Unreadable images are left out and listed.
    Raises DataError for a folder that cannot be read, holds no readable image, or mixes sizes, channels or depths.
    """
    tree = find_images(folder)
    if cache == "off":
        # Unnamed: gone with the process, even a killed one.
        with tempfile.TemporaryFile() as file, naming(Path(tempfile.gettempdir())):
            return _open(folder, file, _decode_to(file, tree, preparation, workers, progress), tree)
    entry = cache_folder(cache) / _key(folder, tree, preparation)
    index = _index_of(entry)
    if index is None or index["again"]:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with locked_file(_lock_of(entry)):
            made = _index_of(entry)  # by another process, such as another rank, while we waited
            if made is None or made == index:
                made = _build(entry, tree, preparation, workers, progress)
            return _open(folder, entry / PIXELS, made, tree)  # before another attempt takes its place
    return _open(folder, entry / PIXELS, index, tree)


def _build(entry: Path, tree: Tree, preparation: Preparation, workers: int | None, progress: Progress) -> Index:
    """Make a cache entry and return its index; its lock is ours."""
    remove_temporaries(entry.parent, of=entry)
    with atomic_directory(entry) as building:
        with (building / PIXELS).open("w+b") as file, naming(building / PIXELS):
            index = _decode_to(file, tree, preparation, workers, progress)
            file.flush()
            os.fsync(file.fileno())
        write_json(building / INDEX, index)
    return index


def find_images(folder: Path) -> Tree:
    """Return the files below `folder`; raises DataError where none is an image or an archive, or there is no access."""
    try:
        tree = read_tree(folder)
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    if not tree.images and not tree.archives:
        raise _no_image(folder)
    return tree


def find_packed_images(tree: Tree) -> tuple[Tree, list[Archive], int]:
    """Look into the archives of a tree: return what `look_inside` does, and the number of images in all.

    Raises DataError where there is none.
    """
    inside, archives = look_inside(tree)
    count = len(inside.images) + sum(len(archive.images) for archive in archives)
    if not count:
        raise _no_image(tree.root / tree.archives[0] if len(tree.archives) == 1 else tree.root, inside.unusable)
    return inside, archives, count


def cache_folder(cache: str | None) -> Path:
    """Return the folder that holds cached pixels."""
    return Path(cache) if cache else Path(platformdirs.user_cache_dir("simgan", appauthor=False)) / "pixels"


def cache_entries(cache: str | None) -> list[Path]:
    """Return what a cache holds, also what a killed process left half built; [] where there is none."""
    folder = cache_folder(cache)
    return sorted(filter(_is_entry, folder.iterdir())) if folder.is_dir() else []


def _is_entry(path: Path) -> bool:
    """Say whether a folder is one of ours, by its name and what is in it: whoever chose the cache may keep others."""
    if not _ENTRY.fullmatch(path.name):
        return False
    try:
        return all(file.name in (PIXELS, INDEX) or file.name.startswith(TEMPORARY_PREFIX) for file in path.iterdir())
    except OSError:  # another process has just deleted it; a file; somebody else's
        return False


def cache_bytes(cache: str | None) -> int:
    """Return the bytes of a cache's files."""
    files = (file for entry in cache_entries(cache) for file in entry.glob("*"))
    return sum(status.st_size for file in files if (status := _status(file)) is not None)


def clear_cache(cache: str | None) -> tuple[int, int]:
    """Delete every entry but those that another process builds right now; return how many went and their bytes.

    Trainings that go on keep the pixels they have open. Files of other names stay. Raises OSError.
    """
    entries, before = cache_entries(cache), cache_bytes(cache)
    for entry in entries:
        built = entry.parent / entry.name.removeprefix(TEMPORARY_PREFIX)[:_KEY_LENGTH]
        with suppress(BlockingIOError, FileNotFoundError), locked_file(_lock_of(built), wait=False):
            shutil.rmtree(entry)
    return len(entries) - len(cache_entries(cache)), before - cache_bytes(cache)


def _lock_of(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.lock")


def _status(path: Path) -> os.stat_result | None:
    """Return a file's status, None where another process has just deleted it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _decode_to(file: BinaryIO, tree: Tree, preparation: Preparation, workers: int | None, progress: Progress) -> Index:
    """Append the pixels of every readable image to `file`; return the index that describes it."""
    inside, archives, total = find_packed_images(tree)
    first: tuple[Readable, Pixels] | None = None
    digest = hashlib.sha256()
    # Links that lead nowhere and the like are found anew each time; what archives are like is kept with the pixels.
    skipped = [(str(tree.root / name), reason) for name, reason in inside.unusable[len(tree.unusable) :]]
    count, again = 0, False
    for done, (path, pixels) in enumerate(decoded(image_batches(tree, archives, CHUNK), preparation, workers), start=1):
        if isinstance(pixels, UnreadableImage):
            skipped.append((str(path), pixels.reason))
            again = again or _may_pass(pixels)
        else:
            first = first or (path, pixels)
            _check_alike(first, (path, pixels))
            data = pixels.tobytes()
            file.write(data)
            digest.update(data)
            count += 1
        if done % CHUNK == 0 or done == total:
            progress(done, total)
    if first is None:
        bad, reason = skipped[0]
        raise DataError(f"none of {total} images can be read; the first is {bad}: {reason}")
    shape = [count, *first[1].shape]
    digest.update(json.dumps([shape, first[1].dtype.name]).encode())
    return {
        "shape": shape,
        "dtype": first[1].dtype.name,
        "skipped": skipped,
        "fingerprint": digest.hexdigest(),
        "again": secrets.token_hex(8) if again else "",  # which attempt, where another may read more
    }


def _may_pass(error: UnreadableImage) -> bool:
    """Say whether an image could not be read for no fault of its own, as where a disk or a network failed.

    Permissions are part of a cache entry's key.
    """
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno not in (None, errno.EACCES, errno.EPERM)


def decoded(
    batches: Iterable[Sequence[Readable]], preparation: Preparation, workers: int | None
) -> Generator[tuple[Readable, Pixels | UnreadableImage], None, None]:
    """Yield each image of `batches` with its pixels, or why it has none, decoded by as many threads."""

    def read(path: Readable) -> Pixels | UnreadableImage:
        try:
            return read_pixels(path, preparation)
        except UnreadableImage as error:
            return error

    waiting: deque[tuple[Readable, Future[Pixels | UnreadableImage]]] = deque()

    def all_but(left: int) -> Iterator[tuple[Readable, Pixels | UnreadableImage]]:
        while len(waiting) > left:
            path, future = waiting.popleft()
            yield path, future.result()

    threads = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:  # Pillow decodes without holding the interpreter
        for batch in batches:
            for path in batch:
                waiting.append((path, pool.submit(read, path)))
                yield from all_but(AHEAD * threads)
            yield from all_but(0)


def _check_alike(first: tuple[Readable, Pixels], other: tuple[Readable, Pixels]) -> None:
    (path_a, a), (path_b, b) = first, other
    found = f"{path_a} is {describe(a.shape, a.dtype)}, {path_b} is {describe(b.shape, b.dtype)}"
    if a.shape[0] != b.shape[0]:
        raise DataError(f"mixed channels: {found}; pass --channels 1 for grey or --channels 3 for colour")
    if a.shape != b.shape:
        raise DataError(f"mixed sizes: {found}; pass --size HEIGHTxWIDTH, and --fit for how")
    if a.dtype != b.dtype:
        raise DataError(f"mixed bit depths: {found}; convert them to one depth")


def describe(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """Return words for pixels of shape C x H x W: "35x55 grey, 8 bits"."""
    channels, height, width = shape
    return f"{height}x{width} {'grey' if channels == 1 else 'colour'}, {8 * dtype.itemsize} bits"


def _index_of(entry: Path) -> Index | None:
    """Return a cache entry's index; None unless it is there in full: people and tools delete single files."""
    try:
        index: Index = parse_json((entry / INDEX).read_bytes())
        size = math.prod(index["shape"]) * np.dtype(index["dtype"]).itemsize
        whole = {"again", "skipped", "fingerprint"} <= index.keys() and (entry / PIXELS).stat().st_size == size
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return index if whole else None


def _no_image(folder: Path, unusable: Sequence[tuple[str, str]] = ()) -> DataError:
    broken = "".join(f"; {name}: {reason}" for name, reason in unusable[:1])
    return DataError(
        f"{folder}: no image among its files; looked for .png, .jpg, .tif, .bmp, .webp, .pgm and .ppm in it and "
        f"below, in archives (.tar, .tar.gz, .zip) too{broken}"
    )


def _open(folder: Path, source: Path | BinaryIO, index: Index, tree: Tree) -> PixelSet:
    # Copy-on-write, so that torch may wrap it without a warning; nobody writes, and pages stay shared.
    pixels = np.memmap(source, dtype=index["dtype"], mode="c", shape=tuple(index["shape"]))
    unusable = [(str(tree.root / name), reason) for name, reason in tree.unusable if holds_images(name)]
    skipped = unusable + [(path, reason) for path, reason in index["skipped"]]
    return PixelSet(folder, pixels, skipped, index["fingerprint"])


def _key(folder: Path, tree: Tree, preparation: Preparation) -> str:
    """Return the name of a cache entry: another one when any file has another name, size or time.

    The time of its last change of any kind is one that unpacking an archive cannot set.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, str(folder.resolve()), asdict(preparation)]).encode())
    for name in chain(tree.images, tree.archives):
        status = os.stat(f"{tree.root}/{name}")  # noqa: PTH116 - a million Paths take longer than a million stats
        digest.update(
            f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\n".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()[:_KEY_LENGTH]
