"""One evaluation: train and test every estimator on every set, then write what came of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from simgan_cli.engine.export.network_folder import CONFIG, read_json, save_network
from simgan_cli.engine.method.gaze_estimator import Architecture, Estimator
from simgan_cli.errors import DataError
from simgan_cli.files import atomic_directory
from simgan_cli.gaze import scores
from simgan_cli.gaze.estimator_training import Schedule, fit, nearest_neighbours, predict, predict_mean
from simgan_cli.gaze.labels import Grey, LabelledImages
from simgan_cli.gaze.preparation import KNN, LEFT_OUT, ORACLE, Evaluation, load_estimator
from simgan_cli.gaze.preservation import measure_preservation
from simgan_cli.gaze.results import MEAN, write_results
from simgan_cli.gaze.reweighting import weights_like
from simgan_cli.gaze.scores import Result, errors_of
from simgan_cli.settings.eval_gaze import REWEIGHTED

MAX_UNMATCHED = 0.1  # of the unlabelled images, beyond which weights deserve a warning
Progress = Callable[[str, int, int], None]  # of the training of that label: updates done, and all


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
    for estimator in config.estimator:
        for name, images in evaluation.sets.items():
            if estimator == KNN:
                predictions = [nearest_neighbours(images, test.pixels, evaluation.device)]
            else:
                networks = [_trained(evaluation, name, estimator, images, seed, progress) for seed in evaluation.seeds]
                predictions = [predict(n, test.pixels, evaluation.device, evaluation.precision) for n in networks]
            evaluation.rows.append(_row(name, estimator, len(images), predictions, test))
            if evaluation.unlabelled is not None and estimator != KNN and name not in (ORACLE, *config.baseline):
                row = _reweighted(evaluation, name, estimator, networks, evaluation.unlabelled, progress)
                evaluation.rows.append(row)
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


def _reweighted(
    evaluation: Evaluation,
    name: str,
    estimator: str,
    networks: Sequence[Estimator],
    unlabelled: Grey,
    progress: Progress,
) -> Result:
    """Train on the set `name`, weighted so that its labels are as each of `networks` predicts the `unlabelled`."""
    images, test = evaluation.sets[name], evaluation.tested
    row, predictions, weights, shares = f"{name}{REWEIGHTED}", [], [], []
    for seed, network in zip(evaluation.seeds, networks, strict=True):
        predicted = predict(network, unlabelled, evaluation.device, evaluation.precision)
        of_seed, share = weights_like(images.targets, predicted)
        weighted = _trained(evaluation, row, estimator, replace(images, weights=of_seed), seed, progress)
        predictions.append(predict(weighted, test.pixels, evaluation.device, evaluation.precision))
        weights.append(of_seed)
        shares.append(share)
    unmatched = float(np.mean(shares))
    if unmatched > MAX_UNMATCHED:
        evaluation.warnings.append(
            f"{row}, {estimator}: {unmatched:.0%} of {evaluation.config.reweight_to} are predicted to have "
            f"labels where {name} has none, and count for its nearest ones: render that range, or doubt the estimator"
        )
    return replace(_row(row, estimator, len(images), predictions, test), weights=np.stack(weights), unmatched=unmatched)


def _leave_one_out(evaluation: Evaluation, name: str, images: LabelledImages, progress: Progress) -> Result:
    """Return errors on every person by estimators that never saw that person: the ceiling within a data set."""
    if images.persons is None or len(set(images.persons)) < 2:
        raise DataError(
            f"{images.source}: leaving persons out needs labels of two or more persons; add a person column"
        )
    (estimator,) = evaluation.config.estimator
    persons = np.array(images.persons)
    predictions = [np.empty_like(images.targets) for _ in evaluation.seeds]
    for number, person in enumerate(np.unique(persons), start=1):
        theirs, others = np.flatnonzero(persons == person), images.part(np.flatnonzero(persons != person))
        for index, seed in enumerate(evaluation.seeds):
            if estimator == KNN:
                predicted = nearest_neighbours(others, images.pixels[theirs], evaluation.device)
            else:
                # Numbered: a person's name may be anything, also what would lead out of the folder.
                network = _trained(evaluation, f"{name}-without-{number:02}", estimator, others, seed, progress)
                predicted = predict(network, images.pixels[theirs], evaluation.device, evaluation.precision)
            predictions[index][theirs] = predicted
    return _row(name, estimator, len(images), predictions, images)


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
        return load_estimator(folder, config.target)
    label = f"{name}, {estimator}, seed {seed}"
    network = fit(
        cast("Architecture", estimator), images, seed, schedule, evaluation.device,
        lambda done, total: progress(label, done, total),
    )  # fmt: skip
    with atomic_directory(folder) as temporary:
        save_network(temporary, network, {"made_of": made_of}, {"seed": str(seed)})
    return network
