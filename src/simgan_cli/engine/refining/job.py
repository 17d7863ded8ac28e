"""A whole refining job: folders and archives of images in, the same with refined ones out, the rest carried along."""

import errno
import glob
import hashlib
import json
import os
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import torch

from simgan_cli.data.archives import Member, Readable
from simgan_cli.data.decoding import Pixels, Preparation, read_pixels
from simgan_cli.data.patterns import translate
from simgan_cli.data.selection import INCLUDE_EXCLUDE, refuse_many
from simgan_cli.data.tree import read_tree
from simgan_cli.engine.metrics.label_drift import MIN_SIDE_PIXELS, drift
from simgan_cli.engine.refining.image_file import (
    Picture,
    Reading,
    is_written_lossy,
    read_content,
    read_picture,
    write_picture,
)
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.refining.outputs import Outcome, Outputs, sha256_of_content, sidecar_kinds
from simgan_cli.engine.refining.plan import Job, Plan, open_result
from simgan_cli.engine.runtime.ranks import Ranks
from simgan_cli.engine.runtime.stop import StopReason, StopRequest
from simgan_cli.engine.runtime.threads import WriteBehind, read_ahead
from simgan_cli.errors import DataError, SettingsError, UnreadableArchive, UnreadableImage, is_shortage
from simgan_cli.files import (
    atomic_file,
    copy_atomic,
    link_atomic,
    parse_json,
    write_atomic,
    write_json,
)
from simgan_cli.pictures.grid import before_and_after
from simgan_cli.settings.refine import RefineConfig, file_of_part

STOCK = 64_000_000  # bytes of decoded images that may wait in front of the network, and as many behind it
PATIENCE = 4096  # images read after which one of a rare size no longer waits for company
GROUPS_AT_ONCE = 2  # in the network
OPEN_ARCHIVES = 16  # that may wait in front of the network, and as many behind it
COMPARED = 8  # rows of --compare
TRIED = 32  # images, for one that tells whether all fit the model
RECORD = ".simgan-refine.json"
REPLACING = "replacing"  # in it: results of earlier settings may be left


class Listener(Protocol):
    """Who wants to know how a job goes."""

    def advanced(self, done: int, total: int) -> None:
        """So many images are done, failed or skipped."""

    def warning(self, text: str) -> None:
        """Something a person should look at happened."""


@dataclass
class Report:
    """What a job did; those of several ranks add up."""

    images: int = 0
    refined: int = 0
    unchanged: int = 0
    skipped: int = 0
    odd: dict[str, str] = field(default_factory=dict)  # images carried along since they look like labels, and why
    failed: list[dict[str, str]] = field(default_factory=list)
    labels: int = 0
    lossy: int = 0
    converted: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)  # what results do not have of their sources' files
    sidecars: Counter[str] = field(default_factory=Counter)  # files carried along that hold the render's own pixels
    shifts: list[float] = field(default_factory=list)  # pixels, of each image measured
    seconds: float = 0.0
    waited: dict[str, float] = field(default_factory=dict)  # seconds of the network, of waiting to read and to write
    stopped: StopReason | None = None

    def note(self, outcome: Outcome) -> None:
        """Count one image, and what came with it."""
        self.labels += outcome.labels
        self.sidecars.update(outcome.sidecars)
        if outcome.status == "failed":
            self.failed.append({"path": str(outcome.job.source), "reason": outcome.reason})
            return
        if outcome.status == "skipped":
            self.skipped += 1
            return
        if outcome.status in ("carried", "left out"):
            if outcome.reason:
                self.odd[str(outcome.job.source)] = outcome.reason
            return
        if outcome.status == "unchanged":
            self.unchanged += 1
        else:
            self.refined += 1
        self.lossy += outcome.lossy
        self.lost.update(outcome.lost)
        self.converted.update([outcome.converted] if outcome.converted else [])

    @property
    def images_per_second(self) -> float:
        """Images that went through the network in a second of the whole job."""
        return (self.refined + self.unchanged) / self.seconds if self.seconds else 0.0

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the time that went to the network, and to waiting for reading and writing; {} without any."""
        whole = sum(self.waited.values())
        return {name: seconds / whole for name, seconds in self.waited.items()} if whole else {}

    @property
    def limit(self) -> str | None:
        """What most of the time went to, so that `images_per_second` is its rate: network, reading or writing."""
        return max(self.shares, key=self.shares.__getitem__) if self.refined + self.unchanged and self.shares else None

    @property
    def mean_drift(self) -> float:
        """Mean shift of the measured images, in pixels."""
        return float(np.mean(self.shifts))

    @property
    def p95_drift(self) -> float:
        """95th percentile of the shifts, in pixels."""
        return float(np.percentile(self.shifts, 95))

    @property
    def done(self) -> int:
        """Images that need nothing more."""
        return self.refined + self.unchanged + self.skipped + len(self.odd) + len(self.failed)

    @classmethod
    def total(cls, parts: list["Report"]) -> "Report":
        """Add the parts of all ranks; the time is that of the slowest."""
        whole = cls()
        for part in parts:
            whole.images += part.images
            whole.refined += part.refined
            whole.unchanged += part.unchanged
            whole.skipped += part.skipped
            whole.odd |= part.odd
            whole.failed += part.failed
            whole.labels += part.labels
            whole.lossy += part.lossy
            whole.shifts += part.shifts
            whole.seconds = max(whole.seconds, part.seconds)
            whole.stopped = whole.stopped or part.stopped
            whole.converted.update(part.converted)
            whole.lost.update(part.lost)
            whole.sidecars.update(part.sidecars)
            for name, seconds in part.waited.items():
                whole.waited[name] = whole.waited.get(name, 0.0) + seconds / len(parts)
        return whole


class SizeBuckets:
    """Pictures that wait for others of their size, so that the network gets full batches."""

    def __init__(self, refiner: ImageRefiner) -> None:
        self._refiner = refiner
        self._groups: dict[tuple[Any, ...], list[tuple[Job, Picture]]] = {}
        self._since: dict[tuple[Any, ...], int] = {}
        self._bytes = self._seen = 0

    def add(self, job: Job, picture: Picture) -> Iterator[list[tuple[Job, Picture]]]:
        """Take a picture in and yield the groups that are due: full, overdue, or too much for memory."""
        pixels = picture.pixels
        key = (pixels.dtype, *pixels.shape)
        self._seen += 1
        self._since.setdefault(key, self._seen)
        self._groups.setdefault(key, []).append((job, picture))
        self._bytes += pixels.nbytes
        if len(self._groups[key]) >= self._refiner.capacity((pixels.shape[1], pixels.shape[2])):
            yield self._take(key)
        oldest = next(iter(self._since), None)  # in the order of their first picture
        if oldest is not None and self._seen - self._since[oldest] > PATIENCE:
            yield self._take(oldest)
        if self._bytes > STOCK:
            yield self._take(max(self._groups, key=lambda key: len(self._groups[key]) * int(np.prod(key[1:]))))

    def rest(self) -> Iterator[list[tuple[Job, Picture]]]:
        """Yield what is left."""
        while self._groups:
            yield self._take(next(iter(self._groups)))

    def _take(self, key: tuple[Any, ...]) -> list[tuple[Job, Picture]]:
        del self._since[key]
        group = self._groups.pop(key)
        self._bytes -= sum(picture.pixels.nbytes for _, picture in group)
        return group


class _Manifest:
    """JSON lines in the order of the images, whatever the order in which they get done."""

    def __init__(self, file: BinaryIO, model_sha256: str) -> None:
        self._file, self._model = file, model_sha256
        self._early: dict[int, Outcome] = {}
        self._next = 0

    def add(self, outcome: Outcome) -> None:
        """Write the line of an image, once those before it are there."""
        self._early[outcome.job.number] = outcome
        while self._next in self._early:
            self._write(self._early.pop(self._next))
            self._next += 1

    def close(self) -> None:
        """Write what still waits for images that were not reached."""
        for number in sorted(self._early):
            self._write(self._early.pop(number))

    def add_unusable(self, path: str, reason: str) -> None:
        """Write the line of what could not be opened, an image or an archive of them: nothing is made of it."""
        self._write_line([path, None, "failed", None, None], reason)

    def _write(self, outcome: Outcome) -> None:
        job = outcome.job
        found = [str(job.source), str(job.output), outcome.status, outcome.source_sha256, outcome.output_sha256]
        self._write_line(found, outcome.reason)

    def _write_line(self, found: list[str | None], reason: str) -> None:
        names = ("source", "output", "status", "source_sha256", "output_sha256")
        line = dict(zip(names, found, strict=True)) | {"model_sha256": self._model}
        if reason:
            line["reason"] = reason
        self._file.write(json.dumps(line).encode() + b"\n")


class RefineJob:
    """One process's part of a refining job: read, refine and write at the same time, in bounded memory."""

    def __init__(
        self, config: RefineConfig, plan: Plan, refiner: ImageRefiner, listener: Listener, stop: StopRequest
    ) -> None:
        self.config, self.plan, self.refiner, self.listener, self.stop = config, plan, refiner, listener, stop
        self.reading = reading_of(config)
        self.look_of = look_by(config.look_by)
        self.format = plan.format
        self.threads = config.workers or min(16, os.cpu_count() or 1)
        self.report = Report()
        self.surprises: dict[str, str] = {}  # images that look like labels, and no look at the folder told so
        self.manifest: _Manifest | None = None
        self.refining: deque[tuple[list[tuple[Job, Picture]], Pixels, Future[Pixels]]] = deque()
        self.outputs = Outputs(plan.format, labels=config.copy_others, skip_existing=config.skip_existing)

    def run(self, ranks: Ranks) -> Report:
        """Do the job. Raises OSError where a result cannot be written, DataError with --fail-fast.

        Whatever is raised, every result that exists is whole.
        """
        started = time.monotonic()
        try:
            self._prepare_output()
            self.stop.is_listening = True
            self._note_unusable()
            with self._open_manifest():
                self._refine_images()
            if self.config.copy_others and not self.stop.reason:
                self._carry_labels()
            self.outputs.sync()
            self.report.stopped = self.stop.reason
        finally:
            self.report.seconds = time.monotonic() - started
        if self.config.comparison is not None and ranks.is_first:
            self._draw_comparison(self.config.comparison)
        return self.report

    def _prepare_output(self) -> None:
        """Make --out and note what refines its images, so that no later call mixes two models in it unasked."""
        record, path = record_of(self.config, self.refiner), self.config.out / RECORD
        path.parent.mkdir(parents=True, exist_ok=True)
        if _read_record(path) != record:
            write_json(path, record)

    def note_whole(self) -> None:
        """Note that all results in --out are of these settings, if they are: after all that `run` did, for any part."""
        path = self.config.out / RECORD
        if _read_record(path).get(REPLACING) and not self._holds_others():
            write_json(path, _record(self.config, self.refiner))

    def _holds_others(self) -> bool:
        """Say whether images or archives lie in --out that are none of the whole job's results."""
        out, whole = self.config.out, replace(self.plan, part=(0, 1))
        made = {job.file for job in chain(whole.image_jobs(), whole.label_jobs())}
        if (sheet := self.config.compare) is not None:
            made |= {sheet, *sheet.parent.glob(f"{glob.escape(sheet.stem)}-part-*-of-*{glob.escape(sheet.suffix)}")}
        tree = read_tree(out)
        return any(out / name not in made for name in chain(tree.images, tree.archives))

    def _note_unusable(self) -> None:
        unusable = self.plan.unusable()
        self.report.images = self.plan.images + sum(is_image for _, _, is_image in unusable)
        for path, reason, is_image in unusable:
            self.listener.warning(f"{path}: {reason}" + ("" if is_image else "; not carried along"))
            if is_image:
                self.report.failed.append({"path": path, "reason": reason})
                self._fail_fast(path, reason)

    @contextmanager
    def _open_manifest(self) -> Iterator[None]:
        path = self.config.manifest
        if path is None:
            yield
            return
        part, parts = self.plan.part
        path = file_of_part(path, part + 1, parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            self.manifest = _Manifest(file, self.refiner.model.sha256)
            for unusable in self.report.failed:
                self.manifest.add_unusable(**unusable)
            yield
            self.manifest.close()

    def _refine_images(self) -> None:
        try:
            with (
                ThreadPoolExecutor(GROUPS_AT_ONCE) as self.network,
                WriteBehind(self._write, self._cost_of_writing, STOCK, self.threads) as self.writer,
                closing(
                    read_ahead(self._read, self.plan.image_jobs(), self._cost_of_reading, STOCK, self.threads)
                ) as read,
            ):
                self._refine_as_read(read)
        finally:
            self.outputs.close()

    def _refine_as_read(self, read: Iterator[tuple[Job, Picture | list[Outcome]]]) -> None:
        waiting = SizeBuckets(self.refiner)
        while not self.stop.reason:
            with self._timed("reading"):
                item = next(read, None)
            if item is None:
                break
            job, found = item
            if isinstance(found, Picture):
                for group in waiting.add(job, found):
                    self._refine(group)
            else:
                self._note(found)
            if self.outputs.archives_in_hand > 4 * OPEN_ARCHIVES:
                for group in waiting.rest():
                    self._refine(group)
        for group in waiting.rest():
            if self.stop.reason:
                break
            self._refine(group)
        while self.refining:
            self._collect()
        with self._timed("writing"):
            outcomes = self.writer.drained()
        for done in outcomes:
            self._note(done)

    def _read(self, job: Job) -> tuple[Job, Picture | list[Outcome]]:
        """Read one image, in one of the reading threads."""
        try:
            earlier = self.outputs.earlier(job)
            if earlier is not None:
                source, output = (sha256_of_content(file) if self.manifest else None for file in (job.source, earlier))
                skipped = Outcome(job, "skipped", source_sha256=source, output_sha256=output)
                return job, self.outputs.keep(skipped, None)
            if job.odd is not None:
                return job, self._carry_image(job, job.odd, read_content(job.source))
            picture = read_picture(job.source, self.reading)
            if why := job.origin.selection.oddity(job.source, picture.decoded):
                return job, self._carry_image(job.carried(why), why, picture.content)
            check_channels(picture, self.refiner, self.config.channels)
        except UnreadableImage as error:
            return job, self.outputs.keep(Outcome(job, "failed", error.reason), None)
        return job, picture

    def _carry_image(self, job: Job, why: str, content: bytes) -> list[Outcome]:
        """Carry along an image that looks like a label, as all that is no picture."""
        sha256 = hashlib.sha256(content).hexdigest() if self.manifest else None
        if not self.config.copy_others:
            return self.outputs.keep(Outcome(job, "left out", why, sha256), None)
        return self.outputs.keep(Outcome(job, "carried", why, sha256, sha256, labels=1), content)

    def _refine(self, group: list[tuple[Job, Picture]]) -> None:
        """Begin with a group; the next is at hand when its last passes leave cores idle."""
        if len(self.refining) == GROUPS_AT_ONCE:
            self._collect()
        pixels = np.stack([picture.pixels for _, picture in group])
        looks = [self.look_of(job) for job, _ in group]
        self.refining.append((group, pixels, self.network.submit(self.refiner.refine, pixels, looks)))

    def _collect(self) -> None:
        """Hand the results of the oldest group to the writers."""
        group, pixels, future = self.refining.popleft()
        with self._timed("network"):
            refined = future.result()
        if self.config.check_labels and min(pixels.shape[2:]) >= MIN_SIDE_PIXELS:
            self.report.shifts += drift(torch.from_numpy(pixels), torch.from_numpy(refined)).tolist()
        with self._timed("writing"):
            for (job, picture), result in zip(group, refined, strict=True):
                self.writer.put((job, picture, result))
        for outcomes in self.writer.finished():
            self._note(outcomes)

    def _write(self, item: tuple[Job, Picture, Pixels]) -> list[Outcome]:
        """Write one image, in one of the writing threads."""
        job, picture, refined = item
        try:
            content, lost = write_picture(picture, refined, self.format)
        except UnreadableImage as error:
            return self.outputs.keep(Outcome(job, "failed", error.reason), None)
        is_kept = content is picture.content
        is_changed = not is_kept and not np.array_equal(refined, picture.pixels)
        outcome = Outcome(
            job,
            "refined" if is_changed else "unchanged",
            source_sha256=picture.sha256 if self.manifest else None,
            output_sha256=hashlib.sha256(content).hexdigest() if self.manifest else None,
            converted=None if is_kept else picture.converted,
            lossy=is_changed and is_written_lossy(picture, self.format),
            lost=lost,
        )
        return self.outputs.keep(outcome, content)

    def _note(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if self.manifest is not None:
                self.manifest.add(outcome)
            self._count(outcome)
        self.listener.advanced(self.report.done + self.outputs.waiting, self.report.images)

    def _count(self, outcome: Outcome) -> None:
        self.report.note(outcome)
        if outcome.reason and outcome.status in ("carried", "left out") and not outcome.job.is_known_odd:
            self.surprises[str(outcome.job.source)] = outcome.reason
            refuse_many(self.surprises, self.report.images, INCLUDE_EXCLUDE)
        if outcome.status == "failed":
            self.listener.warning(f"{outcome.job.source}: {outcome.reason}")
            self._fail_fast(str(outcome.job.source), outcome.reason)

    def _fail_fast(self, path: str, reason: str) -> None:
        if self.config.fail_fast:
            raise DataError(f"{path}: {reason}; --fail-fast stopped here; mend it and {self.config.to_go_on}")

    def _carry_labels(self) -> None:
        for folder in self.plan.empty_folders():
            self.outputs.make_folder(folder)
        with closing(read_ahead(self._carry, self.plan.label_jobs(), lambda _: 1, 256, self.threads)) as carried:
            for outcome in carried:
                self._count(outcome)
                if self.stop.reason:
                    return

    def _carry(self, job: Job) -> Outcome:
        """Carry one file along; those in archives go with their images."""
        source, way = cast("Path", job.source), link_atomic if self.config.link else copy_atomic
        try:
            if not (self.config.skip_existing and job.output.exists()):
                self.outputs.make_folder(job.output.parent)
                way(source, job.output)
        except OSError as error:
            if self.config.link and error.errno in (errno.EXDEV, errno.EPERM, errno.ENOTSUP):
                raise SettingsError(
                    f"--link: {source} cannot be linked to {job.output} ({error.strerror}); leave it out to copy"
                ) from error
            if error.filename not in (str(source), str(source.resolve())) or is_shortage(error):
                raise  # of the result
            return Outcome(job, "failed", f"{error.strerror or error}; not carried along")
        return Outcome(job, "carried", labels=1, sidecars=sidecar_kinds([(source.name, source.read_bytes)]))

    def _draw_comparison(self, path: Path) -> None:
        """Draw images from all over the job that have a result, refined now or earlier."""
        step = max(1, self.plan.images // COMPARED)
        chosen = [job for job in self.plan.image_jobs() if job.number % step == 0 and job.file.exists()][:COMPARED]
        rows = []
        for job in chosen:
            try:
                with _closing(job.source) as before, _closing(open_result(job)) as after:
                    rows.append(tuple(read_pixels(file, Preparation()) for file in (before, after)))
            except (UnreadableImage, UnreadableArchive) as error:
                self.listener.warning(f"not compared: {error}")
        if not rows:
            self.listener.warning(f"{path}: not drawn, since no image has a result")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, before_and_after([(before, after) for before, after in rows]))

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.report.waited[name] = self.report.waited.get(name, 0.0) + time.perf_counter() - started

    def _cost_of_reading(self, item: tuple[Job, Picture | list[Outcome]]) -> int:
        job, found = item
        return max(self._least_cost(job), found.pixels.nbytes + len(found.content) if isinstance(found, Picture) else 0)

    def _cost_of_writing(self, item: tuple[Job, Picture, Pixels]) -> int:
        return max(self._least_cost(item[0]), 2 * item[2].nbytes)

    def _least_cost(self, job: Job) -> int:
        """Count small images as if they were larger: no use in reading far ahead, nor in opening many archives."""
        least = STOCK // (4 * self.refiner.batch_size)
        if isinstance(job.source, Member):
            least = max(least, STOCK // (OPEN_ARCHIVES * len(job.source.archive.images)))
        return least


def record_of(config: RefineConfig, refiner: ImageRefiner) -> dict[str, Any]:
    """Return what --out is to tell of its results. Raises SettingsError where it holds others unasked."""
    record = _record(config, refiner)
    mixture = _mixture(_read_record(config.out / RECORD), record)
    if mixture and not config.overwrite:
        raise SettingsError(
            f"--out {config.out}: {mixture}; choose another folder, or replace all results with --overwrite"
        )
    return record | {REPLACING: True} if mixture else record


def _record(config: RefineConfig, refiner: ImageRefiner) -> dict[str, Any]:
    return {
        "schema": "simgan.refined/1",
        "model_sha256": refiner.model.sha256,
        "strength": config.strength,
        "seed": config.seed if refiner.model.network.settings["noise"] else 0,  # else it says nothing
        "format": config.format,
        "channels": config.channels,
        "include": list(config.include),
        "exclude": list(config.exclude),
        "pixels": config.pixels,
        "background": config.background,
        "tone_curve": config.tone_curve,
        "keep_value": config.keep_value,
        "look_by": config.look_by if refiner.model.network.settings["noise"] else "image",
    }


def reading_of(config: RefineConfig) -> Reading:
    """Return how files become what the refiner sees."""
    given = {name: getattr(config, name) for name in ("pixels", "background", "keep_value", "tone_curve")}
    return Reading(**{name: value for name, value in given.items() if value is not None})


def look_by(way: str) -> Callable[[Job], str | None]:
    """Return what names the look of an image: None for one of its own, else what all images of one look share."""
    if way == "image":
        return lambda _: None
    if way == "folder":
        return lambda job: job.path.rpartition("/")[0]
    glob = re.compile(translate(way).replace(r"\(", "(").replace(r"\)", ")"), re.DOTALL)

    def look_of(job: Job) -> str | None:
        match = glob.match(job.path)
        return match and "/".join((way, *match.groups()))

    return look_of


def check_channels(picture: Picture, refiner: ImageRefiner, converted_to: str | None) -> None:
    """Raise UnreadableImage for an image whose channels the model cannot take unasked."""
    found, wanted = len(picture.pixels), refiner.model.channels
    if found == wanted or converted_to is not None:
        return
    names = {1: "grey", 3: "colour"}
    if picture.reading.pixels == "packed16":
        raise UnreadableImage(
            picture.path, "packed16 is grey, and the model maps colour; train one with --pixels packed16"
        )
    raise UnreadableImage(
        picture.path,
        f"{names[found]}, and the model maps {names[wanted]} images; carry such files along with --exclude, or refine "
        f"them with --channels {wanted}",
    )


def check_first_image(plan: Plan, refiner: ImageRefiner, config: RefineConfig) -> tuple[int, int] | None:
    """Return H and W of the first image that can be read; raise UnreadableImage if it does not fit, as others will not.

    Where none of the first `TRIED` can be read, None is returned, and each says for itself what is wrong with it.
    """
    with ExitStack() as opened:  # an archive once for all of its members
        for job in islice((job for job in plan.image_jobs() if job.odd is None), TRIED):
            source = opened.enter_context(_closing(job.source))
            try:
                picture = read_picture(source, reading_of(config))
            except UnreadableImage:
                continue
            if job.origin.selection.oddity(source, picture.decoded):
                continue
            check_channels(picture, refiner, config.channels)
            return picture.pixels.shape[1], picture.pixels.shape[2]
    return None


@contextmanager
def _closing(source: Readable) -> Iterator[Readable]:
    """Close the archive that a member was read from."""
    try:
        yield source
    finally:
        if isinstance(source, Member):
            source.archive.close()


def _mixture(earlier: dict[str, Any], record: dict[str, Any]) -> str:
    """Say what results of the settings in `record` would stand beside; "" where all are of the same."""
    if earlier.get(REPLACING):
        return (
            "holds results of two settings, or does not tell which ones (an --overwrite was cut short, done in parts, "
            f"or left images out; or {RECORD} is damaged)"
        )
    different = [
        f"{name} {earlier[name]}, now {value}" for name, value in record.items() if earlier.get(name, value) != value
    ]
    return f"holds results of other settings ({'; '.join(different)})" if different else ""


def _read_record(path: Path) -> dict[str, Any]:
    """Return what a folder tells of its results: {} where it tells nothing, and no good where that is damaged."""
    try:
        record = parse_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError:
        record = None
    return record if isinstance(record, dict) else {REPLACING: True}
