"""Read labelled images in any layout, and unlabelled ones, into one form."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from simgan_cli.data.archives import image_batches
from simgan_cli.data.cache import BATCH_IMAGES, Source, decoded
from simgan_cli.errors import DataError, SettingsError, UnreadableImage, plural
from simgan_cli.gaze.labels import Grey, LabelFormat, LabelledImages, collect, prepared
from simgan_cli.gaze.layouts.arrays import hdf5_files, is_npz, read_hdf5, read_npz
from simgan_cli.gaze.layouts.coco import coco_files, read_coco
from simgan_cli.gaze.layouts.common import STORED_GREY, Samples, describe_content
from simgan_cli.gaze.layouts.mpiigaze import mpiigaze_days, read_mpiigaze
from simgan_cli.gaze.layouts.table import is_table_folder, read_table_folder
from simgan_cli.gaze.layouts.unityeyes import EYE_SIZE, is_unityeyes_folder, read_unityeyes
from simgan_cli.settings.eval_gaze import Layout


class Reader(NamedTuple):
    """How to recognise a layout, and to read its labels as samples with warnings."""

    recognises: Callable[[Path], object]  # true for a path of this layout
    read: Callable[[Path, LabelFormat], Samples]


# The first reader that recognises a path reads it.
READERS: dict[Layout, Reader] = {
    "csv": Reader(is_table_folder, read_table_folder),
    "mpiigaze": Reader(mpiigaze_days, read_mpiigaze),
    "npz": Reader(is_npz, read_npz),
    "hdf5": Reader(hdf5_files, read_hdf5),
    "unityeyes": Reader(is_unityeyes_folder, read_unityeyes),
    "coco": Reader(coco_files, read_coco),
}


def read(path: Path, label_format: LabelFormat, layout: Layout | Literal["auto"] = "auto") -> LabelledImages:
    """Return the labelled images at `path`: a folder, an .npz or an HDF5 file.

    Raises SettingsError for a missing path, DataError for labels or images that cannot be used.
    """
    if not path.exists():
        raise SettingsError(f"{path}: no such file or folder; give labelled images")
    name = _recognise(path) if layout == "auto" else layout
    samples, warnings = READERS[name].read(path, label_format)
    if not samples and label_format.patterns:
        raise DataError(f"{path}: --include and --exclude take none of its labelled images; change the patterns")
    if name == "unityeyes":
        label_format = replace(label_format, size=label_format.size or EYE_SIZE)
    return collect(samples, path, name, label_format, warnings)


def _recognise(path: Path) -> Layout:
    for name, reader in READERS.items():
        if reader.recognises(path):
            return name
    raise DataError(
        f"{path}: no labels; found {describe_content(path)}; wanted labels.csv beside the images, UnityEyes' "
        "N.json beside N.jpg, COCO's *keypoints*.json, MPIIGaze's Data/Normalized, an HDF5 file, or an .npz with x and "
        "gaze; --labels names the layout"
    )


def read_unlabelled(path: Path, size: tuple[int, int], label_format: LabelFormat) -> tuple[Grey, list[str]]:
    """Return the grey images N x H x W of a folder or archive, prepared like labelled ones, and warnings.

    Raises SettingsError for a missing path, DataError where no image can be read.
    """
    if not path.exists():
        raise SettingsError(f"{path}: no such file or folder; give unlabelled images")
    source = Source(path, label_format.patterns)
    selection = source.select(source.read())
    images = list[Grey]()
    left_out = [f"{path / name}: {reason}" for name, reason in selection.tree.unusable]
    batches = image_batches(selection.tree, selection.archives, BATCH_IMAGES)
    for file, image in decoded(batches, STORED_GREY, None, selection):
        if isinstance(image, UnreadableImage):
            left_out.append(f"{file}: {image.reason}")
        else:
            images.append(prepared(image.pixels[0], size, label_format))
    if not images:
        raise DataError(f"{path}: none of {plural(selection.count, 'image')} can be read, such as {left_out[0]}")
    warnings = [f"{path}: {plural(len(left_out), 'image')} left out, such as {left_out[0]}"] if left_out else []
    return np.stack(images), [*warnings, *selection.warnings("plain")]
