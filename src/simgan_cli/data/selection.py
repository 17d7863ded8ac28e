"""Which images of a folder are its pictures: what a person says, else what they look like."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from simgan_cli.data.archives import Archive, Readable, open_archives
from simgan_cli.data.label_images import MAX_ODD, ODD_SHARE, Domain, Group, find_label_images
from simgan_cli.data.patterns import ANY, Patterns
from simgan_cli.data.tree import SUFFIXES_IN_WORDS, Tree, suffixes_found
from simgan_cli.errors import DataError, LabelImages, UnreadableImage

INCLUDE_EXCLUDE = ("--include", "--exclude")
SHOWN = 5  # groups or files in a message


class OddImage(UnreadableImage):
    """An image that is none of the pictures of its folder; `reason` says what it looks like."""


@dataclass(frozen=True)
class Selection:
    """The pictures of a folder: the images of `tree` and of `archives`; everything else is among their others."""

    tree: Tree
    archives: list[Archive]
    domain: Domain | None = None  # None: a person says which files are pictures
    odd: dict[str, str] = field(default_factory=dict)  # path of an image that looks like a label, and why
    unmatched: list[str] = field(default_factory=list)  # of patterns that match nothing
    packed: str | None = None  # an image that seems to hold numbers in two of its colours, where all do
    flags: tuple[str, str] = INCLUDE_EXCLUDE

    def warnings(self, pixels: str) -> list[str]:
        """Return what a person should know who takes the pictures' pixels for "plain" or "packed16"."""
        if self.packed is None or pixels != "plain":
            return self.unmatched
        return [
            f"one channel is constant in all images, and another has few values, as in {self.packed}: they seem to "
            "hold numbers packed into colour, which a refiner ruins; --pixels packed16 unpacks them, "
            f"{self.flags[0]} '*' takes them as they are"
        ]

    @property
    def count(self) -> int:
        """Pictures in all."""
        return len(self.tree.images) + sum(len(archive.images) for archive in self.archives)


def select_pictures(
    tree: Tree, patterns: Patterns = ANY, flags: tuple[str, str] = INCLUDE_EXCLUDE, look: bool = True
) -> Selection:
    """Return the pictures of a tree that was read with `patterns`; where there are none, look for label images.

    `flags` are the options that settle it. Raises LabelImages where many files look like labels, not pictures.
    """
    tree, archives = open_archives(tree, patterns)
    if patterns or not look:
        return Selection(tree, archives, unmatched=_unmatched(tree, archives, patterns, flags))
    images: list[Readable] = [tree.root / name for name in tree.images]
    images += chain.from_iterable(archive.members() for archive in archives)
    paths = [*tree.images, *(entry.name for archive in archives for entry in archive.images)]
    try:
        found = find_label_images(paths, images)
    finally:
        for archive in archives:
            archive.close()
    count = sum(len(group.paths) for group in found.groups)
    if count > max(MAX_ODD, ODD_SHARE * len(paths)):
        raise _refusal(tree, found.groups, count, len(paths), flags)
    odd = {path: group.why for group in found.groups for path in group.paths}
    for archive in archives:
        archive.set_aside(odd)
    loose = [name for name in tree.images if name in odd]
    tree = replace(tree, images=[name for name in tree.images if name not in odd], others=[*tree.others, *loose])
    return Selection(tree, archives, found.domain, odd, packed=found.packed, flags=flags)


def no_image(place: object, trees: Iterable[Tree], archives: Iterable[Archive], patterns: Patterns = ANY) -> DataError:
    """Return what to say of a folder without a picture."""
    trees = list(trees)
    found = [path for tree in trees for path in (*tree.images, *tree.others, *tree.archives)]
    found += [entry.name for archive in archives for entry in archive.others]
    broken = "".join(f"; {path}: {reason}" for tree in trees for path, reason in tree.unusable[:1])
    if patterns:
        listed = [f"--include {glob!r}" for glob in patterns.include]
        listed += [f"--exclude {glob!r}" for glob in patterns.exclude]
        such = f", such as {found[0]}" if found else ""
        return DataError(
            f"{place}: no picture by {' '.join(listed)}; found {suffixes_found(found)}{such}{broken}; change the "
            "patterns, or take all images with --include '*'"
        )
    return DataError(
        f"{place}: no image among its files; found {suffixes_found(found)}; looked for {SUFFIXES_IN_WORDS} there and "
        f"below, in archives (.tar, .tar.gz, .zip) too; --include reads .exr, .npy and .h5{broken}"
    )


def odd_note(odd: dict[str, str], what: str, flags: tuple[str, str] = INCLUDE_EXCLUDE) -> str:
    """Return one sentence about images that look like labels, by path with why; `what` was done with them."""
    images = "1 image looks like a label, not a picture" if len(odd) == 1 else f"{len(odd):,} images look like labels"
    return (
        f"{images} ({', '.join(dict.fromkeys(odd.values()))}): {what}, such as {next(iter(odd))}; {flags[0]} and "
        f"{flags[1]} say which files are pictures"
    )


def foreign_note(foreign: dict[str, int], what: str) -> str:
    """Return one sentence about images, videos and archives that are not read; `what` was done with them."""
    listed = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(foreign.items(), key=lambda item: -item[1]))
    can = "; --include reads .exr (pip install 'simgan-cli[renders]')" if ".exr" in foreign else ""
    return f"{listed} files look like images, videos or archives, of formats that are not read: {what}{can}"


def _unmatched(tree: Tree, archives: Sequence[Archive], patterns: Patterns, flags: tuple[str, str]) -> list[str]:
    paths = [*tree.images, *tree.others, *tree.archives]
    paths += [entry.name for archive in archives for entry in (*archive.images, *archive.others)]
    warnings = []
    for flag, globs in zip(flags, (patterns.include, patterns.exclude), strict=True):
        for glob in globs:
            pattern = Patterns((glob,))
            if not any(map(pattern.takes, paths)):
                warnings.append(f"{flag} {glob!r} matches no file in {tree.root}")
    return warnings


def _refusal(tree: Tree, groups: list[Group], count: int, total: int, flags: tuple[str, str]) -> LabelImages:
    include, exclude = flags
    shown = sorted(groups, key=lambda group: -len(group.paths))[:SHOWN]
    lines = [
        f"  {len(group.paths):,} {group.pattern or 'images'} ({group.why}), such as {group.paths[0]}" for group in shown
    ]
    lines += [f"  and {len(groups) - SHOWN} more groups"] * (len(groups) > SHOWN)
    patterns = list(dict.fromkeys(group.pattern for group in groups if group.pattern))
    without = sum(len(group.paths) for group in groups if group.pattern is None)
    if without:
        lines.append(f"  no pattern tells {without:,} of them from pictures: move those to a folder of their own")
    carry = tuple(chain.from_iterable((exclude, pattern) for pattern in patterns))
    return LabelImages(
        f"{tree.root}: {count:,} of {total:,} images look like labels, not pictures:\n" + "\n".join(lines),
        {"leave labels as they are": carry, "take all images for pictures": (include, "*")},
    )
