"""Find label images among pictures: masks, ids, depth and codes, which a refiner must not touch.

They are recognised by content and name. A group of files is compared with the pictures beside it, so a folder of one
kind is a folder of pictures, however flat its renders are.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from os.path import commonprefix

import numpy as np

from simgan_cli.data.archives import Readable
from simgan_cli.data.decoding import Decoded, Pixels, decode
from simgan_cli.data.patterns import Patterns
from simgan_cli.data.renders import NoColours
from simgan_cli.data.tree import is_archive, suffix_of
from simgan_cli.errors import UnreadableImage

# Measured on renders of eyes and their masks. Masks: 4 or 5 colours, 99.2 to 99.9 % of pixels equal their left
# neighbour. Pictures: 7,000 colours or more, 11 to 56 %. The limits leave room for small masks and object ids.
MIN_LABEL_STILL = 0.8  # share of pixels equal to their left neighbour
MAX_PICTURE_STILL = 0.6  # share of such pixels in a picture, at most
MAX_GREYS, MAX_COLOURS = 64, 256
MAX_MASK_COLOURS = 4  # flat images with so few are masks, whatever their number of changes
# At 48x64, masks have at most 0.16 colours for each change between neighbours, shaded renders at least 0.5.
MAX_COLOURS_PER_CHANGE = 0.2
MAX_ROWS = 256  # analysed of an image
MAX_GROUP_SAMPLES, MAX_SAMPLES = 16, 256  # images decoded of a group, and of all
MAX_ODD, MAX_ODD_FRACTION = 3, 0.01  # so few label images are left out, more need patterns
MIN_GROUP, MIN_PICTURES = 3, 20  # content decides for groups of 3 files, or for any file beside 20 pictures
FLAT, PACKED = "few values in large areas", "one channel constant"
MIN_LEVELS_RATIO = 4  # of the low byte's levels to the high byte's, in a number packed into colour
MIN_GROUP_FRACTION = 0.75  # share of a group that decides for all of it
MAX_NAMES = 16  # kinds of names in a folder, or of folders, that form groups of their own
MAX_VALUES = 8  # different values of a number in names that may code the kind of an image
MAX_FILLERS = 2  # words in a label's name that neither its picture's name has nor are label words

# Maps that may vary as much as pictures, and those that are grey.
MAP_WORDS = frozenset(
    "depth depths depthmap depthmaps disparity disparities disp distance normal normals normalmap normalmaps flow "
    "flows optical motion vector vectors nocs uv iuv coord coords coordinates albedo specular heatmap heatmaps".split()
)
GREY_WORDS = frozenset(
    "ao mist shadow roughness metallic edge edges sketch saliency confidence prob alpha alphas matte mattes".split()
)
# Masks never vary as much as pictures, so an image of such a name that does is a picture: a face with a mask.
SHAPE_WORDS = frozenset(
    "mask masks msk seg segs segm segmap segmaps segmentation segmentations semantic semantics sem instance instances "
    "ins is cs inds panoptic cseg iseg label labels labelmap labelids lbl trainids id ids class classes classgt "
    "category index object obj parts annotation annotations annot gt groundtruth ground truth occlusion occ noc trimap "
    "silhouette silhouettes stencil cryptomatte position forward backward viz vis visib".split()
)
LABEL_WORDS = MAP_WORDS | GREY_WORDS | SHAPE_WORDS
PICTURE_WORDS = frozenset(
    "rgb rgba image images img imgs im color colour camera cam frame frames picture pictures pic photo photos render "
    "renders rendered beauty combined jpeg jpg png input inputs raw left right view lit original orig final clean "
    "screenshot shot".split()
)
LABEL_WORD = re.compile("|".join(sorted(LABEL_WORDS, key=len, reverse=True)), re.IGNORECASE)
NUMBER = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-fA-F]{16,}|\d+")
WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


@dataclass(frozen=True)
class Group:
    """Label images and the reason `why`; `pattern` is a glob that takes them and no picture, or None."""

    paths: list[str]
    why: str
    pattern: str | None


@dataclass(frozen=True)
class Domain:
    """Common properties of the pictures of a folder, to recognise an image that differs."""

    bits: int = 16  # of a sample, at most
    has_palettes: bool = True
    is_flat: bool = True  # some pictures have as few colours as masks

    def oddity(self, decoded: Decoded) -> str | None:
        """Return why an image does not belong to these pictures, or None."""
        if decoded.is_palette and not self.has_palettes and _still(decoded.array) >= MAX_PICTURE_STILL:
            return "palette"
        if decoded.bits > 8 >= self.bits:
            return "16 bits among 8"
        is_odd = not self.is_flat and is_flat(decoded.array) and not _is_constant(decoded.array)
        return FLAT if is_odd else None  # a frame of one colour may be a picture


@dataclass(frozen=True)
class Packing:
    """Images that seem to hold numbers packed into colour, all of them: an example, and whether green is high."""

    example: str
    is_packed16: bool


@dataclass(frozen=True)
class LabelSearch:
    """The label images of a folder, and the properties of its pictures."""

    groups: list[Group]  # of label images
    domain: Domain  # of the pictures
    packed: Packing | None = None


@dataclass(frozen=True)
class _Look:
    """Properties of one image."""

    bits: int
    is_palette: bool = False
    is_flat: bool = False
    is_lively: bool = False  # neighbouring pixels differ, as only in pictures and maps
    is_colour: bool = False
    constant: tuple[tuple[int, int], ...] = ()  # channels of one value, with that value
    high_byte: int | None = None  # the channel with few values, where another has many


def find_label_images(paths: Sequence[str], images: Sequence[Readable]) -> LabelSearch:
    """Return the label images among `images`, by names and by the content of some.

    `paths` are their relative paths, in which an archive counts as a folder.
    """
    members = _grouped(paths)
    each = max(1, min(MAX_GROUP_SAMPLES, MAX_SAMPLES // max(1, len(members))))
    samples = {key: _spread(places, each) for key, places in members.items()}
    looks = {key: [look for place in places if (look := _look(images[place]))] for key, places in samples.items()}
    named = _named_as_labels(paths, samples)
    named -= {key for key in named if _is_lively_shape(paths[samples[key][0]], looks[key])}
    everything = [look for group in looks.values() for look in group]
    channels = _packed_channels(everything)
    packed = None if channels is None else Packing(paths[0], is_packed16=channels == (0, 1))
    common = (FLAT, PACKED) if packed else ()
    suspicions = {key: _why(looks[key], 16, common) for key in members if looks[key] and key not in named}
    # Labels are compared with these pictures; flat groups count as pictures only where there are no others.
    pictures = [key for key, why in suspicions.items() if not why]
    normal = common if pictures else (FLAT,)
    pictures = pictures or [key for key, why in suspicions.items() if why == FLAT]
    known = [look for key in pictures for look in looks[key]]
    bits = min((look.bits for look in known), default=16)
    is_sure = sum(len(members[key]) for key in pictures if looks[key][0].bits == bits) >= MIN_PICTURES
    whys = {}
    for key, places in members.items():
        is_telling = known and (is_sure or key in named or len(places) >= MIN_GROUP)
        if why := (is_telling and _why(looks[key], bits, normal)) or ("named as labels" if key in named else ""):
            whys[key] = why
    taken = [paths[place] for key in members if key not in whys for place in members[key]]
    groups = _groups([([paths[place] for place in members[key]], why) for key, why in whys.items()], taken)
    domain = Domain(bits, any(look.is_palette for look in known), any(look.is_flat for look in known))
    return LabelSearch(groups, domain if is_sure and not packed else Domain(), packed)


def is_flat(array: Pixels) -> bool:
    """Return whether an H x W or H x W x 3 image has few colours in large areas, like masks."""
    part = array[:: max(1, len(array) // MAX_ROWS)]
    still = _still(part)
    if still < MIN_LABEL_STILL:
        return False
    colours, changes = _colours(part), (1 - still) * part.shape[0] * (part.shape[1] - 1)
    most = MAX_COLOURS if part.ndim == 3 else MAX_GREYS
    return colours <= MAX_MASK_COLOURS or colours <= min(most, MAX_COLOURS_PER_CHANGE * changes)


def _look(image: Readable) -> _Look | None:
    """Return the properties of an image; None where it cannot be read, or has only one colour."""
    try:
        decoded = decode(image)
    except UnreadableImage as error:
        is_float = isinstance(error, NoColours) or "floating-point" in error.reason or "renders" in error.reason
        return _Look(32) if is_float else None
    array = decoded.array[:: max(1, len(decoded.array) // MAX_ROWS)]
    if _is_constant(array) and decoded.bits == 8 and not decoded.is_palette:
        return None
    values = [np.unique(array[..., channel]) for channel in range(3)] if array.ndim == 3 else []
    return _Look(
        decoded.bits,
        decoded.is_palette,
        is_flat(array),
        _still(array) < MAX_PICTURE_STILL,
        array.ndim == 3 and bool((array != array[..., :1]).any()),
        tuple((channel, int(levels[0])) for channel, levels in enumerate(values) if len(levels) == 1),
        _high_byte([len(levels) for levels in values]),
    )


def _high_byte(counts: list[int]) -> int | None:
    """Return the channel that has few levels where another has many, from the `counts` of a colour image's levels."""
    varied = [count for count in counts if count > 1]
    if len(varied) < 2 or min(varied) > MAX_GREYS or max(varied) < MIN_LEVELS_RATIO * min(varied):
        return None
    return counts.index(min(varied))


def _is_constant(array: Pixels) -> bool:
    return bool((array == array[:1, :1]).all())


def _still(array: Pixels) -> float:
    """Return the share of pixels that equal their left neighbour."""
    equal = array[:, 1:] == array[:, :-1]
    return float((equal.all(-1) if array.ndim == 3 else equal).mean()) if equal.size else 1.0


def _colours(array: Pixels) -> int:
    if array.ndim == 3:
        wide = array.astype(np.uint64)
        array = (wide[..., 0] << 32) | (wide[..., 1] << 16) | wide[..., 2]
    return len(np.unique(array))


def _why(looks: list[_Look], bits: int, normal: tuple[str, ...]) -> str:
    """Return why a group beside pictures of `bits` holds label images, or "".

    Reasons that are `normal` for the pictures do not count.
    """
    reasons = {
        "palette": [look.is_palette and not look.is_lively for look in looks],
        "no colours": [look.bits > 16 for look in looks],
        "16 bits among 8": [look.bits > 8 >= bits for look in looks],
        FLAT: [look.is_flat for look in looks],
        PACKED: [_packed_channels(looks) is not None],
    }
    return next((reason for reason, facts in reasons.items() if reason not in normal and _most(facts)), "")


def _packed_channels(looks: list[_Look]) -> tuple[int, int] | None:
    """Return the constant channel and the high byte's of images that hold bytes of a number, None for others.

    One channel is then constant in all images, and another has few values in each.
    """
    kinds = {(look.constant, look.high_byte) for look in looks}
    if len(kinds) != 1:
        return None
    constant, high = kinds.pop()
    return None if len(constant) != 1 or high is None else (constant[0][0], high)


def _most(facts: Sequence[bool]) -> bool:
    return bool(facts) and sum(facts) >= MIN_GROUP_FRACTION * len(facts)


def _spread(items: list[int], count: int) -> list[int]:
    """Return up to `count` items, evenly spread over a list and including its ends."""
    if len(items) <= count:
        return items
    return [items[round(index * (len(items) - 1) / max(1, count - 1))] for index in range(count)]


def _grouped(paths: Sequence[str]) -> dict[tuple[object, ...], list[int]]:
    """Return the indices of paths by the kind of their name: folder and name with numbers left out.

    A number with few values is part of the kind, for it may code what an image is. Where there are many kinds, only
    the label words in names make the kind.
    """
    by_skeleton = defaultdict[tuple[str, str], list[int]](list)
    for place, path in enumerate(paths):
        folder, _, name = NUMBER.sub("#", path).rpartition("/")
        by_skeleton[folder, name].append(place)
    names = Counter(folder for folder, _ in by_skeleton)
    groups = defaultdict[tuple[object, ...], list[int]](list)
    for (folder, name), places in by_skeleton.items():
        where: object = folder if len(names) <= MAX_NAMES else _label_words(folder)
        if names[folder] > MAX_NAMES:
            groups[where, _label_words(name), suffix_of(name)] += places
            continue
        columns = list(zip(*(NUMBER.findall(paths[place].rpartition("/")[2]) for place in places), strict=True))
        most = min(MAX_VALUES, len(places) // MIN_GROUP)
        coding = [column for column in columns if 1 < len(set(column)) <= most]
        for index, place in enumerate(places):
            groups[where, name, *(column[index] for column in coding)].append(place)
    return groups


def _label_words(path: str) -> tuple[str, ...]:
    if not LABEL_WORD.search(path):
        return ()
    return tuple(word for word in map(str.lower, WORD.findall(path)) if word in LABEL_WORDS)


def _is_lively_shape(path: str, looks: list[_Look]) -> bool:
    """Return whether a group that is named as masks or grey maps nevertheless holds pictures."""
    words = _label_words(path)
    is_grey = not GREY_WORDS.isdisjoint(words)
    return MAP_WORDS.isdisjoint(words) and _most([look.is_lively and (look.is_colour or not is_grey) for look in looks])


def _named_as_labels(paths: Sequence[str], samples: dict[tuple[object, ...], list[int]]) -> set[tuple[object, ...]]:
    """Return the groups in which most names equal those of other images plus label words: mask/7.png, rgb/7.png."""
    if not any(map(LABEL_WORD.search, {NUMBER.sub("", path) for path in paths})):
        return set()
    fewest = dict[tuple[str, ...], int]()  # label words, by all other words of a path
    stems = defaultdict[str, set[bool]](set)  # whether the names in a folder are nothing but label words
    for path in paths:
        bare, count, is_all = _bare(path)
        fewest[bare] = min(count, fewest.get(bare, count))
        stems[path.rpartition("/")[0]].add(is_all)

    def is_named(path: str) -> bool:
        bare, count, is_all = _bare(path)
        if not count:
            return False
        if is_all and False in stems[path.rpartition("/")[0]]:  # scene/depth.png beside scene/0.png
            return True
        lengths = range(max(min(1, len(bare)), len(bare) - MAX_FILLERS), len(bare) + 1)
        others = chain.from_iterable(combinations(bare, length) for length in lengths)
        return any(fewest.get(other, count) < count for other in others)

    return {key for key, places in samples.items() if _most([is_named(paths[place]) for place in places])}


def _bare(path: str) -> tuple[tuple[str, ...], int, bool]:
    """Return the words of a path that are neither picture nor label words, and facts about its label words.

    The facts: how many there are, and whether the file's own name consists of them. Numbers of folders are left out.
    """
    folder, _, name = path.rpartition("/")
    stem = [word.lower() for word in WORD.findall(os.path.splitext(name)[0])]  # noqa: PTH122 - as in tree.py
    words = dict.fromkeys([word.lower() for word in WORD.findall(folder) if not word.isdigit()] + stem)
    bare = tuple(word for word in words if word not in LABEL_WORDS and word not in PICTURE_WORDS)
    return bare, sum(word in LABEL_WORDS for word in words), bool(stem) and LABEL_WORDS.issuperset(stem)


def _groups(members: list[tuple[list[str], str]], taken: list[str]) -> list[Group]:
    """Return groups of label images, merged where reason and pattern are the same."""
    merged = dict[tuple[str, str | None], list[str]]()
    for paths, why in members:
        merged.setdefault((why, _pattern(paths, taken)), []).extend(paths)
    return [Group(paths, why, pattern) for (why, pattern), paths in merged.items()]


def _pattern(paths: list[str], taken: list[str]) -> str | None:
    """Return a glob that takes all `paths` and none of `taken`, by folder, or end or start of names; or None."""
    names = [path.rpartition("/")[2] for path in paths]
    end = commonprefix([name[::-1] for name in names])[::-1]  # noqa: RUF071 - of characters
    start = commonprefix(names)  # noqa: RUF071
    tails = [end[at:] for at in range(len(end)) if not end[at].isalnum() or (at and end[at].isupper())]
    heads = [start[: at + 1] for at in reversed(range(len(start))) if not start[at].isalnum()]
    heads += [start.rstrip("0123456789")]
    folders = paths[0].split("/")[-2::-1]
    candidates = [_everything_in(_literal(folder)) for folder in folders]
    candidates += [f"*{_literal(tail)}" for tail in tails] + [f"{_literal(head)}*" for head in heads if head]
    candidates += [
        NUMBER.sub("*", _literal(names[0])),
        *(_everything_in(NUMBER.sub("*", _literal(folder))) for folder in folders),
    ]
    if len(paths) == 1 and not any(map(is_archive, folders)):
        candidates.append(f"/{_literal(paths[0])}")
    for candidate in candidates:
        pattern = Patterns((candidate,))
        if all(map(pattern.takes, paths)) and not any(map(pattern.takes, taken)):
            return candidate
    return None


def _everything_in(folder: str) -> str:
    """Return the glob of all files in a folder; patterns of paths do not reach into an archive from outside."""
    return folder if is_archive(folder) else f"{folder}/*"


def _literal(text: str) -> str:
    return re.sub(r"[*?\[\]]", "?", text)
