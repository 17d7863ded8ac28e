"""Which files a refining job reads and writes, settled and checked before it touches anything."""

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePosixPath

from simgan_cli.data.pictures import FORMATS, FormatName
from simgan_cli.data.tree import FOREIGN_SUFFIXES, Tree, is_image, part_of, read_tree
from simgan_cli.errors import DataError, SettingsError

SHOWN = 5  # examples in a message


@dataclass(frozen=True)
class Source:
    """An input folder, what lies in it, and where its results go."""

    folder: Path
    destination: Path
    tree: Tree


@dataclass(frozen=True)
class Job:
    """One file to make: `number` counts within this process's part."""

    number: int
    source: Path
    output: Path


@dataclass(frozen=True)
class Plan:
    """All files of a job, or with `part` (index from 0, count) every count-th of them."""

    sources: list[Source]
    format: FormatName | None  # None: that of the input
    part: tuple[int, int] = (0, 1)

    @property
    def images(self) -> int:
        """Images of this part."""
        return len(part_of(range(sum(len(source.tree.images) for source in self.sources)), *self.part))

    def image_jobs(self) -> Iterator[Job]:
        """Yield the images of this part, in order."""
        yield from self._jobs([source.tree.images for source in self.sources], self.format)

    def label_jobs(self) -> Iterator[Job]:
        """Yield the files of this part that are no images, in order."""
        yield from self._jobs([source.tree.others for source in self.sources], None)

    def unusable(self) -> list[tuple[str, str, bool]]:
        """Return what can be neither refined nor carried along: (path, reason, whether it is named like an image)."""
        found = [
            (str(source.folder / path), reason, is_image(path))
            for source in self.sources
            for path, reason in source.tree.unusable
        ]
        return list(part_of(found, *self.part))

    def foreign_images(self) -> dict[str, int]:
        """Return how many files there are of each image format that is carried along unrefined."""
        counts: defaultdict[str, int] = defaultdict(int)
        for source in self.sources:
            for path in source.tree.others:
                suffix = PurePosixPath(path).suffix.lower()
                if suffix in FOREIGN_SUFFIXES:
                    counts[suffix] += 1
        return dict(counts)

    def _jobs(self, lists: list[list[str]], wanted: FormatName | None) -> Iterator[Job]:
        index, count = self.part
        everything = ((source, path) for source, paths in zip(self.sources, lists, strict=True) for path in paths)
        for number, (source, path) in enumerate(islice(everything, index, None, count)):
            yield Job(number, source.folder / path, source.destination / output_name(path, wanted))


def make_plan(inputs: list[Path], out: Path, wanted: FormatName | None, part: tuple[int, int]) -> Plan:
    """List the files below `inputs` and where their results go.

    One input's results go to `out` itself, those of several to a folder of the input's name in it. Raises
    SettingsError for folders that cannot be used so or results that would collide, DataError where there is no image.
    """
    folders = _checked_folders(inputs, out)
    sources = [Source(folder, destination, _read(folder)) for folder, destination in folders]
    if not any(source.tree.images for source in sources):
        raise DataError(
            f"{', '.join(map(str, inputs))}: no image among the files; "
            "looked for .png, .jpg, .tif, .bmp, .webp, .pgm and .ppm there and below"
        )
    plan = Plan(sources, wanted, part)
    _check_collisions(plan, out)
    return plan


def check_existing(plan: Plan, out: Path, *, labels: bool) -> None:
    """Raise SettingsError where a result exists already."""
    jobs = chain(plan.image_jobs(), plan.label_jobs() if labels else ())
    existing = [job.output for job in jobs if job.output.exists()]
    if existing:
        raise SettingsError(
            f"--out {out}: {len(existing):,} of the results exist, such as {existing[0]}; "
            "--skip-existing goes on after an interruption, --overwrite replaces them"
        )


def folders_in(list_file: Path) -> list[Path]:
    """Return the folders that a file names, one a line; "-" is standard input. Raises SettingsError."""
    try:
        text = sys.stdin.read() if str(list_file) == "-" else list_file.read_text(errors="surrogateescape")
    except OSError as error:
        raise SettingsError(f"--from-file {list_file}: {error.strerror}; give a file with a folder a line") from error
    folders = [Path(line) for line in text.splitlines() if line.strip()]
    if not folders:
        raise SettingsError(f"--from-file {list_file}: empty; write a folder a line")
    return folders


def output_name(path: str, wanted: FormatName | None) -> str:
    """Return the name of a result: that of its input, with another suffix only where another format needs it."""
    if wanted is None or PurePosixPath(path).suffix.lower() in FORMATS[wanted].suffixes:
        return path
    return str(PurePosixPath(path).with_suffix(FORMATS[wanted].suffixes[0]))


def _checked_folders(inputs: list[Path], out: Path) -> list[tuple[Path, Path]]:
    problems = []
    if not inputs:
        raise SettingsError("no input: give one or more folders of images, or --from-file LIST")
    for folder in inputs:
        if not folder.is_dir():
            found = "a file, not a folder" if folder.exists() else "no such folder"
            problems.append(f"{folder}: {found}; give folders of images")
    if out.exists() and not out.is_dir():
        problems.append(f"--out {out}: a file, not a folder")
    names = [folder.resolve().name for folder in inputs]
    for name in sorted({name for name in names if names.count(name) > 1}):
        same = ", ".join(str(folder) for folder, other in zip(inputs, names, strict=True) if other == name)
        problems.append(f"{same}: results would meet in {out / name}; refine them with an --out each")
    folders = [(folder, out if len(inputs) == 1 else out / name) for folder, name in zip(inputs, names, strict=True)]
    for folder, destination in folders:
        inside, above = folder.resolve(), destination.resolve()
        if inside == above or inside in above.parents or above in inside.parents:
            problems.append(
                f"--out {out}: results of {folder} would go to {destination}, and one lies inside the other; "
                "choose a folder beside it"
            )
    if problems:
        raise SettingsError(*problems)
    return folders


def _read(folder: Path) -> Tree:
    try:
        return read_tree(folder)
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: cannot be read ({error.strerror}); check its permissions"
        ) from error


def _check_collisions(plan: Plan, out: Path) -> None:
    """Raise SettingsError where two inputs would make one file."""
    ignores_case = _ignores_case(out)
    if plan.format is None and not ignores_case:
        return
    problems = []
    for source in plan.sources:
        makers: dict[str, str] = {}
        for path in [*source.tree.images, *source.tree.others]:
            name = output_name(path, plan.format) if is_image(path) else path
            first = makers.setdefault(name.casefold() if ignores_case else name, path)
            if first != path:
                problems.append(f"{source.folder / first} and {source.folder / path}")
    if problems:
        more = f" (and {len(problems) - SHOWN} more pairs)" if len(problems) > SHOWN else ""
        why = "the file system of --out ignores case" if ignores_case else f"--format {plan.format}"
        raise SettingsError(
            f"results would collide ({why}): {'; '.join(problems[:SHOWN])}{more}; rename them, or keep --format same"
        )


def _ignores_case(folder: Path) -> bool:
    """Say whether names in `folder` differ only in case in vain, by asking for an existing one in other letters."""
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
