"""The lambda that looks after itself: its rule by hand, and that trainings heed it."""

import json
from pathlib import Path
from typing import Any

import pytest

from simgan_cli.cli.settings import resolve
from simgan_cli.engine import realism
from simgan_cli.engine.balance import LEAST, MOST, START, adapted
from simgan_cli.engine.health import NOTICEABLE
from simgan_cli.engine.stop import StopRequest
from simgan_cli.engine.training import train
from simgan_cli.errors import SettingsError
from tests.engine.test_training import Quiet
from tests.helpers import write_images


@pytest.mark.parametrize(
    ("before", "drift", "refined", "after"),
    [
        (1.0, 0.6, 0.1, 2.0),  # labels move, however close
        (1.0, 0.6, 0.2, 2.0),
        (1.0, 0.1, 0.19, 0.5),  # nothing gained, nothing moved
        (1.0, 0.3, 0.19, 1.0),
        (1.0, 0.1, 0.1, 1.0),  # closer with labels in place
        (1.0, 0.4, 0.1, 1.0),
        (1.0, 0.22, 0.19, 0.5),
        (1.0, 0.5, 0.1, 1.0),  # at each limit itself lambda stays
        (1.0, 0.25, 0.19, 1.0),
        (1.0, 0.1, NOTICEABLE * 0.2, 1.0),
        (MOST, 0.6, 0.1, MOST),
        (LEAST, 0.0, 0.2, LEAST),
    ],
)
def test_the_rule(before: float, drift: float, refined: float, after: float) -> None:
    assert adapted(before, {"label_drift": drift, "swd_refined": refined, "swd_synthetic": 0.2}) == after


def test_where_drift_cannot_be_measured_labels_count_as_in_place() -> None:
    assert adapted(1.0, {"swd_refined": 0.2, "swd_synthetic": 0.2}) == 0.5


def test_it_starts_at_one_and_keeps_within_a_factor_of_16() -> None:
    assert (START, LEAST, MOST) == (1.0, 0.0625, 16.0)


def lambdas(run: Path) -> list[float]:
    return [json.loads(line)["lambda"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A refiner that learns nothing on 96 images a domain, measured at every second step; a classifier likewise."""
    monkeypatch.setattr(realism, "STEPS", 5)
    return {
        "synthetic": write_images(tmp_path / "synthetic", 96, 1), "real": write_images(tmp_path / "real", 96, 2),
        "cache": "off", "refiner_width": 4, "refiner_blocks": 1, "batch_size": 4, "history_size": 8, "refiner_lr": 1e-9,
        "pretrain_discriminator": 0, "steps": 6, "log_every": 1, "eval_every": 2, "sample_every": 0, "device": "cpu",
        "lambda": "auto", "out": tmp_path / "run",
    }  # fmt: skip


def test_a_refiner_that_changes_nothing_halves_it_and_a_resumed_run_goes_on(settings: dict[str, Any]) -> None:
    train(resolve(settings | {"steps": 5}), None, Quiet(), StopRequest())
    # From the line of the second step on: what a step's line shows is what the next step takes. Where training ends it
    # is measured, too, and lambda stays: a run that goes on must not show where it had ended.
    assert lambdas(settings["out"]) == [1.0, 0.5, 0.5, 0.25, 0.25]
    train(resolve(settings | {"steps": 8}), settings["out"] / "checkpoints/step-00000005", Quiet(), StopRequest())
    assert lambdas(settings["out"]) == [1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625]


def test_a_number_stays(settings: dict[str, Any]) -> None:
    train(resolve(settings | {"lambda": "0.7"}), None, Quiet(), StopRequest())
    assert set(lambdas(settings["out"])) == {0.7}


def test_what_it_cannot_go_by_is_said(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--eval-every 0"):
        resolve(settings | {"eval_every": 0})
    few = resolve(settings | {"real": write_images(tmp_path / "few", 12, 3)})
    with pytest.raises(SettingsError, match="12 in a domain are too few"):
        train(few, None, Quiet(), StopRequest())
    with pytest.raises(SettingsError, match="'much' is neither a number nor auto"):
        resolve(settings | {"lambda": "much"})
    with pytest.raises(SettingsError, match="'-1' is not 0 or more"):
        resolve(settings | {"lambda": "-1"})
