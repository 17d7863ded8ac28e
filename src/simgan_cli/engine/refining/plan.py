"""The files that a refining job reads and writes, listed and checked before it writes any."""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, groupby, islice
from operator import attrgetter
from pathlib import Path, PurePosixPath

from simgan_cli.data.archives import Archive, Member, Readable, open_archive
from simgan_cli.data.patterns import ANY, Patterns
from simgan_cli.data.selection import Selection, no_image, path_in, select_pictures
from simgan_cli.data.texts import names_in
from simgan_cli.data.tree import ARCHIVE_SUFFIXES, Tree, holds_images, is_archive, part_of, read_tree, reading
from simgan_cli.engine.refining.copies import Copies, copy_name, output_name
from simgan_cli.errors import SettingsError, UnreadableArchive, plural
from simgan_cli.settings.refine import FormatName

MAX_EXAMPLES = 5  # in a message


@dataclass(frozen=True)
class Source:
    """An input folder or archive, its files, and the folder of its results."""

    place: Path
    destination: Path
    selection: Selection

    @property
    def tree(self) -> Tree:
        """All files; its images are pictures."""
        return self.selection.tree

    @property
    def archives(self) -> list[Archive]:
        """Archives that hold pictures."""
        return self.selection.archives

    @property
    def others(self) -> list[str]:
        """All files that are not pictures."""
        return [*self.tree.others, *self.tree.hidden]

    def output_of(self, archive: Archive) -> Path:
        """Return the path of one archive's results."""
        return self.destination / archive.path.relative_to(self.tree.root)


@dataclass(frozen=True)
class RefineTask:
    """One result to make from a file or an archive's member; `number` counts the files of this process's part."""

    number: int
    source: Readable
    output: Path
    origin: Source
    archive: Path | None = None  # to write `output` into
    odd: str | None = None  # why the image is carried along unrefined
    copy: int | None = None  # which of several looks it is

    def carried(self, why: str) -> "RefineTask":
        """Return the task to carry the image along under its own name, without a suffix of --format."""
        name = PurePosixPath(self.path).name
        return replace(self, output=self.output.with_name(name), odd=why)

    @property
    def path(self) -> str:
        """The path of `source` in its archive or input."""
        return path_in(self.origin.tree.root, self.source)

    @property
    def file(self) -> Path:
        """The file of the result on disk: itself, or its archive."""
        return self.archive or self.output

    @property
    def name(self) -> str:
        """The path of `output` in its archive or folder."""
        return self.output.relative_to(self.archive or self.output.parent).as_posix()


@dataclass(frozen=True)
class Plan:
    """All files of a job, or with `part` (index from 0, count) every count-th of them; an archive is one file."""

    sources: list[Source]
    format: FormatName | None  # None: that of the input
    part: tuple[int, int] = (0, 1)
    copies: int = 1  # looks of each image

    def split(self, count: int) -> list["Plan"]:
        """Return the parts of this part for `count` processes: the same files, however many they are."""
        part, parts = self.part
        return [replace(self, part=(part + index * parts, parts * count)) for index in range(count)]

    @cached_property
    def images(self) -> int:
        """Images of this part, each counted once."""
        loose = sum(len(source.tree.images) for source in self.sources)
        return len(part_of(range(loose), *self.part)) + sum(len(archive.images) for _, archive in self.archives())

    def archives(self) -> Iterable[tuple[Source, Archive]]:
        """Return the archives of this part that hold images."""
        return part_of([(source, archive) for source in self.sources for archive in source.archives], *self.part)

    def image_tasks(self) -> Iterator[RefineTask]:
        """Yield the images of this part, in order: files, then archive by archive."""
        for task in self._image_tasks():
            why = task.origin.selection.oddity(task.source)
            yield task.carried(why) if why else task

    def looks(self, task: RefineTask) -> list[RefineTask]:
        """Return a task for each look of an image; an image that is carried along has one."""
        if self.copies == 1 or task.odd is not None:
            return [task]
        names = [copy_name(task.output.name, copy) for copy in range(self.copies)]
        return [replace(task, output=task.output.with_name(name), copy=copy) for copy, name in enumerate(names)]

    def result_tasks(self) -> Iterator[RefineTask]:
        """Yield all looks of the images of this part, in order."""
        return chain.from_iterable(map(self.looks, self.image_tasks()))

    @cached_property
    def loose_copies(self) -> dict[Path, Copies]:
        """The looks of files outside archives, by the path of their input."""
        return {
            source.place: self._copies(path for path in source.tree.images if path not in source.selection.odd)
            for source in self.sources
        }

    def loose_pairs(self, source: Source) -> Iterator[tuple[str, str]]:
        """Yield each file of an input with each name of its results."""
        tree = source.tree
        yield from ((path, path) for path in tree.archives)
        yield from self.loose_copies[source.place].pairs(tree.images, source.others)

    def packed_copies(self, source: Source, archive: Archive) -> Copies:
        """Return the looks of an archive's members."""
        pictures = (member for member in archive.members() if source.selection.oddity(member) is None)
        return self._copies(member.entry.name for member in pictures)

    def _copies(self, pictures: Iterable[str]) -> Copies:
        return Copies(self.copies, pictures, self.format)

    def _image_tasks(self) -> Iterator[RefineTask]:
        number = -1
        for number, (source, path) in enumerate(self._loose([source.tree.images for source in self.sources])):
            output = source.destination / output_name(path, self.format)
            yield RefineTask(number, source.tree.root / path, output, source)
        for source, archive in self.archives():
            place = source.output_of(archive)
            for entry in archive.images:
                number += 1
                output = place / output_name(entry.name, self.format)
                yield RefineTask(number, Member(archive, entry), output, source, place)

    def other_tasks(self) -> Iterator[RefineTask]:
        """Yield the files of this part that are not images, in order; those in archives go with their images."""
        for number, (source, path) in enumerate(self._loose([source.others for source in self.sources])):
            for name in self.loose_copies[source.place].others(path):
                yield RefineTask(number, source.tree.root / path, source.destination / name, source)

    def packed_other_tasks(self) -> Iterator[RefineTask]:
        """Yield the other members of this part's archives."""
        for source, archive in self.archives():
            place, copies = source.output_of(archive), self.packed_copies(source, archive)
            for number, entry in enumerate(archive.others):
                for name in copies.others(entry.name):
                    yield RefineTask(number, Member(archive, entry), place / name, source, place)

    def empty_folders(self) -> list[Path]:
        """Return the empty folders to make."""
        return [source.destination / path for source in self.sources for path in source.tree.empty]

    def unusable(self) -> list[tuple[str, str, bool]]:
        """Return files that can be neither refined nor carried along: (path, reason, whether it holds images)."""
        everything = [
            (str(source.tree.root / path), reason, holds_images(path))
            for source in self.sources
            for path, reason in source.tree.unusable
        ]
        return list(part_of(everything, *self.part))

    def foreign_images(self) -> Counter[str]:
        """Return the count of each kind of image, video or archive that is carried along unrefined."""
        counts = Counter[str]()
        for source in self.sources:
            counts.update(source.tree.foreign)
            for archive in source.archives:
                counts.update(archive.foreign)
        return counts

    def has(self, file: Path) -> bool:
        """Return whether any part of the job reads or writes `file`."""
        place = file.resolve()
        for source in self.sources:
            read = [*source.tree.images, *source.tree.archives, *source.others]
            made = [name for _, name in self.loose_pairs(source)]
            for folder, names in ((source.tree.root.resolve(), read), (source.destination.resolve(), made)):
                if place.is_relative_to(folder) and place.relative_to(folder).as_posix() in names:
                    return True
        return False

    def _loose(self, lists: list[list[str]]) -> Iterator[tuple[Source, str]]:
        index, count = self.part
        everything = ((source, path) for source, paths in zip(self.sources, lists, strict=True) for path in paths)
        yield from islice(everything, index, None, count)


def make_plan(
    inputs: list[tuple[Path, Path]],
    out: Path,
    wanted: FormatName | None,
    part: tuple[int, int],
    patterns: Patterns = ANY,
    *,
    is_recorded: bool = False,
    copies: int = 1,
) -> Plan:
    """List the files below `inputs`: folders or archives with the folders of their results (`check_inputs`).

    Raises SettingsError for results that would collide, DataError where there is no picture, LabelImages where it is
    unclear which files are pictures.
    """
    sources = [_read(place, destination, patterns, is_recorded=is_recorded) for place, destination in inputs]
    if not any(source.tree.images or source.archives for source in sources):
        raise no_image(", ".join(str(place) for place, _ in inputs), [s.tree for s in sources], patterns)
    plan = Plan(sources, wanted, part, copies)
    _check_collisions(plan, out)
    return plan


def refuse_existing(plan: Plan, out: Path, *, others: bool) -> None:
    """Raise SettingsError where a result exists already."""
    tasks = chain(plan.result_tasks(), plan.other_tasks() if others else ())
    existing = [file for file, _ in groupby(tasks, attrgetter("file")) if file.exists()]
    if existing:
        raise SettingsError(
            f"--out {out}: {plural(len(existing), 'result')} there already, such as {existing[0]}; "
            "--skip-existing resumes after an interruption, --overwrite replaces them"
        )


def folders_in(list_file: Path) -> list[Path]:
    """Return the folders and archives that a file names (`names_in`); "-" is standard input. Raises SettingsError."""
    try:
        content = sys.stdin.buffer.read() if str(list_file) == "-" else list_file.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"--from-file {list_file}: {error.strerror}; give a file with a folder or archive a line"
        ) from error
    try:
        folders = [Path(name) for name in names_in(content)]
    except ValueError as error:
        raise SettingsError(f"--from-file {list_file}: {error}") from error
    if not folders:
        raise SettingsError(f"--from-file {list_file}: empty; write a folder or archive a line")
    return folders


def open_result(task: RefineTask) -> Readable:
    """Return the result of a task for reading; the caller closes its archive.

    Raises UnreadableArchive where the archive cannot be read or does not hold it.
    """
    if task.archive is None:
        return task.output
    member = open_archive(task.archive).by_name().get(task.name)
    if member is None:
        raise UnreadableArchive(task.archive, f"holds no {task.name}")
    return member


def check_inputs(inputs: list[Path], out: Path) -> list[tuple[Path, Path]]:
    """Return each input with the folder of its results.

    Results of one folder go to `out` itself, those of several to folders of their names in `out`. An archive becomes
    one of its name in `out`. Raises SettingsError that lists all problems.
    """
    problems = []
    if not inputs:
        raise SettingsError("no input: give one or more folders or archives of images, or --from-file LIST")
    folders = set(filter(os.path.isdir, inputs))  # unlike Path.is_dir, it takes names of any length
    for place in inputs:
        there = os.path.exists(place)  # noqa: PTH110 - likewise
        if place not in folders and not (there and is_archive(place.name)):
            kinds = f"a file, not a folder or an archive ({', '.join(ARCHIVE_SUFFIXES)})"
            problems.append(f"{place}: {kinds if there else 'no such folder'}; give folders or archives of images")
    if out.exists() and not out.is_dir():
        problems.append(f"--out {out}: a file, not a folder; choose another name")
    names = [place.resolve().name if place in folders else place.name for place in inputs]
    for name in sorted(name for name, count in Counter(names).items() if count > 1):
        same = ", ".join(str(folder) for folder, other in zip(inputs, names, strict=True) if other == name)
        problems.append(f"{same}: results would mix in {out / name}; refine each into an --out of its own")
    checked = []
    for place, name in zip(inputs, names, strict=True):
        destination = out / name if len(inputs) > 1 or place not in folders else out
        inside, above = place.resolve(), destination.resolve()
        if inside == above or inside in above.parents or above in inside.parents:
            problems.append(
                f"--out {out}: results of {place} would go to {destination}, and one lies inside the other; "
                "choose a folder beside it"
            )
        checked.append((place, destination if place in folders else out))
    if problems:
        raise SettingsError(*problems)
    return checked


def _read(place: Path, destination: Path, patterns: Patterns, *, is_recorded: bool) -> Source:
    with reading(place):
        selection = select_pictures(read_tree(place, patterns), patterns, is_recorded=is_recorded)
        if is_recorded and patterns and not selection.count:  # patterns for other names
            selection = select_pictures(read_tree(place))
    return Source(place, destination, selection)


def _check_collisions(plan: Plan, out: Path) -> None:
    """Raise SettingsError where two inputs would write the same file."""
    ignores_case = _ignores_case(out)
    if plan.format is None and plan.copies == 1 and not ignores_case:
        return
    problems = []
    for source in plan.sources:
        root = source.tree.root
        loose = _collisions(plan.loose_pairs(source), ignores_case=ignores_case)
        problems += [f"{root / first} and {root / second}" for first, second in loose]
        for archive in source.archives:
            images, others = ([entry.name for entry in entries] for entries in (archive.images, archive.others))
            inside = _collisions(plan.packed_copies(source, archive).pairs(images, others), ignores_case=False)
            problems += [f"{archive.path}/{first} and {second}" for first, second in inside]
    if problems:
        more = f" (and {plural(len(problems) - MAX_EXAMPLES, 'more pair')})" if len(problems) > MAX_EXAMPLES else ""
        flags = [f"--format {plan.format}"] * (plan.format is not None) + [f"--copies {plan.copies}"] * (
            plan.copies > 1
        )
        why = "the file system of --out ignores case" if ignores_case else ", ".join(flags)
        raise SettingsError(
            f"results would collide ({why}): {'; '.join(problems[:MAX_EXAMPLES])}{more}; "
            f"rename them, or {'leave out --copies' if plan.format is None else 'keep --format same'}"
        )


def _collisions(made: Iterable[tuple[str, str]], *, ignores_case: bool) -> Iterator[tuple[str, str]]:
    """Yield two inputs for each name that both would write; `made` are pairs of input and name."""
    makers: dict[str, str] = {}
    for path, name in made:
        first = makers.setdefault(name.casefold() if ignores_case else name, path)
        if first != path:
            yield first, path


def _ignores_case(folder: Path) -> bool:
    """Return whether the file system of `folder` ignores case: whether an existing name is found in the other case."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    for known in (place, *place.parents):
        other = known.with_name(known.name.swapcase()) if known.name.swapcase() != known.name else None
        if other is not None:
            try:
                return known.samefile(other)
            except OSError:
                return False
    return False
