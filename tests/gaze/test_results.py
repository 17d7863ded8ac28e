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
        (
            [("a", "mean"), ("a", "knn"), ("b", "knn"), ("a", "cnn"), ("a-reweighted", "cnn"), ("b", "cnn")],
            [("knn", "a", "b"), ("cnn", "a", "a-reweighted"), ("cnn", "a", "b")],
            ("knn", "a", "b"),
        ),
        (
            [
                ("a", "cnn"),
                ("a-reweighted", "cnn"),
                ("refined", "cnn"),
                ("refined-reweighted", "cnn"),
                ("oracle", "cnn"),
            ],
            [
                ("cnn", "a", "a-reweighted"),
                ("cnn", "a", "refined"),
                ("cnn", "a", "refined-reweighted"),
                ("cnn", "a", "oracle"),
                ("cnn", "a-reweighted", "refined-reweighted"),
            ],
            ("cnn", "a", "refined"),
        ),
        ([("a", "cnn"), ("a-reweighted", "cnn")], [("cnn", "a", "a-reweighted")], ("cnn", "a", "a-reweighted")),
        ([("a", "mean"), ("a", "cnn")], [], None),
    ],
)
def test_each_estimator_s_first_row_is_compared_with_its_others(
    tmp_path: Path, rows: list[tuple[str, str]], compared: list[tuple[str, ...]], verdict: tuple[str, ...] | None
) -> None:
    pixels, gaze, _ = discs(4, 1)
    images = LabelledImages(Path("d"), "csv", "gaze", pixels, gaze, [f"{index}.png" for index in range(4)])
    sets = {name: images for name, _ in rows}
    config = EvalGazeConfig(out=tmp_path / "out", bootstrap=100)
    evaluation = Evaluation(config, sets, {}, images, None, torch.device("cpu"))
    for name, estimator in rows:
        weights = np.ones((1, 4)) if name.endswith("-reweighted") else None
        evaluation.rows.append(Result(name, estimator, 4, [gaze], np.ones((1, 4)), weights))
    document = summarize(evaluation)
    comparisons = [(comparison["estimator"], *comparison["pair"]) for comparison in document["comparisons"]]
    assert comparisons == compared
    main = document["comparison"]
    assert (main and (main["estimator"], *main["pair"])) == verdict
