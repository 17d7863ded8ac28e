"""Lambda auto: its rule by hand, and in trainings."""

import json
from pathlib import Path
from typing import Any

import pytest

from simgan_cli.cli.resolve import resolve
from simgan_cli.engine.metrics import realism
from simgan_cli.engine.runtime.stop import StopRequest
from simgan_cli.engine.training.auto_lambda import next_lambda
from simgan_cli.engine.training.build import train
from simgan_cli.errors import SettingsError
from tests.engine.training.test_training import Quiet
from tests.helpers import write_images


@pytest.mark.parametrize(
    ("before", "gradient_ratio", "drift", "after"),
    [
        (1.0, 0.1, 0.0, 1.0),  # in balance, labels in place
        (1.0, 0.1, 0.6, 2.0),  # labels move
        (1.0, 0.3, 0.6, 2.0),  # and come first
        (1.0, 0.3, 0.2, 0.5),  # psi holds the refiner back
        (1.0, 0.3, 0.3, 1.0),  # and labels need that
        (1.0, 0.02, 0.0, 2.0),  # nothing holds the refiner
        (1.0, 0.05, 0.5, 1.0),  # at each limit itself lambda stays
        (1.0, 0.2, 0.0, 1.0),
        (1.0, 0.3, 0.25, 1.0),
        (64.0, 0.1, 0.6, 64.0),
        (1 / 64, 0.3, 0.0, 1 / 64),
    ],
)
def test_the_next_lambda_follows_its_rule(before: float, gradient_ratio: float, drift: float, after: float) -> None:
    assert next_lambda(before, gradient_ratio, drift) == after


def lambdas(run: Path) -> list[float]:
    """Return lambda after each step that had an adversary."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["lambda"] for line in lines if line["phase"] == "adversarial"]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A refiner that hardly learns on 96 images a domain, measured at every second step; a classifier likewise."""
    monkeypatch.setattr(realism, "STEPS", 5)
    return {
        "synthetic": write_images(tmp_path / "synthetic", 96, 1), "real": write_images(tmp_path / "real", 96, 2),
        "cache": "off", "refiner_width": 4, "refiner_blocks": 1, "batch_size": 4, "history_size": 8, "refiner_lr": 1e-5,
        "pretrain_discriminator": 0, "steps": 6, "log_every": 1, "eval_every": 2, "sample_every": 0, "device": "cpu",
        "lambda": "auto", "out": tmp_path / "run",
    }  # fmt: skip


@pytest.mark.slow
def test_lambda_halves_where_psi_holds_the_refiner_back_also_after_a_resume(settings: dict[str, Any]) -> None:
    settings |= {"psi": "normalized=1000"}
    train(resolve(settings | {"steps": 5}), None, Quiet(), StopRequest())
    # From the second step on, the line of a step shows the lambda of the next one. The end of a training is measured,
    # too, but leaves lambda unchanged, so that an extended run does not depend on where it had ended.
    assert lambdas(settings["out"]) == [1.0, 0.5, 0.5, 0.25, 0.25]
    train(resolve(settings | {"steps": 8}), settings["out"] / "checkpoints/step-00000005", Quiet(), StopRequest())
    assert lambdas(settings["out"]) == [1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625]


@pytest.mark.slow
def test_lambda_doubles_where_psi_is_weak_once_there_is_an_adversary(settings: dict[str, Any]) -> None:
    settings |= {"psi": "normalized=0.001", "pretrain_refiner": 2, "pretrain_discriminator": 1, "steps": 3}
    train(resolve(settings), None, Quiet(), StopRequest())
    assert lambdas(settings["out"]) == [2.0, 2.0, 4.0]  # the measurement before them, at step 2, changes nothing


def test_lambda_auto_refuses_settings_without_measurements(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--eval-every 0"):
        resolve(settings | {"eval_every": 0})
    few = resolve(settings | {"real": write_images(tmp_path / "few", 12, 3)})
    with pytest.raises(SettingsError, match="12 in a domain are too few"):
        train(few, None, Quiet(), StopRequest())
    tiny = {name: write_images(tmp_path / f"6x6-{name}", 96, 4, (6, 6)) for name in ("synthetic", "real")}
    with pytest.raises(SettingsError, match="images of 6x6 are too small for it"):
        train(resolve(settings | tiny), None, Quiet(), StopRequest())
    with pytest.raises(SettingsError, match="'much' is neither a number nor auto"):
        resolve(settings | {"lambda": "much"})
    with pytest.raises(SettingsError, match="'-1' is not 0 or more"):
        resolve(settings | {"lambda": "-1"})
