"""One evaluation: read the sets, refine where asked, train and test every estimator, write what came of it."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from simgan_cli.data.patterns import Patterns
from simgan_cli.engine.export.network_folder import CONFIG, load_network, read_json, save_network
from simgan_cli.engine.export.refiner_model import RefinerModel, open_model
from simgan_cli.engine.method.gaze_estimator import Architecture, Estimator, can_read
from simgan_cli.engine.metrics.label_drift import drift
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.runtime.device import prepare_process, resolve_device, resolve_precision
from simgan_cli.errors import CheckpointError, DataError, SettingsError
from simgan_cli.files import atomic_directory, write_atomic, write_json
from simgan_cli.gaze import scores
from simgan_cli.gaze.estimator_training import Schedule, fit, nearest_neighbours, predict, predict_mean
from simgan_cli.gaze.labels import UNIT, Grey, LabelFormat, LabelledImages, apart_warnings, check_apart, digests_of
from simgan_cli.gaze.plots import curve, error_map, plots_available, worst_images
from simgan_cli.gaze.readers import read, read_unlabelled
from simgan_cli.gaze.reweighting import weights_like
from simgan_cli.gaze.scores import Result, errors_of
from simgan_cli.settings.eval_gaze import REWEIGHTED, EvalGazeConfig

REFINED, ORACLE, MEAN, KNN = "refined", "oracle", "mean", "knn"
WEIGHTS = "weights"  # folder of the results
LEFT_OUT = "leave-one-person-out"
REFINED_AT_ONCE = 2**21  # pixels, which take some 130 MB with their noise: 1,089 images of 35x55, 6 of 480x640
MOST_COMPARED = 2000  # pairs of x and R(x) whose drift is measured
MOST_UNMATCHED = 0.1  # of the unlabelled images, beyond which weights deserve a warning
PUPIL_WINDOW = 10  # pixels from the pupil's centre to the edge of the window whose shift is measured
Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]


@dataclass
class Evaluation:
    """What an evaluation found; `document` is results.json."""

    config: EvalGazeConfig
    sets: dict[str, LabelledImages]
    loaded: dict[str, Estimator]
    test: LabelledImages | None  # None where persons are left out in turn
    unlabelled: Grey | None
    device: torch.device
    warnings: list[str] = field(default_factory=list)
    rows: list[Result] = field(default_factory=list)
    preservation: dict[str, Any] | None = None

    @property
    def tested(self) -> LabelledImages:
        """The images that errors are of."""
        return self.test if self.test is not None else next(iter(self.sets.values()))

    @property
    def precision(self) -> str:
        """Arithmetic of the estimators' convolutions."""
        return resolve_precision(self.config.precision, self.device)


def prepare(config: EvalGazeConfig, say: Say = lambda _: None) -> Evaluation:
    """Read all sets and trained estimators and check them against each other; nothing is written. `say` hears of each.

    Raises SettingsError for a contradiction, DataError for sets and CheckpointError for estimators that cannot be used.
    """

    def reading(path: Path, options: LabelFormat) -> LabelledImages:
        say(f"reading {path}")
        return read(path, options, config.labels)

    _check(config)
    loaded = {name: _loaded(path, config.target) for name, path in config.load}
    device = resolve_device(config.device)
    prepare_process(device, deterministic=device.type == "cpu")
    patterns = Patterns(config.include, config.exclude)
    options = LabelFormat(config.target, config.size, config.preprocess, config.convention, config.degrees, patterns)
    sets: dict[str, LabelledImages] = {}
    for name, path in config.train:
        if config.model is not None and not sets:
            images = reading(path, replace(options, preprocess="none"))  # the refiner sees them as they were rendered
            say(f"refining {len(images):,} images by {config.model}")
            sets |= _with_refined(config, config.model, name, images, device)
        else:
            sets[name] = reading(path, options)
        options = replace(options, size=sets[name].size)
    size = options.size or _size_of(next(iter(loaded.values())))  # without --train one of them is given
    options = replace(options, size=size)
    _check_networks(config, loaded, size)
    real = replace(
        options,
        convention=config.test_convention or config.convention,
        degrees=config.degrees if config.test_degrees is None else config.test_degrees,
    )
    if config.real_train is not None:
        sets[ORACLE] = reading(config.real_train, real)
    test = reading(config.test, real) if config.test is not None else None
    warnings = [warning for images in [*sets.values(), *([test] if test else [])] for warning in images.warnings]
    unlabelled: Grey | None = None
    if config.reweight_to is not None:
        unlabelled, left_out = read_unlabelled(config.reweight_to, next(iter(sets.values())).size, options)
        warnings += left_out
    if test is not None:
        for images in sets.values():
            check_apart(images, test)
            warnings += apart_warnings(images, test)
        if unlabelled is not None and (seen := test.digests.keys() & set(digests_of(unlabelled))):
            warnings.append(
                f"{config.reweight_to} and {test.source} share {len(seen):,} images: rows {REWEIGHTED} have seen "
                "those, without labels"
            )
    unknown = "intervals and verdicts say what other test images would give, not what another training would"
    if config.seeds == 1 and sets and set(config.estimator) != {KNN}:
        warnings.append(f"one seed: {unknown}; give --seeds 3 or more")
    elif config.load:
        warnings.append(f"--load: of one training, {unknown}")
    return Evaluation(config, sets, loaded, test, unlabelled, device, list(dict.fromkeys(warnings)))


def run(evaluation: Evaluation, progress: Progress) -> dict[str, Any]:
    """Train and test every row, write the results to the output folder, return results.json.

    Estimators are written as they are trained, everything else at the end. Raises OSError, DataError.
    """
    config, out = evaluation.config, evaluation.config.out
    out.mkdir(parents=True, exist_ok=True)
    if config.protocol == LEFT_OUT:
        ((name, images),) = evaluation.sets.items()
        evaluation.rows.append(_leave_one_out(evaluation, name, images, progress))
    else:
        _cross_domain(evaluation, progress)
    if config.model is not None:
        evaluation.preservation = _preservation(evaluation)
    (out / "results.json").unlink(missing_ok=True)  # of an earlier evaluation: what follows replaces its pictures
    _draw(evaluation)
    _write_weights(evaluation)
    write_atomic(out / "predictions.csv", _predictions(evaluation.rows, evaluation.tested, _seeds(config)))
    document = _document(evaluation)
    write_json(out / "results.json", document)  # last: it says that all is there
    return document


def _check(config: EvalGazeConfig) -> None:
    names = [name for name, _ in config.train]
    problems = []
    if not config.train and not config.load:
        problems.append("--train NAME=DIR is required (or --load, to test a trained estimator)")
    taken = names + [name for name, _ in config.load]
    problems += [f"{name!r}: a NAME needs letters that can be shown" for name in taken if not name.isprintable()]
    if len(set(taken)) < len(taken):
        problems.append(f"names of --train and --load must differ, not {', '.join(taken)}")
    reserved = {ORACLE} if config.real_train else set()
    reserved |= {REFINED} if config.model else set()
    if config.reweight_to:
        reserved |= {f"{name}{REWEIGHTED}" for name in (*names, *(reserved - {ORACLE}))}
    problems += [
        f"--{flag} {name}=...: that row is made by another option; take another name"
        for flag, given in (("train", config.train), ("load", config.load))
        for name in sorted(reserved.intersection(name for name, _ in given))
    ]
    if config.protocol == LEFT_OUT:
        problems += [
            f"--{flag}: not with --protocol leave-one-person-out, which tests on each person of --train"
            for flag, value in (
                ("test", config.test),
                ("model", config.model),
                ("real-train", config.real_train),
                ("reweight-to", config.reweight_to),
                ("load", config.load),
            )
            if value
        ]
        problems += [
            f"--{flag}: one of them with --protocol leave-one-person-out, not {count}"
            for flag, count in (("train", len(config.train)), ("estimator", len(config.estimator)))
            if count > 1
        ]
    elif config.test is None:
        problems.append("--test is required")
    if config.step is not None and config.model is None:
        problems.append(f"--step {config.step} names a checkpoint of --model, which is not given")
    if config.model is not None and not config.train:
        problems.append("--model refines the first --train; give one")
    if config.reweight_to is not None and (not config.train or set(config.estimator) == {KNN}):
        problems.append("--reweight-to weighs what an estimator of --train is trained on; give one, other than knn")
    if config.skip_existing and config.overwrite:
        problems.append("--skip-existing and --overwrite contradict each other; give one of them")
    if config.out.exists() and not config.out.is_dir():
        problems.append(f"--out {config.out}: a file; give a folder")
    elif config.out.is_dir() and any(config.out.iterdir()) and not (config.skip_existing or config.overwrite):
        problems.append(f"--out {config.out}: not empty; use --overwrite, --skip-existing to go on, or another folder")
    if problems:
        raise SettingsError(*problems)


def _check_networks(config: EvalGazeConfig, loaded: dict[str, Estimator], size: tuple[int, int]) -> None:
    """Raise SettingsError for --estimator that cannot read images of `size`, or --load trained on others."""
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


def _with_refined(
    config: EvalGazeConfig, model: Path, name: str, images: LabelledImages, device: torch.device
) -> dict[str, LabelledImages]:
    """Return the set and what the refiner makes of it, both preprocessed as the others are."""
    refined = refined_by(open_model(model, config.step), images, device)
    sets = {name: images, REFINED: replace(refined, source=model)}
    return {key: each.equalized() for key, each in sets.items()} if config.preprocess == "equalize" else sets


def refined_by(model: RefinerModel, images: LabelledImages, device: torch.device, seed: int = 0) -> LabelledImages:
    """Return the images as the refiner makes them, with the same labels; `seed` chooses among its looks."""
    refiner = ImageRefiner(model, device, seed=seed)
    parts = np.array_split(images.pixels, -(-images.pixels.size // REFINED_AT_ONCE))
    pixels = np.concatenate([refiner.refine(part[:, None])[:, 0] for part in parts])
    return replace(images, reader=f"{images.reader}, refined", pixels=pixels)


def _cross_domain(evaluation: Evaluation, progress: Progress) -> None:
    config, test = evaluation.config, evaluation.tested
    shown: list[NDArray[np.float64]] = []
    for name, images in evaluation.sets.items():
        guess = predict_mean(images, len(test))
        if not any(np.allclose(guess[0], other) for other in shown):  # refined labels are the synthetic ones
            shown.append(guess[0])
            evaluation.rows.append(_row(name, MEAN, len(images), [guess], test))
    for estimator in config.estimator:
        for name, images in evaluation.sets.items():
            if estimator == KNN:
                predictions = [nearest_neighbours(images, test.pixels, evaluation.device)]
            else:
                networks = [_trained(evaluation, name, estimator, images, seed, progress) for seed in _seeds(config)]
                predictions = [predict(n, test.pixels, evaluation.device, evaluation.precision) for n in networks]
            evaluation.rows.append(_row(name, estimator, len(images), predictions, test))
            if evaluation.unlabelled is not None and estimator != KNN and name != ORACLE:
                try:
                    row = _reweighted(evaluation, name, estimator, networks, evaluation.unlabelled, progress)
                    evaluation.rows.append(row)
                except DataError as error:  # the other rows stand
                    evaluation.warnings.append(f"{name}{REWEIGHTED}, {estimator}: left out: {error}")
    for name, network in evaluation.loaded.items():
        predictions = [predict(network, test.pixels, evaluation.device, evaluation.precision)]
        evaluation.rows.append(_row(name, network.settings["architecture"], 0, predictions, test))
    for row in evaluation.rows:
        if row.estimator != MEAN and (axes := scores.mirrored_axes(row, test.targets, test.target)):
            evaluation.warnings.append(
                f"{row.name}, {row.estimator}: predicted {' and '.join(axes)} run against the truth: the two sets "
                "define the sign differently (a mirrored eye or another --convention)"
            )


def _reweighted(
    evaluation: Evaluation,
    name: str,
    estimator: str,
    networks: Sequence[Estimator],
    unlabelled: Grey,
    progress: Progress,
) -> Result:
    """Train on the set `name` anew, weighted so that its labels are as each of `networks` predicts the `unlabelled`."""
    images, test = evaluation.sets[name], evaluation.tested
    row, found, weights, shares = f"{name}{REWEIGHTED}", [], [], []
    for seed, network in zip(_seeds(evaluation.config), networks, strict=True):
        predicted = predict(network, unlabelled, evaluation.device, evaluation.precision)
        of_seed, share = weights_like(images.targets, predicted)
        anew = _trained(evaluation, row, estimator, replace(images, weights=of_seed), seed, progress)
        found.append(predict(anew, test.pixels, evaluation.device, evaluation.precision))
        weights.append(of_seed)
        shares.append(share)
    unmatched = float(np.mean(shares))
    if unmatched > MOST_UNMATCHED:
        evaluation.warnings.append(
            f"{row}, {estimator}: {unmatched:.0%} of {evaluation.config.reweight_to} are predicted to have "
            f"labels where {name} has none, and count for its nearest ones: render that range, or doubt the estimator"
        )
    return replace(_row(row, estimator, len(images), found, test), weights=np.stack(weights), unmatched=unmatched)


def _leave_one_out(evaluation: Evaluation, name: str, images: LabelledImages, progress: Progress) -> Result:
    """Return errors on every person by estimators that never saw that person: the ceiling within a data set."""
    if images.persons is None or len(set(images.persons)) < 2:
        raise DataError(
            f"{images.source}: leaving persons out needs labels of two or more persons; add a person column"
        )
    (estimator,) = evaluation.config.estimator
    persons = np.array(images.persons)
    predictions = [np.empty_like(images.targets) for _ in _seeds(evaluation.config)]
    for number, person in enumerate(np.unique(persons), start=1):
        theirs, others = np.flatnonzero(persons == person), images.part(np.flatnonzero(persons != person))
        for index, seed in enumerate(_seeds(evaluation.config)):
            if estimator == KNN:
                found = nearest_neighbours(others, images.pixels[theirs], evaluation.device)
            else:
                # Numbered: a person's name may be anything, also what would lead out of the folder.
                network = _trained(evaluation, f"{name}-without-{number:02}", estimator, others, seed, progress)
                found = predict(network, images.pixels[theirs], evaluation.device, evaluation.precision)
            predictions[index][theirs] = found
    return _row(name, estimator, len(images), predictions, images)


def _seeds(config: EvalGazeConfig) -> range:
    return range(config.seed, config.seed + config.seeds)


def _row(name: str, estimator: str, count: int, predictions: list[NDArray[np.float64]], test: LabelledImages) -> Result:
    errors = np.stack([errors_of(predicted, test.targets, test.target) for predicted in predictions])
    return Result(name, estimator, count, predictions, errors)


def _trained(
    evaluation: Evaluation, name: str, estimator: str, images: LabelledImages, seed: int, progress: Progress
) -> Estimator:
    """Return the estimator of a row and seed: trained now, or by an interrupted evaluation of the same data."""
    config = evaluation.config
    schedule = Schedule(config.steps, config.batch_size, config.lr, evaluation.precision)
    made_of = {"seed": seed, "data": images.fingerprint, "preprocess": config.preprocess} | vars(schedule)
    folder = config.out / "estimators" / f"{name}-{estimator}-seed{seed}"
    if config.skip_existing and folder.is_dir() and read_json(folder / CONFIG).get("made_of") == made_of:
        return _loaded(folder, config.target)
    label = f"{name}, {estimator}, seed {seed}"
    network = fit(
        cast("Architecture", estimator), images, seed, schedule, evaluation.device,
        lambda done, total: progress(label, done, total),
    )  # fmt: skip
    with atomic_directory(folder) as temporary:
        save_network(temporary, network, {"made_of": made_of}, {"seed": str(seed)})
    return network


def _loaded(folder: Path, target: str) -> Estimator:
    network = load_network(folder)
    if not isinstance(network, Estimator) or network.settings["target"] != target:
        raise CheckpointError(f"{folder}: not an estimator of --target {target}; give a folder below estimators/")
    return network.eval().requires_grad_(False)


def _size_of(network: Estimator) -> tuple[int, int]:
    return network.settings["height"], network.settings["width"]


def _preservation(evaluation: Evaluation) -> dict[str, Any]:
    """Measure what refining did to labels: drift of content, and of what a frozen estimator reads off x and R(x)."""
    first = next(iter(evaluation.sets))
    index = np.linspace(0, len(evaluation.sets[first]) - 1, min(MOST_COMPARED, len(evaluation.sets[first]))).astype(
        np.int64
    )
    before, after = (evaluation.sets[name].part(index) for name in (first, REFINED))
    shifts = drift(torch.from_numpy(before.pixels)[:, None], torch.from_numpy(after.pixels)[:, None]).numpy()
    result: dict[str, Any] = {
        "images": len(index),
        "content_shift_px": {"mean": float(shifts.mean()), "p95": float(np.percentile(shifts, 95))},
    }
    centres = _pupils(evaluation, first)
    if centres is not None:
        windows = [_windows(images.pixels, centres[index]) for images in (before, after)]
        moved = drift(*windows).numpy()
        result["pupil_shift_px"] = {"mean": float(moved.mean()), "sd": float(moved.std())}
    estimators = [name for name in evaluation.config.estimator if name != KNN]
    if estimators:
        folder = evaluation.config.out / "estimators" / f"{first}-{estimators[0]}-seed{evaluation.config.seed}"
        network = _loaded(folder, evaluation.config.target)
        a, b = (predict(network, images.pixels, evaluation.device, evaluation.precision) for images in (before, after))
        moved = errors_of(a, b, before.target)
        result[f"estimate_shift_{UNIT[before.target]}"] = {"mean": float(moved.mean()), "sd": float(moved.std())}
    return result


def _pupils(evaluation: Evaluation, name: str) -> NDArray[np.float64] | None:
    """Return the pupils' centres of a training set where its labels hold them."""
    images = evaluation.sets[name]
    if images.target == "pupil":
        return images.targets
    options = LabelFormat("pupil", images.size, evaluation.config.preprocess)
    try:
        found = read(images.source, options, evaluation.config.labels)
    except DataError:
        return None
    return found.targets if found.files == images.files else None


def _windows(pixels: NDArray[np.uint8], centres: NDArray[np.float64]) -> torch.Tensor:
    """Return the square round each pupil, N x 1 x 20 x 20; beyond an image's edge its last pixels go on."""
    offsets = np.arange(-PUPIL_WINDOW, PUPIL_WINDOW)
    height, width = pixels.shape[1:]
    rows = np.clip(np.floor(centres[:, 1]).astype(np.int64)[:, None] + offsets, 0, height - 1)
    columns = np.clip(np.floor(centres[:, 0]).astype(np.int64)[:, None] + offsets, 0, width - 1)
    numbers = np.arange(len(pixels))[:, None, None]
    return torch.from_numpy(pixels[numbers, rows[:, :, None], columns[:, None, :]])[:, None]


def plan(evaluation: Evaluation) -> dict[str, Any]:
    """Return what a dry run tells: the data as found, and what would compute."""
    computing = {"device": str(evaluation.device), "precision": evaluation.precision}
    return {"schema": "simgan.eval-gaze.dry-run/1"} | _found(evaluation) | computing


def _document(evaluation: Evaluation) -> dict[str, Any]:
    config, test = evaluation.config, evaluation.tested
    pairs = _pairs(evaluation.rows)
    comparisons = [scores.compare(one, other, test.persons, config.bootstrap) for one, other in pairs]
    plain = [
        found
        for found, (_, row) in zip(comparisons, pairs, strict=True)
        if row.weights is None and row.estimator == pairs[0][0].estimator
    ]
    main = next((found for found in plain if found["pair"][1] == REFINED), next(iter(plain or comparisons), None))
    results = {
        "rows": [scores.summary(row, test.target, test.persons, config.bootstrap) for row in evaluation.rows],
        "comparison": main,
        "comparisons": comparisons,
        "preservation": evaluation.preservation,
    }
    return {"schema": "simgan.eval-gaze/1"} | _found(evaluation) | results


def _pairs(rows: Sequence[Result]) -> list[tuple[Result, Result]]:
    """Return what is compared: of each estimator, its first row with all others."""
    pairs = []
    for estimator in dict.fromkeys(row.estimator for row in rows if row.estimator != MEAN):
        compared = [row for row in rows if row.estimator == estimator]
        weighted = [row for row in compared if row.weights is not None]  # of those, too, is refining any better
        pairs += [(group[0], row) for group in (compared, weighted) for row in group[1:]]
    return pairs


def _found(evaluation: Evaluation) -> dict[str, Any]:
    config, test = evaluation.config, evaluation.tested
    return {
        "target": test.target,
        "unit": UNIT[test.target],
        "protocol": config.protocol,
        "test": {
            "images": len(test),
            "persons": len(set(test.persons)) if test.persons is not None else None,
            "source": str(test.source),
        },
        "train": {name: images.describe() for name, images in evaluation.sets.items()},
        "warnings": evaluation.warnings,
        "settings": config.model_dump(mode="json"),
    }


def _draw(evaluation: Evaluation) -> None:
    out, test, rows = evaluation.config.out, evaluation.tested, evaluation.rows
    if plots_available():
        for suffix in ("png", "svg"):
            write_atomic(out / f"curve.{suffix}", curve(rows, test.target, suffix))
        write_atomic(out / "error-map.png", error_map(rows, test))
    else:
        evaluation.warnings.append("curve and error map not drawn: pip install 'simgan-cli[plots]'")
    write_atomic(out / "worst.png", worst_images([row for row in rows if row.estimator != MEAN] or rows, test))


def _write_weights(evaluation: Evaluation) -> None:
    """Write how often to draw each image of a set, for whoever trains another model on it; earlier ones go."""
    folder = evaluation.config.out / WEIGHTS
    for stale in folder.glob(f"*{REWEIGHTED}-*.csv"):
        stale.unlink()
    for row in evaluation.rows:
        if row.weights is not None:
            text = io.StringIO()
            table = csv.writer(text, lineterminator="\n")
            table.writerow(["file", "weight"])
            files = evaluation.sets[row.name.removesuffix(REWEIGHTED)].files
            table.writerows(
                (file, f"{weight:.6g}") for file, weight in zip(files, row.weights.mean(axis=0), strict=True)
            )
            folder.mkdir(exist_ok=True)
            write_atomic(folder / f"{row.name}-{row.estimator}.csv", text.getvalue())


def _predictions(rows: Sequence[Result], test: LabelledImages, seeds: range) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    gaze = test.target == "gaze"
    names = ["gx", "gy", "gz", "px", "py", "pz", "error_deg"] if gaze else ["x", "y", "px", "py", "error_px"]
    table.writerow(["row", "seed", "file", "person", *names])
    persons = test.persons or [""] * len(test)
    for row in rows:
        for seed, predicted, errors in zip(seeds, row.predictions, row.errors, strict=False):
            for file, person, true, found, error in zip(
                test.files, persons, test.targets, predicted, errors, strict=True
            ):
                numbers = [f"{number:.6f}" for number in (*true, *found, error)]
                table.writerow([f"{row.name}/{row.estimator}", seed, file, person, *numbers])
    return text.getvalue()
