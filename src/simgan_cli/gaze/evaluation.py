"""Run an evaluation: train every estimator on every set, test it, and write the results."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from simgan_cli.data.reweighting import weights_like
from simgan_cli.documents import EvalGazeDocument
from simgan_cli.engine.export.network_folder import CONFIG, read_json, save_network
from simgan_cli.engine.method.gaze_estimator import Architecture, Estimator
from simgan_cli.errors import DataError
from simgan_cli.files import atomic_directory
from simgan_cli.gaze import scores
from simgan_cli.gaze.content import Content, compare_content
from simgan_cli.gaze.estimator_training import (
    Schedule,
    Targets,
    fit,
    held_out,
    nearest_neighbours,
    predict,
    predict_mean,
)
from simgan_cli.gaze.labels import Grey, LabelledImages, places
from simgan_cli.gaze.parallel_training import Report, Training, run_trainings
from simgan_cli.gaze.preparation import KNN, LEFT_OUT, ORACLE, REFINED, Evaluation, load_estimator
from simgan_cli.gaze.preservation import measure_preservation
from simgan_cli.gaze.results import MEAN, write_results
from simgan_cli.gaze.scores import Result, result_of
from simgan_cli.gaze.verdict import mean_error
from simgan_cli.gaze.worth import subset, with_few
from simgan_cli.settings.eval_gaze import FEW, WEIGHTED

MAX_UNMATCHED = 0.1  # of the unlabelled images; more give a warning
UNSHARED = "cnn-full"  # its training takes 2 GB, too much for one on each core
Progress = Callable[[str, int, int], None]  # label of the trainings, updates done, updates in all
Key = tuple[str, str, int]  # of a training: row, estimator, seed
Make = Callable[[int], LabelledImages]  # by seed, which chooses photographs


def run(evaluation: Evaluation, progress: Progress) -> EvalGazeDocument:
    """Train and test every row, write the results to the output folder, and return results.json.

    Each estimator is written after its training, everything else at the end. Raises OSError, DataError.
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
        if not any(np.allclose(guess[0], other) for other in guesses):  # refined images have the same labels
            guesses.append(guess[0])
            evaluation.rows.append(result_of(name, MEAN, len(images), [guess], test))
    made = _training_sets(evaluation)
    rows = [(name, estimator) for estimator in config.estimator for name in made]
    trainings: dict[Key, Callable[[], LabelledImages]] = {
        (name, estimator, seed): partial(made[name], seed)
        for name, estimator in rows
        if estimator != KNN
        for seed in evaluation.seeds
    }
    predicted = _predictions(evaluation, trainings, "training", progress)
    for name, estimator in rows:
        images = made[name](config.seed)
        if estimator == KNN:
            predictions = [nearest_neighbours(images, test.pixels, evaluation.device)]
        else:
            predictions = [predicted[name, estimator, seed] for seed in evaluation.seeds]
        evaluation.rows.append(result_of(name, estimator, len(images), predictions, test))
    if evaluation.unlabelled is not None:
        _weigh(evaluation, evaluation.unlabelled, progress)
    for name, network in evaluation.loaded.items():
        predictions = [_predicted(evaluation, network, test.pixels)]
        evaluation.rows.append(result_of(name, network.settings["architecture"], 0, predictions, test))
    constant = min((mean_error(row) for row in evaluation.rows if row.estimator == MEAN), default=math.inf)
    for row in evaluation.rows:
        if row.estimator != MEAN and mean_error(row) >= constant:
            evaluation.warnings.append(
                f"{row.name}, {row.estimator}: no better than guessing the mean label ({constant:.2f})"
            )
        if row.estimator != MEAN and (axes := scores.mirrored_axes(row, test.targets, test.target)):
            evaluation.warnings.append(
                f"{row.name}, {row.estimator}: predictions have the opposite sign in {' and '.join(axes)}; look for "
                "mirrored eyes, or another --convention"
            )


def _training_sets(evaluation: Evaluation) -> dict[str, Make]:
    """Return the functions that make the training set of each row, by name."""
    sets: dict[str, Make] = {name: partial(_for_any_seed, images) for name, images in evaluation.sets.items()}
    for count in evaluation.counts:
        sets[f"{FEW}{count}"] = partial(subset, evaluation.sets[ORACLE], count)
    for count in evaluation.config.few:
        base = REFINED if REFINED in evaluation.sets else next(iter(evaluation.sets))
        sets[f"{base}+{FEW}{count}"] = partial(with_few, evaluation.sets[base], evaluation.sets[ORACLE], count)
    return sets


def _for_any_seed(images: LabelledImages, _: int) -> LabelledImages:
    return images


def _weigh(evaluation: Evaluation, unlabelled: Grey, progress: Progress) -> None:
    """Compare the photographs with the best set; add weighted rows if they differ, or more with --reweight-to."""
    config, test = evaluation.config, evaluation.tested
    chosen: list[Result] = []
    for estimator in config.estimator:
        free, refined = evaluation.free_rows(estimator), evaluation.refined_rows(estimator)
        rows = [*free, *refined]
        if estimator == KNN or not rows:  # no rows where all sets have labels of the target
            continue
        if evaluation.content is None:
            evaluation.content = _compare_content(evaluation, min(rows, key=mean_error), unlabelled)
        best = [min(group, key=mean_error) for group in (free, refined) if group]  # the verdict compares them
        if config.reweight_to is not None:
            names = {row.name for row in best}
            chosen += [row for row in rows if row.name not in config.baseline or row.name in names]
        elif evaluation.content.differs:
            chosen += best
    weights = {
        (row.name, row.estimator, seed): weights_like(
            places(evaluation.sets[row.name].targets, config.target),
            _predicted_places(evaluation, _load(evaluation, row, seed), unlabelled),
        )
        for row in chosen
        for seed in evaluation.seeds
    }
    trainings = {
        (f"{name}{WEIGHTED}", estimator, seed): partial(replace, evaluation.sets[name], weights=of_key)
        for (name, estimator, seed), (of_key, _) in weights.items()
    }
    predicted = _predictions(evaluation, trainings, "training by weights", progress)
    for row in chosen:
        name = f"{row.name}{WEIGHTED}"
        predictions = [predicted[name, row.estimator, seed] for seed in evaluation.seeds]
        weighted = result_of(name, row.estimator, row.images, predictions, test)
        of_seeds = [weights[row.name, row.estimator, seed] for seed in evaluation.seeds]
        evaluation.rows.append(_with_weights(evaluation, weighted, row.name, of_seeds))


def _compare_content(evaluation: Evaluation, row: Result, unlabelled: Grey) -> Content:
    """Return the comparison of a row's predictions for the photographs and for held-out images of its set."""
    images = evaluation.sets[row.name]
    ours, theirs = [], []
    for seed in evaluation.seeds:
        network = _load(evaluation, row, seed)
        ours.append(_predicted_places(evaluation, network, images.pixels[held_out(images, seed)[1]]))
        theirs.append(_predicted_places(evaluation, network, unlabelled))
    return compare_content(row.name, ours, theirs, evaluation.config.bootstrap)


def _with_weights(
    evaluation: Evaluation, row: Result, name: str, weights: Sequence[tuple[NDArray[np.float64], float]]
) -> Result:
    """Return the row with the weights of each seed; warn where many predicted labels lie outside the set `name`."""
    unmatched = float(np.mean([share for _, share in weights]))
    if unmatched > MAX_UNMATCHED:
        evaluation.warnings.append(
            f"{row.name}, {row.estimator}: {unmatched:.0%} of the labels predicted for {evaluation.photographs_from} "
            f"lie where {name} has none, so its nearest images count for them; render that range"
        )
    return replace(row, weights=np.stack([of_seed for of_seed, _ in weights]), unmatched=unmatched)


def _load(evaluation: Evaluation, row: Result, seed: int) -> Estimator:
    return load_estimator(evaluation.folder_of(row.name, row.estimator, seed), evaluation.config.target)


def _predicted(evaluation: Evaluation, network: Estimator, pixels: Grey) -> Targets:
    return predict(network, pixels, evaluation.device, evaluation.precision)


def _predicted_places(evaluation: Evaluation, network: Estimator, pixels: Grey) -> Targets:
    return places(_predicted(evaluation, network, pixels), evaluation.config.target)


def _leave_one_out(evaluation: Evaluation, name: str, images: LabelledImages, progress: Progress) -> Result:
    """Return the errors on every person by estimators trained on the other persons, the best case within a data set."""
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
        # Numbered, since a person's name might lead out of the folder.
        network = _trained(evaluation, f"{name}-without-{number:02}", estimator, seed, others, report)
        return _predicted(evaluation, network, theirs)

    trainings = [partial(leave_out, *person, seed) for seed in evaluation.seeds for person in people]
    parts = iter(_run(evaluation, trainings, "training", progress))
    predictions = [np.empty_like(images.targets) for _ in evaluation.seeds]
    for of_seed in predictions:
        for _, person in people:
            of_seed[persons == person] = next(parts)
    return result_of(name, estimator, len(images), predictions, images)


def _predictions(
    evaluation: Evaluation, sets: Mapping[Key, Callable[[], LabelledImages]], label: str, progress: Progress
) -> dict[Key, Targets]:
    """Return the predictions for the test images, by training; `sets` make the training sets."""

    def train(key: Key, make: Callable[[], LabelledImages], report: Report) -> Targets:
        return _predicted(evaluation, _trained(evaluation, *key, make(), report), evaluation.tested.pixels)

    trainings = [partial(train, key, make) for key, make in sets.items()]
    return dict(zip(sets, _run(evaluation, trainings, label, progress), strict=True))


def _run(
    evaluation: Evaluation, trainings: Sequence[Training[Targets]], label: str, progress: Progress
) -> list[Targets]:
    """Return the results of trainings, which run in parallel on a CPU and in turn on a GPU."""
    shares = evaluation.device.type == "cpu" and UNSHARED not in evaluation.config.estimator
    return run_trainings(trainings, torch.get_num_threads() if shares else 1, partial(progress, label))


def _trained(
    evaluation: Evaluation, name: str, estimator: str, seed: int, images: LabelledImages, report: Report
) -> Estimator:
    """Return the estimator of a row and seed, trained now or by an interrupted evaluation of the same data."""
    config = evaluation.config
    schedule = Schedule(config.steps, config.batch_size, config.lr, evaluation.precision)
    made_of = {"seed": seed, "data": images.fingerprint, "preprocess": config.preprocess} | vars(schedule)
    folder = evaluation.folder_of(name, estimator, seed)
    if config.skip_existing and folder.is_dir() and read_json(folder / CONFIG).get("made_of") == made_of:
        return load_estimator(folder, config.target)
    network = fit(cast("Architecture", estimator), images, seed, schedule, evaluation.device, report)
    with atomic_directory(folder) as temporary:
        save_network(temporary, network, {"made_of": made_of}, {"seed": str(seed)})
    return network
