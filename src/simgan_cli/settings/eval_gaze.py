"""Every setting of `simgan eval-gaze`: its default, bounds and meaning. Imports no torch."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from simgan_cli.data.decoding import Preprocess
from simgan_cli.data.matching import MatchSetting
from simgan_cli.settings.base import (
    RUNTIME,
    Convention,
    Device,
    Globs,
    ModelSetting,
    PathSetting,
    Precision,
    Seed,
    Settings,
    Size,
    Target,
    as_list,
    setting,
)

WEIGHTED = "-weighted"  # ends the names of rows that `reweight_to` adds
FEW = "real-"  # starts the names of rows that are trained on a number of labelled photographs
CURVE = (50, 100, 300, 1000, 3000)  # photographs at the points of the learning curve of `worth`; its last has all
Layout = Literal["csv", "unityeyes", "coco", "mpiigaze", "hdf5", "npz"]
BaselineName = Literal["histogram", "reinhard", "fda", "augment", "mixed"]
Protocol = Literal["cross-domain", "leave-one-person-out"]
EstimatorName = Literal["cnn", "cnn-full", "resnet", "knn"]


def only_on_curve(settings: Mapping[str, Any]) -> set[str]:
    """Return the names of rows that only the learning curve of `worth` needs, from the settings in results.json."""
    return {f"{FEW}{count}" for count in CURVE if settings["worth"] and count not in settings["few"]}


def parse_named_path(value: object) -> object:
    """Read "NAME=PATH" as (NAME, PATH). Raises ValueError where either is missing or the name is not plain."""
    match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)=([^\0]+)", value, re.ASCII) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            f"{value!r} is not NAME=PATH, such as synthetic=renders/, of letters, digits, '-', '_' and '.'"
        )
    return match[1], Path(match[2])


def parse_counts(value: object) -> object:
    """Read "50,200", or a list of such texts, as a list of numbers; anything else is left to the type check."""
    listed = as_list(value)
    return [part for each in listed for part in str(each).split(",")] if isinstance(listed, (list, tuple)) else listed


NamedPath = Annotated[
    tuple[str, Path],
    BeforeValidator(parse_named_path),
    PlainSerializer(lambda pair: f"{pair[0]}={pair[1]}", when_used="json"),
]
NamedPaths = Annotated[tuple[NamedPath, ...], BeforeValidator(as_list)]
BaselineNames = Annotated[tuple[BaselineName, ...], BeforeValidator(as_list)]
Counts = Annotated[tuple[Annotated[int, Field(ge=2)], ...], BeforeValidator(parse_counts)]
EstimatorNames = Annotated[tuple[EstimatorName, ...], BeforeValidator(as_list)]


class EvalGazeConfig(Settings):
    """The resolved settings of one evaluation."""

    command: ClassVar = "eval-gaze"
    recorded_as: ClassVar = "simgan.eval-gaze/1"

    # fmt: off
    train: NamedPaths = setting((), "Labelled set to train on; once for each.", "Data", essential=True, metavar="NAME=DIR")
    test: PathSetting | None = setting(None, "Labelled real eyes to test on.", "Data", essential=True, metavar="DIR")
    model: ModelSetting | None = setting(None, "Refiner: adds the first --train set, refined.", "Data", essential=True, short="-m", metavar="MODEL")
    match: MatchSetting = setting("auto", "Tones of the refined set, as refine --match gives them.", "Data")
    augment: bool = setting(False, "Augment the refined set, as refine --augment does.", "Data")
    copies: int = setting(1, "Looks of each render in the refined set, as refine --copies makes them.", "Data", ge=1, metavar="N")
    step: int | None = setting(None, "Take the run's checkpoint at this step instead of RUN/refiner. Training must have kept it (--keep 0).", "Data", ge=0, metavar="N")
    real_train: PathSetting | None = setting(None, "Labelled real eyes to train on: the upper limit.", "Data", essential=True, metavar="DIR")
    worth: bool = setting(False, "Report how many photographs of --real-train each row is worth. Trains on up to five subsets of them.", "Data")
    few: Counts = setting((), "Also train on this many photographs of --real-train, alone and with refined images, such as 50,200.", "Data", metavar="N,N")
    reweight_to: PathSetting | None = setting(None, "Unlabelled real images: also train on sets weighted to match predictions for them.", "Data", essential=True, metavar="DIR")
    photos: PathSetting | None = setting(None, "Unlabelled real images for --baseline, and to compare predicted labels with. By default those of --reweight-to.", "Data", metavar="DIR")
    include: Globs = setting((), "Use only these files below the folders given as pictures; may be repeated.", "Data", metavar="GLOB")
    exclude: Globs = setting((), "Do not use these files as pictures, such as masks; may be repeated.", "Data", metavar="GLOB")
    out: PathSetting = setting(..., "Folder for the results.", "Data", essential=True, short="-o", metavar="DIR")

    labels: Literal["auto"] | Layout = setting("auto", "auto, csv, unityeyes, coco, mpiigaze, hdf5 or npz.", "Labels", metavar="LAYOUT")
    target: Target = setting("gaze", "Gaze in degrees; the pupil or any points in pixels.", "Labels", essential=True)
    convention: Convention = setting("mpiigaze", "Meaning of angles in files: mpiigaze (pitch, yaw), gazehub (yaw, pitch), or xgaze.", "Labels")
    test_convention: Convention | None = setting(None, "The same for --test and --real-train. By default --convention.", "Labels")
    degrees: bool = setting(False, "Angles in files are degrees, not radians.", "Labels")
    size: Size | None = setting(None, "Size that all images are brought to. By default that of the first --train.", "Labels", metavar="HxW")
    preprocess: Preprocess = setting("none", "Histogram equalization of all images.", "Labels")

    estimator: EstimatorNames = setting(("resnet",), "resnet, cnn (the paper's), cnn-full, knn; once for each.", "Estimator", essential=True, metavar="NAME")
    protocol: Protocol = setting("cross-domain", "Train on --train and test on --test, or train on all persons of --train but one and test on that one.", "Estimator")
    baseline: BaselineNames = setting((), "Also train on the first --train, changed without a refiner: histogram, reinhard, fda, augment or mixed.", "Estimator", essential=True, metavar="NAME")
    seeds: int = setting(1, "Trainings with different seeds.", "Estimator", essential=True, ge=1)
    seed: Seed = setting(0, "The first of the seeds.", RUNTIME)
    steps: int = setting(2000, "Maximum updates of an estimator. Training stops early when its held-out error stops falling.", "Estimator", ge=1)
    batch_size: int = setting(64, "Images in an update.", "Estimator", ge=2)
    lr: float = setting(1e-3, "Adam's learning rate at the start. It falls to 0 as a cosine.", "Estimator", gt=0)
    load: NamedPaths = setting((), "Trained estimator (a folder below estimators/) to test as another row.", "Estimator", metavar="NAME=DIR")
    bootstrap: int = setting(2000, "Resamples for the 95% intervals.", "Estimator", ge=100)

    skip_existing: bool = setting(False, "Keep trained estimators; resumes an evaluation.", "Job", essential=True)
    overwrite: bool = setting(False, "Replace the results in --out.", "Job", essential=True)
    device: Device = setting("auto", "auto, cpu, cuda, cuda:N or mps.", RUNTIME, essential=True, metavar="DEVICE")
    precision: Precision = setting("auto", "Arithmetic of the convolutions. auto is bf16 where the GPU or CPU computes in it, else fp32.", RUNTIME)
    log_every: int = setting(500, "Updates between lines of progress where there is no terminal.", RUNTIME, ge=1)
    # fmt: on
