"""Where results of a refining job go: files of their own, or archives that are written once all of theirs are there."""

import hashlib
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from simgan_cli.data.archives import Archive, Member, Readable, Renewal, open_archive
from simgan_cli.engine.refining.plan import Job, output_name
from simgan_cli.errors import UnreadableArchive, UnreadableImage
from simgan_cli.files import sha256_of, sync_directory, write_atomic
from simgan_cli.settings.refine import FormatName

IMAGE_DATA = re.compile(rb'"imageData"\s*:\s*"')
ARRAYS = re.compile(r"\.(npz|h5|hdf5|tfrecord|lmdb|mdb|parquet)$", re.IGNORECASE)
CHECKSUMS = re.compile(r"(md5|sha\d+)(sums?)?(\.txt)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Outcome:
    """What became of one image, or of a file beside them."""

    job: Job
    status: str  # refined, unchanged, skipped, carried (along), left out or failed
    reason: str = ""
    source_sha256: str | None = None
    output_sha256: str | None = None
    converted: str | None = None
    lossy: bool = False
    lost: tuple[str, ...] = ()  # what of the source's file the result does not have
    sidecars: tuple[str, ...] = ()  # what among the files carried along holds the render's own pixels
    labels: int = 0  # files carried along: this one, or the members of the archive of which this image was the last


class _OpenArchive:
    """An archive in hand: what is to be written, or was by an earlier call, and the images that wait for that."""

    def __init__(self, job: Job, renewal: Renewal, earlier: Archive | None, *, is_whole: bool) -> None:
        self.renewal, self.output, self.is_whole = renewal, job.file, is_whole
        self.outcomes: list[Outcome] = []
        entries = [*earlier.images, *earlier.others] if earlier else []
        self.earlier = {entry.name: Member(earlier, entry) for entry in entries if earlier}
        self._open: list[Renewal | Archive] = [renewal, *([earlier] if earlier else [])]

    def close(self) -> None:
        """Give the files back."""
        for archive in self._open:
            archive.close()


class Outputs:
    """The results of one process's part of a job; its methods may be called by several threads at once."""

    def __init__(self, wanted: FormatName | None, *, labels: bool, skip_existing: bool) -> None:
        self._format, self._labels, self._skip_existing = wanted, labels, skip_existing
        self._folders: set[Path] = set()  # written to
        self._packed: dict[Path, _OpenArchive] = {}  # archives in hand, by output
        self._lock = threading.Lock()

    @property
    def archives_in_hand(self) -> int:
        """Archives that are read or written."""
        return len(self._packed)

    @property
    def waiting(self) -> int:
        """Images that are done but for their archives."""
        with self._lock:
            return sum(len(packed.outcomes) for packed in self._packed.values())

    def earlier(self, job: Job) -> Readable | None:
        """Return the result that an earlier call wrote, where it may stay."""
        if isinstance(job.source, Member):
            return self._in_hand(job, job.source.archive).earlier.get(job.name)
        return job.output if self._skip_existing and job.output.exists() else None

    def _in_hand(self, job: Job, archive: Archive) -> _OpenArchive:
        """Return what is made of `archive`, to which a job belongs; begin with it where it is the first."""
        with self._lock:
            if job.file not in self._packed:
                earlier = _archive_at(job.file) if self._skip_existing else None
                self.make_folder(job.file.parent)
                renewal = Renewal(archive, job.file, others=self._labels)
                is_whole = earlier is not None and self._has_all(earlier, archive)
                self._packed[job.file] = _OpenArchive(job, renewal, earlier, is_whole=is_whole)
            return self._packed[job.file]

    def _has_all(self, earlier: Archive, archive: Archive) -> bool:
        """Say whether an earlier output has all that is to be made of `archive`."""
        wanted = {output_name(entry.name, self._format) for entry in archive.images}
        if self._labels:
            wanted |= {entry.name for entry in archive.others}
        return wanted <= {entry.name for entry in (*earlier.images, *earlier.others)}

    def keep(self, outcome: Outcome, content: bytes | None) -> list[Outcome]:
        """Keep the result of an image; return what is certain by now: for a member, once its archive is written."""
        job = outcome.job
        if not isinstance(job.source, Member):
            if content is not None:
                self.make_folder(job.output.parent)
                write_atomic(job.output, content, synced=False)
            return [outcome]
        packed = self._in_hand(job, job.source.archive)
        certain = []
        if outcome.status == "failed":
            certain.append(outcome)
        else:
            packed.outcomes.append(outcome)
        result = packed.earlier[job.name] if outcome.status == "skipped" else content
        if packed.renewal.put(job.source.entry.number, job.name, result):
            certain += self._finish(packed)
        return certain

    def _finish(self, packed: _OpenArchive) -> list[Outcome]:
        """Write an archive all of whose images are there."""
        outcomes = packed.outcomes
        try:
            if not packed.is_whole:
                packed.renewal.write()
            if outcomes and self._labels:
                archive = packed.renewal.archive
                others = [(entry.name, partial(archive.read, entry)) for entry in archive.others]
                outcomes[-1] = replace(outcomes[-1], labels=len(others), sidecars=sidecar_kinds(others))
        except (UnreadableArchive, UnreadableImage) as error:
            outcomes = [Outcome(outcome.job, "failed", error.reason) for outcome in outcomes]
        finally:
            packed.close()
        with self._lock:
            del self._packed[packed.output]
        return outcomes

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
        """Give the files back of archives that were not finished; nothing of them is written."""
        for packed in self._packed.values():
            packed.close()


def _archive_at(path: Path) -> Archive | None:
    """Return the archive that an earlier call wrote; None where there is none that can be read."""
    try:
        return open_archive(path)
    except UnreadableArchive:
        return None


def sidecar_kinds(files: Iterable[tuple[str, Callable[[], bytes]]]) -> tuple[str, ...]:
    """Return what among files, names with their content, holds pixels or checksums of renders; refining leaves it."""
    kinds = []
    for name, content in files:
        if name.lower().endswith(".json"):
            kinds += ["JSON with labelme's imageData"] if IMAGE_DATA.search(content()) else []
        elif match := ARRAYS.search(name):
            kinds.append(match[0].lower())
        elif CHECKSUMS.search(name):
            kinds.append("file of checksums")
    return tuple(kinds)


def sha256_of_content(source: Readable) -> str:
    """Return the hexadecimal SHA-256 of a file or member. Raises OSError and UnreadableImage."""
    return sha256_of(source) if isinstance(source, Path) else hashlib.sha256(source.read_bytes()).hexdigest()
