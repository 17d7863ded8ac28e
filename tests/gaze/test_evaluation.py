"""Complete evaluations in this process: weights, persons, resuming."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simgan_cli.data.reweighting import effective_number, weights_like
from simgan_cli.engine.export.network_folder import load_network, read_json
from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.errors import DataError
from simgan_cli.gaze.estimator_training import predict
from simgan_cli.gaze.evaluation import run
from simgan_cli.gaze.preparation import Evaluation, prepare
from simgan_cli.settings.eval_gaze import EvalGazeConfig
from tests.gaze.helpers import discs, write_csv, write_table
from tests.helpers import write_images

pytestmark = pytest.mark.slow  # trainings of more than 20 steps, or of seconds
SMALL = {
    "estimator": "resnet", "size": "18x28", "steps": 4, "batch_size": 16, "bootstrap": 100, "device": "cpu",
    "precision": "fp32",
}  # fmt: skip


def evaluate(**settings: Any) -> tuple[Evaluation, Any]:
    """Return an evaluation at its end, and results.json."""
    evaluation = prepare(EvalGazeConfig.model_validate(SMALL | settings))
    return evaluation, run(evaluation, lambda *_: None)


def test_one_point_has_the_same_errors_as_the_pupil(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path / "train", 40, 1), write_csv(tmp_path / "test", 10, 2, persons=2)
    both = [
        evaluate(train=f"a={train}", test=test, out=tmp_path / target, target=target, photos=test)[1]
        for target in ("pupil", "points")
    ]
    for pupil, points in zip(*(document["rows"] for document in both), strict=True):
        assert points["points"]["pupil"]["mean"] == points["mean"]
        same = pupil.keys() - {"within", "points"}
        assert {key: points[key] for key in same} == {key: pupil[key] for key in same}
        assert pupil["within"].items() <= points["within"].items()
    assert both[0]["content"] == both[1]["content"]


def test_sets_with_missing_points_are_measured(tmp_path: Path) -> None:
    for number, (name, count) in enumerate([("train", 30), ("test", 8)]):
        folder = write_csv(tmp_path / name, count, number)
        centres = discs(count, number)[2]
        points = {"centre": centres, "right": np.add(centres, (6, 0))}
        rows = [
            {"file": f"{n}.png"} | {
                f"{point}_{axis}": "" if point == "right" and n % 3 == 0 else at[n, place]
                for point, at in points.items() for place, axis in enumerate("xy")
            }
            for n in range(count)
        ]  # fmt: skip
        write_table(folder / "labels.csv", rows)
    out = tmp_path / "out"
    settings = {"train": f"a={tmp_path / 'train'}", "test": tmp_path / "test", "target": "points"}
    _, document = evaluate(**settings, estimator=["resnet", "knn"], out=out)
    assert document["points"] == ["centre", "right"]
    assert all(np.isfinite(row["mean"]) and set(row["points"]) == {"centre", "right"} for row in document["rows"])
    with (out / "predictions.csv").open() as file:
        first, *_ = csv.DictReader(file)
    assert (first["right_x"], first["error_px"] != "", float(first["predicted_right_x"]) > 0) == ("", True, True)
    page = (out / "report.html").read_text()
    assert "Error by point" in page
    estimator = f"b={out / 'estimators' / 'a-resnet-seed0'}"
    (tmp_path / "test" / "labels.csv").write_text("file,pupil_x,pupil_y\n0.png,9,9\n")
    with pytest.raises(DataError, match=r"b: predicts the points centre, right, but .*test has pupil; give another"):
        evaluate(test=tmp_path / "test", target="points", load=estimator, out=tmp_path / "loaded")


def test_weights_follow_each_estimators_predictions_for_unlabelled_images(tmp_path: Path) -> None:
    train, test, out = write_csv(tmp_path / "train", 200, 1), write_csv(tmp_path / "test", 10, 2), tmp_path / "out"
    images, gaze, _ = discs(150, 4)
    (tmp_path / "unlabelled").mkdir()
    for index in np.flatnonzero(gaze[:, 0] < 0):  # discs left of the middle
        Image.fromarray(images[index]).save(tmp_path / "unlabelled" / f"{index}.png")
    settings = {"train": f"a={train}", "test": test, "out": out}
    more = {"seeds": 2, "steps": 60, "batch_size": 32, "lr": 2e-3}
    evaluation, document = evaluate(**settings, **more, reweight_to=tmp_path / "unlabelled")

    renders, unlabelled, weights, shares = evaluation.sets["a"], evaluation.unlabelled, [], []
    assert unlabelled is not None
    for seed in (0, 1):
        network = load_network(out / "estimators" / f"a-resnet-seed{seed}")
        assert isinstance(network, Estimator)
        of_seed, share = weights_like(renders.targets, predict(network, unlabelled, torch.device("cpu"), "fp32"))
        made_of = read_json(out / "estimators" / f"a-weighted-resnet-seed{seed}" / "config.json")["made_of"]
        assert made_of["data"] == replace(renders, weights=of_seed).fingerprint
        weights.append(of_seed)
        shares.append(share)
    assert not np.allclose(weights[0], weights[1])
    mean = np.mean(weights, axis=0)
    with (out / "weights" / "a-weighted-resnet.csv").open() as file:
        written = {row["file"]: float(row["weight"]) for row in csv.DictReader(file)}
    assert np.allclose([written[file] for file in renders.files], mean, atol=1e-4)
    assert mean[renders.targets[:, 0] < -0.1].mean() > 1.5
    assert mean[renders.targets[:, 0] > 0.1].mean() < 0.5
    (row,) = [row for row in document["rows"] if row["name"] == "a-weighted"]
    assert row["effective_images"] == pytest.approx(np.mean([effective_number(of_seed) for of_seed in weights]))
    assert row["unmatched"] == pytest.approx(np.mean(shares))

    # Weights of an earlier evaluation must go, or users take them for this one's.
    (out / "weights" / "mine.csv").touch()
    evaluate(**settings, estimator="knn", overwrite=True)
    assert [path.name for path in (out / "weights").iterdir()] == ["mine.csv"]


def test_labels_that_differ_and_a_few_photographs_add_their_rows(tmp_path: Path) -> None:
    train, test, out = write_csv(tmp_path / "train", 600, 1), write_csv(tmp_path / "test", 10, 2), tmp_path / "out"
    real = write_csv(tmp_path / "real", 60, 3)
    images, gaze, _ = discs(150, 4)
    (tmp_path / "photos").mkdir()
    for index in np.flatnonzero(gaze[:, 0] < 0):  # discs left of the middle
        Image.fromarray(images[index]).save(tmp_path / "photos" / f"{index}.png")
    sets = {"train": f"a={train}", "test": test, "out": out, "real_train": real, "photos": tmp_path / "photos"}
    more = {"steps": 60, "batch_size": 32, "lr": 2e-3}
    document = evaluate(**sets, **more, baseline="histogram", few="5", worth=True)[1]
    rows = {row["name"]: row for row in document["rows"] if row["estimator"] == "resnet"}
    free = min(("a", "histogram"), key=lambda name: float(rows[name]["mean"]))
    assert list(rows) == ["a", "histogram", "oracle", "real-5", "real-50", "a+real-5", f"{free}-weighted"]
    assert [rows[name]["images"] for name in ("real-5", "real-50", "a+real-5")] == [5, 50, 605]
    assert document["content"]["differs"] is True
    assert document["verdict"]["train_on"] in (None, "a", "histogram", f"{free}-weighted")
    assert {name for name, row in rows.items() if row["worth"] is None} == {"oracle", "real-5", "real-50"}
    page = (out / "report.html").read_text()
    assert "Labels differ: " in page
    assert rows["a"]["worth"]["sentence"] in page
    assert (out / "worth.svg").is_file()


def test_predicted_labels_outside_the_set_give_a_warning(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path / "train", 120, 1), write_csv(tmp_path / "test", 20, 2)
    real = write_images(tmp_path / "real", 100, 4, (35, 55))
    corners = [{"gx": 0.6 * (-1) ** (index // 2), "gy": 0.6 * (-1) ** index, "gz": -0.5} for index in range(120)]
    write_table(train / "labels.csv", [{"file": f"{index}.png"} | corner for index, corner in enumerate(corners)])
    sets = {"train": f"a={train}", "test": test, "reweight_to": real, "out": tmp_path / "out"}
    document = evaluate(**sets, lr=1e-9)[1]  # its predictions follow from random weights, and lie in no corner
    (row,) = [row for row in document["rows"] if row["name"] == "a-weighted"]
    assert row["unmatched"] > 0.5
    warning = f"{row['unmatched']:.0%} of the labels predicted for {real} lie where a has none"
    assert any(warning in text for text in document["warnings"])


def test_persons_are_left_out_in_turn(tmp_path: Path) -> None:
    real = write_csv(tmp_path / "real", 30, 1, persons=3)
    labels = real / "labels.csv"
    labels.write_text(labels.read_text().replace("p01", "/../../../p01"))  # a hostile name
    settings = {"protocol": "leave-one-person-out", "train": f"real={real}", "out": tmp_path / "out"}
    (row,) = evaluate(**settings)[1]["rows"]
    assert sorted(row["persons"]) == ["/../../../p01", "p00", "p02"]
    assert {path.name for path in (tmp_path / "out" / "estimators").iterdir()} == {
        f"real-without-0{person}-resnet-seed0" for person in (1, 2, 3)
    }
    assert {path.name for path in tmp_path.iterdir()} == {"real", "out"}
    # An estimator is reused only for the same training persons.
    labels.write_text(labels.read_text().replace(",p02", ",p00"))
    (row,) = evaluate(**settings, skip_existing=True)[1]["rows"]
    assert sorted(row["persons"]) == ["/../../../p01", "p00"]
