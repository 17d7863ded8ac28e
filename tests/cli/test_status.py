"""`simgan status` on runs written by hand: every number is worked out from the files."""

import errno
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from simgan_cli.engine.run_folder.layout import MANIFEST, RunFolder
from simgan_cli.settings.train import TrainConfig
from tests.helpers import invoke, parse_document

SETTINGS = {"pretrain_refiner": 0, "pretrain_discriminator": 10, "steps": 90, "batch_size": 8, "refiner_updates": 2}
LINES: list[dict[str, Any]] = [
    {"step": 10, "phase": "pretrain-discriminator", "images_per_second": 16.0},
    {"step": 40, "phase": "adversarial", "images_per_second": 12.0},
]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run of 100 steps, each of 24 images from step 10 on, that stopped at step 40 with a checkpoint of step 30."""
    run = RunFolder(tmp_path / "run")
    run.root.mkdir()
    run.create(TrainConfig.model_validate(SETTINGS | {"synthetic": "s", "real": "r", "out": run.root}))
    for line in LINES:
        run.append_metrics(line)
    run.checkpoint(30).mkdir()
    (run.checkpoint(30) / MANIFEST).write_text("{}")
    os.utime(run.checkpoint(30) / MANIFEST, 2 * (time.time() - 600,))
    return run


def status(run: RunFolder) -> dict[str, Any]:
    return parse_document(invoke("status", run.root, "--json").stdout)


def test_a_stopped_run_has_its_step_remaining_time_and_newest_checkpoint(run: RunFolder) -> None:
    document = status(run)
    assert document.pop("checkpoint") == {
        "path": str(run.checkpoint(30)), "step": 30, "age_seconds": pytest.approx(600, abs=5),
    }  # fmt: skip
    assert document == {
        "schema": "simgan.status/1", "run": str(run.root), "training": False, "step": 40, "total_steps": 100,
        "eta_seconds": 60 * 24 / 12, "health": [],
    }  # fmt: skip
    text = invoke("status", run.root).stdout
    for words in ("40 of 100", "ETA  0:02:00", "step 30, 0:10:0", "training  no\n", "no rule has fired"):
        assert words in text


def test_a_running_training_is_recognised_and_not_disturbed(run: RunFolder) -> None:
    os.utime(run.metrics, 2 * (time.time() - 20,))
    with run.locked():
        document = status(run)
    assert document["training"] is True
    assert document["eta_seconds"] == pytest.approx(60 * 24 / 12 - 20, abs=5)
    assert status(run)["training"] is False


def test_remaining_time_in_pretraining_counts_the_images_of_later_iterations(run: RunFolder) -> None:
    shutil.rmtree(run.checkpoint(30))
    line = {"step": 4, "phase": "pretrain-discriminator", "images_per_second": 16.0}
    run.metrics.write_text(json.dumps(line) + "\n")
    assert status(run)["eta_seconds"] == (6 * 8 + 90 * 24) / 16


def test_a_resumed_training_that_still_reads_images_is_not_about_to_end(run: RunFolder) -> None:
    os.utime(run.metrics, 2 * (time.time() - 3600,))
    with run.locked():
        assert status(run)["eta_seconds"] == (60 - 25) * 24 / 12  # as if the next line were due, after --log-every 25


def test_status_does_not_keep_a_training_from_starting(run: RunFolder) -> None:
    run.lock.touch()
    for _ in range(20):
        assert run.is_locked() is False
        with run.locked():
            pass


def test_rules_that_fired_are_listed(run: RunFolder) -> None:
    run.append_metrics({"step": 1000, "phase": "adversarial", "label_drift": 5.0})
    (verdict,) = status(run)["health"]
    assert (verdict["rule"], verdict["step"], verdict["active"]) == ("labels move", 1000, True)
    assert f"labels move from step 1000: {verdict['advice']}" in invoke("status", run.root).stdout


def test_remaining_time_is_unknown_before_the_first_line_and_0_at_the_end(run: RunFolder) -> None:
    run.append_metrics({"step": 100, "phase": "adversarial", "images_per_second": 12.0})
    assert (status(run)["step"], status(run)["eta_seconds"]) == (100, 0)
    run.metrics.unlink()
    (run.checkpoint(30) / MANIFEST).unlink()
    document = status(run)
    assert (document["step"], document["eta_seconds"], document["checkpoint"]) == (0, None, None)
    assert "unknown yet" in invoke("status", run.root).stdout


def test_without_locks_it_is_unknown_whether_a_run_trains(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(descriptor: int, operation: int) -> None:  # as of a mount of a cluster's file system without locks
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    run.lock.touch()
    monkeypatch.setattr("fcntl.flock", unknown)
    assert status(run)["training"] is None


def test_a_folder_without_a_run_is_a_usage_error(tmp_path: Path) -> None:
    result = invoke("status", tmp_path, "--json", code=2)
    (problem,) = parse_document(result.stdout)["problems"]
    assert problem.startswith(f"{tmp_path}: not a run of simgan")
