"""COCO keypoints: one JSON file beside images, or in `annotations/`, with one annotation for each image."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan_cli.data.texts import read_text
from simgan_cli.data.tree import read_tree
from simgan_cli.errors import DataError, plural
from simgan_cli.files import parse_json
from simgan_cli.gaze.labels import LabelFormat, Sample
from simgan_cli.gaze.layouts.common import Samples, decode_grey, list_names, match_images

NAME = re.compile(r".*(keypoints|coco).*\.json", re.IGNORECASE)
# COCO's keypoints are pixel indices; the centre of a pixel lies half a pixel further (detectron2,
# data/detection_utils.py, transform_instance_annotations).
TO_CENTRE = 0.5


def coco_files(folder: Path) -> list[Path]:
    """Return the JSON files of a folder and its `annotations/` with "keypoints" or "coco" in their names."""
    places = [place for place in (folder, folder / "annotations") if place.is_dir()]
    return sorted(entry for place in places for entry in place.iterdir() if NAME.fullmatch(entry.name))


def read_coco(folder: Path, label_format: LabelFormat) -> Samples:
    """Return a sample for each image with an annotation; its pixels are read later.

    Raises DataError for a file that is not COCO's, and for images with several annotations.
    """
    if label_format.target != "points":
        raise DataError(f"{folder}: COCO holds keypoints; use --target points")
    files = coco_files(folder)
    if len(files) != 1:
        raise DataError(
            f"{folder}: {list_names(file.name for file in files)} matches *keypoints*.json or *coco*.json; wanted one "
            "file; rename the others"
        )
    (path,) = files
    try:
        content = parse_json(read_text(path))
        images = {image["id"]: str(image["file_name"]) for image in content["images"]}
        categories = {category["id"]: category.get("keypoints") for category in content["categories"]}
        annotated = [
            (annotation["image_id"], _points(annotation["keypoints"]), categories[annotation["category_id"]])
            for annotation in content["annotations"]
            if "keypoints" in annotation
        ]
        names = [images[image] for image, _, _ in annotated]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: not COCO keypoints ({type(error).__name__}: {error}); wanted images, annotations with keypoints "
            "x, y, v, and categories"
        ) from error
    tree = read_tree(folder, label_format.patterns)
    matched, warnings = match_images(tree, names, path)
    return [
        Sample(file, partial(decode_grey, folder / file), points, points=_names(points, keypoints, path))
        for file, (_, points, keypoints) in zip(matched, annotated, strict=True)
        if label_format.patterns.takes(file)
    ], warnings


def _points(keypoints: list[float]) -> NDArray[np.float64]:
    """Return x, y, v, ... as x, y, ..., NaN where v is 0. Raises ValueError for other lengths."""
    x, y, visible = np.array(keypoints, np.float64).reshape(-1, 3).T
    return np.where(visible[:, None] > 0, np.stack([x, y], axis=1) + TO_CENTRE, np.nan).ravel()


def _names(points: NDArray[np.float64], keypoints: list[Any] | None, path: Path) -> tuple[str, ...]:
    """Return the names of points that the category gives, or else their numbers."""
    count = len(points) // 2
    names = tuple(map(str, keypoints if keypoints is not None else range(count)))
    if len(names) != count:
        raise DataError(
            f"{path}: {plural(count, 'keypoint')} in an annotation, but {plural(len(names), 'name')}; "
            "correct the category"
        )
    return names
