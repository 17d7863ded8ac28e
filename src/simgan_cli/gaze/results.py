"""Write the results of an evaluation: results.json, predictions, weights and pictures."""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from simgan_cli.data.weights import write_weights
from simgan_cli.documents import (
    LABEL_COLUMNS,
    PREDICTION_COLUMNS,
    EvalGazeDocument,
    EvalGazeInputs,
    EvalGazePlanDocument,
    EvaluationVerdict,
    GapClosed,
    Row,
    ToBestFree,
    Worth,
)
from simgan_cli.files import write_atomic, write_json
from simgan_cli.gaze import scores
from simgan_cli.gaze.content import Content
from simgan_cli.gaze.labels import UNIT
from simgan_cli.gaze.plots import (
    LabelSet,
    curve,
    error_map,
    label_histograms,
    learning_curve,
    plots_available,
    worst_images,
)
from simgan_cli.gaze.preparation import ORACLE, REFINED, RUN_ESTIMATOR, Evaluation
from simgan_cli.gaze.report_page import write_page
from simgan_cli.gaze.scores import Result
from simgan_cli.gaze.verdict import decide, mean_error
from simgan_cli.gaze.worth import worth
from simgan_cli.settings.eval_gaze import FEW, WEIGHTED, only_on_curve

MEAN = "mean"  # the row that guesses the training labels' mean
WEIGHTS = "weights"  # folder of the results


def write_results(evaluation: Evaluation) -> EvalGazeDocument:
    """Write everything to the output folder, results.json last, and return results.json. Raises OSError."""
    out = evaluation.config.out
    for name in ("results.json", "worth.svg", "labels.svg"):  # of an earlier evaluation; the others are overwritten
        (out / name).unlink(missing_ok=True)
    if not plots_available():
        evaluation.warnings.append("no curves, maps and histograms; pip install 'simgan-cli[plots]'")
    document = summarize(evaluation)
    pictures = _draw(evaluation, document)
    for name, picture in pictures.items():
        write_atomic(out / name, picture)
    write_page(evaluation.config, document, pictures)
    _write_weights(evaluation)
    write_atomic(out / "predictions.csv", _to_csv(_predictions(evaluation)))
    write_json(out / "results.json", document)
    return document


def plan(evaluation: Evaluation) -> EvalGazePlanDocument:
    """Return the document of a dry run: the data, the device and the precision."""
    return {
        "schema": "simgan.eval-gaze.dry-run/1",
        **_inputs(evaluation),
        "device": str(evaluation.device),
        "precision": evaluation.precision,
    }


def summarize(evaluation: Evaluation) -> EvalGazeDocument:
    """Return results.json: the verdict, rows with their errors, comparisons, and the main comparison."""
    config, test = evaluation.config, evaluation.tested
    pairs = _pairs(evaluation.rows, config.baseline)
    comparisons = [scores.compare(one, other, test.persons, config.bootstrap) for one, other in pairs]
    plain = [
        comparison
        for comparison, (_, row) in zip(comparisons, pairs, strict=True)
        if row.weights is None and row.estimator == pairs[0][0].estimator
    ]
    refined = [comparison for comparison in plain if comparison["pair"][1] == REFINED]
    main = next(iter(refined or plain or comparisons), None)
    return {
        "schema": "simgan.eval-gaze/1",
        **_inputs(evaluation),
        "verdict": _verdict(evaluation),
        "content": None if evaluation.content is None else evaluation.content.describe(),
        "rows": [_row(evaluation, row) for row in evaluation.rows],
        "comparison": main,
        "comparisons": comparisons,
        "preservation": evaluation.preservation,
    }


def _row(evaluation: Evaluation, row: Result) -> Row:
    return {
        **scores.summary(row, evaluation.tested, evaluation.config.bootstrap),
        "to_best_free": _to_best_free(evaluation, row),
        "gap_closed": _gap_closed(evaluation, row),
        "worth": _worth(evaluation, row),
    }


def _verdict(evaluation: Evaluation) -> EvaluationVerdict | None:
    """Return the verdict on the rows of the first estimator; None without a set to choose."""
    config, test = evaluation.config, evaluation.tested
    estimator = config.estimator[0]
    free, refined = evaluation.free_rows(estimator), evaluation.refined_rows(estimator)
    guesses = [row for row in evaluation.rows if row.estimator == MEAN]
    if not free or not guesses:
        return None
    guess = min(guesses, key=mean_error)
    along = next((row for row in evaluation.rows if row.name == RUN_ESTIMATOR), None)
    return decide(free, refined, guess, UNIT[test.target], test.persons, config.bootstrap, along)


def _to_best_free(evaluation: Evaluation, row: Result) -> ToBestFree | None:
    """Return by how much a row's error exceeds the best free row's; None for that row and guesses."""
    free = min(evaluation.free_rows(row.estimator), key=mean_error, default=row)
    if free is row or row.estimator == MEAN:
        return None
    found = scores.compare(free, row, evaluation.tested.persons, evaluation.config.bootstrap)
    return {
        "name": free.name,
        "difference": found["difference"],
        "ci95": found["ci95"],
        "verdict": found["verdict"],
    }


def _worth(evaluation: Evaluation, row: Result) -> Worth | None:
    """Return how many labelled photographs a row is worth; None without --worth and for rows of photographs only.

    A loaded estimator may have no learning curve.
    """
    curve = _photographs_alone(evaluation, row.estimator)
    if not evaluation.config.worth or not curve or row.estimator == MEAN or any(row is point for point in curve):
        return None
    name = row.name if len(evaluation.config.estimator) == 1 else f"{row.name}, {row.estimator}"
    return worth(replace(row, name=name), curve, evaluation.tested.persons, evaluation.config.bootstrap)


def _photographs_alone(evaluation: Evaluation, estimator: str) -> list[Result]:
    """Return an estimator's rows of labelled photographs only, from few to all."""
    names = [*(f"{FEW}{count}" for count in evaluation.counts), ORACLE]
    return [row for name in names for row in evaluation.rows if (row.name, row.estimator) == (name, estimator)]


def _gap_closed(evaluation: Evaluation, row: Result) -> GapClosed | None:
    """Return the share of the gap to the oracle that a row closes; None for the first row and without an oracle."""
    rows = [other for other in evaluation.rows if other.estimator == row.estimator]
    oracle = next((other for other in rows if other.name == ORACLE), None)
    if oracle is None or row.estimator == MEAN or row is rows[0] or row is oracle:
        return None
    return scores.gap_closed(rows[0], row, oracle, evaluation.tested.persons, evaluation.config.bootstrap)


def _pairs(rows: Sequence[Result], baselines: Collection[str]) -> list[tuple[Result, Result]]:
    """Return the pairs to compare, by estimator: the first row with each other, the best baseline with refined."""
    pairs = []
    for estimator in dict.fromkeys(row.estimator for row in rows if row.estimator != MEAN):
        compared = [row for row in rows if row.estimator == estimator]
        weighted = [row for row in compared if row.weights is not None]  # does refining help with weights, too?
        pairs += [(group[0], row) for group in (compared, weighted) for row in group[1:]]
        refined = [row for row in compared if row.name == REFINED]
        free = [row for row in compared if row.name in baselines]
        pairs += [(min(free, key=mean_error), row) for row in refined if free]
    return pairs


def _inputs(evaluation: Evaluation) -> EvalGazeInputs:
    config, test = evaluation.config, evaluation.tested
    return {
        "target": test.target,
        "unit": UNIT[test.target],
        "points": list(test.points),
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


def _draw(evaluation: Evaluation, document: EvalGazeDocument) -> dict[str, bytes]:
    """Return the pictures by file name; without Matplotlib only the worst images."""
    config, test = evaluation.config, evaluation.tested
    hidden = only_on_curve(document["settings"])
    rows = [row for row in evaluation.rows if row.name not in hidden]
    trained = [row for row in rows if row.estimator != MEAN] or rows
    pictures = {"worst.png": worst_images(trained, test)}
    if not plots_available():
        return pictures
    pictures |= {f"curve.{suffix}": curve(rows, test.target, suffix) for suffix in ("png", "svg")}
    pictures["error-map.png"] = error_map(rows, test)
    ours = [row for row in document["rows"] if row["estimator"] == config.estimator[0]]
    if config.worth:
        points = [row for row in ours if row["worth"] is None]
        points.sort(key=lambda row: row["images"])
        others = [row for row in ours if row["worth"] is not None]
        pictures["worth.svg"] = learning_curve(points, others, UNIT[test.target])
    if evaluation.content is not None:
        pictures["labels.svg"] = label_histograms(_labels(evaluation, evaluation.content), test.target)
    return pictures


def _labels(evaluation: Evaluation, content: Content) -> dict[str, LabelSet]:
    """Return labels and weights to plot, by name: the compared set, its weighted form, and those predicted."""
    targets = evaluation.sets[content.name].targets
    labels: dict[str, LabelSet] = {content.name: (targets, None)}
    for row in evaluation.rows:
        if row.name == f"{content.name}{WEIGHTED}" and row.weights is not None:
            labels[row.name] = targets, row.weights.mean(axis=0)
    return labels | {"predicted for the photographs": (content.predicted, None)}


def _write_weights(evaluation: Evaluation) -> None:
    """Write the weights of each set's images, for trainings of other models; remove earlier tables."""
    folder = evaluation.config.out / WEIGHTS
    for stale in folder.glob(f"*{WEIGHTED}-*.csv"):
        stale.unlink()
    for row in evaluation.rows:
        if row.weights is not None:
            files = evaluation.sets[row.name.removesuffix(WEIGHTED)].files
            folder.mkdir(exist_ok=True)
            write_weights(folder / f"{row.name}-{row.estimator}.csv", files, row.weights.mean(axis=0))


def _predictions(evaluation: Evaluation) -> Iterator[Sequence[object]]:
    test = evaluation.tested
    *columns, _ = LABEL_COLUMNS[test.target]
    names = [name.replace("NAME", point) for part in columns for point in test.points or [""] for name in part]
    yield [*PREDICTION_COLUMNS, *names, f"error_{UNIT[test.target]}"]
    persons = test.persons or [""] * len(test)
    for row in evaluation.rows:
        for seed, predictions, errors in zip(evaluation.seeds, row.predictions, row.errors, strict=False):
            images = zip(test.files, persons, test.targets, predictions, errors, strict=True)
            for file, person, true, predicted, error in images:
                numbers = ["" if np.isnan(number) else f"{number:.6f}" for number in (*true, *predicted, error)]
                yield [f"{row.name}/{row.estimator}", seed, file, person, *numbers]


def _to_csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
