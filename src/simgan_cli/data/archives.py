"""List tar and zip archives of images, and read them in place.

Nothing is ever unpacked to a path: members are read into memory, and names are only compared or written into other
archives. An archive with links, special files, repeated names or names that lead out of it is refused.
"""

import gzip
import io
import os
import re
import stat
import struct
import tarfile
import tempfile
import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, NamedTuple, cast

from simgan_cli.data.patterns import ANY, Patterns
from simgan_cli.data.tree import N_FIRST_BYTES, Tree, is_hidden, is_picture, walk_order
from simgan_cli.errors import UnreadableArchive, UnreadableImage, is_shortage
from simgan_cli.files import with_filename
from simgan_cli.portability import read_at

# Well-packed renders expand tenfold, flat bitmaps a hundredfold; Deflate itself can reach 1,032.
MAX_EXPANSION = 200
MAX_TRUSTED_BYTES = 64_000_000  # an archive of any size may expand to this
MAX_TEMPORARY_BYTES = 64_000_000_000  # an expanded tar may take in the folder for temporary files
MAX_IMAGE_BYTES = 512_000_000  # of one image file, which is read into memory
MAX_HEADER_BYTES = 1_000_000  # of a tar's extended header, which is read into memory
ZIP_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
# Exceptions of the standard library's readers for damaged files.
DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, struct.error,
    EOFError, LookupError, ValueError, OverflowError, RecursionError, NotImplementedError,
)  # fmt: skip


class Entry(NamedTuple):
    """A file in an archive."""

    name: str  # its path, without "./" and the like
    number: int  # its place among all members
    offset: int  # of its content, in a tar
    size: int


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive, with the reading methods of a Path."""

    archive: "Archive"
    entry: Entry

    def __str__(self) -> str:
        return f"{self.archive.path}/{self.entry.name}"

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Return the content as a file; raises UnreadableImage."""
        return io.BytesIO(self.read_bytes())

    def read_bytes(self) -> bytes:
        """Return the content; raises UnreadableImage. May be called by several threads at once."""
        if self.entry.size > MAX_IMAGE_BYTES:
            raise UnreadableImage(self, f"{self.entry.size:,} bytes; at most {MAX_IMAGE_BYTES:,} are read")
        try:
            return self.archive.read(self.entry)
        except UnreadableArchive as error:
            raise UnreadableImage(self, error.reason) from error
        except OSError as error:
            if is_shortage(error):
                raise
            raise UnreadableImage(self, error.strerror or str(error)) from error
        except DAMAGE as error:
            raise UnreadableImage(self, f"damaged in its archive ({error})") from error


Readable = Path | Member


class Archive(ABC):
    """An archive and its members: `images` in the order of a tree of files, `others` in the archive's order.

    The file is opened when a member is first read, and stays open until `close`. Raises UnreadableArchive for an
    archive that is damaged, encrypted or unsafe to unpack.
    """

    def __init__(self, path: Path, patterns: Patterns = ANY) -> None:
        self.path = path
        self.foreign: Counter[str] = Counter()  # suffixes of images among `others` that we do not read
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        with self.reported():
            self._identity = _identity(path.stat())
            with closing(self):
                entries = list(self._entries())
                self.images = [entry for entry in entries if self._is_picture(entry, patterns)]
            self._refuse_twins(entries)
        images = {entry.number for entry in self.images}
        self.others = [entry for entry in entries if entry.number not in images]
        self.images.sort(key=lambda entry: walk_order(entry.name))

    def _is_picture(self, entry: Entry, patterns: Patterns) -> bool:
        if is_hidden(entry.name):
            return False
        return is_picture(entry.name, patterns, lambda: self._first_bytes(entry), self.foreign)

    def members(self, start: int = 0, stop: int | None = None) -> list[Member]:
        """Return the images from `start` to `stop`."""
        return [Member(self, entry) for entry in self.images[start:stop]]

    def by_name(self) -> dict[str, Member]:
        """Return all members, images and others, by their names."""
        return {entry.name: Member(self, entry) for entry in (*self.images, *self.others)}

    @abstractmethod
    def read(self, entry: Entry) -> bytes:
        """Return a member's content; raises UnreadableArchive, or one of DAMAGE."""

    def close(self) -> None:
        """Close the file, until a member is read again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    @abstractmethod
    def _first_bytes(self, entry: Entry) -> bytes:
        """Return the first bytes of a member, which show its kind."""

    @abstractmethod
    def _entries(self) -> Iterator[Entry]:
        """Yield the files among the members; raises UnreadableArchive for one that is unsafe."""

    def opened(self) -> BinaryIO:
        """Return the open file, a compressed tar expanded; raises UnreadableArchive where it changed since."""
        with self._lock:
            if self._file is None:
                file = self.path.open("rb")
                try:
                    if _identity(os.fstat(file.fileno())) != self._identity:
                        raise UnreadableArchive(self.path, "changed since it was listed; run again when it is finished")
                    self._file = self._prepared(file)
                except BaseException:
                    file.close()
                    raise
            return self._file

    @property
    def _max_expanded(self) -> int:
        return max(MAX_TRUSTED_BYTES, MAX_EXPANSION * self._identity[0])

    def _plain(self, name: str) -> str:
        """Return a member's name without "./" and the like; raises UnreadableArchive for one that leads outside."""
        parts = re.split(r"[/\\]", name)  # Windows unpackers take backslashes for separators
        if ".." in parts or not parts[0] or re.match("[A-Za-z]:", name):
            raise UnreadableArchive(self.path, f"its member {name!r} leads outside; pack relative names")
        return str(PurePosixPath(name))

    def _refuse_twins(self, entries: list[Entry]) -> None:
        names: set[str] = set()
        for entry in entries:
            if entry.name in names:
                raise UnreadableArchive(self.path, f"holds {entry.name!r} twice; pack it again with each name once")
            names.add(entry.name)

    def _prepared(self, file: BinaryIO) -> BinaryIO:
        return file

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Raise UnreadableArchive for the standard library's errors of damaged archives."""
        try:
            yield
        except DAMAGE as error:
            raise UnreadableArchive(self.path, f"damaged, or not the archive that its name claims ({error})") from error


class _BoundedHeader(tarfile.TarInfo):
    """A header whose extensions (long names, pax records) have a limit, since tarfile reads them into memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:  # tarfile's hook for subclasses
        if self.size > MAX_HEADER_BYTES and not (self.isreg() or self.isdir()):
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]


class TarArchive(Archive):
    """A tar file, plain or compressed by gzip; a compressed one is expanded into an unnamed temporary file."""

    @property
    def is_compressed(self) -> bool:
        """Return whether gzip compresses it."""
        return not self.path.name.lower().endswith(".tar")

    def read(self, entry: Entry) -> bytes:
        return self.read_at(entry.offset, entry.size)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return `size` bytes of the tar; raises EOFError where it has fewer."""
        content = read_at(self.opened(), size, offset)
        if len(content) != size:
            raise EOFError("it ends early")
        return content

    def _first_bytes(self, entry: Entry) -> bytes:
        return self.read_at(entry.offset, min(entry.size, N_FIRST_BYTES))

    def _entries(self) -> Iterator[Entry]:
        end = self.opened().seek(0, io.SEEK_END)
        for number, (member, _) in enumerate(self.headers()):
            name = self._plain(member.name)
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                what = (
                    "a sparse file" if member.isreg() else "a link" if member.issym() or member.islnk() else "no file"
                )
                raise UnreadableArchive(
                    self.path,
                    f"its member {member.name!r} is {what}; pack plain files (tar --dereference --hard-dereference)",
                )
            if member.offset_data + member.size > end:
                raise UnreadableArchive(
                    self.path, f"ends within the {member.size:,} bytes of its member {member.name!r}"
                )
            yield Entry(name, number, member.offset_data, member.size)

    def headers(self) -> Iterator[tuple[tarfile.TarInfo, int]]:
        """Yield each member and where it ends; raises tarfile.ReadError where something else follows."""
        file = self.opened()
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", tarinfo=_BoundedHeader) as tar:
            while (member := tar.next()) is not None:
                if member.size < 0 or tar.offset < member.offset_data:
                    raise tarfile.ReadError(f"{member.name!r} has an impossible size")
                yield member, tar.offset
                tar.members.clear()  # type: ignore[attr-defined]  # unused, and a kilobyte each
            file.seek(tar.offset)
            rest = file.read(tarfile.BLOCKSIZE)
            if len(rest.rstrip(b"\0")) or 0 < len(rest) < tarfile.BLOCKSIZE:
                raise tarfile.ReadError(f"no header at byte {tar.offset:,}")

    def _prepared(self, file: BinaryIO) -> BinaryIO:
        if not self.is_compressed:
            return file
        most = min(MAX_TEMPORARY_BYTES, self._max_expanded)
        expanded = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - `close` closes it
        try:
            with gzip.GzipFile(fileobj=file) as packed:
                while chunk := packed.read(1 << 20):
                    with with_filename(Path(tempfile.gettempdir())):  # it may be full
                        expanded.write(chunk)
                        expanded.flush()
                    if expanded.tell() > most:
                        raise UnreadableArchive(self.path, f"expands to more than {most:,} bytes; unpack it first")
        except BaseException:
            expanded.close()
            raise
        file.close()
        return expanded


class ZipArchive(Archive):
    """A zip file, its members stored or deflated."""

    _zip: zipfile.ZipFile

    def read(self, entry: Entry) -> bytes:
        archive = self.zipped()
        with archive.open(archive.infolist()[entry.number]) as member:
            content = member.read(entry.size + 1)  # one more than declared, which may be wrong
        if len(content) != entry.size:
            raise EOFError(f"it does not have its {entry.size:,} bytes")
        return content

    def _first_bytes(self, entry: Entry) -> bytes:
        archive = self.zipped()
        with archive.open(archive.infolist()[entry.number]) as member:
            return member.read(N_FIRST_BYTES)

    def zipped(self) -> zipfile.ZipFile:
        """Return the open zip file."""
        self.opened()
        return self._zip

    def _prepared(self, file: BinaryIO) -> BinaryIO:
        # ZipFile does not close an open file that it is given; its own count of readers is not thread-safe.
        self._zip = zipfile.ZipFile(file)
        return file

    def _entries(self) -> Iterator[Entry]:
        expanded = 0
        for number, member in enumerate(self.zipped().infolist()):
            name = self._plain(member.filename)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                what = "a link" if kind == stat.S_IFLNK else "no file"
                raise UnreadableArchive(self.path, f"its member {member.filename!r} is {what}; pack plain files")
            if member.flag_bits & 0x1:
                raise UnreadableArchive(self.path, f"encrypted ({member.filename!r}); unpack it first")
            if member.compress_type not in ZIP_METHODS:
                raise UnreadableArchive(
                    self.path, f"{member.filename!r} is compressed by method {member.compress_type}; pack it deflated"
                )
            if not 0 <= member.header_offset < self._identity[0]:
                raise zipfile.BadZipFile(f"{member.filename!r} lies outside it")
            expanded += member.file_size
            if expanded > self._max_expanded:
                raise UnreadableArchive(
                    self.path,
                    f"expands to more than {MAX_EXPANSION} times its {self._identity[0]:,} bytes; unpack it first",
                )
            if not member.is_dir():
                yield Entry(name, number, 0, member.file_size)


def open_archive(path: Path, patterns: Patterns = ANY) -> Archive:
    """Return a listed archive; raises UnreadableArchive."""
    try:
        return ZipArchive(path, patterns) if path.name.lower().endswith(".zip") else TarArchive(path, patterns)
    except OSError as error:
        if is_shortage(error):
            raise
        raise UnreadableArchive(path, error.strerror or str(error)) from error


def open_archives(tree: Tree, patterns: Patterns = ANY) -> tuple[Tree, list[Archive]]:
    """Return the tree with its archives sorted, and all that can be read.

    An archive without images joins `others`; one that cannot be read, or is unsafe, joins `unusable`.
    """
    archives, names, others, unusable = [], [], [], []
    for name in tree.archives:
        try:
            archive = open_archive(tree.root / name, patterns)
        except UnreadableArchive as error:
            unusable.append((name, error.reason))
            continue
        archives.append(archive)
        if archive.images:
            names.append(name)
        else:
            others.append(name)
            tree.foreign.update(archive.foreign)
    return (
        replace(tree, archives=names, others=[*tree.others, *others], unusable=[*tree.unusable, *unusable]),
        archives,
    )


def image_batches(tree: Tree, archives: Sequence[Archive], size: int) -> Iterator[Sequence[Readable]]:
    """Yield the images of a tree in order, up to `size` at a time; an archive is closed after its last batch."""
    for start in range(0, len(tree.images), size):
        yield [tree.root / name for name in tree.images[start : start + size]]
    for archive in archives:
        with closing(archive):
            for start in range(0, len(archive.images), size):
                yield archive.members(start, start + size)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
