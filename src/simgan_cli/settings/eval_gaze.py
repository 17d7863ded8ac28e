"""Every setting of `simgan eval-gaze`: its default, bounds and meaning. Imports no torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from simgan_cli.settings.train import Device, Globs, PathSetting, Seed, Size, as_list, setting

REWEIGHTED = "-reweighted"  # ends the names of rows that `reweight_to` adds
Layout = Literal["csv", "unityeyes", "mpiigaze", "hdf5", "npz"]
Convention = Literal["mpiigaze", "gazehub", "xgaze"]
EstimatorName = Literal["cnn", "cnn-full", "resnet", "knn"]


def parse_named_path(value: object) -> object:
    """Read "NAME=PATH" as (NAME, PATH). Raises ValueError where either is missing or the name is no file name."""
    text = value if isinstance(value, str) else ""
    name, _, path = text.partition("=")
    if not name or not path or "/" in name or "\0" in text or name.startswith("."):
        raise ValueError(f"{value!r} is not NAME=PATH, such as synthetic=renders/")
    return name, Path(path)


NamedPath = Annotated[
    tuple[str, Path],
    BeforeValidator(parse_named_path),
    PlainSerializer(lambda pair: f"{pair[0]}={pair[1]}", when_used="json"),
]
NamedPaths = Annotated[tuple[NamedPath, ...], BeforeValidator(as_list)]
EstimatorNames = Annotated[tuple[EstimatorName, ...], BeforeValidator(as_list)]


class EvalGazeConfig(BaseModel):
    """The resolved settings of one evaluation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # fmt: off
    train: NamedPaths = setting((), "Labelled set to train an estimator on, and its name in the table; give it once for each set.", "Data", metavar="NAME=DIR")
    test: PathSetting | None = setting(None, "Labelled real eyes that every estimator is tested on.", "Data", metavar="DIR")
    model: PathSetting | None = setting(None, "Run, whose exported refiner (RUN/refiner) is taken, or exported refiner: refines the first --train in memory and adds it as 'refined'.", "Data", short="-m")
    step: int | None = setting(None, "Take the run's checkpoint at this step instead of the exported refiner (RUN/refiner); training must have kept it (--keep 0, --save-every).", "Data", ge=0)
    real_train: PathSetting | None = setting(None, "Labelled real eyes to train on: the row 'oracle', what this many labelled images reach.", "Data", metavar="DIR")
    reweight_to: PathSetting | None = setting(None, "Unlabelled real images, such as the refiner's: each --train, and what --model makes of the first, also trains estimators (but knn) with weights under which its labels are distributed as predicted for these, the row NAME-reweighted.", "Data", metavar="DIR")
    include: Globs = setting((), "Take only these files below the folders given for pictures; may be repeated.", "Data", metavar="GLOB")
    exclude: Globs = setting((), "Take these files for no pictures, such as masks; may be repeated.", "Data", metavar="GLOB")
    out: PathSetting = setting(..., "Folder for the results.", "Data", short="-o")

    labels: Literal["auto"] | Layout = setting("auto", "Layout of the labels.", "Labels")
    target: Literal["gaze", "pupil"] = setting("gaze", "What is estimated: gaze in degrees, or the pupil's centre in pixels.", "Labels")
    convention: Convention = setting("mpiigaze", "Meaning of angles in files: mpiigaze (pitch, yaw), gazehub (yaw, pitch), or xgaze.", "Labels")
    test_convention: Convention | None = setting(None, "The same for --test and --real-train; by default --convention.", "Labels")
    degrees: bool = setting(False, "Angles in files are degrees, not radians.", "Labels")
    test_degrees: bool | None = setting(None, "The same for --test and --real-train; by default --degrees.", "Labels")
    size: Size | None = setting(None, "Size that all images are brought to; by default that of the first --train.", "Labels", metavar="HxW")
    preprocess: Literal["none", "equalize"] = setting("none", "Histogram equalization of all images.", "Labels")

    estimator: EstimatorNames = setting(("cnn",), "cnn: the paper's; cnn-full: with FC9600 as a layer; resnet: small and fast; knn: nearest neighbours. Give it once for each.", "Estimator", metavar="NAME")
    protocol: Literal["cross-domain", "leave-one-person-out"] = setting("cross-domain", "Train on --train and test on --test, or train on all persons of --train but one and test on that one.", "Estimator")
    seeds: int = setting(1, "Repetitions with other weights, batches and held-out parts.", "Estimator", ge=1)
    seed: Seed = setting(0, "The first of them.", "Estimator")
    train_steps: int = setting(2000, "Most updates of an estimator; training stops early where the held-out part of its training set no longer gains.", "Estimator", ge=1)
    train_batch: int = setting(64, "Images an update.", "Estimator", ge=2)
    learning_rate: float = setting(1e-3, "Adam's, at the start; falls to 0 over the steps as a cosine.", "Estimator", gt=0)
    load: NamedPaths = setting((), "Trained estimator (a folder below estimators/) to test as one more row.", "Estimator", metavar="NAME=PATH")
    bootstrap: int = setting(2000, "Resamples for the 95% intervals.", "Estimator", ge=100)

    skip_existing: bool = setting(False, "Take the estimators that an interrupted evaluation has trained already; those of other data or settings are trained anew, and all results written again.", "Job")
    overwrite: bool = setting(False, "Replace the results in --out.", "Job")
    device: Device = setting("auto", "auto, cpu, cuda, cuda:N or mps.", "Job", metavar="DEVICE")
    precision: Literal["auto", "fp32", "bf16"] = setting("auto", "Arithmetic of the convolutions; auto is bf16 on a GPU or CPU that computes in it, else fp32.", "Job")
    log_every: int = setting(500, "Updates between lines of progress where there is no terminal.", "Job", ge=1)
    # fmt: on
