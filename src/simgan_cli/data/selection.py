"""Select the pictures of a folder: by patterns, or else by their content."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from simgan_cli.data.archives import Archive, Member, Readable, open_archives
from simgan_cli.data.decoding import Decoded
from simgan_cli.data.label_images import MAX_ODD, MAX_ODD_FRACTION, Domain, Group, Packing, find_label_images
from simgan_cli.data.patterns import ANY, Patterns
from simgan_cli.data.tree import SUFFIXES_IN_WORDS, Tree, suffixes_found
from simgan_cli.errors import DataError, LabelImages, UnreadableImage, plural

INCLUDE_EXCLUDE = ("--include", "--exclude")
MAX_SHOWN = 5  # groups or files in a message


class OddImage(UnreadableImage):
    """An image that is not a picture; `reason` is what it looks like."""


@dataclass(frozen=True)
class Selection:
    """The pictures of a folder: the images of `tree` and of `archives` for which `oddity` returns None."""

    tree: Tree
    archives: list[Archive]
    domain: Domain | None = None  # None: patterns select the pictures
    odd: dict[str, str] = field(default_factory=dict)  # why an image looks like a label, by its `place_in` the folder
    unmatched: list[str] = field(default_factory=list)  # warnings of patterns that match no file
    packed: Packing | None = None
    flags: tuple[str, str] = INCLUDE_EXCLUDE

    @property
    def count(self) -> int:
        """Return the number of images."""
        return len(self.tree.images) + sum(len(archive.images) for archive in self.archives)

    def oddity(self, image: Readable, decoded: Decoded | None = None) -> str | None:
        """Return why an image looks like a label: by its group in the folder, or by its own content; else None."""
        if self.domain is None:
            return None
        if self.odd and (why := self.odd.get(place_in(self.tree.root, image))):
            return why
        return None if decoded is None else self.domain.oddity(decoded)

    def warnings(self, pixels: str) -> list[str]:
        """Return the warnings for pictures that are read as `pixels`, "plain" or "packed16"."""
        if self.packed is None or (pixels != "plain" and self.packed.is_packed16):
            return self.unmatched
        remedy = (
            "--pixels packed16 unpacks them"
            if self.packed.is_packed16
            else "reorder the channels, since --pixels packed16 reads green as the high byte and blue as the low one"
        )
        return [
            *self.unmatched,
            "images seem to hold numbers packed into colour, which a refiner ruins: one channel is constant, and "
            f"another has few values, as in {self.packed.example}; {remedy}, {self.flags[0]} '*' takes them as they "
            "are",
        ]

    def notes(self, pixels: str, odd: dict[str, str]) -> list[str]:
        """Return the warnings, and a sentence each about `odd` images left out and about formats not read."""
        labels = [odd_note(odd, "left out", self.flags)] if odd else []
        foreign = [foreign_note(self.tree.foreign, "left out")] if self.tree.foreign else []
        return [*self.warnings(pixels), *labels, *foreign]


def select_pictures(
    tree: Tree, patterns: Patterns = ANY, flags: tuple[str, str] = INCLUDE_EXCLUDE, *, is_recorded: bool = False
) -> Selection:
    """Return the pictures of a tree that was read with `patterns`.

    Label images are searched for unless an include names the pictures. Patterns that are recorded in a model
    (`is_recorded`) do not count as such, except "*". `flags` are the options for messages. Raises LabelImages where
    many files look like labels.
    """
    tree, opened = open_archives(tree, patterns)
    archives = [archive for archive in opened if archive.images]
    whose = " (recorded in the model)" if is_recorded else ""
    without_match = _unmatched(tree, opened, patterns, flags)
    unmatched = [f"{pattern}{whose} matches no file in {_place(tree)}" for pattern in without_match]
    if "*" in patterns.include or (patterns.include and not is_recorded):
        return Selection(tree, archives, unmatched=unmatched)
    images: list[Readable] = [tree.root / name for name in tree.images]
    images += chain.from_iterable(archive.members() for archive in archives)
    named = zip(tree.archives, archives, strict=True)
    paths = [*tree.images, *(f"{name}/{entry.name}" for name, archive in named for entry in archive.images)]
    try:
        search = find_label_images(paths, images)
    finally:
        for archive in archives:
            archive.close()
    count = sum(len(group.paths) for group in search.groups)
    if _are_many(count, len(paths)):
        raise _refusal(tree, search.groups, count, len(paths), flags, patterns)
    odd = {path: group.why for group in search.groups for path in group.paths}
    return Selection(tree, archives, search.domain, odd, unmatched, search.packed, flags)


def path_in(root: Path, image: Readable) -> str:
    """Return the path of an image in its archive, or below `root`."""
    return image.entry.name if isinstance(image, Member) else image.relative_to(root).as_posix()


def place_in(root: Path, image: Readable) -> str:
    """Return the path of an image below `root`, where an archive counts as a folder."""
    if isinstance(image, Member):
        return f"{image.archive.path.relative_to(root).as_posix()}/{image.entry.name}"
    return path_in(root, image)


def refuse_many(odd: dict[str, str], total: int, flags: tuple[str, str]) -> None:
    """Raise LabelImages where so many images look like labels that patterns must select the pictures."""
    if _are_many(len(odd), total):
        raise LabelImages(
            f"{odd_note(odd, f'of {total:,}')}; name the labels with {flags[1]}, then rerun",
            {"take all images for pictures": (flags[0], "*")},
        )


def _are_many(count: int, total: int) -> bool:
    return count > max(MAX_ODD, MAX_ODD_FRACTION * total)


def no_image(
    place: object,
    trees: Sequence[Tree],
    patterns: Patterns = ANY,
    flags: tuple[str, str] = INCLUDE_EXCLUDE,
) -> DataError:
    """Return the error of a folder without a picture."""
    files = [path for tree in trees for path in (*tree.images, *tree.others, *tree.hidden, *tree.archives)]
    broken = "".join(f"; {path}: {reason}" for tree in trees for path, reason in tree.unusable[:1])
    if patterns:
        such = f", such as {files[0]}" if files else ""
        return DataError(
            f"{place}: no picture by {' '.join(_options(patterns, flags))}; found {suffixes_found(files)}{such}{broken}"
            f"; change the patterns, or take all images with {flags[0]} '*'"
        )
    return DataError(
        f"{place}: no image among its files; found {suffixes_found(files)}; looked for {SUFFIXES_IN_WORDS} there and "
        f"below, in archives (.tar, .tar.gz, .zip) too; {flags[0]} '*.exr' reads .exr, and so on for .npy and .h5"
        f"{broken}"
    )


def _options(patterns: Patterns, flags: tuple[str, str]) -> dict[str, str]:
    """Return the globs by their options in words."""
    both = zip(flags, (patterns.include, patterns.exclude), strict=True)
    return {f"{flag} {glob!r}": glob for flag, globs in both for glob in globs}


def odd_note(odd: dict[str, str], what: str, flags: tuple[str, str] = INCLUDE_EXCLUDE) -> str:
    """Return one sentence about images that look like labels; `odd` is path to why, `what` was done with them."""
    images = "1 image looks like a label, not a picture" if len(odd) == 1 else f"{len(odd):,} images look like labels"
    return (
        f"{images} ({', '.join(dict.fromkeys(odd.values()))}): {what}, such as {next(iter(odd))}; {flags[0]} and "
        f"{flags[1]} choose the pictures"
    )


def foreign_note(foreign: dict[str, int], what: str) -> str:
    """Return one sentence about images, videos and archives that are not read; `what` was done with them."""
    listed = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(foreign.items(), key=lambda item: -item[1]))
    can = "; --include '*.exr' reads EXR, with pip install 'simgan-cli[renders]'" if ".exr" in foreign else ""
    return f"{what}: {listed} (images, videos or archives of formats that are not read{can})"


def _unmatched(tree: Tree, archives: Sequence[Archive], patterns: Patterns, flags: tuple[str, str]) -> list[str]:
    """Return the patterns, with their options, that match no file."""
    if not patterns:
        return []
    paths = [*tree.images, *tree.others, *tree.archives]
    paths += [entry.name for archive in archives for entry in (*archive.images, *archive.others)]
    return [
        option for option, glob in _options(patterns, flags).items() if not any(map(Patterns((glob,)).takes, paths))
    ]


def _place(tree: Tree) -> Path:
    """Return the folder of a tree, or the archive in its place."""
    files = [*tree.images, *tree.others, *tree.hidden, *tree.archives]
    return tree.root / tree.archives[0] if files == tree.archives and len(files) == 1 else tree.root


def _counted(group: Group) -> str:
    return f"{len(group.paths):,} {group.pattern}" if group.pattern else plural(len(group.paths), "image")


def _refusal(
    tree: Tree, groups: list[Group], count: int, total: int, flags: tuple[str, str], known: Patterns
) -> LabelImages:
    include, exclude = flags
    shown = sorted(groups, key=lambda group: -len(group.paths))[:MAX_SHOWN]
    lines = [f"  {_counted(group)} ({group.why}), such as {group.paths[0]}" for group in shown]
    lines += [f"  and {plural(len(groups) - MAX_SHOWN, 'more group')}"] * (len(groups) > MAX_SHOWN)
    patterns = list(dict.fromkeys(group.pattern for group in groups if group.pattern))
    without = sum(len(group.paths) for group in groups if group.pattern is None)
    if without:
        lines.append(f"  no pattern separates {without:,} of them from pictures: move those to a folder of their own")
    carry = [*((include, glob) for glob in known.include)] if patterns else []
    carry += [(exclude, glob) for glob in (*known.exclude, *patterns)] if patterns else []
    return LabelImages(
        f"{_place(tree)}: {count:,} of {total:,} images look like labels, not pictures:\n" + "\n".join(lines),
        {"leave labels as they are": tuple(chain(*carry)), "take all images for pictures": (include, "*")},
    )
