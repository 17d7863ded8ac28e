"""The run's estimator: its labels, errors and export, and an exact resume."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from simgan_cli.cli.resolve import resolve
from simgan_cli.data.reweighting import weights_like
from simgan_cli.data.weights import read_weights
from simgan_cli.engine.export.network_folder import load_network
from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.engine.method.task_term import TaskTerm
from simgan_cli.engine.run_folder.checkpoints import find_checkpoint, resumed_config
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.engine.run_folder.metric_fields import METRICS
from simgan_cli.engine.training import evaluator
from simgan_cli.engine.training.build import TrainResult, train
from simgan_cli.engine.training.task import TaskLabels, reading_errors
from simgan_cli.errors import CheckpointError
from tests.engine.training.test_training import SIZE, Quiet, lines_of, same, weights


def labels(count: int = 80, seed: int = 0) -> TaskLabels:
    points = np.random.default_rng(seed).uniform(0.2, 0.8, (count, 2)).astype(np.float32)
    return TaskLabels("pupil", {f"{number}.png": point for number, point in enumerate(points)})


def run(settings: dict[str, Any], resume: str | None = None, of: TaskLabels | None = None) -> TrainResult:
    checkpoint = find_checkpoint(RunFolder(Path(settings["out"])), resume)
    config = resumed_config(checkpoint, settings) if checkpoint else resolve(settings)
    listener = Quiet()
    return train(config, checkpoint, listener, listener.stop, read_labels=lambda report, warn: of)


def state(settings: dict[str, Any], step: int, name: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(settings["out"] / f"checkpoints/step-{step:08d}/{name}.safetensors")


def test_labels_of_files_come_in_their_order_with_nan_for_those_without() -> None:
    known = TaskLabels("pupil", {"a": np.array([0.1, 0.2], np.float32), "c": np.array([0.3, 0.4], np.float32)})
    assert np.array_equal(
        known.of(["c", "b", "a"]), np.array([[0.3, 0.4], [np.nan, np.nan], [0.1, 0.2]], np.float32), equal_nan=True
    )


def test_a_run_measures_and_exports_its_estimator(spacious: dict[str, Any]) -> None:
    run(spacious, of=labels())
    line = lines_of(spacious)[-1]
    assert line["label_error_synthetic"] > 0
    assert {name for name in line if name.startswith(("loss_task", "label_error"))} == {
        "loss_task_synthetic", "loss_task_refined", "loss_task_varied", "label_error_synthetic", "label_error_refined",
    }  # fmt: skip
    assert set(line) <= set(METRICS)
    estimator = load_network(spacious["out"] / "estimator")
    assert isinstance(estimator, Estimator)
    assert estimator.settings == {"architecture": "resnet", "height": SIZE[0], "width": SIZE[1], "target": "pupil"}
    assert same(dict(estimator.state_dict()), state(spacious, 4, "task-average"))


def test_the_weight_decides_the_refiner_and_0_leaves_it_as_without_labels(folders: dict[str, Any]) -> None:
    runs = {name: folders | {"out": folders["out"].with_name(name)} for name in ("without", "0", "20")}
    run(runs["without"])
    for weight in ("0", "20"):
        run(runs[weight] | {"task_weight": float(weight)}, of=labels(9))
    assert same(weights(runs["without"]), weights(runs["0"]))
    assert not same(weights(runs["without"]), weights(runs["20"]))


def test_a_resumed_training_has_the_same_estimator_to_the_bit(folders: dict[str, Any]) -> None:
    uninterrupted = folders | {"out": folders["out"].with_name("uninterrupted"), "save_every": 3, "keep": 0}
    run(uninterrupted, of=labels(9))
    shutil.copytree(uninterrupted["out"], folders["out"])
    shutil.rmtree(folders["out"] / "checkpoints/step-00000005")
    run({"out": folders["out"]}, resume="auto", of=labels(9))
    for name in ("task", "task-average", "optimizers", "refiner"):
        assert same(state(uninterrupted, 5, name), state(folders, 5, name))


@pytest.mark.parametrize("now", [labels(9, seed=1), None], ids=["other labels", "no labels"])
def test_other_labels_than_before_are_refused(folders: dict[str, Any], now: TaskLabels | None) -> None:
    run(folders, of=labels(9))
    with pytest.raises(CheckpointError, match="made with other inputs: labels"):
        run({"out": folders["out"], "steps": 6}, resume="auto", of=now)


@pytest.mark.parametrize("target", ["pupil", "gaze"])
def test_errors_are_pixels_or_degrees_of_images_with_a_label(target: str) -> None:
    torch.manual_seed(0)
    estimator = Estimator("resnet", 20, 30, target)
    images = torch.rand(4, 1, 20, 30) * 2 - 1
    truth = torch.rand(4, 2 if target == "pupil" else 3) - 0.5
    truth = truth if target == "pupil" else torch.nn.functional.normalize(truth)
    truth[2] = torch.nan
    task = TaskTerm(estimator, 1, lambda: truth, 0.9, None)
    measured = reading_errors(task, images, -images, truth)
    for name, batch in (("synthetic", images), ("refined", -images)):
        predicted = task.average(batch).detach().double().numpy()
        known, wanted = [0, 1, 3], truth.double().numpy()
        if target == "pupil":
            errors = np.hypot(*((predicted - wanted)[known] * (30, 20)).T)
        else:
            errors = np.degrees(np.arccos((predicted * wanted)[known].sum(axis=1)))
        assert float(measured[f"label_error_{name}"]) == pytest.approx(errors.mean(), rel=1e-4)


def test_images_without_any_label_measure_nothing() -> None:
    nothing = torch.full((2, 2), torch.nan)
    task = TaskTerm(Estimator("resnet", 12, 14, "pupil"), 1, lambda: nothing, 0.9, None)
    assert reading_errors(task, torch.zeros(2, 1, 12, 14), torch.zeros(2, 1, 12, 14), nothing) == {}


def test_the_estimators_folder_records_its_training(folders: dict[str, Any]) -> None:
    run(folders | {"preprocess": "equalize"}, of=labels(9))
    config = json.loads((folders["out"] / "estimator" / "config.json").read_text())
    assert config["made_of"] == {"preprocess": "equalize", "renders": 9, "step": 5}


@pytest.fixture
def reweighing(spacious: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings under which weights change after 2 and 4 of 5 steps."""
    monkeypatch.setattr(evaluator, "MIN_STEPS_TO_REWEIGH", 1)
    return spacious | {"steps": 5, "pretrain_discriminator": 0}


def test_weights_auto_gives_labels_the_distribution_that_the_estimator_reads(reweighing: dict[str, Any]) -> None:
    truth = labels()
    run(reweighing, of=truth)
    estimator = Estimator("resnet", *SIZE, "pupil")
    estimator.load_state_dict(state(reweighing, 4, "task-average"))
    photographs = np.stack([np.asarray(Image.open(path), np.float32) for path in reweighing["real"].iterdir()])
    with torch.no_grad():
        read = estimator(torch.from_numpy(photographs)[:, None] / 127.5 - 1).double().numpy()
    files = sorted(truth.by_file)
    expected, _ = weights_like(truth.of(files).astype(np.float64), read)
    np.testing.assert_allclose(read_weights(reweighing["out"] / "weights.csv", files), expected, rtol=1e-4)
    measured = [line["weights_effective"] for line in lines_of(reweighing) if "weights_effective" in line]
    assert measured[-1] == pytest.approx(expected.sum() ** 2 / (expected**2).sum() / len(expected), rel=1e-4)


def test_a_resumed_training_draws_by_the_same_weights(reweighing: dict[str, Any]) -> None:
    complete = reweighing | {"out": reweighing["out"].with_name("complete")}
    run(complete, of=labels())
    shutil.copytree(complete["out"], reweighing["out"])
    for step in (4, 5):
        shutil.rmtree(reweighing["out"] / f"checkpoints/step-{step:08d}")
    run({"out": reweighing["out"]}, resume="auto", of=labels())
    for name in ("weights", "task", "refiner", "discriminator"):
        assert same(state(complete, 5, name), state(reweighing, 5, name))


@pytest.mark.parametrize(("changed", "of"), [({"weights": "off"}, labels()), ({}, None)], ids=["off", "no labels"])
def test_renders_are_drawn_equally_when_off_and_without_labels(
    reweighing: dict[str, Any], changed: dict[str, Any], of: TaskLabels | None
) -> None:
    run(reweighing | changed, of=of)
    assert not (reweighing["out"] / "weights.csv").exists()
