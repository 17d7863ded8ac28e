"""Which rows are compared, and which comparison is the verdict."""

from pathlib import Path

import numpy as np
import pytest
import torch

from simgan_cli.gaze.labels import LabelledImages
from simgan_cli.gaze.preparation import Evaluation
from simgan_cli.gaze.results import summarize
from simgan_cli.gaze.scores import Result
from simgan_cli.settings.eval_gaze import EvalGazeConfig
from tests.gaze.helpers import discs


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
    evaluation = Evaluation(EvalGazeConfig(out=tmp_path, bootstrap=100), {}, {}, images, None, torch.device("cpu"))
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (2, 4))
    for name, error in (("a", 9.0), ("refined", 6.0), ("worse", 12.0), ("oracle", 3.0)):
        evaluation.rows.append(Result(name, "cnn", 4, [gaze], error + noise))  # the same noise: the gap is exact
    rows = {row["name"]: row["gap_closed"] for row in summarize(evaluation)["rows"]}
    assert rows["a"] is rows["oracle"] is None
    assert rows["refined"]["share"] == pytest.approx(0.5)
    assert rows["worse"]["share"] == pytest.approx(-0.5)
    assert rows["refined"]["ci95"] == pytest.approx([0.5, 0.5])
    evaluation.rows.insert(2, Result("loaded", "cnn", 0, [gaze], np.full((1, 4), 6.0)))  # of one seed
    assert summarize(evaluation)["rows"][2]["gap_closed"]["share"] == pytest.approx(0.5, abs=0.05)
    evaluation.rows.pop()
    assert {row["gap_closed"] for row in summarize(evaluation)["rows"]} == {None}
