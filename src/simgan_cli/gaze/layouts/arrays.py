"""Arrays of images and labels: .npz, and HDF5 as in MPIIFaceGaze and ETH-XGaze."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan_cli.data.decoding import luma
from simgan_cli.data.tree import natural
from simgan_cli.errors import DataError, SettingsError, plural
from simgan_cli.gaze.labels import LabelFormat, Sample
from simgan_cli.gaze.layouts.common import Samples, check_size, damage_as_data_error, list_names, paired, to_vectors
from simgan_cli.settings.base import Target

HDF5_SUFFIXES = {".h5", ".hdf5", ".hdf"}
IMAGE_KEYS = ("x", "image", "data", "face_patch")
LABEL_KEYS: dict[Target, tuple[str, ...]] = {
    "gaze": ("gaze", "label", "face_gaze"), "pupil": ("pupil",), "points": ("points",),
}  # fmt: skip
PERSON_KEY = "person"
MAX_ARRAY_BYTES = 16_000_000_000  # declared size of an .npz, or of a data set of HDF5


def is_npz(path: Path) -> bool:
    """Return whether a file is an .npz."""
    return path.is_file() and path.suffix == ".npz"


def read_npz(path: Path, label_format: LabelFormat) -> Samples:
    """Return a sample for each row of an .npz. Raises DataError, also for pickles."""
    problem = "not a readable .npz without pickles"
    with damage_as_data_error(path, problem), np.load(path, allow_pickle=False) as archive:  # noqa: TID251
        check_size(path, sum(member.file_size for member in archive.zip.infolist()), MAX_ARRAY_BYTES)
        keys = _find_keys(archive, label_format.target)
        if not keys:
            raise DataError(
                f"{path}: holds {list_names(archive)}; wanted x and {label_format.target}, one row for each image"
            )
        return _samples_of(archive, keys, np.asarray, path, path.stem, label_format), []


def hdf5_files(path: Path) -> list[Path]:
    """Return the file at `path`, or those of a folder, that have a suffix of HDF5."""
    files = path.iterdir() if path.is_dir() else [path]
    return sorted(file for file in files if file.suffix in HDF5_SUFFIXES)


def read_hdf5(path: Path, label_format: LabelFormat) -> Samples:
    """Return a sample for each row of an HDF5 file, of all groups in it, or of all files in a folder.

    Raises DataError, or SettingsError where h5py is not installed.
    """
    try:
        import h5py  # an extra
    except ImportError as error:
        raise SettingsError(f"{path}: reading it needs h5py; pip install 'simgan-cli[gaze]'") from error
    files = hdf5_files(path) if path.is_dir() else [path]
    samples: list[Sample] = []
    for file in files:
        with damage_as_data_error(file, "damaged or cut off HDF5"), h5py.File(file, "r") as content:
            groups = [("", content), *((name, content[name]) for name in sorted(content, key=natural))]
            labelled = [(*item, keys) for item in groups if (keys := _find_keys(item[1], label_format.target))]
            if not labelled:
                names = list[str]()
                content.visit(names.append)
                raise DataError(
                    f"{file}: holds {list_names(names)}; wanted images ({', '.join(IMAGE_KEYS)}) beside labels "
                    f"({', '.join(LABEL_KEYS[label_format.target])}), in groups by person or in none"
                )
            for name, group, keys in labelled:
                person = (file.stem if len(files) > 1 else name) or None  # one file or group for each person
                samples += _samples_of(group, keys, _read_data_set, file, name or file.stem, label_format, person)
    return samples, []


def _find_keys(content: Any, target: Target) -> tuple[str, str] | None:
    """Return the keys of images and labels in an archive or group; None unless it holds both."""
    image, label = (
        next((key for key in keys if hasattr(content, "keys") and key in content), None)
        for keys in (IMAGE_KEYS, LABEL_KEYS[target])
    )
    return (image, label) if image and label else None


def _read_data_set(item: Any) -> NDArray[Any]:
    """Return a data set of HDF5, with text as str; a group of numbered data sets gives one row for each."""
    if hasattr(item, "keys"):
        return np.stack([_read_data_set(item[key]) for key in sorted(item, key=natural)])
    check_size(Path(item.file.filename), item.nbytes, MAX_ARRAY_BYTES)
    return np.asarray(item.asstr()[...] if item.dtype.kind in "SO" else item)


def _samples_of(
    content: Any,
    keys: tuple[str, str],
    read: Callable[[Any], NDArray[Any]],
    path: Path,
    name: str,
    label_format: LabelFormat,
    person: str | None = None,
) -> list[Sample]:
    """Return a sample for each row of the arrays that `read` gives for `keys`."""
    images, labels = _to_grey(read(content[keys[0]]), path), read(content[keys[1]])
    if label_format.target == "points" and labels.ndim == 3 and labels.shape[2] == 2:
        labels = labels.reshape(len(labels), -1)
    if labels.dtype.kind not in "iuf" or labels.ndim != 2 or len(labels) != len(images) or labels.shape[1] < 2:
        raise DataError(
            f"{path}: {plural(len(images), 'image')}, but labels of shape {labels.shape} and type {labels.dtype}; "
            "wanted one row of numbers for each image"
        )
    targets, points = labels.astype(np.float64), tuple[str, ...]()
    if label_format.target == "pupil":
        targets = targets[:, :2]
    elif label_format.target == "points":
        if targets.shape[1] % 2:
            raise DataError(f"{path}: {targets.shape[1]} numbers for each image; wanted x and y of each point")
        points = tuple(str(number) for number in range(targets.shape[1] // 2))
        targets = paired(targets)
    elif targets.shape[1] != 3:  # rows begin with the angles; in MPIIFaceGaze head pose and landmarks follow
        targets = to_vectors(targets[:, :2], label_format, path)
    persons = [str(each) for each in read(content[PERSON_KEY])] if PERSON_KEY in content else [person] * len(images)
    return [
        Sample(f"{name}/{index:05}", partial(np.asarray, image), target, who, points)
        for index, (image, target, who) in enumerate(zip(images, targets, persons, strict=True))
    ]


def _to_grey(images: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return N x H x W grey of arrays with or without channels, first or last."""
    if images.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path}: images of type {images.dtype}; wanted uint8 or uint16")
    if images.ndim == 4 and images.shape[-1] in (1, 3):
        images = np.moveaxis(images, -1, 1)
    if images.ndim == 4 and images.shape[1] == 3:
        return np.stack([luma(image[None])[0, 0] for image in images])
    if images.ndim == 4 and images.shape[1] == 1:
        images = images[:, 0]
    if images.ndim != 3 or 0 in images.shape:
        raise DataError(f"{path}: images of shape {images.shape}; wanted N x H x W, or with 1 or 3 channels")
    return images
