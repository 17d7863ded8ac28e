"""Readers of labelled eyes: labels.csv, UnityEyes, MPIIGaze, MPIIFaceGaze-style HDF5, npz.

Each yields samples of what its layout holds; `read` finds the layout out and brings them to one form.
"""

import csv
import math
import os
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from simgan_cli.data.archives import MOST_EXPANSION, UNSUSPECTED, image_batches
from simgan_cli.data.cache import CHUNK, decoded, find_images, find_packed_images
from simgan_cli.data.files import naming, parse_json
from simgan_cli.data.images import Preparation, decoding, luma, pixel_array
from simgan_cli.data.tree import is_archive, natural, read_tree
from simgan_cli.errors import DataError, SettingsError, UnreadableImage
from simgan_cli.gaze.geometry import Vectors, facing_camera, mirrored, vectors_from_angles
from simgan_cli.gaze.labels import Grey, LabelledImages, Options, Sample, collect, prepared

Layout = Literal["csv", "unityeyes", "mpiigaze", "hdf5", "npz"]
Samples = tuple[list[Sample], list[str]]  # with what is worth a warning
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


def read(path: Path, options: Options, layout: Layout | Literal["auto"] = "auto") -> LabelledImages:
    """Read the labelled images at `path`: a folder, an .npz or an HDF5 file.

    Raises SettingsError for a path that is not there, DataError for labels or images that cannot be used.
    """
    if not path.exists():
        raise SettingsError(f"{path}: no such file or folder; give labelled images")
    found = _recognised(path) if layout == "auto" else layout
    samples, warnings = _READERS[found](path, options)
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
    tree = find_images(path)
    inside, archives, total = find_packed_images(tree)
    images = list[Grey]()
    left_out = [f"{path / name}: {reason}" for name, reason in inside.unusable]
    for file, pixels in decoded(image_batches(tree, archives, CHUNK), Preparation(channels="1"), None):
        if isinstance(pixels, UnreadableImage):
            left_out.append(f"{file}: {pixels.reason}")
        else:
            images.append(prepared(pixels[0], size, options))
    if not images:
        raise DataError(f"{path}: none of {total:,} images can be read, such as {left_out[0]}")
    told = [f"{path}: {len(left_out):,} unreadable images left out, such as {left_out[0]}"] if left_out else []
    return np.stack(images), told


def _recognised(path: Path) -> Layout:
    if path.is_file():
        if zipfile.is_zipfile(path):
            return "npz"
        with path.open("rb") as file, naming(path):
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
        f"{path}: no labels found; wanted labels.csv beside the images, UnityEyes' N.json beside N.jpg, MPIIGaze's "
        "Data/Normalized, an HDF5 file, or an .npz with x and gaze; --labels names the layout"
    )


# labels.csv


def _read_csv(folder: Path, options: Options) -> Samples:
    table = folder / "labels.csv"
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file)
            columns = lines.fieldnames or []
            rows = list(lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a table ({error})") from error
    wanted = _columns(columns, options, table)
    numbers = [[_number(row[name], name, table, line) for name in wanted] for line, row in enumerate(rows, 2)]
    targets = np.array(numbers, np.float64).reshape(len(rows), len(wanted))
    if wanted == ["pitch", "yaw"]:
        angles = targets[:, ::-1] if options.convention == "gazehub" else targets
        targets = _vectors(angles, options, table)
    files = [row["file"] or "" for row in rows]
    _check_files(folder, files, table)
    warnings = _unlabelled(folder, len(set(read_tree(folder).images) - set(files)))
    persons = [row.get("person") or None for row in rows]
    if "person" in columns and not all(persons):
        raise DataError(f"{table}: line {persons.index(None) + 2} names no person; fill the column in or remove it")
    samples = [
        Sample(file, partial(_decode, folder / file), target, person)
        for file, target, person in zip(files, targets, persons, strict=True)
    ]
    return samples, warnings


def _columns(columns: Sequence[str], options: Options, table: Path) -> list[str]:
    choices = [["pupil_x", "pupil_y"]] if options.target == "pupil" else [["gx", "gy", "gz"], ["pitch", "yaw"]]
    for choice in choices:
        if {"file", *choice} <= set(columns):
            if repeated := [name for name in ("file", "person", *choice) if columns.count(name) > 1]:
                raise DataError(f"{table}: has the columns {', '.join(repeated)} more than once; keep one of each")
            return choice
    wanted = " or ".join(",".join(["file", *choice]) for choice in choices)
    raise DataError(f"{table}: has the columns {', '.join(columns) or '(none)'}; wanted {wanted}")


def _number(text: str | None, column: str, table: Path, line: int) -> float:
    try:
        number = float(text or "")
        if not math.isfinite(number):
            raise ValueError
        return number
    except ValueError:
        raise DataError(f"{table}: line {line}: {column} is {text!r}, wanted a number") from None


def _check_files(folder: Path, files: list[str], table: Path) -> None:
    if twice := [file for file, count in Counter(map(os.path.normpath, files)).items() if count > 1]:
        raise DataError(f"{table}: {', '.join(twice[:NAMED])} stand there more than once; keep one line for each image")
    missing = [file for file in files if not file or not os.path.isfile(folder / file)]  # noqa: PTH113 - a name of any length
    if missing:
        raise DataError(
            f"{table}: {len(missing):,} of {len(files):,} labels have no image ({', '.join(missing[:NAMED])}); "
            "restore the images or remove the lines"
        )
    for file in files:
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise DataError(f"{table}: {file} lies outside the folder; give paths below {folder}")


# UnityEyes


def _read_unityeyes(folder: Path, options: Options) -> Samples:
    tree = read_tree(folder)
    stems = [str(Path(name).with_suffix("")) for name in tree.images]
    images, of_stem = dict(zip(stems, tree.images, strict=True)), Counter(stems)
    labels = {name.removesuffix(".json"): name for name in tree.others if re.fullmatch(r"(.*/)?\d+\.json", name)}
    alone = sorted(labels.keys() - images.keys())
    if alone:
        named = ", ".join(labels[stem] for stem in alone[:NAMED])
        raise DataError(f"{folder}: {len(alone):,} labels have no image ({named}); restore or remove them")
    if several := [label for stem, label in labels.items() if of_stem[stem] > 1]:
        raise DataError(
            f"{folder}: {len(several):,} labels have more than one image ({', '.join(several[:NAMED])}); keep one of "
            "each name, such as N.jpg beside N.json"
        )
    warnings = _unlabelled(folder, len(images.keys() - labels.keys()))
    size = options.size or EYE_SIZE
    samples = [
        _unityeyes_sample(folder, images[stem], labels[stem], size, options) for stem in images if stem in labels
    ]
    return samples, warnings


def _unityeyes_sample(folder: Path, image: str, label: str, size: tuple[int, int], options: Options) -> Sample:
    path = folder / label
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        margin = np.array([parse_vector(text)[:2] for text in content["interior_margin_2d"]])
        if options.target == "gaze":
            x, y, z = parse_vector(content["eye_details"]["look_vec"])[:3]
        else:
            points = [parse_vector(text)[:2] for text in content["iris_2d"]]
            if not points:
                raise ValueError("iris_2d has no points")
            centre = np.mean(points, axis=0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the JSON of a UnityEyes render ({type(error).__name__}: {error})") from error
    if margin.ndim != 2 or len(margin) < 2 or np.ptp(margin[:, 0]) <= 0:
        raise DataError(f"{path}: interior_margin_2d spans no box; remove this render")
    with decoding(folder / image) as opened:
        height = opened.height
    left, top, width, rows = eye_window(margin, height, size)
    crop = partial(_cropped, folder / image, (left, top, width, rows), size)
    if options.target == "gaze":
        return Sample(image, crop, (x, -y, z))  # Unity's y points up
    return Sample(image, crop, ((centre[0] - left) * size[1] / width, (height - centre[1] - top) * size[0] / rows))


def parse_vector(text: str) -> list[float]:
    """Return the numbers of "(x, y, z)". Raises ValueError for anything else; nothing is evaluated."""
    match = re.fullmatch(r"\s*\(([^()]*)\)\s*", text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not (x, y, z)")
    numbers = [float(part) for part in match[1].split(",")]
    if len(numbers) < 2:
        raise ValueError(f"{text[:40]!r} has too few numbers")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{text[:40]!r} is not finite")
    return numbers


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
            f"{path}: not a day of MPIIGaze ({type(error).__name__}: {error}); wanted data.left and data.right with "
            "image (N, 36, 60) and gaze (N, 3), and filenames"
        ) from error


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
    text = path.read_text(encoding="utf-8", errors="backslashreplace")  # a name that is no text will not be found
    return [line for line in text.splitlines() if line.strip()]


# npz and HDF5


def _read_npz(path: Path, options: Options) -> Samples:
    try:
        with np.load(path, allow_pickle=False) as archive:
            _refuse_bomb(path, sum(member.file_size for member in archive.zip.infolist()))
            arrays = {key: archive[key] for key in archive.files if key in KNOWN_KEYS}
            keys = ", ".join(archive.files)
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
        raise DataError(f"{path}: holds {keys or 'nothing'}; wanted {wanted}, one row for each image")
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
                    raise DataError(f"{file}: holds {', '.join(content) or 'nothing'}; wanted images and gaze")
                for name, group in groups:
                    arrays = {key.lower(): _stacked(group[key], file) for key in group if key.lower() in KNOWN_KEYS}
                    person = name.strip("/").split("/")[0] if name.strip("/") else None
                    if person in (None, "Data", "data"):  # a file for each person
                        person = file.stem if len(files) > 1 else None
                    samples += _from_arrays(arrays, file, name.strip("/") or file.stem, options, "", person)
        except DataError:
            raise
        except Exception as error:  # damage shows as OSError, KeyError, RuntimeError, UnicodeError, MemoryError ...
            raise DataError(f"{file}: cannot be read as HDF5 ({error})") from error
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
    return max(UNSUSPECTED, MOST_EXPANSION * path.stat().st_size)


def _refuse_bomb(path: Path, size: int) -> None:
    """Raise DataError for a file whose content would take far more memory than such data can be packed into it."""
    if size > _most_expanded(path):
        raise DataError(f"{path}: expands to {size:,} bytes, more than {MOST_EXPANSION} times its own; pack it anew")


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


def _unlabelled(folder: Path, count: int) -> list[str]:
    return [f"{folder}: {count:,} images have no label; left out"] if count else []


def _decode(path: Path) -> NDArray[Any]:
    with decoding(path) as image:
        return pixel_array(ImageOps.exif_transpose(image), "1", path)


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
