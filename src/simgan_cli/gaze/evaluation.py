"""One evaluation: train and test every estimator on every set, then write what came of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from simgan_cli.engine.export.network_folder import CONFIG, read_json, save_network
from simgan_cli.engine.method.gaze_estimator import Architecture, Estimator
from simgan_cli.errors import DataError
from simgan_cli.files import atomic_directory
from simgan_cli.gaze import scores
from simgan_cli.gaze.estimator_training import Schedule, Targets, fit, nearest_neighbours, predict, predict_mean
from simgan_cli.gaze.labels import Grey, LabelledImages
from simgan_cli.gaze.parallel_training import Report, Training, run_trainings
from simgan_cli.gaze.preparation import KNN, LEFT_OUT, ORACLE, Evaluation, load_estimator
from simgan_cli.gaze.preservation import measure_preservation
from simgan_cli.gaze.results import MEAN, write_results
from simgan_cli.gaze.reweighting import weights_like
from simgan_cli.gaze.scores import Result, errors_of
from simgan_cli.settings.eval_gaze import REWEIGHTED

MAX_UNMATCHED = 0.1  # of the unlabelled images, beyond which weights deserve a warning
UNSHARED = "cnn-full"  # an estimator of 2 GB in training, of which memory may not hold one for each core
Progress = Callable[[str, int, int], None]  # of the trainings of that label: updates done, and all
Key = tuple[str, str, int]  # of a training: row, estimator, seed
Trained = TypeVar("Trained")


def run(evaluation: Evaluation, progress: Progress) -> dict[str, Any]:
    """Train and test every row, write the results to the output folder, return results.json.

    Estimators are written as they are trained, everything else at the end. Raises OSError, DataError.
    """
    config = evaluation.config
    config.out.mkdir(parents=True, exist_ok=True)
    if config.protocol == LEFT_OUT:
        ((name, images),) = evaluation.sets.items()
        evaluation.rows.append(_leave_one_out(evaluation, name, images, progress))
    else:
        _cross_domain(evaluation, progress)
    if config.model is not None:
        evaluation.preservation = measure_preservation(evaluation)
    return write_results(evaluation)


def _cross_domain(evaluation: Evaluation, progress: Progress) -> None:
    config, test = evaluation.config, evaluation.tested
    guesses: list[NDArray[np.float64]] = []
    for name, images in evaluation.sets.items():
        guess = predict_mean(images, len(test))
        if not any(np.allclose(guess[0], other) for other in guesses):  # refined labels are the synthetic ones
            guesses.append(guess[0])
            evaluation.rows.append(_row(name, MEAN, len(images), [guess], test))
    unlabelled = [] if evaluation.unlabelled is None else [evaluation.unlabelled]
    rows: list[tuple[str, str]] = [(name, estimator) for estimator in config.estimator for name in evaluation.sets]
    learned = {(*row, seed): evaluation.sets[row[0]] for row in rows if row[1] != KNN for seed in evaluation.seeds}
    predicted = _predictions(evaluation, learned, [test.pixels, *unlabelled], "training", progress)
    weights = {
        key: weights_like(learned[key].targets, predicted[key][1])
        for key in learned
        if unlabelled and key[0] not in (ORACLE, *config.baseline)
    }
    weighted = {key: replace(learned[key], weights=of_key) for key, (of_key, _) in weights.items()}
    reweighted = _predictions(evaluation, weighted, [test.pixels], "training by weights", progress, REWEIGHTED)
    for name, estimator in rows:
        images, keys = evaluation.sets[name], [(name, estimator, seed) for seed in evaluation.seeds]
        if estimator == KNN:
            predictions = [nearest_neighbours(images, test.pixels, evaluation.device)]
        else:
            predictions = [predicted[key][0] for key in keys]
        evaluation.rows.append(_row(name, estimator, len(images), predictions, test))
        if keys[0] in weights:
            row = _row(f"{name}{REWEIGHTED}", estimator, len(images), [reweighted[key][0] for key in keys], test)
            evaluation.rows.append(_with_weights(evaluation, row, name, [weights[key] for key in keys]))
    for name, network in evaluation.loaded.items():
        predictions = [predict(network, test.pixels, evaluation.device, evaluation.precision)]
        evaluation.rows.append(_row(name, network.settings["architecture"], 0, predictions, test))
    constant = min((float(row.errors.mean()) for row in evaluation.rows if row.estimator == MEAN), default=math.inf)
    for row in evaluation.rows:
        if row.estimator != MEAN and row.errors.mean() >= constant:
            evaluation.warnings.append(
                f"{row.name}, {row.estimator}: no better than always guessing the mean label ({constant:.2f})"
            )
        if row.estimator != MEAN and (axes := scores.mirrored_axes(row, test.targets, test.target)):
            evaluation.warnings.append(
                f"{row.name}, {row.estimator}: predicted {' and '.join(axes)} run against the truth: the two sets "
                "define the sign differently (a mirrored eye or another --convention)"
            )


def _with_weights(
    evaluation: Evaluation, row: Result, name: str, weights: Sequence[tuple[NDArray[np.float64], float]]
) -> Result:
    """Return the row with what its images weighed by each seed; warn where labels are predicted that `name` lacks."""
    unmatched = float(np.mean([share for _, share in weights]))
    if unmatched > MAX_UNMATCHED:
        evaluation.warnings.append(
            f"{row.name}, {row.estimator}: {unmatched:.0%} of {evaluation.config.reweight_to} are predicted to have "
            f"labels where {name} has none, and count for its nearest ones: render that range, or doubt the estimator"
        )
    return replace(row, weights=np.stack([of_seed for of_seed, _ in weights]), unmatched=unmatched)


def _leave_one_out(evaluation: Evaluation, name: str, images: LabelledImages, progress: Progress) -> Result:
    """Return errors on every person by estimators that never saw that person: the ceiling within a data set."""
    if images.persons is None or len(set(images.persons)) < 2:
        raise DataError(
            f"{images.source}: leaving persons out needs labels of two or more persons; add a person column"
        )
    (estimator,) = evaluation.config.estimator
    persons = np.array(images.persons)
    people = list(enumerate(np.unique(persons), start=1))

    def leave_out(number: int, person: str, seed: int, report: Report) -> Targets:
        theirs, others = images.pixels[persons == person], images.part(np.flatnonzero(persons != person))
        if estimator == KNN:
            return nearest_neighbours(others, theirs, evaluation.device)
        # Numbered: a person's name may be anything, also what would lead out of the folder.
        return _predict(evaluation, (f"{name}-without-{number:02}", estimator, seed), others, [theirs], report)[0]

    trainings = [partial(leave_out, *person, seed) for seed in evaluation.seeds for person in people]
    parts = iter(_run(evaluation, trainings, "training", progress))
    predictions = [np.empty_like(images.targets) for _ in evaluation.seeds]
    for of_seed in predictions:
        for _, person in people:
            of_seed[persons == person] = next(parts)
    return _row(name, estimator, len(images), predictions, images)


def _predictions(
    evaluation: Evaluation,
    sets: dict[Key, LabelledImages],
    seen: Sequence[Grey],
    label: str,
    progress: Progress,
    suffix: str = "",
) -> dict[Key, list[Targets]]:
    """Return what estimators trained on `sets` predict of each of `seen`; `suffix` ends the names of their rows."""
    trainings = [
        partial(_predict, evaluation, (f"{name}{suffix}", estimator, seed), images, seen)
        for (name, estimator, seed), images in sets.items()
    ]
    return dict(zip(sets, _run(evaluation, trainings, label, progress), strict=True))


def _run(
    evaluation: Evaluation, trainings: Sequence[Training[Trained]], label: str, progress: Progress
) -> list[Trained]:
    """Return the results of trainings: on a CPU several at once, on a GPU one after the other."""
    shares = evaluation.device.type == "cpu" and UNSHARED not in evaluation.config.estimator
    return run_trainings(trainings, torch.get_num_threads() if shares else 1, partial(progress, label))


def _predict(
    evaluation: Evaluation, key: Key, images: LabelledImages, seen: Sequence[Grey], report: Report
) -> list[Targets]:
    network = _trained(evaluation, *key, images, report)
    return [predict(network, pixels, evaluation.device, evaluation.precision) for pixels in seen]


def _row(name: str, estimator: str, count: int, predictions: list[NDArray[np.float64]], test: LabelledImages) -> Result:
    errors = np.stack([errors_of(predicted, test.targets, test.target) for predicted in predictions])
    return Result(name, estimator, count, predictions, errors)


def _trained(
    evaluation: Evaluation, name: str, estimator: str, seed: int, images: LabelledImages, report: Report
) -> Estimator:
    """Return the estimator of a row and seed: trained now, or by an interrupted evaluation of the same data."""
    config = evaluation.config
    schedule = Schedule(config.steps, config.batch_size, config.lr, evaluation.precision)
    made_of = {"seed": seed, "data": images.fingerprint, "preprocess": config.preprocess} | vars(schedule)
    folder = config.out / "estimators" / f"{name}-{estimator}-seed{seed}"
    if config.skip_existing and folder.is_dir() and read_json(folder / CONFIG).get("made_of") == made_of:
        return load_estimator(folder, config.target)
    network = fit(cast("Architecture", estimator), images, seed, schedule, evaluation.device, report)
    with atomic_directory(folder) as temporary:
        save_network(temporary, network, {"made_of": made_of}, {"seed": str(seed)})
    return network
