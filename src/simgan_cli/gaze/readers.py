"""Readers of labelled eyes: labels.csv, UnityEyes, MPIIGaze, MPIIFaceGaze-style HDF5, npz.

Each yields samples of what its layout holds; `read` finds the layout out and brings them to one form.
"""

import csv
import io
import math
import os
import posixpath
import re
import struct
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from json import JSONDecodeError
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simgan_cli.data.archives import MAX_EXPANSION, MAX_TRUSTED_BYTES, image_batches
from simgan_cli.data.cache import BATCH_IMAGES, Source, decoded
from simgan_cli.data.decoding import Preparation, luma, read_pixels, stored_size
from simgan_cli.data.selection import OddImage, odd_note
from simgan_cli.data.texts import read_text
from simgan_cli.data.tree import Tree, is_archive, is_image, natural, read_tree, suffixes_found
from simgan_cli.errors import DataError, SettingsError, UnreadableImage
from simgan_cli.files import parse_json, with_filename
from simgan_cli.gaze.geometry import Vectors, facing_camera, mirrored, vectors_from_angles
from simgan_cli.gaze.labels import Grey, LabelledImages, Options, Sample, collect, prepared
from simgan_cli.settings.eval_gaze import Layout

Samples = tuple[list[Sample], list[str]]  # with what is worth a warning
STORED_GREY = Preparation(channels="1", background="keep")
HDF5_SUFFIXES = {".h5", ".hdf5", ".hdf"}
HDF5_SIGNATURE = b"\x89HDF"
MAT_HEADER = 128  # bytes
MAT_COMPRESSED = 15  # the type of an element that zlib has packed
CHECKSUM = 4  # bytes that HDF5 may put behind a chunk
TEXTS_AT_A_TIME = 64  # each at most as long as the file
EYE_SIZE = (35, 55)  # H, W of the paper's eyes
EYE_WINDOW = 1.6  # width of the window round an eye, in widths of the box of its lid margin
IMAGE_KEYS = ("x", "image", "images", "data", "face_patch")
GAZE_KEYS = ("gaze", "gazes", "label", "face_gaze")
PUPIL_KEYS = ("pupil", "pupils")
PERSON_KEYS = ("person", "persons", "subject_index")
FILE_KEYS = ("file", "files")
KNOWN_KEYS = {*IMAGE_KEYS, *GAZE_KEYS, *PUPIL_KEYS, *PERSON_KEYS, *FILE_KEYS}
NAMED = 3  # examples in a message
LISTED = 12  # names of what a file holds, in a message
DECIMAL_COMMA = re.compile(r"\s*[+-\N{MINUS SIGN}]?\d+,\d+([eE][+-]?\d+)?\s*")
NO_TABLES = {
    b"version https://git-lfs": "a Git LFS pointer; get the table with: git lfs pull",
    b"PK\x03\x04": "an Excel workbook or another zip archive; save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save it as CSV",
    b"<": "HTML or XML, as a failed download leaves; download it again",
}
LONGEST_VECTOR = 4  # numbers; of a render's gaze the first three count


def read(path: Path, options: Options, layout: Layout | Literal["auto"] = "auto") -> LabelledImages:
    """Read the labelled images at `path`: a folder, an .npz or an HDF5 file.

    Raises SettingsError for a path that is not there, DataError for labels or images that cannot be used.
    """
    if not path.exists():
        raise SettingsError(f"{path}: no such file or folder; give labelled images")
    found = _recognised(path) if layout == "auto" else layout
    samples, warnings = _READERS[found](path, options)
    if not samples and options.patterns:
        raise DataError(f"{path}: --include and --exclude leave none of its labelled images; give other patterns")
    if found == "unityeyes":
        options = replace(options, size=options.size or EYE_SIZE)
    return collect(samples, path, found, options, warnings)


def read_unlabelled(path: Path, size: tuple[int, int], options: Options) -> tuple[Grey, list[str]]:
    """Read grey images below a folder or in an archive as N x H x W of `size`; say what was left out, too.

    They are brought to that form as labelled ones are. Raises SettingsError for a path that is neither, DataError where
    no image can be read.
    """
    if not path.exists():
        raise SettingsError(f"{path}: no such file or folder; give unlabelled images")
    if path.is_file() and not is_archive(path.name):
        raise SettingsError(f"{path}: a file; give a folder of images, or a tar or zip archive of some")
    source = Source(path, options.patterns)
    selection = source.select(source.read())
    images = list[Grey]()
    left_out = [f"{path / name}: {reason}" for name, reason in selection.tree.unusable]
    odd: dict[str, str] = {}
    batches = image_batches(selection.tree, selection.archives, BATCH_IMAGES)
    for file, found in decoded(batches, Preparation(channels="1"), None, selection):
        if isinstance(found, OddImage):
            odd[str(file)] = found.reason
        elif isinstance(found, UnreadableImage):
            left_out.append(f"{file}: {found.reason}")
        else:
            images.append(prepared(found.pixels[0], size, options))
    if not images:
        bad = left_out or [": ".join(item) for item in odd.items()]
        raise DataError(f"{path}: none of {selection.count:,} images can be read, such as {bad[0]}")
    told = [f"{path}: {len(left_out):,} unreadable images left out, such as {left_out[0]}"] if left_out else []
    told += [f"{path}: {odd_note(odd, 'left out')}"] if odd else []
    return np.stack(images), [*told, *selection.warnings("plain")]


def _recognised(path: Path) -> Layout:
    if path.is_file():
        if zipfile.is_zipfile(path):
            return "npz"
        with path.open("rb") as file, with_filename(path):
            if file.read(4) == HDF5_SIGNATURE:
                return "hdf5"
    elif (path / "labels.csv").is_file():
        return "csv"
    elif _mpiigaze_days(path):
        return "mpiigaze"
    elif _hdf5_files(path):
        return "hdf5"
    elif any(re.fullmatch(r"\d+\.json", entry.name) for entry in path.iterdir()):
        return "unityeyes"
    raise DataError(
        f"{path}: no labels found, but {_contents(path)}; wanted labels.csv beside the images, UnityEyes' N.json "
        "beside N.jpg, MPIIGaze's Data/Normalized, an HDF5 file, or an .npz with x and gaze; --labels names the layout"
    )


def _contents(path: Path) -> str:
    """Return in words what kinds of files lie below a folder, or that it is a file."""
    if path.is_file():
        return "a file"
    tree = read_tree(path)
    return suffixes_found([*tree.images, *tree.archives, *tree.others])


# labels.csv

Row = tuple[int, dict[str, str]]  # the line it ends in; text by column


def _read_csv(folder: Path, options: Options) -> Samples:
    table = folder / "labels.csv"
    columns, rows = _read_table(table)
    wanted = _columns(columns, options, table)
    numbers = [[_number(row.get(name, ""), name, table, line) for name in wanted] for line, row in rows]
    targets = np.array(numbers, np.float64).reshape(len(rows), len(wanted))
    if wanted == ["pitch", "yaw"]:
        angles = targets[:, ::-1] if options.convention == "gazehub" else targets
        targets = _vectors(angles, options, table)
    tree = read_tree(folder, options.patterns)
    files = _labelled_files(tree, [row.get("file", "") for _, row in rows], table)
    persons = [row.get("person") or None for _, row in rows]
    if "person" in columns and not all(persons):
        raise DataError(
            f"{table}: line {rows[persons.index(None)][0]} names no person; fill the column in or remove it"
        )
    samples = [
        Sample(file, partial(_decode, folder / file), target, person)
        for file, target, person in zip(files, targets, persons, strict=True)
        if options.patterns.takes(file)
    ]
    return samples, _unlabelled(folder, len(set(tree.images) - set(files)))


def _read_table(table: Path) -> tuple[list[str], list[Row]]:
    """Return the columns and rows of a table whose cells are parted by what parts most of its header's.

    Blanks round cells go, and so does the case of columns where that leaves them apart.
    """
    try:
        with table.open("rb") as file:
            start = file.read(64).lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
        if what := next((what for opening, what in NO_TABLES.items() if start.startswith(opening)), None):
            raise DataError(f"{table}: no table but {what}")
        text = read_text(table)
        header = text.strip().partition("\n")[0]
        told = re.fullmatch(r"sep=([,;\t])", header, re.IGNORECASE)  # Excel reads and writes such a line
        delimiter = told[1] if told else max(",;\t", key=header.count)
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
        lines = [(reader.line_num, cells) for line in reader if any(cells := [cell.strip() for cell in line])]
        lines = lines[1:] if told else lines
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a table ({error})") from error
    given = lines[0][1] if lines else []
    lowered = [name.lower() for name in given]
    columns = [low if lowered.count(low) == 1 else name for name, low in zip(given, lowered, strict=True)]
    for number, cells in lines[1:]:
        if any(cells[len(columns) :]):
            raise DataError(
                f"{table}: line {number} has {len(cells)} cells below {len(columns)} columns; where commas are decimal "
                "ones, quote the numbers or part the cells by semicolons"
            )
    return columns, [(number, dict(zip(columns, cells, strict=False))) for number, cells in lines[1:]]


def _columns(columns: Sequence[str], options: Options, table: Path) -> list[str]:
    choices = [["pupil_x", "pupil_y"]] if options.target == "pupil" else [["gx", "gy", "gz"], ["pitch", "yaw"]]
    for choice in choices:
        if {"file", *choice} <= set(columns):
            if repeated := [name for name in ("file", "person", *choice) if columns.count(name) > 1]:
                raise DataError(f"{table}: has the columns {', '.join(repeated)} more than once; keep one of each")
            return choice
    wanted = " or ".join(",".join(["file", *choice]) for choice in choices)
    raise DataError(f"{table}: has the columns {', '.join(columns) or '(none)'}; wanted {wanted}")


def _number(text: str, column: str, table: Path, line: int) -> float:
    try:
        number = parse_number(text)
        if not math.isfinite(number):
            raise ValueError
        return number
    except ValueError:
        raise DataError(f"{table}: line {line}: {column} is {text!r}, wanted a number") from None


def parse_number(text: str) -> float:
    """Return a number with a decimal point or comma, and any minus sign. Raises ValueError for anything else."""
    text = text.strip().replace("\N{MINUS SIGN}", "-")
    return float(text.replace(",", ".") if DECIMAL_COMMA.fullmatch(text) else text)


def _labelled_files(tree: Tree, names: list[str], table: Path) -> list[str]:
    """Return the file that each label names, relative to the folder, however it names it.

    Backslashes may stand for slashes, and a suffix may lack where one image fits. Raises DataError for names outside
    the folder, without an image, or of one image.
    """
    images, excluded = _by_stem(tree.images), _by_stem(filter(is_image, tree.others))
    files, missing, several = list[str](), list[str](), list[str]()
    for name in names:
        slashed = name.replace("\\", "/")
        if slashed.startswith("/") or PureWindowsPath(name).is_absolute() or ".." in slashed.split("/"):
            raise DataError(f"{table}: {name} lies outside the folder; give paths below {tree.root}")
        forms = [posixpath.normpath(form) for form in (name, slashed)]
        file = next((form for form in forms if os.path.isfile(tree.root / form)), None)  # noqa: PTH113 - of any length
        fitting = [file] if file else images.get(forms[-1]) or excluded.get(forms[-1], [])[:1]
        if len(fitting) == 1:
            files.append(fitting[0])
        elif fitting:
            several.append(f"{name}: {', '.join(fitting)}")
        else:
            missing.append(name or "an empty name")
    if missing:
        raise DataError(
            f"{table}: {len(missing):,} of {len(names):,} labels have no image ({', '.join(missing[:NAMED])}); images "
            f"there: {', '.join(tree.images[:NAMED]) or 'none'}; restore the images or correct the lines"
        )
    if several:
        raise DataError(
            f"{table}: {len(several):,} labels fit more than one image ({'; '.join(several[:NAMED])}); add the suffix"
        )
    if twice := [file for file, count in Counter(files).items() if count > 1]:
        raise DataError(f"{table}: {', '.join(twice[:NAMED])} stand there more than once; keep one line for each image")
    return files


def _by_stem(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return paths by what they are without their suffix."""
    found = defaultdict[str, list[str]](list)
    for path in paths:
        found[os.path.splitext(path)[0]].append(path)  # noqa: PTH122 - of a million paths
    return found


# UnityEyes


def _read_unityeyes(folder: Path, options: Options) -> Samples:
    tree = read_tree(folder, options.patterns)
    images, excluded = _by_stem(tree.images), _by_stem(filter(is_image, tree.others))
    labels = {name.removesuffix(".json"): name for name in tree.others if re.fullmatch(r"(.*/)?\d+\.json", name)}
    if not labels:
        raise DataError(f"{folder}: no N.json of UnityEyes among {_contents(folder)}")
    alone = sorted(labels.keys() - images.keys() - excluded.keys())
    if alone:
        named = ", ".join(labels[stem] for stem in alone[:NAMED])
        raise DataError(
            f"{folder}: {len(alone):,} labels have no image ({named}) among {_contents(folder)}; restore or remove them"
        )
    if several := [stem for stem in labels if len(images.get(stem, ())) > 1]:
        named = "; ".join(f"{labels[stem]}: {', '.join(images[stem])}" for stem in several[:NAMED])
        raise DataError(
            f"{folder}: {len(several):,} labels have more than one image ({named}); keep one of each name, or name the "
            "renders, such as --include '*.jpg'"
        )
    warnings = _unlabelled(folder, len(images.keys() - labels.keys()))
    size = options.size or EYE_SIZE
    samples = [
        _unityeyes_sample(folder, images[stem][0], labels[stem], size, options) for stem in images if stem in labels
    ]
    return samples, warnings


def _unityeyes_sample(folder: Path, image: str, label: str, size: tuple[int, int], options: Options) -> Sample:
    path = folder / label
    try:
        content = parse_json(read_text(path))
        margin = np.array([parse_vector(text)[:2] for text in _entry(content, "interior_margin_2d")])
        if options.target == "gaze":
            x, y, z = parse_vector(_entry(content, "eye_details", "look_vec"))[:3]
        else:
            points = [parse_vector(text)[:2] for text in _entry(content, "iris_2d")]
            if not points:
                raise ValueError("iris_2d has no points")
            centre = np.mean(points, axis=0)
    except JSONDecodeError as error:
        raise DataError(
            f"{path}: cut off or damaged JSON (line {error.lineno}: {error.msg}); render or copy it again"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not the JSON of a UnityEyes render ({type(error).__name__}: {error})") from error
    if margin.ndim != 2 or len(margin) < 2 or np.ptp(margin[:, 0]) <= 0:
        raise DataError(f"{path}: interior_margin_2d spans no box; remove this render")
    height, _ = stored_size(folder / image)
    left, top, width, rows = eye_window(margin, height, size)
    crop = partial(_cropped, folder / image, (left, top, width, rows), size)
    if options.target == "gaze":
        return Sample(image, crop, (x, -y, z))  # Unity's y points up
    return Sample(image, crop, ((centre[0] - left) * size[1] / width, (height - centre[1] - top) * size[0] / rows))


def _entry(content: Any, *keys: str) -> Any:
    """Return what stands at `keys` of nested objects. Raises ValueError that names what is there instead."""
    for place, key in enumerate(keys, 1):
        if not isinstance(content, dict) or key not in content:
            found = f"the names {_listed(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
            raise ValueError(f"found {found}; wanted {'.'.join(keys[:place])}")
        content = content[key]
    return content


def parse_vector(text: str) -> list[float]:
    """Return the numbers of "(x, y, z)" or "(x, y, z, w)", also with decimal commas: "(0,0100, 0,2000, -0,9800)".

    Raises ValueError for anything else; nothing is evaluated.
    """
    match = re.fullmatch(r"\s*\(([^()]*)\)\s*", text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not (x, y, z)")
    numbers = list(map(parse_number, _parts(match[1])))
    if not 2 <= len(numbers) <= LONGEST_VECTOR:
        raise ValueError(f"{text[:40]!r} has {len(numbers)} numbers; wanted (x, y, z)")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{text[:40]!r} is not finite")
    return numbers


def _parts(text: str) -> list[str]:
    """Return the texts of the numbers of a vector, apart at commas that are no decimal ones."""
    parts, spaced = text.split(","), re.split(r",\s+", text)
    if 1 < len(spaced) < len(parts):  # blanks after some commas alone: those part numbers
        return spaced
    if len(parts) in (6, 2 * LONGEST_VECTOR):
        return [",".join(pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
    return parts


def eye_window(margin: NDArray[np.float64], height: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the window round an eye as left, top, width, height in pixels, y down.

    It has the aspect of `size` (H, W), the centre of the box of the lid's margin (points with y up, in an image of
    `height`) and 1.6 times that box's width.
    """
    low, high = margin.min(axis=0), margin.max(axis=0)
    (x, y), width = (low + high) / 2, EYE_WINDOW * (high[0] - low[0])
    rows = width * size[0] / size[1]
    return float(x - width / 2), float(height - y - rows / 2), float(width), float(rows)


def _cropped(path: Path, window: tuple[float, float, float, float], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the window of an image, antialiased, as H x W grey; beyond the edges the last pixels go on."""
    grey = _decode(path)
    left, top, width, rows = window
    beyond = max(0.0, -left, -top, left + width - grey.shape[1], top + rows - grey.shape[0])
    if beyond > max(grey.shape):  # it would ask for endless padding: it is no eye
        raise UnreadableImage(path, "its landmarks lie far outside the image; remove this render")
    pad = int(np.ceil(beyond))
    padded = Image.fromarray(np.pad(grey, pad, mode="edge"))
    box = (left + pad, top + pad, left + pad + width, top + pad + rows)
    return np.asarray(padded.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box))


# MPIIGaze


def _mpiigaze_days(folder: Path) -> list[Path]:
    """Return the pXX/dayYY.mat at a folder, its Data/Normalized or Normalized."""
    for root in (folder, folder / "Data" / "Normalized", folder / "Normalized"):
        days = sorted(root.glob("p[0-9][0-9]/day*.mat"))
        if days:
            return days
    return []


def _read_mpiigaze(folder: Path, options: Options) -> Samples:
    _needs_gaze(folder, options)
    days = _mpiigaze_days(folder)
    if not days:
        raise DataError(f"{folder}: no pXX/dayYY.mat; wanted MPIIGaze's Data/Normalized or a folder that holds it")
    subset = _evaluation_subset(days[0].parents[1])
    samples = [sample for day in days for sample in _mpiigaze_day(day)]
    warnings = []
    if subset is None:
        warnings.append(f"{folder}: no list of the evaluation subset found; all {len(samples):,} eyes are used")
    else:
        by_name = {sample.file: sample for sample in samples}
        missing = [name for name in subset if name not in by_name]
        if missing:
            raise DataError(
                f"{folder}: {len(missing):,} eyes of the evaluation subset are not there ({', '.join(missing[:NAMED])})"
            )
        samples = [by_name[name] for name in subset]
    empty = {day.parent.name for day in days} - {sample.person for sample in samples}
    warnings += [f"{folder}: {person} has no eyes" for person in sorted(empty)]
    return samples, warnings


def _mpiigaze_day(path: Path) -> Iterator[Sample]:
    """Yield the eyes of one day: left ones as they are, right ones mirrored to left ones."""
    content = _loaded_mat(path)
    try:
        names = np.atleast_1d(content["filenames"])
        for side in ("left", "right"):
            eyes = getattr(content["data"], side)
            images = np.asarray(eyes.image, np.uint8).reshape(len(names), *np.shape(eyes.image)[-2:])
            gazes = np.asarray(eyes.gaze, np.float64).reshape(len(names), 3)
            if side == "right":
                images, gazes = images[:, :, ::-1], mirrored(gazes)
            for name, image, gaze in zip(names, images, gazes, strict=True):
                file = f"{path.parent.name}/{path.stem}/{name} {side}"
                yield Sample(file, partial(np.ascontiguousarray, image), gaze, path.parent.name)
    except (KeyError, AttributeError, ValueError, TypeError, IndexError) as error:
        raise DataError(
            f"{path}: not a day of MPIIGaze ({type(error).__name__}: {error}); found {_listed(_fields(content))}; "
            "wanted data.left and data.right with image (N, 36, 60) and gaze (N, 3), and filenames"
        ) from error


def _fields(content: dict[str, Any]) -> Iterator[str]:
    """Yield the names of what a .mat holds, such as "data.left.image"."""
    for name, value in content.items():
        if hasattr(value, "_fieldnames"):
            yield from (f"{name}.{field}" for field in _fields(vars(value)))
        elif not name.startswith("_"):
            yield name


def _loaded_mat(path: Path) -> Any:
    io = _optional("scipy.io", path)
    try:
        _refuse_bomb(path, _mat_size(path))
        return io.loadmat(path, struct_as_record=False, squeeze_me=True)
    except NotImplementedError as error:
        raise DataError(f"{path}: a .mat of version 7.3 (HDF5); MPIIGaze's own are version 5: load it again") from error
    except DataError:
        raise
    except (
        Exception
    ) as error:  # damage shows as OSError, MatReadError, ValueError, TypeError, zlib.error, MemoryError ...
        raise DataError(f"{path}: cannot be read as .mat ({type(error).__name__}: {error}); load it again") from error


def _mat_size(path: Path) -> int:
    """Return the bytes that the elements of a .mat of version 5 expand to, or some number above what they may.

    Nothing but unpacking tells: the sizes that stand in the file are those that its maker chose.
    """
    most, size = _most_expanded(path), 0
    with path.open("rb") as file:
        header = file.read(MAT_HEADER)
        if b"\0" in header[:4]:  # version 4, which packs nothing
            return 0
        order = "<" if header[-2:] == b"IM" else ">"
        while size <= most and len(tag := file.read(8)) == 8:
            kind, length = struct.unpack(order + "II", tag)
            if kind == MAT_COMPRESSED:
                size += _inflated_size(file.read(length), most)
            else:
                file.seek(length, os.SEEK_CUR)
    return size


def _inflated_size(content: bytes, most: int) -> int:
    """Return the bytes that zlib's `content` expands to, or some number above `most`; raises zlib.error."""
    stream, size = zlib.decompressobj(), 0
    while content and size <= most:
        size += len(stream.decompress(content, 2**20))
        content = stream.unconsumed_tail
    return size


def _evaluation_subset(normalized: Path) -> list[str] | None:
    """Return the names of the eyes that the data set's authors evaluate on, if their lists lie at the usual place."""
    normalized = Path(os.path.abspath(normalized))  # noqa: PTH100 - "." has parents, too; links stay as they are
    for root in [*list(normalized.parents)[:2], normalized]:
        lists = sorted((root / "Evaluation Subset" / "sample list for eye image").glob("p[0-9][0-9].txt"))
        if lists:
            lines = [(path, line.split()) for path in lists for line in _lines(path)]
            for path, words in lines:
                if len(words) != 2 or words[1] not in ("left", "right"):
                    raise DataError(f"{path}: {' '.join(words)[:60]!r} is not 'dayNN/file.jpg left|right'")
            return [f"{path.stem}/{name} {side}" for path, (name, side) in lines]
    return None


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in read_text(path).splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a list ({error})") from error


# npz and HDF5


def _read_npz(path: Path, options: Options) -> Samples:
    try:
        with np.load(path, allow_pickle=False) as archive:
            _refuse_bomb(path, sum(member.file_size for member in archive.zip.infolist()))
            arrays = {key: archive[key] for key in archive.files if key in KNOWN_KEYS}
            keys = _listed(archive.files)
    except DataError:
        raise
    except (
        Exception
    ) as error:  # damage shows as ValueError, BadZipFile, EOFError, zlib.error, SyntaxError, MemoryError ...
        raise DataError(f"{path}: cannot be read as .npz without pickles ({error})") from error
    return _from_arrays(arrays, path, path.stem, options, keys), []


def _from_arrays(
    arrays: dict[str, NDArray[Any]], path: Path, name: str, options: Options, keys: str, person: str | None = None
) -> list[Sample]:
    images = _first(arrays, IMAGE_KEYS)
    labels = _first(arrays, GAZE_KEYS if options.target == "gaze" else PUPIL_KEYS)
    if images is None or labels is None:
        wanted = "x and gaze" if options.target == "gaze" else "x and pupil"
        raise DataError(f"{path}: holds {keys}; wanted {wanted}, one row for each image")
    images = _grey_batch(np.asarray(images), path)
    try:
        labels = np.asarray(labels, np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}: labels are {labels.dtype}, not numbers; wanted a row of them for each image"
        ) from error
    if labels.ndim != 2 or len(labels) != len(images) or labels.shape[1] < 2:
        raise DataError(f"{path}: {len(images):,} images but labels of shape {labels.shape}; wanted a row for each")
    if options.target == "pupil":
        targets = labels[:, :2]
    else:
        # Longer rows begin with the angles (MPIIFaceGaze's label holds the head and landmarks, too).
        targets = labels if labels.shape[1] == 3 else _vectors(labels[:, :2], options, path)
    people = _first(arrays, PERSON_KEYS)
    files = _first(arrays, FILE_KEYS)
    for what, column in (("persons", people), ("files", files)):
        if column is not None and np.shape(column) != (len(images),):
            raise DataError(f"{path}: {what} of shape {np.shape(column)} for {len(images):,} images")
    return [
        Sample(
            f"{name}/{index:05}" if files is None else str(files[index]),
            partial(np.asarray, image),
            target,
            person if people is None else str(people[index]),
        )
        for index, (image, target) in enumerate(zip(images, targets, strict=True))
    ]


def _hdf5_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in HDF5_SUFFIXES)


def _read_hdf5(path: Path, options: Options) -> Samples:
    h5py = _optional("h5py", path)
    files = _hdf5_files(path) if path.is_dir() else [path]
    samples: list[Sample] = []
    for file in files:
        try:
            with h5py.File(file, "r") as content:
                groups = _labelled_groups(content, content.name)
                if not groups:
                    raise DataError(
                        f"{file}: holds {_listed(_data_sets(content))}; wanted images ({', '.join(IMAGE_KEYS)}) beside "
                        f"labels ({', '.join((*GAZE_KEYS, *PUPIL_KEYS))}) in one group"
                    )
                for name, group in groups:
                    arrays = {key.lower(): _stacked(group[key], file) for key in group if key.lower() in KNOWN_KEYS}
                    person = name.strip("/").split("/")[0] if name.strip("/") else None
                    if person in (None, "Data", "data"):  # a file for each person
                        person = file.stem if len(files) > 1 else None
                    samples += _from_arrays(arrays, file, name.strip("/") or file.stem, options, _listed(group), person)
        except DataError:
            raise
        except Exception as error:  # damage shows as OSError, KeyError, RuntimeError, UnicodeError, MemoryError ...
            raise DataError(f"{file}: damaged or cut off HDF5 ({error}); copy it again") from error
    return samples, []


def _labelled_groups(group: Any, name: str) -> list[tuple[str, Any]]:
    """Return the groups, at most three deep, that hold images beside labels."""
    keys = {key.lower() for key in group}
    if keys & set(IMAGE_KEYS) and keys & {*GAZE_KEYS, *PUPIL_KEYS}:
        return [(name, group)]
    if name.count("/") > 3:
        return []
    inner = [
        (f"{name.rstrip('/')}/{key}", group[key]) for key in sorted(group, key=natural) if hasattr(group[key], "keys")
    ]
    return [found for key, child in inner for found in _labelled_groups(child, key)]


def _data_sets(group: Any, deep: int = 3) -> list[str]:
    """Return the paths of a group's data sets, and of groups in it that are empty or lie too deep."""
    names = list[str]()
    for key in group:
        inner = _data_sets(group[key], deep - 1) if hasattr(group[key], "keys") and deep else []
        names += [f"{key}/{name}" for name in inner] or [key]
        if len(names) > LISTED:
            break
    return names


def _stacked(item: Any, file: Path) -> NDArray[Any]:
    """Return a dataset, or a group of numbered datasets (a row each), as one array."""
    parts = [item[key] for key in sorted(item, key=natural)] if hasattr(item, "keys") else [item]
    _refuse_bomb(file, sum(part.size * part.dtype.itemsize for part in parts))
    rows = [_read_part(part, file) for part in parts]
    return np.stack(rows) if hasattr(item, "keys") else rows[0]


def _read_part(data: Any, file: Path) -> NDArray[Any]:
    """Return a data set whose declared size is no bomb; raises DataError where it would unpack to more than that."""
    h5py = _optional("h5py", file)
    texts = data.dtype.hasobject
    if data.is_virtual or data.external or (texts and (data.ndim != 1 or h5py.check_string_dtype(data.dtype) is None)):
        raise DataError(f"{file}: {data.name} is virtual, in other files or of rows of any length; store it plainly")
    if texts:
        return _read_texts(data, file)
    properties = data.id.get_create_plist()
    filters = [properties.get_filter(place)[0] for place in range(properties.get_nfilters())]
    packed = filters.count(h5py.h5z.FILTER_DEFLATE)
    if packed > 1:
        raise DataError(f"{file}: {data.name} is packed twice over; pack it anew")
    if packed:
        most, skipped = math.prod(data.chunks) * data.dtype.itemsize + CHECKSUM, filters.index(h5py.h5z.FILTER_DEFLATE)
        chunks: list[Any] = []
        data.id.chunk_iter(chunks.append)
        for chunk in chunks:
            content = data.id.read_direct_chunk(chunk.chunk_offset)[1]
            if not chunk.filter_mask >> skipped & 1 and _inflated_size(content, most) > most:
                raise DataError(f"{file}: a chunk of {data.name} expands to more than its {most:,} bytes; pack it anew")
    return np.asarray(_decoded(data)[...] if data.dtype.kind == "S" else data)


def _decoded(data: Any) -> Any:
    """Return a data set of texts as one of str; what is no text of its encoding stays apart and does no harm."""
    return data.asstr(errors="backslashreplace")


def _read_texts(data: Any, file: Path) -> NDArray[Any]:
    """Return a column of texts, a few at a time: all of them may be one and the same long text of the file."""
    found: list[NDArray[Any]] = [np.empty(0, object)]
    size = 0
    for start in range(0, len(data), TEXTS_AT_A_TIME):
        found.append(_decoded(data)[start : start + TEXTS_AT_A_TIME])
        size += sum(map(len, found[-1]))
        _refuse_bomb(file, size)
    return np.concatenate(found)


def _most_expanded(path: Path) -> int:
    """Return the bytes that a file may expand to: more cannot be packed into it if it holds such data."""
    return max(MAX_TRUSTED_BYTES, MAX_EXPANSION * path.stat().st_size)


def _refuse_bomb(path: Path, size: int) -> None:
    """Raise DataError for a file whose content would take far more memory than such data can be packed into it."""
    if size > _most_expanded(path):
        raise DataError(f"{path}: expands to {size:,} bytes, more than {MAX_EXPANSION} times its own; pack it anew")


def _grey_batch(images: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return N x H x W grey of arrays with or without channels, first or last."""
    if images.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path}: images of type {images.dtype}; wanted uint8, or uint16")
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise DataError(f"{path}: images of shape {images.shape}; wanted N x H x W, or with 1 or 3 channels")
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[-1] not in (1, 3):
        images = np.moveaxis(images, 1, -1)
    if images.ndim == 4 and images.shape[-1] == 3:
        return np.stack([luma(image[None])[0, 0] for image in np.moveaxis(images, -1, 1)])
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim != 3:
        raise DataError(f"{path}: images of shape {images.shape}; wanted N x H x W, or with 1 or 3 channels")
    return images


# What they share


def _vectors(angles: NDArray[np.float64], options: Options, source: Path) -> Vectors:
    """Return vectors of angles N x 2 in the order of the convention; raises DataError for degrees without --degrees."""
    largest = float(np.nanmax(np.abs(angles), initial=0))
    if options.degrees:
        angles = np.radians(angles)
    elif np.isfinite(largest) and largest > np.pi + 1e-6:
        raise DataError(
            f"{source}: angles up to {largest:.1f}: degrees; say so with --degrees, or convert them to radians"
        )
    vectors = vectors_from_angles(angles, options.convention)
    return facing_camera(vectors) if options.convention == "xgaze" else vectors


def _listed(names: Iterable[str]) -> str:
    """Return the first of some names in words."""
    first = [str(name) for name in islice(names, LISTED + 1)]
    return ", ".join([*first[:LISTED], *(["..."] if len(first) > LISTED else [])]) or "nothing"


def _unlabelled(folder: Path, count: int) -> list[str]:
    return [f"{folder}: {count:,} images have no label; left out"] if count else []


def _decode(path: Path) -> NDArray[Any]:
    grey: NDArray[Any] = read_pixels(path, STORED_GREY)[0]
    return grey


def _needs_gaze(path: Path, options: Options) -> None:
    if options.target != "gaze":
        raise DataError(f"{path}: MPIIGaze holds no pupil centres; use --target gaze, or other data")


def _first(arrays: dict[str, NDArray[Any]], keys: Sequence[str]) -> NDArray[Any] | None:
    return next((arrays[key] for key in keys if key in arrays), None)


def _optional(module: str, path: Path) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SettingsError(f"{path}: reading it needs {module}; pip install 'simgan-cli[gaze]'") from error


_READERS: dict[Layout, Callable[[Path, Options], Samples]] = {
    "csv": _read_csv,
    "unityeyes": _read_unityeyes,
    "mpiigaze": _read_mpiigaze,
    "hdf5": _read_hdf5,
    "npz": _read_npz,
}
