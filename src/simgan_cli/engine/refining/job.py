"""A complete refining job: folders and archives in, the same with refined images out, all other files copied."""

import hashlib
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch

from simgan_cli.data.archives import Member, Readable
from simgan_cli.data.decoding import Pixels, Preparation, read_pixels
from simgan_cli.data.patterns import translate
from simgan_cli.data.selection import INCLUDE_EXCLUDE, refuse_many
from simgan_cli.engine.export.refiner_model import RefinerModel
from simgan_cli.engine.metrics.label_drift import MIN_SIDE_PIXELS, drift
from simgan_cli.engine.refining.batching import MAX_WAITING_BYTES, Group, SizeBuckets
from simgan_cli.engine.refining.image_file import (
    Picture,
    Reading,
    is_written_lossy,
    read_content,
    read_picture,
    write_picture,
)
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.refining.manifest import BinaryLines, Manifest
from simgan_cli.engine.refining.outcome import Outcome, Report
from simgan_cli.engine.refining.outputs import Outputs, sha256_of_content, sidecar_kinds
from simgan_cli.engine.refining.plan import Plan, RefineTask, open_result
from simgan_cli.engine.refining.record import write_record
from simgan_cli.engine.runtime.stop import StopRequest
from simgan_cli.engine.runtime.threads import WriteBehind, read_ahead
from simgan_cli.errors import UnreadableArchive, UnreadableImage, is_shortage
from simgan_cli.files import copy_atomic, write_atomic
from simgan_cli.pictures.grid import before_and_after
from simgan_cli.settings.refine import RefineConfig

MAX_OPEN_ARCHIVES = 16  # that may wait in front of the network, and as many behind it
MAX_FILES_AT_ONCE = 32  # that one thread holds open and writes with one sync: 16 threads stay below 1,024 open files
MAX_COMPARED_IMAGES = 8  # rows of --compare
MAX_TRIED_IMAGES = 32  # before none is found that shows whether all fit the model


class Listener(Protocol):
    """Hears about the progress of a job."""

    def advanced(self, done: int, total: int) -> None:
        """`done` of `total` images are refined, failed or skipped."""

    def warning(self, text: str) -> None:
        """Something a person should look at happened."""


class _Read(NamedTuple):
    """The outcome of reading an image: outcomes that are final already, and the looks to make of its picture."""

    task: RefineTask
    outcomes: list[Outcome]
    pictures: Sequence[tuple[RefineTask, Picture]] = ()


class RefineJob:
    """One process's part of a refining job: read, refine and write at the same time, in bounded memory.

    `manifest` takes its lines. `processes` like this one share the machine. `refuse_odd` gets each image that looks
    like a label only once it is decoded; it raises LabelImages for too many, by default of this part.
    """

    def __init__(
        self,
        config: RefineConfig,
        plan: Plan,
        refiner: ImageRefiner,
        listener: Listener,
        stop: StopRequest,
        manifest: BinaryLines | None = None,
        *,
        processes: int = 1,
        refuse_odd: Callable[[str, str], None] | None = None,
    ) -> None:
        self.config, self.plan, self.refiner, self.listener, self.stop = config, plan, refiner, listener, stop
        self.reading = reading_of(config)
        self.look_of = look_by(config.look_by)
        self.format = plan.format
        # Processes that share a machine share threads and memory, too.
        self.threads = max(1, (config.workers or min(16, os.cpu_count() or 1)) // processes)
        self.waiting_bytes = MAX_WAITING_BYTES // processes
        self.report = Report(cores=refiner.cores)
        self.clock = refiner.clock
        self.refuse_odd = refuse_odd or OddImages(lambda: self.report.images).add
        self.manifest = None if manifest is None else Manifest(manifest, refiner.model.sha256)
        # A second group uses cores that the last passes of the first leave idle. On one core they share its cache.
        self.groups = 1 if refiner.device.type == "cpu" and refiner.cores == 1 else 2
        self.refining: deque[tuple[Group, Future[tuple[Pixels, list[float]]]]] = deque()
        self.outputs = Outputs(plan, others=config.copy_others, skip_existing=config.skip_existing)

    def run(self) -> Report:
        """Do this part of the job. Raises OSError where a result cannot be written.

        After any exception, every result that exists is complete.
        """
        started, cpu = time.monotonic(), time.process_time()
        try:
            write_record(self.config, self.refiner)
            self.stop.is_listening = True
            self._note_unusable()
            self._refine_images()
            if self.config.copy_others and not self.stop.reason:
                self._carry_others()
            self.outputs.sync()
            self.report.stopped = self.stop.reason
        finally:
            self.report.seconds = time.monotonic() - started
            self.report.has_changed = self.refiner.has_changed
            parts = dict(self.clock.seconds)
            self.report.cpu = parts | {"other": time.process_time() - cpu - sum(parts.values())}
        return self.report

    def _note_unusable(self) -> None:
        unusable = self.plan.unusable()
        self.report.images = self.plan.copies * self.plan.images + sum(is_image for _, _, is_image in unusable)
        for path, reason, is_image in unusable:
            self.listener.warning(f"{path}: {reason}" + ("" if is_image else "; not carried along"))
            if is_image:
                self.report.failed.append({"path": path, "reason": reason})
                if self.manifest is not None:
                    self.manifest.add_unusable(path, reason)

    def _refine_images(self) -> None:
        try:
            with (
                ThreadPoolExecutor(self.groups) as self.network,
                WriteBehind(self._write, self._cost_of_writing, self.waiting_bytes, self.threads) as self.writer,
                closing(
                    read_ahead(
                        self._read, self.plan.image_tasks(), self._cost_of_reading, self.waiting_bytes, self.threads
                    )
                ) as items,
            ):
                self._refine_as_read(items)
        finally:
            self.outputs.close()

    def _refine_as_read(self, items: Iterator[_Read]) -> None:
        buckets = SizeBuckets(self.refiner, self.waiting_bytes)
        while not self.stop.reason:
            item = next(items, None)
            if item is None:
                break
            if item.outcomes:
                self._note(item.outcomes)
            for look, picture in item.pictures:
                for group in buckets.add(look, picture):
                    self._refine(group)
            if self.outputs.archives_in_hand > 4 * MAX_OPEN_ARCHIVES:
                for group in buckets.rest():
                    self._refine(group)
        for group in buckets.rest():
            if self.stop.reason:
                break
            self._refine(group)
        while self.refining:
            self._collect()
        for outcomes in self.writer.drained():
            self._note(outcomes)

    def _read(self, task: RefineTask) -> _Read:
        """Read one image for all its looks, in one of the reading threads."""
        looks, outcomes = [], []
        try:
            for look in self.plan.looks(task):
                earlier = self.outputs.finished_result(look)
                if earlier is None:
                    looks.append(look)
                else:
                    outcomes += self._skip(look, earlier)
            if not looks:
                return _Read(task, outcomes)
            with self.clock.of("files"):
                content = read_content(task.source)
            if task.odd is not None:
                return _Read(task, self._carry_image(task, task.odd, content))
            with self.clock.of("decoding"):
                picture = read_picture(task.source, self.reading, content)
            if why := task.origin.selection.oddity(task.source, picture.decoded):
                return _Read(task, self._carry_image(task.carried(why), why, picture.content))
            check_channels(picture, self.refiner.model, self.config.channels)
        except UnreadableImage as error:
            return _Read(task, outcomes + self.outputs.keep([(Outcome(task, "failed", error.reason), None)]))
        return _Read(task, outcomes, [(look, picture) for look in looks])

    def _skip(self, task: RefineTask, earlier: Readable) -> list[Outcome]:
        source, output = (sha256_of_content(file) if self.manifest else None for file in (task.source, earlier))
        return self.outputs.keep([(Outcome(task, "skipped", source_sha256=source, output_sha256=output), None)])

    def _carry_image(self, task: RefineTask, why: str, content: bytes) -> list[Outcome]:
        """Carry along an image that looks like a label, like files that are not pictures."""
        sha256 = self._sha256(content)
        if not self.config.copy_others:
            return self.outputs.keep([(Outcome(task, "left out", why, sha256), None)])
        return self.outputs.keep([(Outcome(task, "carried", why, sha256, sha256, labels=1), content)])

    def _refine(self, group: Group) -> None:
        """Start a group in the network."""
        if len(self.refining) == self.groups:
            self._collect()
        pixels = np.stack([picture.pixels for _, picture in group])
        looks = [self.look_of(task) for task, _ in group]
        copy = group[0][0].copy or 0  # the same in all of the group
        self.refining.append((group, self.network.submit(self._refine_group, pixels, looks, copy)))

    def _refine_group(self, pixels: Pixels, looks: list[str | None], copy: int) -> tuple[Pixels, list[float]]:
        """Return refined pixels, and with --check-labels each one's shift in pixels; runs in the network's thread."""
        refined = self.refiner.refine_and_match(pixels, looks, copy)
        shifts: list[float] = []
        if self.config.check_labels and min(pixels.shape[2:]) >= MIN_SIDE_PIXELS:
            shifts = drift(torch.from_numpy(pixels), torch.from_numpy(refined)).tolist()
        return self.refiner.finish(refined, pixels, looks, copy), shifts

    def _collect(self) -> None:
        """Hand the results of the oldest group to the writers."""
        group, future = self.refining.popleft()
        refined, shifts = future.result()
        self.report.shifts += shifts
        for start in range(0, len(group), MAX_FILES_AT_ONCE):
            part = slice(start, start + MAX_FILES_AT_ONCE)
            self.writer.put((group[part], refined[part]))
        for outcomes in self.writer.finished():
            self._note(outcomes)

    def _write(self, item: tuple[Group, Pixels]) -> list[Outcome]:
        """Write a few images, in one of the writing threads."""
        with self.clock.of("encoding"):
            results = [self._encode(task, picture, refined) for (task, picture), refined in zip(*item, strict=True)]
        with self.clock.of("files"):
            return self.outputs.keep(results)

    def _encode(self, task: RefineTask, picture: Picture, refined: Pixels) -> tuple[Outcome, bytes | None]:
        try:
            content, lost = write_picture(picture, refined, self.format)
        except UnreadableImage as error:
            return Outcome(task, "failed", error.reason), None
        is_kept = content == picture.content  # files of few bits may round all changes away
        is_changed = not is_kept and not np.array_equal(refined, picture.pixels)
        outcome = Outcome(
            task,
            "refined" if is_changed else "unchanged",
            source_sha256=self._sha256(picture.content),
            output_sha256=self._sha256(content),
            converted=None if is_kept else picture.converted,
            lossy=is_changed and is_written_lossy(picture, self.format),
            lost=lost,
        )
        return outcome, content

    def _sha256(self, content: bytes) -> str | None:
        return hashlib.sha256(content).hexdigest() if self.manifest else None

    def _note(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if self.manifest is not None:
                self.manifest.add(outcome)
            if outcome.task.copy is None:  # None stands for all looks
                self.report.images -= self.plan.copies - 1
            self._count(outcome)
        self.listener.advanced(self.report.done + self.outputs.waiting, self.report.images)

    def _count(self, outcome: Outcome) -> None:
        self.report.add(outcome)
        task, reason = outcome.task, outcome.reason
        if outcome.status == "failed":
            self.listener.warning(f"{task.source}: {reason}")
        elif reason and task.origin.selection.oddity(task.source) is None:
            self.refuse_odd(str(task.source), reason)

    def _carry_others(self) -> None:
        for folder in self.plan.empty_folders():
            self.outputs.make_folder(folder)
        with closing(read_ahead(self._carry, self.plan.other_tasks(), lambda _: 1, 256, self.threads)) as carried:
            for outcome in carried:
                self._count(outcome)
                if self.stop.reason:
                    return

    def _carry(self, task: RefineTask) -> Outcome:
        """Carry one file along; those in archives go with their images."""
        source, copies = cast("Path", task.source), self.plan.loose_copies[task.origin.place]
        try:
            if not (self.config.skip_existing and task.output.exists()):
                self.outputs.make_folder(task.output.parent)
                if copies.is_edited(task.path):
                    write_atomic(task.output, copies.edited(task.path, source.read_bytes()))
                else:
                    copy_atomic(source, task.output)
        except OSError as error:
            if error.filename not in (str(source), str(source.resolve())) or is_shortage(error):
                raise  # the result could not be written
            return Outcome(task, "failed", f"{error.strerror or error}; not carried along")
        return Outcome(
            task,
            "carried",
            labels=1,
            sidecars=sidecar_kinds([(source.name, source.read_bytes)]),
            outdated=(str(source),) if copies.is_outdated(task.path, source.read_bytes) else (),
        )

    def _cost_of_reading(self, item: _Read) -> int:
        size = sum(picture.pixels.nbytes + len(picture.content) for _, picture in item.pictures[:1])
        return max(self._least_cost(item.task), size)

    def _cost_of_writing(self, item: tuple[Group, Pixels]) -> int:
        return sum(max(self._least_cost(task), 2 * result.nbytes) for (task, _), result in zip(*item, strict=True))

    def _least_cost(self, task: RefineTask) -> int:
        """Return the least bytes that an image counts as, to limit how many are read ahead and archives open."""
        least = self.waiting_bytes // (4 * self.refiner.batch_size)
        if isinstance(task.source, Member):
            least = max(least, self.waiting_bytes // (MAX_OPEN_ARCHIVES * len(task.source.archive.images)))
        return least


def draw_comparison(path: Path, plan: Plan, warn: Callable[[str], None]) -> None:
    """Draw images, evenly spread over the plan, that have a result. Raises OSError."""
    step = max(1, plan.images // MAX_COMPARED_IMAGES)
    first_looks = (plan.looks(task)[0] for task in plan.image_tasks() if task.number % step == 0)
    chosen = (task for task in first_looks if task.file.exists())
    rows = []
    for task in islice(chosen, MAX_COMPARED_IMAGES):
        try:
            with _closing(task.source) as before, _closing(open_result(task)) as after:
                rows.append((read_pixels(before, Preparation()), read_pixels(after, Preparation())))
        except (UnreadableImage, UnreadableArchive) as error:
            warn(f"not compared: {error}")
    if not rows:
        warn(f"{path}: not drawn, since no image has a result")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, before_and_after(rows))


class OddImages:
    """Images of a job of `total()` images that look like labels only once they are decoded."""

    def __init__(self, total: Callable[[], int]) -> None:
        self._total = total
        self._reasons: dict[str, str] = {}

    def add(self, path: str, reason: str) -> None:
        """Take one more. Raises LabelImages for so many that patterns must select the pictures."""
        self._reasons[path] = reason
        refuse_many(self._reasons, self._total(), INCLUDE_EXCLUDE)


def reading_of(config: RefineConfig) -> Reading:
    """Return the reading of files that the settings ask for."""
    given = {name: getattr(config, name) for name in ("pixels", "background", "keep_value", "tone_curve")}
    return Reading(**{name: value for name, value in given.items() if value is not None})


def look_by(way: str) -> Callable[[RefineTask], str | None]:
    """Return a function that names an image's look: None for one of its own, else a name that images share."""
    if way == "image":
        return lambda _: None
    if way == "folder":
        return lambda task: task.path.rpartition("/")[0]
    glob = re.compile(translate(way).replace(r"\(", "(").replace(r"\)", ")"), re.DOTALL)

    def look_of(task: RefineTask) -> str | None:
        match = glob.match(task.path)
        return match and "/".join((way, *match.groups()))

    return look_of


def check_channels(picture: Picture, model: RefinerModel, converted_to: str | None) -> None:
    """Raise UnreadableImage for an image whose channels the model cannot take unasked."""
    found, wanted = len(picture.pixels), model.channels
    if found == wanted or converted_to is not None:
        return
    names = {1: "grey", 3: "colour"}
    if picture.reading.pixels == "packed16":
        raise UnreadableImage(
            picture.path, "packed16 is grey, and the model takes colour; train one with --pixels packed16"
        )
    raise UnreadableImage(
        picture.path,
        f"{names[found]}, and the model takes {names[wanted]} images; copy such files with --exclude, or refine them "
        f"with --channels {wanted}",
    )


def check_first_image(plan: Plan, model: RefinerModel, config: RefineConfig) -> tuple[int, int] | None:
    """Return H and W of the first image that can be read, None where none of the first `MAX_TRIED_IMAGES` can.

    Raises UnreadableImage if it does not fit the model: the others will not fit either.
    """
    with ExitStack() as opened:  # each archive is opened once for all its members
        for task in islice((task for task in plan.image_tasks() if task.odd is None), MAX_TRIED_IMAGES):
            source = opened.enter_context(_closing(task.source))
            try:
                picture = read_picture(source, reading_of(config))
            except UnreadableImage:
                continue
            if task.origin.selection.oddity(source, picture.decoded):
                continue
            check_channels(picture, model, config.channels)
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
