"""The results of a refining job: single files, or archives, written once all their members are there."""

import copy
import gzip
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from simgan_cli.data.archives import Archive, Entry, Member, Readable, TarArchive, ZipArchive, open_archive
from simgan_cli.engine.refining.copies import Copies
from simgan_cli.engine.refining.outcome import Outcome
from simgan_cli.engine.refining.plan import Plan, RefineTask
from simgan_cli.errors import UnreadableArchive, UnreadableImage
from simgan_cli.files import atomic_file, atomic_files, sha256_of, sync_directory
from simgan_cli.portability import read_at

IMAGE_DATA = re.compile(rb'"imageData"\s*:\s*"')
ARRAYS = re.compile(r"(\.(npz|h5|hdf5|tfrecords?|record|lmdb|mdb|parquet|arrow))(-\d+-of-\d+)?$", re.IGNORECASE)
CHECKSUMS = re.compile(r"((md5|sha\d+|b2)(sums?)?|checksums?)(\.txt)?$", re.IGNORECASE)
ZIP_UTF8 = 0x800  # the flag of a name in UTF-8

# Number of a member -> its new names and contents, [] to leave it out, None to keep it as it is.
Results = Callable[[int], list[tuple[str, bytes]] | None]


class Outputs:
    """The results of one process's part of a job; its methods may be called by several threads at once."""

    def __init__(self, plan: Plan, *, others: bool, skip_existing: bool) -> None:
        self._plan, self._others, self._skip_existing = plan, others, skip_existing
        self._folders: set[Path] = set()  # written to
        self._archives: dict[Path, _OpenArchive] = {}  # in hand, by output
        self._lock = threading.Lock()

    @property
    def archives_in_hand(self) -> int:
        """Archives that are read or written."""
        return len(self._archives)

    @property
    def waiting(self) -> int:
        """Images that are done but whose archives are not."""
        with self._lock:
            return sum(len(archive.outcomes) for archive in self._archives.values())

    def finished_result(self, task: RefineTask) -> Readable | None:
        """Return an earlier result that stays: a file, or a member of a complete archive; else None."""
        if isinstance(task.source, Member):
            return self._in_hand(task, task.source.archive).finished.get(task.name)
        return task.output if self._skip_existing and task.output.exists() else None

    def keep(self, results: Iterable[tuple[Outcome, bytes | None]]) -> list[Outcome]:
        """Keep results of images (None: no file); return the outcomes that are final, members with their archive."""
        certain, packed = [], []
        with atomic_files() as write:
            for outcome, content in results:
                if isinstance(outcome.task.source, Member):
                    packed.append((outcome, content))
                    continue
                if content is not None:
                    self.make_folder(outcome.task.output.parent)
                    write(outcome.task.output, content)
                certain.append(outcome)
        for outcome, content in packed:
            certain += self._keep_member(outcome, cast("Member", outcome.task.source), content)
        return certain

    def _keep_member(self, outcome: Outcome, member: Member, content: bytes | None) -> list[Outcome]:
        task = outcome.task
        archive = self._in_hand(task, member.archive)
        certain = []
        if outcome.status == "failed":
            certain.append(outcome)
        else:
            archive.outcomes.append(outcome)
        if archive.put(task, member.entry.number, content):
            certain += self._finish(archive)
        return certain

    def make_folder(self, folder: Path) -> None:
        """Make a folder for results, unless it is there."""
        if folder not in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)

    def sync(self) -> None:
        """Make all results survive a power cut, once for all files of a folder."""
        for folder in self._folders:
            sync_directory(folder)

    def close(self) -> None:
        """Close the files of archives that were not finished; nothing of them is written."""
        for archive in self._archives.values():
            archive.close()

    def _in_hand(self, task: RefineTask, source: Archive) -> "_OpenArchive":
        """Return the archive in hand for a task; start it where the task is its first."""
        with self._lock:
            if task.file not in self._archives:
                self.make_folder(task.file.parent)
                copies = self._plan.packed_copies(task.origin, source)
                finished = self._finished(task, source, copies)
                self._archives[task.file] = _OpenArchive(source, task.file, copies, finished)
            return self._archives[task.file]

    def _finished(self, task: RefineTask, source: Archive, copies: Copies) -> dict[str, Member]:
        """Return the members of an earlier result of `source`, by name; {} unless it may stay and is complete."""
        if not self._skip_existing:
            return {}
        try:
            members = open_archive(task.file).by_name()
        except UnreadableArchive:
            return {}  # missing, or not ours: this program leaves no half archives
        oddity = task.origin.selection.oddity
        odd = {entry.name for entry in source.images if oddity(Member(source, entry))}
        wanted = {name for entry in source.images if entry.name not in odd for name in copies.images(entry.name)}
        if self._others:
            wanted |= odd | {name for entry in source.others for name in copies.others(entry.name)}
        return members if wanted <= members.keys() else {}

    def _finish(self, archive: "_OpenArchive") -> list[Outcome]:
        """Write an archive whose images are all there; return the outcomes of its images."""
        outcomes, source = archive.outcomes, archive.source
        try:
            if not archive.finished:
                archive.write(others=self._others)
            if outcomes and self._others:
                others = [(entry.name, partial(source.read, entry)) for entry in source.others]
                outcomes[-1] = replace(
                    outcomes[-1],
                    labels=sum(len(archive.copies.others(name)) for name, _ in others),
                    sidecars=sidecar_kinds(others),
                    outdated=tuple(
                        f"{source.path}/{name}" for name, read in others if archive.copies.is_outdated(name, read)
                    ),
                )
        except (UnreadableArchive, UnreadableImage) as error:
            outcomes = [Outcome(outcome.task, "failed", error.reason) for outcome in outcomes]
        finally:
            archive.close()
        with self._lock:
            del self._archives[archive.output]
        return outcomes


class _OpenArchive:
    """An archive in hand: takes results in any order, spooled on disk, until the last one is there."""

    def __init__(self, source: Archive, output: Path, copies: Copies, finished: dict[str, Member]) -> None:
        self.source, self.output, self.copies = source, output, copies
        self.finished = finished  # earlier results by name; {} where this process writes the archive
        self.outcomes: list[Outcome] = []
        self._missing = copies.count * len(source.images)
        self._spool: BinaryIO | None = None
        # by number: which look, name, offset and size in the spool
        self._places: dict[int, list[tuple[int, str, int, int]]] = {entry.number: [] for entry in source.images}
        self._labels: dict[int, Entry] = {}  # members to carry along, by number
        self._lock = threading.Lock()
        self._files = ExitStack()
        for archive in {source, *(member.archive for member in finished.values())}:
            self._files.callback(archive.close)

    def put(self, task: RefineTask, number: int, content: bytes | None) -> bool:
        """Keep the result of an image (None: no file); return whether it was the last. Raises OSError."""
        with self._lock:
            if content is not None:
                if self._spool is None:
                    spool = tempfile.TemporaryFile(dir=self.output.parent)  # noqa: SIM115 - `close` closes it
                    self._spool = cast("BinaryIO", self._files.enter_context(spool))
                self._places[number].append((task.copy or 0, task.name, self._spool.tell(), len(content)))
                self._spool.write(content)
            self._missing -= self.copies.count if task.copy is None else 1  # None stands for all looks
            return not self._missing

    def write(self, *, others: bool) -> None:
        """Write the output, complete or not at all. Raises UnreadableArchive and OSError."""
        if self._spool is not None:
            self._spool.flush()
        self._labels = {entry.number: entry for entry in self.source.others} if others else {}
        with atomic_file(self.output, synced=False) as file:
            write_archive(self.source, file, self._result, others=others)

    def close(self) -> None:
        """Close all files."""
        self._files.close()

    def _result(self, number: int) -> list[tuple[str, bytes]] | None:
        if number not in self._places:
            return self._label_files(self._labels[number]) if number in self._labels else None
        spool = cast("BinaryIO", self._spool)
        return [(name, read_at(spool, size, offset)) for _, name, offset, size in sorted(self._places[number])]

    def _label_files(self, entry: Entry) -> list[tuple[str, bytes]] | None:
        names, is_edited = self.copies.others(entry.name), self.copies.is_edited(entry.name)
        if names == [entry.name] and not is_edited:
            return None
        content = self.source.read(entry)
        return [(name, self.copies.edited(entry.name, content) if is_edited else content) for name in names]


def write_archive(source: Archive, file: BinaryIO, results: Results, *, others: bool) -> None:
    """Write an archive like `source` to `file`, with other images; with `others`, all other members as they are.

    The same input gives the same bytes; extra fields of a zip's members are lost. Raises UnreadableArchive where a
    member cannot be copied, OSError where the result cannot be written.
    """
    with source.reported():
        if isinstance(source, ZipArchive):
            _write_zip(source, file, results, others=others)
        elif isinstance(source, TarArchive) and source.is_compressed:
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as target:  # no name, no time of day
                _write_tar(source, cast("IO[bytes]", target), results, others=others)
        elif isinstance(source, TarArchive):
            _write_tar(source, file, results, others=others)


def _write_tar(source: TarArchive, target: IO[bytes], results: Results, *, others: bool) -> None:
    copied = 0  # offset in the source up to which all is written
    for number, (member, end) in enumerate(source.headers()):
        made = results(number)
        if made is None:
            continue
        if others:
            _copy(source, copied, member.offset, target)
        for name, content in made:
            target.write(_tar_header(member, _raw_name(member.name, name), len(content)))
            target.write(content)
            target.write(bytes(-len(content) % tarfile.BLOCKSIZE))
        copied = end
    if others:
        _copy(source, copied, source.opened().seek(0, os.SEEK_END), target)
    else:
        target.write(bytes(2 * tarfile.BLOCKSIZE))
    target.write(bytes(-target.tell() % tarfile.RECORDSIZE))


def _copy(source: TarArchive, start: int, stop: int, target: IO[bytes]) -> None:
    for offset in range(start, stop, 1 << 20):
        target.write(source.read_at(offset, min(1 << 20, stop - offset)))


def _tar_header(member: tarfile.TarInfo, name: str, size: int) -> bytes:
    """Return a member's header blocks for another name and size."""
    header = copy.copy(member)
    header.name, header.size, header.type = name, size, tarfile.REGTYPE
    header.pax_headers = {key: value for key, value in member.pax_headers.items() if key not in {"path", "size"}}
    # Both formats take any bytes as a name.
    return header.tobuf(tarfile.PAX_FORMAT if header.pax_headers else tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _write_zip(source: ZipArchive, file: BinaryIO, results: Results, *, others: bool) -> None:
    zipped = source.zipped()
    with zipfile.ZipFile(file, "w") as target:
        target.comment = zipped.comment
        for number, member in enumerate(zipped.infolist()):
            made = results(number)
            if made is not None:
                for name, content in made:
                    target.writestr(_zip_header(member, _raw_name(member.filename, name)), content)
            elif others:
                header = _zip_header(member, member.filename)
                with zipped.open(member) as original, target.open(header, "w") as written:
                    shutil.copyfileobj(original, written)


class _OldHeader(zipfile.ZipInfo):
    """A header of a name that is not UTF-8: bytes of any encoding, which zipfile reads as code page 437."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 - zipfile's own name
        try:
            return self.filename.encode("cp437"), self.flag_bits
        except UnicodeEncodeError:
            return super()._encodeFilenameFlags()  # type: ignore[misc,no-any-return]


def _zip_header(member: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    header = (zipfile.ZipInfo if member.flag_bits & ZIP_UTF8 else _OldHeader)(name, member.date_time)
    for kept in ("compress_type", "comment", "create_system", "external_attr", "internal_attr", "file_size"):
        setattr(header, kept, getattr(member, kept))
    return header


def _raw_name(raw: str, name: str) -> str:
    """Return a member's name as the source spells it, such as "./1.png", unless it is another name now."""
    return raw if str(PurePosixPath(raw)) == name else name


def sidecar_kinds(files: Iterable[tuple[str, Callable[[], bytes]]]) -> tuple[str, ...]:
    """Return the kinds of files that hold pixels or checksums of renders, which refining does not update.

    `files` are names and functions that read them.
    """
    kinds = []
    for name, content in files:
        if name.lower().endswith(".json"):
            kinds += ["JSON with labelme's imageData"] if IMAGE_DATA.search(content()) else []
        elif match := ARRAYS.search(name):
            kinds.append(match[1].lower())
        elif CHECKSUMS.search(name):
            kinds.append("file of checksums")
    return tuple(kinds)


def sha256_of_content(source: Readable) -> str:
    """Return the hexadecimal SHA-256 of a file or member. Raises OSError and UnreadableImage."""
    return sha256_of(source) if isinstance(source, Path) else hashlib.sha256(source.read_bytes()).hexdigest()
