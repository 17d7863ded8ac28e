"""The comparisons between rows, and the documents about them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simgan_cli.gaze.content import Content
from simgan_cli.gaze.labels import LabelledImages
from simgan_cli.gaze.preparation import Evaluation
from simgan_cli.gaze.results import summarize, write_results
from simgan_cli.gaze.scores import Result
from simgan_cli.settings.eval_gaze import EvalGazeConfig, only_on_curve
from tests.gaze.helpers import discs
from tests.helpers import parse_document, write_refiner


@pytest.mark.parametrize(
    ("rows", "compared", "verdict"),
    [
        ("a-mean a-knn b-knn a-cnn a*-cnn b-cnn", "knn:a,b cnn:a,a* cnn:a,b", "knn:a,b"),
        (
            "a-cnn a*-cnn refined-cnn refined*-cnn oracle-cnn",
            "cnn:a,a* cnn:a,refined cnn:a,refined* cnn:a,oracle cnn:a*,refined*",
            "cnn:a,refined",
        ),
        ("a-cnn a*-cnn", "cnn:a,a*", "cnn:a,a*"),
        ("a-cnn refined-cnn fda-cnn", "cnn:a,refined cnn:a,fda cnn:fda,refined", "cnn:a,refined"),
        ("a-mean a-cnn", "", None),
    ],
)
def test_each_estimator_s_first_row_is_compared_with_its_others(
    tmp_path: Path, rows: str, compared: str, verdict: str | None
) -> None:
    """Rows NAME-ESTIMATOR, those with a star weighted; comparisons ESTIMATOR:FIRST,SECOND."""
    pixels, gaze, _ = discs(4, 1)
    images = LabelledImages(Path("d"), "csv", "gaze", pixels, gaze, [f"{index}.png" for index in range(4)])
    config = EvalGazeConfig(out=tmp_path, bootstrap=100, baseline=("fda",))
    evaluation = Evaluation(config, {"a": images}, {}, images, None, torch.device("cpu"))
    for name, estimator in (row.split("-") for row in rows.split()):
        weights = np.ones((1, 4)) if "*" in name else None
        evaluation.rows.append(Result(name, estimator, 4, [gaze], np.ones((1, 4)), weights))
    document = summarize(evaluation)
    comparisons = [*document["comparisons"], *filter(None, [document["comparison"]])]
    texts = [f"{comparison['estimator']}:{','.join(comparison['pair'])}" for comparison in comparisons]
    assert texts == [*compared.split(), *filter(None, [verdict])]


def test_the_share_of_the_gap_is_between_the_first_row_and_the_oracle(tmp_path: Path) -> None:
    pixels, gaze, _ = discs(4, 1)
    images = LabelledImages(Path("d"), "csv", "gaze", pixels, gaze, [f"{index}.png" for index in range(4)])
    sets = dict.fromkeys(("a", "refined", "worse", "oracle"), images)
    evaluation = Evaluation(EvalGazeConfig(out=tmp_path, bootstrap=100), sets, {}, images, None, torch.device("cpu"))
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (2, 4))
    for name, error in (("a", 9.0), ("refined", 6.0), ("worse", 12.0), ("oracle", 3.0)):
        evaluation.rows.append(Result(name, "resnet", 4, [gaze], error + noise))  # the same noise: the gap is exact
    rows: Any = {row["name"]: row["gap_closed"] for row in summarize(evaluation)["rows"]}
    assert rows["a"] is rows["oracle"] is None
    assert rows["refined"]["share"] == pytest.approx(0.5)
    assert rows["worse"]["share"] == pytest.approx(-0.5)
    assert rows["refined"]["ci95"] == pytest.approx([0.5, 0.5])
    evaluation.rows.insert(2, Result("loaded", "resnet", 0, [gaze], np.full((1, 4), 6.0)))  # of one seed
    loaded: Any = summarize(evaluation)["rows"][2]["gap_closed"]
    assert loaded["share"] == pytest.approx(0.5, abs=0.05)
    evaluation.rows.pop()
    assert [row["gap_closed"] for row in summarize(evaluation)["rows"]] == 4 * [None]


def evaluation_of(tmp_path: Path, errors: dict[str, float], **settings: Any) -> Evaluation:
    """Return an evaluation whose rows have these mean errors; the first row guesses. It has no photographs."""
    pixels, gaze, _ = discs(4, 1)
    images = LabelledImages(Path("d"), "csv", "gaze", pixels, gaze, [f"{index}.png" for index in range(4)])
    config = EvalGazeConfig.model_validate({"out": tmp_path, "bootstrap": 100} | settings)
    sets = {name: images for name in errors if not name.startswith("real")}
    evaluation = Evaluation(config, sets, {}, images, None, torch.device("cpu"))
    counts = {"oracle": 1000} | {name: int(name.split("-")[-1]) for name in errors if name.startswith("real-")}
    for name, error in errors.items():
        result = Result(name, "resnet", counts.get(name, 4), [gaze], np.full((1, 4), error))
        evaluation.rows.append(result)
    guess = evaluation.rows[0]
    for name in list(sets)[:2]:
        evaluation.rows.insert(0, replace(guess, name=name, estimator="mean", errors=guess.errors + 9))
    return evaluation


def test_rows_are_compared_with_the_best_row_without_refiner_and_labels(tmp_path: Path) -> None:
    errors = {"a": 8.0, "fda": 5.0, "refined": 4.0, "oracle": 2.0}
    document = parse_document(json.dumps(summarize(evaluation_of(tmp_path, errors))))
    differences = {row["name"]: row["to_best_free"] for row in document["rows"] if row["estimator"] == "resnet"}
    assert differences.pop("fda") is None
    assert {name: found["difference"] for name, found in differences.items()} == {"a": 3, "refined": -1, "oracle": -3}
    assert {found["name"] for found in differences.values()} == {"fda"}
    assert {row["to_best_free"] for row in document["rows"] if row["estimator"] == "mean"} == {None}
    assert document["verdict"]["train_on"] == "refined"  # the oracle has labels of the target
    assert summarize(evaluation_of(tmp_path, {"oracle": 2.0}))["verdict"] is None


@pytest.mark.parametrize(
    ("estimators", "says"), [(["resnet"], "a is worth "), (["resnet", "knn"], "a, resnet is worth ")]
)
def test_a_worth_names_the_estimator_where_there_are_several(tmp_path: Path, estimators: list[str], says: str) -> None:
    errors = {"a": 8.0, "real-2": 9.0, "oracle": 2.0}
    evaluation = evaluation_of(tmp_path, errors, worth=True, few="2", estimator=estimators)
    (found,) = [row["worth"] for row in summarize(evaluation)["rows"] if row["worth"] is not None]
    assert found["sentence"].startswith(says)


def test_a_set_may_have_any_name(tmp_path: Path) -> None:
    """Names that other options give to their rows mean nothing without these options."""
    evaluation = evaluation_of(tmp_path, {"a": 8.0, "b-weighted": 7.0})
    evaluation.rows.append(replace(evaluation.rows[-1], name="a-weighted"))  # loaded
    assert [row.name for row in evaluation.free_rows("resnet")] == ["a", "b-weighted"]
    curve = {f"real-{count}" for count in (50, 100, 300, 1000, 3000)}
    hidden = [only_on_curve({"worth": worth, "few": few}) for worth, few in ((True, []), (True, [100]), (False, []))]
    assert hidden == [curve, curve - {"real-100"}, set()]


def test_an_estimator_without_a_learning_curve_has_no_worth(tmp_path: Path) -> None:
    """A run exports a resnet, whatever --estimator trains here."""
    evaluation = evaluation_of(tmp_path, {"a": 8.0, "real-2": 9.0, "oracle": 2.0}, worth=True, few="2")
    evaluation.rows.append(replace(evaluation.rows[-1], name="run-estimator", estimator="cnn"))
    worths = {row["name"]: row["worth"] for row in summarize(evaluation)["rows"] if row["estimator"] != "mean"}
    assert worths.pop("a") is not None
    assert worths == {"real-2": None, "oracle": None, "run-estimator": None}


@pytest.mark.slow  # Matplotlib starts a program to list fonts
def test_the_page_has_the_verdict_first_and_the_page_of_the_training(tmp_path: Path) -> None:
    evaluation = evaluation_of(tmp_path, {"a": 8.0, "refined": 4.0})
    evaluation.content = Content("a", evaluation.tested.targets, 0.5, (0.4, 0.6))
    document: Any = write_results(evaluation)
    page = (tmp_path / "report.html").read_text()
    places = [page.index(text) for text in (document["verdict"]["sentence"], "Labels differ: ", "<table>")]
    assert places == sorted(places)
    assert "http" not in page.replace("http://www.w3.org", "")
    assert document["content"]["differs"] is True
    assert {path.name for path in tmp_path.iterdir()} >= {"labels.svg", "curve.svg", "worst.png", "report.html"}
    model = write_refiner(tmp_path / "model")
    (model / "report.html").write_text('<p id="run">so it went</p>')
    again = evaluation_of(tmp_path, {"a": 8.0, "refined": 4.0}, model=model)
    write_results(again)
    assert 'srcdoc="&lt;p id=&#34;run&#34;&gt;so it went&lt;/p&gt;"' in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "labels.svg").exists()  # a picture of the earlier evaluation
