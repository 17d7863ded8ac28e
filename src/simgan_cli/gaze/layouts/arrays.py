"""Arrays of images and labels: .npz, and HDF5 as MPIIFaceGaze and ETH-XGaze are published."""

import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan_cli.data.decoding import luma
from simgan_cli.data.tree import natural
from simgan_cli.errors import DataError, SettingsError
from simgan_cli.files import with_filename
from simgan_cli.gaze.labels import LabelFormat, Sample
from simgan_cli.gaze.layouts.common import Samples, check_size, damage_as_data_error, list_names, to_vectors

HDF5_SUFFIXES = {".h5", ".hdf5", ".hdf"}
HDF5_SIGNATURE = b"\x89HDF"
MAX_ARRAY_BYTES = 16_000_000_000  # as arrays declare it, of an .npz or of a group of an HDF5 file
MAX_GROUP_DEPTH = 4  # below a file
IMAGE_KEYS = ("x", "image", "images", "data", "face_patch")
GAZE_KEYS = ("gaze", "gazes", "label", "face_gaze")
PUPIL_KEYS = ("pupil", "pupils")
PERSON_KEYS = ("person", "persons", "subject_index")
FILE_KEYS = ("file", "files")
KNOWN_KEYS = {*IMAGE_KEYS, *GAZE_KEYS, *PUPIL_KEYS, *PERSON_KEYS, *FILE_KEYS}


def is_npz(path: Path) -> bool:
    """Return whether a file is an .npz, or any other zip archive."""
    return path.is_file() and zipfile.is_zipfile(path)


def read_npz(path: Path, label_format: LabelFormat) -> Samples:
    """Return a sample for each row of an .npz. Raises DataError, also for pickles."""
    problem = "cannot be read as .npz without pickles"
    with damage_as_data_error(path, problem), np.load(path, allow_pickle=False) as archive:
        check_size(path, sum(member.file_size for member in archive.zip.infolist()), MAX_ARRAY_BYTES)
        arrays = {key: archive[key] for key in archive.files if key in KNOWN_KEYS}
        names = list_names(archive.files)
    return _samples_of(arrays, path, path.stem, label_format, names), []


def is_hdf5(path: Path) -> bool:
    """Return whether a file is HDF5, or a folder holds some by their suffix."""
    if path.is_dir():
        return bool(_hdf5_files(path))
    with path.open("rb") as file, with_filename(path):
        return file.read(4) == HDF5_SIGNATURE


def _hdf5_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in HDF5_SUFFIXES)


def read_hdf5(path: Path, label_format: LabelFormat) -> Samples:
    """Return a sample for each row of the labelled groups of an HDF5 file, or of those in a folder.

    Raises DataError, or SettingsError where h5py is not installed.
    """
    try:
        import h5py  # an extra
    except ImportError as error:
        raise SettingsError(f"{path}: reading it needs h5py; pip install 'simgan-cli[gaze]'") from error
    files = _hdf5_files(path) if path.is_dir() else [path]
    samples: list[Sample] = []
    for file in files:
        with damage_as_data_error(file, "damaged or cut off HDF5"), h5py.File(file, "r") as content:
            groups = list(_labelled_groups(content))
            if not groups:
                names = list[str]()
                content.visit(names.append)
                raise DataError(
                    f"{file}: holds {list_names(names)}; wanted images ({', '.join(IMAGE_KEYS)}) beside labels "
                    f"({', '.join((*GAZE_KEYS, *PUPIL_KEYS))}) in one group"
                )
            for name, group in groups:
                person = name.split("/")[0]
                if person in ("", "Data", "data"):  # a file for each person
                    person = file.stem if len(files) > 1 else ""
                arrays = _arrays(group, file)
                samples += _samples_of(arrays, file, name or file.stem, label_format, list_names(group), person or None)
    return samples, []


def _labelled_groups(group: Any, name: str = "", depth: int = MAX_GROUP_DEPTH) -> Iterator[tuple[str, Any]]:
    """Yield the groups that hold images beside labels, and their paths: "" is that of the file itself."""
    keys = {key.lower() for key in group}
    if keys & set(IMAGE_KEYS) and keys & {*GAZE_KEYS, *PUPIL_KEYS}:
        yield name, group
        return
    for key in sorted(group, key=natural) if depth else ():  # links may lead in circles
        if hasattr(group[key], "keys"):
            yield from _labelled_groups(group[key], f"{name}/{key}".lstrip("/"), depth - 1)


def _arrays(group: Any, file: Path) -> dict[str, NDArray[Any]]:
    """Return the known arrays of a group: data sets, or groups of numbered data sets, a row each."""
    parts = {key: _parts(group[key]) for key in group if key.lower() in KNOWN_KEYS}
    check_size(file, sum(part.nbytes for each in parts.values() for part in each), MAX_ARRAY_BYTES)
    return {
        key.lower(): np.stack([_read_data_set(part, file) for part in each])
        if hasattr(group[key], "keys")
        else _read_data_set(each[0], file)
        for key, each in parts.items()
    }


def _parts(item: Any) -> list[Any]:
    return [item[key] for key in sorted(item, key=natural)] if hasattr(item, "keys") else [item]


def _read_data_set(data: Any, file: Path) -> NDArray[Any]:
    """Return a data set as an array, texts as str; what is no text of its encoding stays apart and does no harm."""
    if data.is_virtual or data.external:
        raise DataError(f"{file}: {data.name} lies in other files; store it plainly")
    return np.asarray(data.asstr(errors="backslashreplace")[...] if data.dtype.kind in "SO" else data)


def _samples_of(
    arrays: dict[str, NDArray[Any]],
    path: Path,
    name: str,
    label_format: LabelFormat,
    names: str,
    person: str | None = None,
) -> list[Sample]:
    """Return a sample for each row of `arrays`; `names` says what the file holds."""
    images = _first(arrays, IMAGE_KEYS)
    labels = _first(arrays, GAZE_KEYS if label_format.target == "gaze" else PUPIL_KEYS)
    if images is None or labels is None:
        raise DataError(f"{path}: holds {names}; wanted x and {label_format.target}, one row for each image")
    images = _to_grey(np.asarray(images), path)
    try:
        labels = np.asarray(labels, np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}: labels are {labels.dtype}, not numbers; wanted a row of them for each image"
        ) from error
    if labels.ndim != 2 or len(labels) != len(images) or labels.shape[1] < 2:
        raise DataError(f"{path}: {len(images):,} images but labels of shape {labels.shape}; wanted a row for each")
    if label_format.target == "pupil":
        targets = labels[:, :2]
    else:
        # Longer rows begin with the angles (MPIIFaceGaze's label holds the head and landmarks, too).
        targets = labels if labels.shape[1] == 3 else to_vectors(labels[:, :2], label_format, path)
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


def _first(arrays: dict[str, NDArray[Any]], keys: Sequence[str]) -> NDArray[Any] | None:
    return next((arrays[key] for key in keys if key in arrays), None)


def _to_grey(images: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return N x H x W grey of arrays with or without channels, first or last."""
    if images.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path}: images of type {images.dtype}; wanted uint8, or uint16")
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[-1] not in (1, 3):
        images = np.moveaxis(images, 1, -1)
    if images.ndim == 4 and images.shape[-1] == 3:
        return np.stack([luma(image[None])[0, 0] for image in np.moveaxis(images, -1, 1)])
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim != 3 or 0 in images.shape:
        raise DataError(f"{path}: images of shape {images.shape}; wanted N x H x W, or with 1 or 3 channels")
    return images
