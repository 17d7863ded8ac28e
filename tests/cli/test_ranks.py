"""Trainings under torchrun whose ranks are killed, stopped and misled, as real processes."""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from typer.testing import CliRunner

from simgan_cli.cli.app import app
from simgan_cli.engine.metrics.buffer_inspection import describe, open_buffer
from tests.helpers import INTERRUPTIBLE, LAST, checkpoint, content_of, torchrun, write_domains

pytestmark = pytest.mark.slow  # complete commands

SETTINGS = [*INTERRUPTIBLE, "--batch-size", "16", "--history-size", "21", "--sample-every", "6"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both domains and an uninterrupted run of two ranks."""
    root = write_domains(tmp_path_factory.mktemp("ranks"))
    result = subprocess.run(command("uninterrupted", "--json"), cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (root / "stdout").write_text(result.stdout)
    (root / "stderr").write_text(result.stderr)
    return root


def command(out: str, *more: str) -> list[str]:
    return torchrun("-m", "simgan_cli", *arguments(out), *more)


def arguments(out: str) -> list[str]:
    return ["train", *SETTINGS, "--out", out, "--cache", f"{out}-cache"]


def start_and_wait_for_step_5(place: Path, out: str) -> tuple[subprocess.Popen[str], int]:
    """Return torchrun and the process of rank 1."""
    process = subprocess.Popen(command(out), cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (checkpoint(place / out, 5) / "manifest.json").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    (second,) = (int(folder.name) for folder in Path("/proc").glob("[0-9]*") if is_rank_1(folder, place))
    return process, second


def is_rank_1(process: Path, place: Path) -> bool:
    """Return whether a process of /proc is rank 1 of a job in `place`."""
    with suppress(OSError):  # it has ended, or is another user's
        return (process / "cwd").readlink() == place and b"\0RANK=1\0" in (process / "environ").read_bytes()
    return False


def test_only_the_first_rank_prints_and_writes(place: Path) -> None:
    document = json.loads((place / "stdout").read_text())
    assert (document["status"], document["step"]) == ("finished", LAST)
    errors = (place / "stderr").read_text()
    for words in (f"finished {LAST} steps", "synthetic: 40 images", f"\n3/{LAST} "):
        assert errors.count(words) == 1, words
    assert (place / "uninterrupted" / "log.txt").read_text().count("synthetic: 40 images") == 1
    lines = content_of(place / "uninterrupted", LAST)[2]
    assert [line["step"] for line in lines] == [3, 6, 9, 12, 15, 18, 21, 24, LAST]
    names = {path.name for path in (place / "uninterrupted").iterdir() if not path.name.startswith(".")}
    assert names == {"checkpoints", "config.json", "log.txt", "metrics.jsonl", "refiner", "report.html", "samples"}


def test_inspect_buffer_shows_the_history_of_all_ranks(place: Path) -> None:
    view = open_buffer(place / "uninterrupted", None)
    document = describe(view)
    assert (document["filled"], document["capacity"]) == (21, 21)
    assert document["verdicts"][0].startswith("healthy") or document["verdicts"][0].startswith("too small")
    parts = [rank["history"] for rank in content_of(place / "uninterrupted", LAST)[1]["ranks"]]
    assert parts == [11, 10]
    assert view.images(np.array([0, 20])).std(axis=(1, 2, 3)).min() > 0.1


def test_a_killed_rank_ends_all_and_the_same_command_resumes_bit_for_bit(place: Path) -> None:
    process, second = start_and_wait_for_step_5(place, "killed")
    os.kill(second, signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    result = subprocess.run(command("killed"), cwd=place, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "resumed" in result.stderr
    assert content_of(place / "killed", LAST) == content_of(place / "uninterrupted", LAST)


def test_a_signal_to_one_rank_stops_all_and_another_number_of_ranks_resumes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, second = start_and_wait_for_step_5(place, "stopped")
    os.kill(second, signal.SIGUSR1)
    _, errors = process.communicate(timeout=300)
    assert errors.count("exitcode  : 75") == 2, errors
    assert errors.count("--resume auto to resume") == 1
    run = place / "stopped"
    steps = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert "step-00000005" < steps[-1] < checkpoint(run, LAST).name
    saved = safetensors.torch.load_file(run / "checkpoints" / steps[-1] / "history.safetensors")
    assert len(saved["images"]) == 21

    monkeypatch.chdir(place)
    resumed = CliRunner().invoke(app, arguments("stopped"))
    assert resumed.exit_code == 0, resumed.stderr
    tensors, state, lines = content_of(run, LAST)
    assert [rank["history"] for rank in state["ranks"]] == [21]
    expected = content_of(place / "uninterrupted", LAST)
    assert state["positions"] == expected[1]["positions"]
    assert [line["step"] for line in lines] == [3, 6, 9, 12, 15, 18, 21, 24, LAST]
    assert tensors.keys() == expected[0].keys()


def test_wrong_settings_are_reported_once_and_end_all_ranks(place: Path) -> None:
    wrong = command("wrong", "--batch-size", "18")
    result = subprocess.run(wrong, cwd=place, capture_output=True, text=True, check=False)
    assert result.stderr.count("error: --batch-size 18 is the total of 2 ranks") == 1, result.stderr
    assert result.stderr.count("error: ") == 1
    assert "exitcode  : 2" in result.stderr
    assert not (place / "wrong").exists()
