"""Labelled images, with gaze, pupils or points: resized to one size and checked."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan_cli.data.decoding import Preprocess, equalize, resize, top_of
from simgan_cli.data.patterns import ANY, Patterns
from simgan_cli.documents import Unit
from simgan_cli.errors import DataError, plural
from simgan_cli.gaze.geometry import Vectors, angles_from_vectors, unit
from simgan_cli.settings.base import Convention, Target

UNIT: dict[Target, Unit] = {"gaze": "deg", "pupil": "px", "points": "px"}
Grey = NDArray[np.uint8]  # H x W, or N x H x W
MAX_RADIANS = np.pi / 2  # the largest angle of an eye that a camera sees; angles in degrees are far larger
MAX_DECODED = 256  # images of any size in memory at once


@dataclass(frozen=True)
class LabelFormat:
    """How to read labelled images; `size` is (H, W), by default that of the first image.

    `patterns` select the images of a folder.
    """

    target: Target = "gaze"
    size: tuple[int, int] | None = None
    preprocess: Preprocess = "none"
    convention: Convention = "mpiigaze"
    degrees: bool = False
    patterns: Patterns = ANY


@dataclass(frozen=True)
class Sample:
    """One labelled image, whose pixels are read on demand.

    `target` is a gaze vector (x, y, z), the pupil's centre (x, y), or points (x, y, x, y, ...). Points are in pixels of
    that image, with pixel centres at +0.5; a missing one is NaN, NaN. `points` are their names.
    """

    file: str
    pixels: Callable[[], NDArray[Any]]  # H x W or H x W x 3, uint8 or uint16
    target: Sequence[float] | NDArray[np.float64]
    person: str | None = None
    points: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelledImages:
    """Grey images N x H x W with targets: unit vectors N x 3, or K points N x 2K in pixels, such as the pupil.

    `points` are the names of points. Each image has at least one of them; others may be NaN. `weights`, 1 on average,
    are how often training draws each image. `copies` are the looks of one render, which follow each other.
    """

    source: Path
    reader: str
    target: Target
    pixels: NDArray[np.uint8]
    targets: NDArray[np.float64]
    files: list[str]
    persons: list[str] | None = None
    warnings: list[str] = field(default_factory=list)
    weights: NDArray[np.float64] | None = None
    points: tuple[str, ...] = ()
    copies: int = 1

    def __len__(self) -> int:
        return len(self.files)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def part(self, index: NDArray[np.int64]) -> "LabelledImages":
        """Return the images at `index`."""
        return replace(
            self,
            pixels=self.pixels[index],
            targets=self.targets[index],
            files=[self.files[i] for i in index],
            persons=None if self.persons is None else [self.persons[i] for i in index],
            weights=None if self.weights is None else self.weights[index],
        )

    def coordinates(self) -> dict[str, NDArray[np.float64]]:
        """Return the targets as named coordinates: pitch and yaw in degrees, or the mean point in pixels."""
        return coordinates_of(self.targets, self.target)

    def equalized(self) -> "LabelledImages":
        """Return the set with the histogram of each image equalized."""
        return replace(self, pixels=np.stack([equalize(image) for image in self.pixels]))

    @cached_property
    def grey(self) -> tuple[float, float]:
        """Mean and standard deviation of all grey values, without NumPy's copy of the pixels as float64."""
        levels, counts = np.arange(256), np.zeros(256)
        for image in self.pixels:
            counts += np.bincount(image.ravel(), minlength=256)
        mean = np.average(levels, weights=counts)
        return float(mean), float(np.sqrt(np.average((levels - mean) ** 2, weights=counts)))

    @cached_property
    def digests(self) -> dict[bytes, str]:
        """Hashes of the images' pixels, and their files; empty frames are left out, since they are often equal."""
        pairs = zip(digests_of(self.pixels), self.files, strict=True)
        return {digest: file for digest, file in pairs if digest is not None}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that trains an estimator: pixels, targets, persons and weights."""
        digest = hashlib.sha256(self.pixels.tobytes())
        digest.update(self.targets.tobytes())
        digest.update(repr(self.persons).encode(errors="surrogatepass"))
        if self.weights is not None:
            digest.update(self.weights.tobytes())
        return digest.hexdigest()

    def describe(self) -> str:
        """Return count, size, labels, persons, ranges and brightness in words."""
        ranges = ", ".join(
            f"{name} {values.min():.1f} to {values.max():.1f} {UNIT[self.target]}"
            for name, values in self.coordinates().items()
        )
        who = f", {plural(len(set(self.persons)), 'person')}" if self.persons is not None else ""
        who += f", {plural(len(self.points), 'point')}" if self.points else ""
        height, width = self.size
        return (
            f"{plural(len(self), 'image')} of {height}x{width} ({self.reader}: {self.source}){who}; {ranges}; "
            f"grey {_spread(self)}"
        )


def digests_of(pixels: Grey) -> Iterator[bytes | None]:
    """Yield a hash of each of N x H x W images, None for an empty frame."""
    for image in pixels:
        yield hashlib.blake2b(image.tobytes(), digest_size=16).digest() if image.std() > 0 else None


def coordinates_of(targets: NDArray[np.float64], target: Target) -> dict[str, NDArray[np.float64]]:
    """Return targets as named coordinates: pitch and yaw (`mpiigaze`) in degrees, or the mean point in pixels."""
    if target != "gaze":
        x, y = mean_point(targets).T
        return {"x": x, "y": y}
    pitch, yaw = np.degrees(angles_from_vectors(targets, "mpiigaze")).T
    return {"pitch": pitch, "yaw": yaw}


def as_points(targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return N x 2K as N x K x 2."""
    return targets.reshape(len(targets), targets.shape[1] // 2, 2)


def mean_point(targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the known points of each image, N x 2K -> N x 2."""
    mean: NDArray[np.float64] = np.nanmean(as_points(targets), axis=1)
    return mean


def places(targets: NDArray[np.float64], target: Target) -> NDArray[np.float64]:
    """Return the targets in the form that distributions are compared in: unit vectors N x 3, or mean points N x 2."""
    return targets if target == "gaze" else mean_point(targets)


def collect(
    samples: Sequence[Sample], source: Path, reader: str, label_format: LabelFormat, warnings: Sequence[str] = ()
) -> LabelledImages:
    """Return `samples` with their pixels, resized to one size, and checked targets.

    Images without any point are left out. Raises DataError for no sample, an unreadable image, points of other names,
    or a target that is not finite or has no length.
    """
    notes = list(warnings)
    if label_format.target == "points":
        known = [sample for sample in samples if not np.isnan(sample.target).all()]
        if len(known) < len(samples):
            notes.append(f"{source}: left out {plural(len(samples) - len(known), 'image')} without a point")
        samples = known
    if not samples:
        raise DataError(f"{source}: no labelled image ({reader}); give a folder or file with images and their labels")
    names = check_names(samples, source)
    first = samples[0].pixels()
    size = label_format.size or (int(first.shape[0]), int(first.shape[1]))
    pixels = np.empty((len(samples), *size), np.uint8)
    scales = np.empty((len(samples), 2))
    with ThreadPoolExecutor() as pool:
        waiting = iter(enumerate(samples))
        while batch := list(islice(waiting, MAX_DECODED)):
            for (index, _), image in zip(batch, pool.map(lambda item: item[1].pixels(), batch), strict=True):
                pixels[index] = prepared(image, size, label_format)
                scales[index] = size[1] / image.shape[1], size[0] / image.shape[0]
    targets = np.array([sample.target for sample in samples], np.float64)
    files = [sample.file for sample in samples]
    persons = [sample.person for sample in samples if sample.person]
    _check_finite(targets, files, source, label_format.target)
    if label_format.target == "gaze":
        targets = unit(targets)
        notes += direction_warnings(targets, source, label_format.degrees)
    else:
        targets = targets * np.tile(scales, targets.shape[1] // 2)
        check_inside(targets, size, files, source)
    everyone = persons if len(persons) == len(samples) else None
    return LabelledImages(source, reader, label_format.target, pixels, targets, files, everyone, notes, points=names)


def check_names(samples: Sequence[Sample], source: Path) -> tuple[str, ...]:
    """Return the names of the points of all samples. Raises DataError where they differ."""
    if not samples:
        return ()
    first = samples[0]
    for sample in samples:
        if sample.points != first.points:
            raise DataError(f"{source}: {_other_points(sample.file, sample.points, first.file, first.points)}")
    return first.points


def check_points(images: LabelledImages, others: LabelledImages) -> None:
    """Raise DataError where two sets differ in their points or in the order of these."""
    if images.points != others.points:
        raise DataError(_other_points(str(images.source), images.points, str(others.source), others.points))


def _other_points(one: str, names: Sequence[str], other: str, wanted: Sequence[str]) -> str:
    return (
        f"{one} has the {plural(len(names), 'point')} {', '.join(names)}, but {other} the "
        f"{plural(len(wanted), 'point')} {', '.join(wanted)}; give the same points in the same order"
    )


def check_apart(train: LabelledImages, test: LabelledImages) -> None:
    """Raise DataError where the two sets share an image: the test would then measure memory."""
    ours, theirs = train.digests, test.digests
    shared = [f"{ours[key]} = {theirs[key]}" for key in ours.keys() & theirs.keys()]
    if shared:
        raise DataError(
            f"{train.source} and {test.source} share {plural(len(shared), 'image')} ({', '.join(sorted(shared)[:3])}); "
            "test images must not be trained on, so remove them from one of the two"
        )


def apart_warnings(train: LabelledImages, test: LabelledImages) -> list[str]:
    """Return warnings where the labels' ranges, or the images' brightness or contrast, are far apart."""
    warnings = []
    theirs = test.coordinates()
    for name, values in train.coordinates().items():
        low, high = np.percentile(values, [1, 99])
        outside = float(np.mean((theirs[name] < low) | (theirs[name] > high)))
        if outside > 0.2:
            warnings.append(
                f"{outside:.0%} of the test labels' {name} lie outside the range of {train.source}, {low:.1f} to "
                f"{high:.1f}; render the missing range, or check --convention"
            )
    brightness, contrast = test.grey[0] - train.grey[0], test.grey[1] / max(1e-9, train.grey[1])
    if abs(brightness) > 40 or not 0.6 < contrast < 1.6:
        warnings.append(
            f"grey values of {train.source} ({_spread(train)}) and {test.source} ({_spread(test)}) are far apart; "
            "try --preprocess equalize"
        )
    return warnings


def _spread(images: LabelledImages) -> str:
    return "{:.0f} +- {:.0f}".format(*images.grey)


def prepared(image: NDArray[Any], size: tuple[int, int], label_format: LabelFormat) -> Grey:
    """Return an image H x W as estimators get it: 8 bits, of `size`, and equalized if `label_format` asks for it."""
    if image.dtype != np.uint8:
        image = np.rint(image * (255 / top_of(image.dtype))).astype(np.uint8)
    image = resize(image, size, "resize")
    return equalize(image) if label_format.preprocess == "equalize" else image


def _check_finite(targets: NDArray[np.float64], files: list[str], source: Path, target: Target) -> None:
    bad = np.isinf(targets).any(axis=1) if target == "points" else ~np.isfinite(targets).all(axis=1)
    if target == "gaze":
        bad |= np.linalg.norm(targets, axis=1) < 1e-6
    if bad.any():
        named = ", ".join(files[i] for i in np.flatnonzero(bad)[:3])
        raise DataError(
            f"{source}: {plural(int(bad.sum()), 'label')} with NaN, infinity or length 0 ({named}); "
            "correct or remove such labels"
        )


def check_inside(targets: NDArray[np.float64], size: tuple[int, int], files: list[str], source: Path) -> None:
    """Raise DataError where most points lie outside their images, as another convention of pixels does."""
    points = as_points(targets)
    outside = np.any((points < 0) | (points > (size[1], size[0])), axis=2)
    if np.sum(outside) > 0.5 * np.sum(~np.isnan(points[:, :, 0])):
        file = files[int(np.argmax(np.any(outside, axis=1)))]
        raise DataError(
            f"{source}: {plural(int(np.sum(outside)), 'point')} outside the image ({file}); "
            "wanted pixels of the image file, x to the right and y down"
        )


def direction_warnings(vectors: Vectors, source: Path, degrees: bool) -> list[str]:
    """Return warnings of vectors that point away from the camera, or of radians that were read as `degrees`."""
    warnings = []
    if np.median(vectors[:, 2]) > 0:
        warnings.append(
            f"{source}: most gaze vectors point away from the camera (z > 0); wanted x right, y down, z away, "
            "so that looking into the camera is (0, 0, -1)"
        )
    largest = max(float(np.abs(angles).max()) for angles in coordinates_of(vectors, "gaze").values())
    if degrees and largest <= MAX_RADIANS:
        warnings.append(
            f"{source}: no angle is larger than {largest:.2g} degrees; if its labels are radians, leave --degrees out, "
            "or convert them to degrees"
        )
    return warnings
