"""Tar and zip archives of images: listed, read in place, and written again with other images.

Nothing is ever unpacked to a path: members are read into memory, and names are only compared and written into other
archives. An archive that holds anything but plain files and folders with names of their own below it is refused whole.
"""

import copy
import gzip
import io
import os
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Literal, NamedTuple, cast

from simgan_cli.data.patterns import ANY, Patterns
from simgan_cli.data.tree import FIRST_BYTES, Tree, is_hidden, is_picture, walk_order
from simgan_cli.errors import UnreadableArchive, UnreadableImage, is_shortage
from simgan_cli.files import atomic_file, with_filename

# Renders that are packed well expand tenfold; flat ones, as plain bitmaps, a hundredfold. Deflate itself ends at 1,032.
MOST_EXPANSION = 200
UNSUSPECTED = 64_000_000  # bytes that may come of an archive of any size
MOST_EXPANDED = 64_000_000_000  # bytes that a compressed tar may take in the folder for temporary files
MOST_IMAGE_BYTES = 512_000_000  # of one image file: it is read into memory
MOST_HEADER_BYTES = 1_000_000  # of a tar's extended header: likewise
UTF8_NAME, UNICODE_NAME = 0x800, 0x7075  # flag of a zip member, tag in its extra field
ZIP_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
# What the readers of the standard library raise for damaged files.
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
    """A file in an archive, to be read as a Path is."""

    archive: "Archive"
    entry: Entry

    def __str__(self) -> str:
        return f"{self.archive.path}/{self.entry.name}"

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Return the content as a file; raises UnreadableImage."""
        return io.BytesIO(self.read_bytes())

    def read_bytes(self) -> bytes:
        """Return the content; raises UnreadableImage. May be called by several threads at once."""
        if self.entry.size > MOST_IMAGE_BYTES:
            raise UnreadableImage(self, f"{self.entry.size:,} bytes; at most {MOST_IMAGE_BYTES:,} are read")
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
Results = Callable[[int], tuple[str, bytes] | None]  # new name and content of the member of this number; None: left out


class Archive(ABC):
    """An archive whose members are known: `images` in the order of a tree of files, `others` as they lie.

    The file is opened when a member is first read, and stays open until `close`. Raises UnreadableArchive for what is
    damaged, encrypted or not safe to pass on.
    """

    def __init__(self, path: Path, patterns: Patterns = ANY) -> None:
        self.path = path
        self.foreign: Counter[str] = Counter()  # suffixes of images among `others` that we do not read
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        with self._reported():
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
        """Return the images from `start` to `stop`, to be read."""
        return [Member(self, entry) for entry in self.images[start:stop]]

    @abstractmethod
    def read(self, entry: Entry) -> bytes:
        """Return a member's content; raises UnreadableArchive, or one of DAMAGE."""

    def rewrite(self, file: BinaryIO, results: Results, *, others: bool) -> None:
        """Write the archive to `file` with other images; with `others`, all other members as they are.

        The same input gives the same bytes. Raises UnreadableArchive where a member cannot be carried along, OSError
        where the result cannot be written.
        """
        with self._reported():
            self._rewrite(file, results, {entry.number for entry in self.images}, others=others)

    def close(self) -> None:
        """Close the file, until a member is read again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    @abstractmethod
    def _first_bytes(self, entry: Entry) -> bytes:
        """Return what tells the kind of a member."""

    @abstractmethod
    def _entries(self) -> Iterator[Entry]:
        """Yield the files among the members, once all that is known of each is found harmless."""

    @abstractmethod
    def _rewrite(self, file: BinaryIO, results: Results, images: set[int], *, others: bool) -> None: ...

    def _opened(self) -> BinaryIO:
        """Return the open file, for positioned reads."""
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

    def _plain(self, name: str) -> str:
        """Return a member's name without "./" and the like; raises UnreadableArchive for one that leads out of it."""
        parts = re.split(r"[/\\]", name)  # backslashes are separators to some who unpack it
        if ".." in parts or not parts[0] or re.match("[A-Za-z]:", name):
            raise UnreadableArchive(self.path, f"{name!r} in it leads out of it; pack relative names")
        return str(PurePosixPath(name))

    def _renamed(self, raw: str, name: str) -> str:
        return raw if self._plain(raw) == name else name

    def _refuse_twins(self, entries: list[Entry]) -> None:
        names: set[str] = set()
        for entry in entries:
            if entry.name in names:
                raise UnreadableArchive(self.path, f"holds {entry.name!r} twice, and only one could be kept")
            names.add(entry.name)

    def _prepared(self, file: BinaryIO) -> BinaryIO:
        return file

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except DAMAGE as error:
            raise UnreadableArchive(self.path, f"damaged, or not what its name says ({error})") from error


class _BoundedHeader(tarfile.TarInfo):
    """A header whose extensions (long names, pax records) cannot take more memory than any real one does."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:  # where tarfile lets subclasses in
        if self.size > MOST_HEADER_BYTES and not (self.isreg() or self.isdir()):
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]


class TarArchive(Archive):
    """A tar file, plain or compressed by gzip; the latter is expanded into an unnamed temporary file to be read."""

    def read(self, entry: Entry) -> bytes:
        content = os.pread(self._opened().fileno(), entry.size, entry.offset)
        if len(content) != entry.size:
            raise EOFError("it ends early")
        return content

    def _first_bytes(self, entry: Entry) -> bytes:
        return os.pread(self._opened().fileno(), min(entry.size, FIRST_BYTES), entry.offset)

    def _entries(self) -> Iterator[Entry]:
        end = self._opened().seek(0, io.SEEK_END)
        for number, (member, _) in enumerate(self._headers()):
            name = self._plain(member.name)
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                what = (
                    "a sparse file" if member.isreg() else "a link" if member.issym() or member.islnk() else "no file"
                )
                raise UnreadableArchive(
                    self.path,
                    f"{member.name!r} in it is {what}; pack plain files (tar --dereference --hard-dereference)",
                )
            if member.offset_data + member.size > end:
                raise UnreadableArchive(self.path, f"ends before the {member.size:,} bytes of {member.name!r} in it do")
            yield Entry(name, number, member.offset_data, member.size)

    def _headers(self) -> Iterator[tuple[tarfile.TarInfo, int]]:
        """Yield each member and where it ends; raises tarfile.ReadError where the headers end in something else."""
        file = self._opened()
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", tarinfo=_BoundedHeader) as tar:
            while (member := tar.next()) is not None:
                if member.size < 0 or tar.offset < member.offset_data:
                    raise tarfile.ReadError(f"{member.name!r} has an impossible size")
                yield member, tar.offset
                tar.members.clear()  # type: ignore[attr-defined]  # of no use here, and a kilobyte each
            file.seek(tar.offset)
            rest = file.read(tarfile.BLOCKSIZE)
            if len(rest.rstrip(b"\0")) or 0 < len(rest) < tarfile.BLOCKSIZE:
                raise tarfile.ReadError(f"no header at byte {tar.offset:,}")

    def _rewrite(self, file: BinaryIO, results: Results, images: set[int], *, others: bool) -> None:
        with self._compressing(file) as target:
            copied = 0  # everything up to here in this archive is dealt with
            for number, (member, end) in enumerate(self._headers()):
                if number not in images:
                    continue
                if others:
                    self._copy(copied, member.offset, target)
                result = results(number)
                if result is not None:
                    name, content = result
                    target.write(_tar_header(member, self._renamed(member.name, name), len(content)))
                    target.write(content)
                    target.write(bytes(-len(content) % tarfile.BLOCKSIZE))
                copied = end
            if others:
                self._copy(copied, self._opened().seek(0, io.SEEK_END), target)
            else:
                target.write(bytes(2 * tarfile.BLOCKSIZE))
            target.write(bytes(-target.tell() % tarfile.RECORDSIZE))

    def _copy(self, start: int, stop: int, target: IO[bytes]) -> None:
        while start < stop:
            chunk = os.pread(self._opened().fileno(), min(stop - start, 1 << 20), start)
            if not chunk:
                raise EOFError("it ends early")
            target.write(chunk)
            start += len(chunk)

    @property
    def _is_compressed(self) -> bool:
        return not self.path.name.lower().endswith(".tar")

    def _prepared(self, file: BinaryIO) -> BinaryIO:
        if not self._is_compressed:
            return file
        most = min(MOST_EXPANDED, max(UNSUSPECTED, MOST_EXPANSION * self._identity[0]))
        expanded = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - `close` closes it
        try:
            with gzip.GzipFile(fileobj=file) as packed:
                while chunk := packed.read(1 << 20):
                    with with_filename(Path(tempfile.gettempdir())):  # which may be full
                        expanded.write(chunk)
                        expanded.flush()
                    if expanded.tell() > most:
                        raise UnreadableArchive(self.path, f"expands to more than {most:,} bytes; unpack it first")
        except BaseException:
            expanded.close()
            raise
        file.close()
        return expanded

    @contextmanager
    def _compressing(self, file: BinaryIO) -> Iterator[IO[bytes]]:
        if self._is_compressed:
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as target:  # no name, no time of day
                yield cast("IO[bytes]", target)
        else:
            yield file


class ZipArchive(Archive):
    """A zip file, its members stored or deflated. Names, times, modes and comments are kept, extra fields are not."""

    _zip: zipfile.ZipFile

    def read(self, entry: Entry) -> bytes:
        archive = self._zipped()
        with archive.open(archive.infolist()[entry.number]) as member:
            content = member.read(entry.size + 1)  # what it declares may be a lie
        if len(content) != entry.size:
            raise EOFError(f"it does not have its {entry.size:,} bytes")
        return content

    def _first_bytes(self, entry: Entry) -> bytes:
        archive = self._zipped()
        with archive.open(archive.infolist()[entry.number]) as member:
            return member.read(FIRST_BYTES)

    def _zipped(self) -> zipfile.ZipFile:
        self._opened()
        return self._zip

    def _prepared(self, file: BinaryIO) -> BinaryIO:
        # Handed an open file, ZipFile leaves it to us to close: its own count of readers is not one of threads.
        self._zip = zipfile.ZipFile(file)
        return file

    def _entries(self) -> Iterator[Entry]:
        expanded = 0
        for number, member in enumerate(self._zipped().infolist()):
            name = self._plain(member.filename)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                what = "a link" if kind == stat.S_IFLNK else "no file"
                raise UnreadableArchive(self.path, f"{member.filename!r} in it is {what}; pack plain files")
            if member.flag_bits & 0x1:
                raise UnreadableArchive(self.path, f"encrypted ({member.filename!r}); unpack it, or pack it without")
            if member.compress_type not in ZIP_METHODS:
                raise UnreadableArchive(
                    self.path, f"{member.filename!r} is compressed by method {member.compress_type}; pack it deflated"
                )
            if not 0 <= member.header_offset < self._identity[0]:
                raise zipfile.BadZipFile(f"{member.filename!r} lies outside it")
            expanded += member.file_size
            if expanded > max(UNSUSPECTED, MOST_EXPANSION * self._identity[0]):
                raise UnreadableArchive(
                    self.path,
                    f"expands to more than {MOST_EXPANSION} times its {self._identity[0]:,} bytes; unpack it first",
                )
            if not member.is_dir():
                yield Entry(name, number, 0, member.file_size)

    def _rewrite(self, file: BinaryIO, results: Results, images: set[int], *, others: bool) -> None:
        source = self._zipped()
        with zipfile.ZipFile(file, "w") as target:
            target.comment = source.comment
            for number, member in enumerate(source.infolist()):
                if number in images:
                    result = results(number)
                    if result is not None:
                        name, content = result
                        target.writestr(_zip_header(member, self._renamed(member.filename, name)), content)
                elif others:
                    with (
                        source.open(member) as original,
                        target.open(_zip_header(member, member.filename), "w") as written,
                    ):
                        shutil.copyfileobj(original, written)


class Renewal:
    """An archive being written again: takes results in any order, spooled on disk, until the last one is there."""

    def __init__(self, archive: Archive, output: Path, *, others: bool) -> None:
        self.archive, self.output = archive, output
        self._others = others
        self._missing = len(archive.images)
        self._spool: BinaryIO | None = None
        self._places: dict[int, tuple[str, int, int]] = {}  # by number: name, offset and size in the spool
        self._earlier: dict[int, tuple[str, Member]] = {}
        self._lock = threading.Lock()

    def put(self, number: int, name: str, content: "bytes | Member | None") -> bool:
        """Keep what becomes of an image (a member of an earlier output, which is copied; None: nothing).

        Say whether it was the last. Raises OSError.
        """
        with self._lock:
            if isinstance(content, Member):
                self._earlier[number] = name, content
            elif content is not None:
                if self._spool is None:
                    self._spool = cast("BinaryIO", tempfile.TemporaryFile(dir=self.output.parent))  # noqa: SIM115
                self._places[number] = name, self._spool.tell(), len(content)
                self._spool.write(content)
            self._missing -= 1
            return not self._missing

    def write(self) -> None:
        """Make the output, whole or not at all. Raises UnreadableArchive, UnreadableImage and OSError."""
        if self._spool is not None:
            self._spool.flush()
        with atomic_file(self.output, synced=False) as file:
            self.archive.rewrite(file, self._result, others=self._others)

    def close(self) -> None:
        """Give the files back."""
        self.archive.close()
        if self._spool is not None:
            self._spool.close()

    def _result(self, number: int) -> tuple[str, bytes] | None:
        if number in self._earlier:
            name, member = self._earlier[number]
            return name, member.read_bytes()
        if self._spool is None or number not in self._places:
            return None
        name, offset, size = self._places[number]
        return name, os.pread(self._spool.fileno(), size, offset)


def open_archive(path: Path, patterns: Patterns = ANY) -> Archive:
    """List an archive; raises UnreadableArchive."""
    try:
        return ZipArchive(path, patterns) if path.name.lower().endswith(".zip") else TarArchive(path, patterns)
    except OSError as error:
        if is_shortage(error):
            raise
        raise UnreadableArchive(path, error.strerror or str(error)) from error


def open_archives(tree: Tree, patterns: Patterns = ANY) -> tuple[Tree, list[Archive]]:
    """Return the archives of a tree that hold images, and the tree with the rest in its place.

    Archives without images are files like others; those that cannot be read, or are not safe, are unusable.
    """
    archives, others, unusable = [], [], []
    for name in tree.archives:
        try:
            archive = open_archive(tree.root / name, patterns)
        except UnreadableArchive as error:
            unusable.append((name, error.reason))
            continue
        if archive.images:
            archives.append(archive)
        else:
            others.append(name)
            tree.foreign.update(archive.foreign)
    names = [str(archive.path.relative_to(tree.root)) for archive in archives]
    return (
        replace(tree, archives=names, others=[*tree.others, *others], unusable=[*tree.unusable, *unusable]),
        archives,
    )


def image_batches(tree: Tree, archives: Sequence[Archive], size: int) -> Iterator[Sequence[Readable]]:
    """Yield the images of a tree in order, up to `size` at a time; archives are open while their batch is in use."""
    for start in range(0, len(tree.images), size):
        yield [tree.root / name for name in tree.images[start : start + size]]
    for archive in archives:
        with closing(archive):
            for start in range(0, len(archive.images), size):
                yield archive.members(start, start + size)


def _unicode_names(extra: bytes) -> Iterator[bytes]:
    """Yield those fields of a zip member's extra that repeat its name in UTF-8, as Info-ZIP writes them."""
    while len(extra) >= 4:
        tag, size = struct.unpack("<HH", extra[:4])
        if tag == UNICODE_NAME:
            yield extra[: 4 + size]
        extra = extra[4 + size :]


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _tar_header(member: tarfile.TarInfo, name: str, size: int) -> bytes:
    """Return a member's header blocks for another name and size."""
    header = copy.copy(member)
    header.name, header.size, header.type = name, size, tarfile.REGTYPE
    header.pax_headers = {key: value for key, value in member.pax_headers.items() if key not in {"path", "size"}}
    # Any bytes make a name in either.
    return header.tobuf(tarfile.PAX_FORMAT if header.pax_headers else tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


class _ZipHeader(zipfile.ZipInfo):
    """A header whose name is written in the bytes given; `zipfile` turns every name that is not ASCII into UTF-8."""

    raw_name: tuple[bytes, int]  # and its flag

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 - where zipfile lets subclasses in
        return self.raw_name[0], self.flag_bits | self.raw_name[1]


def _zip_header(member: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    header = _ZipHeader(name, member.date_time)
    is_utf8 = member.flag_bits & UTF8_NAME
    raw = member.orig_filename if name == member.filename else name
    header.raw_name = raw.encode("utf-8" if is_utf8 else "cp437"), is_utf8
    header.extra = b"".join(_unicode_names(member.extra)) if name == member.filename else b""
    for kept in ("compress_type", "comment", "create_system", "external_attr", "internal_attr", "file_size"):
        setattr(header, kept, getattr(member, kept))
    return header
