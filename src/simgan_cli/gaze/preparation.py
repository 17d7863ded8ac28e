"""Read and check everything that an evaluation needs: sets, refined images, trained estimators."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from simgan_cli.data.matching import MatchSetting
from simgan_cli.data.patterns import Patterns
from simgan_cli.documents import Preservation
from simgan_cli.engine.export.network_folder import CONFIG, load_network, read_json
from simgan_cli.engine.export.refiner_model import RefinerModel, open_model
from simgan_cli.engine.method.gaze_estimator import Architecture, Estimator, can_read
from simgan_cli.engine.refining.copies import copy_name
from simgan_cli.engine.refining.image_refiner import ImageRefiner, resolve_match
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.engine.runtime.device import prepare_process, resolve_device, resolve_precision
from simgan_cli.errors import CheckpointError, DataError, SettingsError, plural
from simgan_cli.gaze.baselines import make_baseline
from simgan_cli.gaze.content import Content
from simgan_cli.gaze.labels import (
    Grey,
    LabelFormat,
    LabelledImages,
    apart_warnings,
    check_apart,
    check_points,
    digests_of,
)
from simgan_cli.gaze.readers import read, read_unlabelled
from simgan_cli.gaze.scores import Result
from simgan_cli.settings.base import Arithmetic
from simgan_cli.settings.eval_gaze import CURVE, FEW, WEIGHTED, EvalGazeConfig

REFINED, ORACLE, KNN = "refined", "oracle", "knn"
RUN_ESTIMATOR = "run-estimator"  # the row of the run's estimator, which it exports
LEFT_OUT = "leave-one-person-out"


@dataclass
class Evaluation:
    """The inputs of an evaluation, and the results that it adds.

    `unlabelled` are the photographs of --reweight-to, or else of --photos.
    """

    config: EvalGazeConfig
    sets: dict[str, LabelledImages]
    loaded: dict[str, Estimator]
    test: LabelledImages | None  # None with --protocol leave-one-person-out
    unlabelled: Grey | None
    device: torch.device
    warnings: list[str] = field(default_factory=list)
    rows: list[Result] = field(default_factory=list)
    content: Content | None = None
    preservation: Preservation | None = None

    @property
    def tested(self) -> LabelledImages:
        """The test images."""
        return self.test if self.test is not None else next(iter(self.sets.values()))

    def free_rows(self, estimator: str) -> list[Result]:
        """Return an estimator's rows that need neither a refiner nor labels of the target, in the order of the sets."""
        return [row for row in self._label_free(estimator) if not row.name.startswith(REFINED)]

    def refined_rows(self, estimator: str) -> list[Result]:
        """Return an estimator's rows of refined images."""
        return [row for row in self._label_free(estimator) if row.name.startswith(REFINED)]

    def _label_free(self, estimator: str) -> list[Result]:
        names = self.sets.keys() - {ORACLE}
        rows = [row for row in self.rows if row.estimator == estimator]
        return [row for row in rows if row.name in names or row.weights is not None]

    @property
    def counts(self) -> list[int]:
        """The sizes of subsets of labelled photographs to train on, ascending: those of --few and of --worth."""
        curve = [count for count in CURVE if count < len(self.sets[ORACLE])] if self.config.worth else []
        return sorted({*self.config.few, *curve})

    @property
    def seeds(self) -> range:
        """The seeds of the trainings."""
        return range(self.config.seed, self.config.seed + self.config.seeds)

    def folder_of(self, name: str, estimator: str, seed: int) -> Path:
        """Return the folder of the estimator of a row and seed."""
        return self.config.out / "estimators" / f"{name}-{estimator}-seed{seed}"

    @property
    def photographs_from(self) -> Path | None:
        """The folder of the unlabelled photographs."""
        return self.config.reweight_to or self.config.photos

    @property
    def precision(self) -> Arithmetic:
        """The precision of the estimators' convolutions."""
        return resolve_precision(self.config.precision, self.device)


def prepare(config: EvalGazeConfig, report: Callable[[str], None] = lambda _: None) -> Evaluation:
    """Return all sets and trained estimators, checked against each other; nothing is written.

    `report` gets the name of each step. Raises SettingsError for contradictions, DataError for unusable sets, and
    CheckpointError for unusable estimators.
    """

    def read_set(path: Path, label_format: LabelFormat) -> LabelledImages:
        report(f"reading {path}")
        return read(path, label_format, config.labels)

    _check(config)
    model = open_model(config.model, config.step) if config.model is not None else None
    if model is not None:
        config = config.model_copy(update={"match": resolve_match(config.match, model, strength=1)})
    loaded = {name: load_estimator(path, config.target) for name, path in config.load}
    device = resolve_device(config.device)
    prepare_process(device, deterministic=device.type == "cpu")
    patterns = Patterns(config.include, config.exclude)
    labels = LabelFormat(config.target, config.size, config.preprocess, config.convention, config.degrees, patterns)
    sets: dict[str, LabelledImages] = {}
    for name, path in config.train:
        if model is not None and not sets:
            images = read_set(path, replace(labels, preprocess="none"))  # the refiner gets the renders unchanged
            report(f"refining {plural(len(images), 'image')} by {config.model}")
            sets |= _with_refined(config, model, name, images, device)
        else:
            sets[name] = read_set(path, labels)
        labels = replace(labels, size=sets[name].size)
    size = labels.size or _size_of(next(iter(loaded.values())))  # without --train, --load is given
    labels = replace(labels, size=size)
    _check_networks(config, loaded, size)
    test_labels = replace(labels, convention=config.test_convention or config.convention)
    points = next(iter(sets.values())).points if sets else ()
    along, warnings = _run_estimator(config, size, points)
    loaded |= along
    unlabelled: dict[Path, Grey] = {}
    for folder in (config.photos, config.reweight_to):
        if folder is not None and folder not in unlabelled:
            unlabelled[folder], reasons = read_unlabelled(folder, size, labels)
            warnings += reasons
    if config.baseline:
        renders, photographs = next(iter(sets.values())), unlabelled[cast("Path", config.photos or config.reweight_to)]
        sets |= {name: make_baseline(name, renders, photographs, config.seed) for name in config.baseline}
    if config.real_train is not None:
        sets[ORACLE] = read_set(config.real_train, test_labels)
        _check_counts(config, len(sets[ORACLE]))
    test = read_set(config.test, test_labels) if config.test is not None else None
    warnings += [warning for images in [*sets.values(), *([test] if test else [])] for warning in images.warnings]
    _check_points(sets, loaded, test)
    if test is not None:
        if len(test) < 2:
            raise DataError(f"{test.source}: 1 image; an interval, and so a verdict, needs 2 or more; add test images")
        for images in sets.values():
            check_apart(images, test)
            warnings += apart_warnings(images, test)
        warnings += [
            f"{folder} and {test.source} share {plural(len(shared), 'image')}, so rows made with them have seen test "
            "images; give other photographs"
            for folder, images in unlabelled.items()
            if (shared := test.digests.keys() & set(digests_of(images)))
        ]
    if test is not None and ORACLE in sets and (known := set(sets[ORACLE].persons or ()) & set(test.persons or ())):
        warnings.append(
            f"{config.real_train} and {test.source} share {plural(len(known), 'person')}, such as {min(known)}, so the "
            "upper limit has seen them; test on other persons to know it for new ones"
        )
    if model is not None and (config.augment or config.match != "off") and not config.baseline:
        baseline = "mixed" if config.augment else {"mean-std": "reinhard"}.get(config.match, config.match)
        warnings.append(
            f"refined images are also changed as by --baseline {baseline}, which may help without a refiner, too; "
            "give it and --photos, or refining gets the credit"
        )
    unknown = "intervals and verdicts cover other test images, not other trainings"
    if config.seeds == 1 and sets and set(config.estimator) != {KNN}:
        warnings.append(f"one seed: {unknown}; give --seeds 3 or more")
    elif config.load:
        warnings.append(f"--load: one training, so {unknown}")
    compared = unlabelled.get(cast("Path", config.reweight_to or config.photos))
    return Evaluation(config, sets, loaded, test, compared, device, list(dict.fromkeys(warnings)))


def _check(config: EvalGazeConfig) -> None:
    problems = []
    if not config.train and not config.load:
        problems.append("no --train; give --train NAME=DIR, or --load to test a trained estimator")
    taken = [name for name, _ in (*config.train, *config.load)]
    if len(set(taken)) < len(taken):
        problems.append(f"names of --train and --load must differ, not {', '.join(taken)}")
    made = {
        ORACLE: config.real_train is not None,
        REFINED: config.model is not None,
        RUN_ESTIMATOR: config.model is not None,
    }
    made |= dict.fromkeys(
        [*config.baseline, *(f"{FEW}{count}" for count in (*config.few, *(CURVE if config.worth else ())))], True
    )
    problems += [
        f"{name}=...: another option makes a row of this name; take another name"
        for name in taken
        if made.get(name) or ((config.reweight_to or config.photos) and name.endswith(WEIGHTED))
    ]
    if config.protocol == LEFT_OUT:
        problems += [
            f"--{flag}: leave it out, since --protocol leave-one-person-out tests on each person of --train"
            for flag in ("test", "model", "real-train", "reweight-to", "photos", "baseline", "load")
            if getattr(config, flag.replace("-", "_"))
        ]
        problems += [
            f"--{flag}: given {len(getattr(config, flag))} times; --protocol leave-one-person-out takes one"
            for flag in ("train", "estimator")
            if len(getattr(config, flag)) > 1
        ]
    elif config.test is None:
        problems.append("no --test; give --test DIR with labelled real images")
    if config.model is None:
        problems += [
            f"--{flag} sets how --model refines; give --model, too"
            for flag in ("match", "augment", "copies", "step")
            if getattr(config, flag) != EvalGazeConfig.model_fields[flag].default
        ]
    if config.model is not None and not config.train:
        problems.append("--model refines the first --train; give --train")
    if config.reweight_to is not None and (not config.train or set(config.estimator) == {KNN}):
        problems.append("--reweight-to weights training images; give --train and an --estimator other than knn")
    problems += [
        f"--{flag} uses labelled photographs of --real-train; give --real-train"
        for flag in ("worth", "few")
        if getattr(config, flag) and config.real_train is None
    ]
    if config.few and not config.train:
        problems.append("--few adds photographs to the first --train; give --train")
    if config.baseline and not config.train:
        problems.append("--baseline changes the first --train; give --train")
    if config.baseline and config.photos is None and config.reweight_to is None:
        problems.append("--baseline takes tones from unlabelled real images; give --photos")
    if config.skip_existing and config.overwrite:
        problems.append("--skip-existing and --overwrite contradict each other; give one of them")
    if config.out.exists() and not config.out.is_dir():
        problems.append(f"--out {config.out}: a file; give a folder")
    elif config.out.is_dir() and any(config.out.iterdir()) and not (config.skip_existing or config.overwrite):
        problems.append(f"--out {config.out}: not empty; use --overwrite, --skip-existing to resume, or another folder")
    if problems:
        raise SettingsError(*problems)


def _check_counts(config: EvalGazeConfig, count: int) -> None:
    """Raise SettingsError where `count` labelled photographs are too few for --few or --worth."""
    problems = []
    if any(few > count for few in config.few):
        problems.append(
            f"--few {max(config.few):,}: --real-train has {plural(count, 'labelled photograph')}; give fewer"
        )
    if config.worth and count <= CURVE[0]:
        problems.append(f"--worth: --real-train has {plural(count, 'labelled photograph')}; give more than {CURVE[0]}")
    if problems:
        raise SettingsError(*problems)


def _check_networks(config: EvalGazeConfig, loaded: dict[str, Estimator], size: tuple[int, int]) -> None:
    """Raise SettingsError for an --estimator that cannot read images of `size`, or a --load trained on others."""
    ours = {"size": f"{size[0]}x{size[1]}", "preprocess": config.preprocess}
    problems = [
        f"images of {ours['size']} are too small for --estimator {name}; give a larger --size, or another one"
        for name in config.estimator
        if (config.train or config.real_train) and name != KNN and not can_read(cast("Architecture", name), *size)
    ]
    for name, path in config.load:
        height, width = _size_of(loaded[name])
        made_of = read_json(path / CONFIG).get("made_of")
        theirs = (made_of if isinstance(made_of, dict) else {}) | {"size": f"{height}x{width}"}
        problems += [
            f"--load {path}: trained with {flag} {value}, not {ours[flag]} as here; give --{flag} {value}"
            for flag, value in theirs.items()
            if value != ours.get(flag, value)
        ]
    if problems:
        raise SettingsError(*problems)


def _check_points(sets: dict[str, LabelledImages], loaded: dict[str, Estimator], test: LabelledImages | None) -> None:
    """Raise DataError where points of sets and loaded estimators differ, or no image of a training set has one."""
    tested = test or next(iter(sets.values()))
    for images in sets.values():
        check_points(images, tested)
        unknown = [name for n, name in enumerate(images.points) if np.isnan(images.targets[:, 2 * n]).all()]
        if unknown:
            raise DataError(
                f"{images.source}: no image has the points {', '.join(unknown)}; leave them out of all sets"
            )
    for name, network in loaded.items():
        if _points_of(network) != tested.points:
            raise DataError(
                f"{name}: predicts the points {', '.join(_points_of(network))}, but {tested.source} has "
                f"{', '.join(tested.points)}; give another estimator"
            )


def _run_estimator(
    config: EvalGazeConfig, size: tuple[int, int], points: tuple[str, ...]
) -> tuple[dict[str, Estimator], list[str]]:
    """Return the estimator of the run of --model, by the name of its row, or a warning why it is left out."""
    folder = RunFolder(Path(config.model)).estimator if config.model is not None else None
    if folder is None or config.step is not None or not folder.is_dir():
        return {}, []
    network = load_network(folder)
    if not isinstance(network, Estimator):
        raise CheckpointError(f"{folder}: not an estimator; restore what the run exported")
    preprocess = read_json(folder / CONFIG).get("made_of", {}).get("preprocess")
    theirs = {"target": network.settings["target"], "size": _size_of(network), "preprocess": preprocess}
    ours = {"target": config.target, "size": size, "preprocess": config.preprocess}
    different = [f"--{key} {_shown(value)}" for key, value in theirs.items() if value != ours[key]]
    if theirs["target"] == config.target and _points_of(network) != points:
        different.append(f"the points {', '.join(_points_of(network))}")
    if different:
        return {}, [f"{folder}: left out, since it was trained with {', '.join(different)}"]
    return {RUN_ESTIMATOR: network.eval().requires_grad_(False)}, []


def _shown(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _with_refined(
    config: EvalGazeConfig, model: RefinerModel, name: str, images: LabelledImages, device: torch.device
) -> dict[str, LabelledImages]:
    """Return the set and its refined images, by name, both preprocessed like the other sets."""
    refined = refined_by(model, images, device, match=config.match, augment=config.augment, copies=config.copies)
    sets = {name: images, REFINED: replace(refined, source=Path(str(config.model)))}
    return {key: each.equalized() for key, each in sets.items()} if config.preprocess == "equalize" else sets


def refined_by(
    model: RefinerModel,
    images: LabelledImages,
    device: torch.device,
    seed: int = 0,
    *,
    match: MatchSetting = "auto",
    augment: bool = False,
    copies: int = 1,
) -> LabelledImages:
    """Return the labelled images refined as `simgan refine` would with these settings, the copies of each together."""
    refiner = ImageRefiner(model, device, seed=seed, match=match, augment=augment)
    count = refiner.capacity(images.size)
    parts = [images.pixels[start : start + count, None] for start in range(0, len(images), count)]
    looks = [np.concatenate([refiner.refine(part, copy=copy)[:, 0] for part in parts]) for copy in range(copies)]
    if copies > 1:
        files = [copy_name(file, copy) for file in images.files for copy in range(copies)]
        images = replace(images.part(np.repeat(np.arange(len(images)), copies)), files=files, copies=copies)
    pixels = np.stack(looks, axis=1).reshape(images.pixels.shape)
    return replace(images, reader=f"{images.reader}, refined", pixels=pixels)


def load_estimator(folder: Path, target: str) -> Estimator:
    """Return a trained estimator of `target`, frozen. Raises CheckpointError."""
    network = load_network(folder)
    if not isinstance(network, Estimator) or network.settings["target"] != target:
        raise CheckpointError(f"{folder}: not an estimator of --target {target}; give a folder below estimators/")
    return network.eval().requires_grad_(False)


def _points_of(network: Estimator) -> tuple[str, ...]:
    return tuple(network.settings.get("points", ()))


def _size_of(network: Estimator) -> tuple[int, int]:
    return network.settings["height"], network.settings["width"]
