"""Label images among pictures: masks, ids, depth and codes that renderers write beside them, told by content and name.

A refiner must not touch them. Nothing here judges a folder by itself: a group of files is told from the pictures that
lie beside it, so that a folder of one kind, however flat its renders are, is a folder of pictures.
"""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix

import numpy as np

from simgan_cli.data.archives import Readable
from simgan_cli.data.images import Decoded, Pixels, decode
from simgan_cli.data.patterns import Patterns
from simgan_cli.data.renders import NoColours
from simgan_cli.data.tree import suffix_of
from simgan_cli.errors import UnreadableImage

# Measured on renders of eyes and their masks: masks have 4 or 5 colours, and 99.2 to 99.9 % of their pixels equal the
# left neighbour; pictures have 7,000 colours or more, and 11 to 56 %. Small masks and ids of objects need the room.
STILL = 0.8  # share of pixels equal to their left neighbour
MAX_GREYS, MAX_COLOURS = 64, 256
PICTURE_STILL = 0.6  # a picture has fewer
ROWS = 256  # of an image that are looked at
SAMPLES, MAX_SAMPLES = 8, 256  # images decoded of a group, and of all
MAX_ODD, ODD_SHARE = 3, 0.01  # a group of so few files is carried along, a larger one needs a person's word
MIN_GROUP, MIN_PICTURES = 3, 20  # files that content tells by, or pictures beside which it tells one file
FLAT = "few values in large areas"
MOST = 0.75  # share of a group that tells of all
MAX_NAMES = 16  # kinds of names in a folder, or of folders, that are told apart

LABEL_WORDS = frozenset(
    "mask masks seg segm segmentation semantic semantics instance instances panoptic label labels labelids trainids id "
    "ids class classes category index object obj depth depths disparity disp distance normal normals flow optical nocs "
    "uv coord coords coordinates position forward backward annotation annotations annot gt groundtruth ground truth "
    "occlusion occ noc matte trimap silhouette heatmap stencil cryptomatte albedo viz vis visib".split()
)
# Masks are never lively, so a lively image of this name is a picture: a face with a mask.
SHAPE_WORDS = frozenset("mask masks seg segm segmentation semantic semantics instance instances panoptic".split())
PICTURE_WORDS = frozenset(
    "rgb rgba image images img imgs color colour camera frame frames picture pictures pic photo photos render renders "
    "rendered beauty combined jpeg jpg png input inputs raw".split()
)
LABEL_WORD = re.compile("|".join(sorted(LABEL_WORDS, key=len, reverse=True)), re.IGNORECASE)
NUMBER = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-fA-F]{16,}|\d+")
WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


@dataclass(frozen=True)
class Group:
    """Images that are no pictures, by `why`; `pattern` is a glob that takes them and no picture, None without one."""

    paths: list[str]
    why: str
    pattern: str | None


@dataclass(frozen=True)
class Domain:
    """What the pictures of a folder have in common, so that one that is not like them can be told."""

    bits: int = 16  # of a sample, at most
    has_palettes: bool = True
    is_flat: bool = True  # some have as few colours as masks

    def oddity(self, decoded: Decoded) -> str | None:
        """Return why an image is none of these pictures; None for one that may be."""
        if decoded.is_palette and not self.has_palettes and _still(decoded.array) >= PICTURE_STILL:
            return "palette"
        if decoded.bits > 8 >= self.bits:
            return "16 bits among 8"
        return None if self.is_flat or not is_flat(decoded.array) else FLAT


@dataclass(frozen=True)
class Found:
    """What a look at the images of a folder found."""

    groups: list[Group]  # of label images
    domain: Domain  # of the others
    packed: str | None = None  # an image with numbers packed into colour, where all images seem to be so


@dataclass(frozen=True)
class _Look:
    """What one image is like: `constant` are its channels of one value, with that value."""

    bits: int
    is_palette: bool = False
    is_flat: bool = False
    is_lively: bool = False  # as only pictures are
    constant: tuple[tuple[int, int], ...] = ()
    has_few: bool = False  # values in another channel


def find_label_images(paths: Sequence[str], images: Sequence[Readable]) -> Found:
    """Look at the names of `images`, which are `paths` relative to their folder, and at the content of some."""
    members = defaultdict[tuple[object, ...], list[int]](list)
    for place, key in enumerate(_keys(paths)):
        members[key].append(place)
    named = _named_as_labels(paths)
    each = max(1, min(SAMPLES, MAX_SAMPLES // max(1, len(members))))
    looks = {
        key: list(filter(None, map(_look, _spread([images[i] for i in places], each))))
        for key, places in members.items()
    }
    named_keys = {
        key
        for key, places in members.items()
        if _most([place in named for place in places]) and not _is_lively_shape(paths[places[0]], looks[key])
    }
    suspicions = {key: _why(looks[key], 16, ()) for key in members if looks[key] and key not in named_keys}
    # What pictures are told from labels by: flat ones only where there are no others.
    pictures = [key for key, why in suspicions.items() if not why]
    normal = () if pictures else (FLAT,)
    pictures = pictures or [key for key, why in suspicions.items() if why == FLAT]
    known = [look for key in pictures for look in looks[key]]
    bits = min((look.bits for look in known), default=16)
    is_sure = sum(len(members[key]) for key in pictures if looks[key][0].bits == bits) >= MIN_PICTURES
    whys = {}
    for key, places in members.items():
        is_telling = known and (is_sure or key in named_keys or len(places) >= MIN_GROUP)
        if why := (is_telling and _why(looks[key], bits, normal)) or ("named as labels" if key in named_keys else ""):
            whys[key] = why
    taken = [paths[place] for key in members if key not in whys for place in members[key]]
    groups = _groups([([paths[place] for place in members[key]], why) for key, why in whys.items()], taken)
    everything = [look for group in looks.values() for look in group]
    packed = paths[0] if not known and everything and _is_packed(everything) else None
    domain = Domain(bits, any(look.is_palette for look in known), any(look.is_flat for look in known))
    return Found(groups, domain if is_sure else Domain(), packed)


def is_flat(array: Pixels) -> bool:
    """Return whether an H x W or H x W x 3 image has few colours in large areas, as masks have."""
    part = array[:: max(1, len(array) // ROWS)]
    return _still(part) >= STILL and _colours(part) <= (MAX_COLOURS if part.ndim == 3 else MAX_GREYS)


def _look(image: Readable) -> _Look | None:
    """Return what an image is like, None where it cannot be read."""
    try:
        decoded = decode(image)
    except UnreadableImage as error:
        is_float = isinstance(error, NoColours) or "floating-point" in error.reason or "renders" in error.reason
        return _Look(32) if is_float else None
    array = decoded.array[:: max(1, len(decoded.array) // ROWS)]
    values = [np.unique(array[..., channel]) for channel in range(3)] if array.ndim == 3 else []
    return _Look(
        decoded.bits,
        decoded.is_palette,
        is_flat(array),
        _still(array) < PICTURE_STILL,
        tuple((channel, int(found[0])) for channel, found in enumerate(values) if len(found) == 1),
        any(1 < len(found) <= MAX_GREYS for found in values),
    )


def _still(array: Pixels) -> float:
    """Return the share of pixels that equal their left neighbour."""
    equal = array[:, 1:] == array[:, :-1]
    return float((equal.all(-1) if array.ndim == 3 else equal).mean()) if equal.size else 1.0


def _colours(array: Pixels) -> int:
    if array.ndim == 3:
        wide = array.astype(np.uint64)
        array = (wide[..., 0] << 32) | (wide[..., 1] << 16) | wide[..., 2]
    return len(np.unique(array))


def _is_lively_shape(path: str, looks: list[_Look]) -> bool:
    """Return whether a group named as masks holds pictures all the same."""
    return SHAPE_WORDS.issuperset(_label_words(path)) and _most([look.is_lively for look in looks])


def _why(looks: list[_Look], bits: int, normal: tuple[str, ...]) -> str:
    """Return why a group, beside pictures of so many `bits`, holds none; "" where it may.

    What is `normal` among the pictures tells nothing.
    """
    reasons = {
        "palette": [look.is_palette and not look.is_lively for look in looks],
        "floating point": [look.bits > 16 for look in looks],
        "16 bits among 8": [look.bits > 8 >= bits for look in looks],
        FLAT: [look.is_flat for look in looks],
        "one channel constant": [_is_packed(looks)],
    }
    return next((reason for reason, facts in reasons.items() if reason not in normal and _most(facts)), "")


def _is_packed(looks: list[_Look]) -> bool:
    """Return whether one channel has one value in all images, and another few values in each: bytes of a number."""
    return (
        len({look.constant for look in looks}) == 1
        and len(looks[0].constant) == 1
        and all(look.has_few for look in looks)
    )


def _most(facts: Sequence[bool]) -> bool:
    return bool(facts) and sum(facts) >= MOST * len(facts)


def _spread(items: list[Readable], count: int) -> list[Readable]:
    """Return up to `count` items from all over a list."""
    return [items[len(items) * index // count] for index in range(count)] if len(items) > count else items


def _keys(paths: Sequence[str]) -> list[tuple[object, ...]]:
    """Return what kind of name each path has: its folder and its own with digits left out, its suffix.

    Where there are many kinds, names are told apart by the label words in them alone.
    """
    skeletons = []
    folders: set[str] = set()
    names = defaultdict[str, set[str]](set)
    for path in paths:
        folder, _, name = NUMBER.sub("#", path).rpartition("/")
        skeletons.append((folder, name))
        folders.add(folder)
        names[folder].add(name)
    keys = list[tuple[object, ...]]()
    for folder, name in skeletons:
        place = folder if len(folders) <= MAX_NAMES else _label_words(folder)
        kind = name if len(names[folder]) <= MAX_NAMES else (_label_words(name), suffix_of(name))
        keys.append((place, kind))
    return keys


def _label_words(path: str) -> tuple[str, ...]:
    if not LABEL_WORD.search(path):
        return ()
    return tuple(word for word in map(str.lower, WORD.findall(path)) if word in LABEL_WORDS)


def _named_as_labels(paths: Sequence[str]) -> set[int]:
    """Return the places of paths with label words that another one would be without them: mask/7.png, rgb/7.png."""
    if not any(map(LABEL_WORD.search, {NUMBER.sub("", path) for path in paths})):
        return set()
    labels, pictures = dict[int, tuple[str, ...]](), set[tuple[str, ...]]()
    for place, path in enumerate(paths):
        folder, _, name = path.rpartition("/")
        words = [word.lower() for word in WORD.findall(folder) if not word.isdigit()]
        words += map(str.lower, WORD.findall(os.path.splitext(name)[0]))  # noqa: PTH122 - as in tree.py
        bare = tuple(word for word in words if word not in LABEL_WORDS and word not in PICTURE_WORDS)
        if any(word in LABEL_WORDS for word in words):
            labels[place] = bare
        else:
            pictures.add(bare)
    return {place for place, bare in labels.items() if bare in pictures}


def _groups(members: list[tuple[list[str], str]], taken: list[str]) -> list[Group]:
    """Return groups of label images, those of one pattern together."""
    merged = dict[tuple[str, str | None], list[str]]()
    for paths, why in members:
        merged.setdefault((why, _pattern(paths, taken)), []).extend(paths)
    return [Group(paths, why, pattern) for (why, pattern), paths in merged.items()]


def _pattern(paths: list[str], taken: list[str]) -> str | None:
    """Return a glob that takes all `paths` and none that is `taken`: a folder, the end or the beginning of names."""
    names = [path.rpartition("/")[2] for path in paths]
    end = commonprefix([name[::-1] for name in names])[::-1]  # noqa: RUF071 - of characters
    start = commonprefix(names)  # noqa: RUF071
    tails = [end[place:] for place in range(len(end)) if not end[place].isalnum()]
    heads = [start[: place + 1] for place in reversed(range(len(start))) if not start[place].isalnum()]
    heads += [start.rstrip("0123456789")]
    folders = paths[0].split("/")[-2::-1]
    candidates = [f"{_literal(folder)}/*" for folder in folders]
    candidates += [f"*{_literal(tail)}" for tail in tails] + [f"{_literal(head)}*" for head in heads if head]
    if len(paths) == 1:
        candidates.append(f"/{_literal(paths[0])}")
    for candidate in candidates:
        pattern = Patterns((candidate,))
        if all(map(pattern.takes, paths)) and not any(map(pattern.takes, taken)):
            return candidate
    return None


def _literal(text: str) -> str:
    return re.sub(r"[*?\[\]]", "?", text)
