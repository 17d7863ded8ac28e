"""`simgan inspect-buffer` on real runs, by the installed program."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from simgan_cli.cli.app import app
from simgan_cli.engine.metrics.buffer_inspection import HISTORY, describe, open_buffer
from simgan_cli.errors import SimganError
from tests.helpers import SIMGAN, TINY, parse_document, simgan, write_images

pytestmark = pytest.mark.slow  # complete commands


def folders(folder: Path) -> list[str | Path]:
    """Write both domains and return the flags of a tiny training on them."""
    synthetic, real = write_images(folder / "synthetic", 12, 1), write_images(folder / "real", 9, 2)
    return ["--synthetic", synthetic, "--real", real, "--out", folder / "run", "--cache", "off", *TINY]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 12 iterations with a buffer of 8 images and all its checkpoints."""
    folder = tmp_path_factory.mktemp("inspected")
    result = simgan("train", *folders(folder), "--steps", "12", "--save-every", "2", "--keep", "0")
    assert result.returncode == 0, result.stderr
    return folder / "run"


def test_json_holds_what_the_checkpoint_does(run: Path) -> None:
    result = simgan("inspect-buffer", run, "--json", "--score")
    assert result.returncode == 0, result.stderr
    document = parse_document(result.stdout)
    stored = safetensors.torch.load_file(run / "checkpoints" / "step-00000014" / "history.safetensors")
    ages = 14 - stored["made_at"].numpy()
    assert (document["step"], document["filled"], document["capacity"]) == (14, 8, 8)
    assert document["ages"]["max"] == ages.max()
    assert document["ages"]["median"] == np.median(ages)
    assert document["draws"]["max"] == stored["draws"].max()
    assert all(0 < value < 1 for value in document["score"].values())


def test_each_bar_counts_the_ages_that_it_names(run: Path) -> None:
    stored = safetensors.torch.load_file(run / "checkpoints" / "step-00000014" / "history.safetensors")
    ages = 14 - stored["made_at"].numpy()
    rows = re.findall(r"^ *(\d+)-(\d+) +(\d+) +\d+ ", simgan("inspect-buffer", run).stdout, re.MULTILINE)
    assert rows
    assert [int(count) for _, _, count in rows] == [
        np.sum((int(first) <= ages) & (ages <= int(last))) for first, last, _ in rows
    ]


def test_an_earlier_step_is_not_filled(run: Path, tmp_path: Path) -> None:
    document = json.loads(simgan("inspect-buffer", run, "--step", "4", "--json").stdout)
    assert (document["step"], document["filled"]) == (4, 4)
    assert document["verdicts"][0].startswith("not filled yet: 4 of 8")
    result = simgan("inspect-buffer", run, "--step", "2", "--grid", tmp_path / "grid.png")
    assert result.returncode == 0, result.stderr
    assert "empty: no iteration" in result.stdout
    assert "not drawn, since the history holds no image yet" in result.stderr
    assert not (tmp_path / "grid.png").exists()


def test_a_grid_shows_pictures(run: Path, tmp_path: Path) -> None:
    result = simgan("inspect-buffer", run, "--grid", tmp_path / "new" / "grid.png")
    assert result.returncode == 0, result.stderr
    assert np.asarray(Image.open(tmp_path / "new" / "grid.png")).std() > 10


def newest(run: Path, name: str) -> Path:
    return run / "checkpoints" / "step-00000014" / name


def without_history(run: Path) -> None:
    state = newest(run, "state.json")
    state.write_text(state.read_text().replace('"history_size": 8', '"history_size": 0'))


@pytest.mark.parametrize(
    ("break_it", "code", "words"),
    [
        (lambda run: shutil.rmtree(run / "checkpoints"), 4, "no checkpoint yet"),
        (lambda run: (run / "config.json").unlink(), 2, "not a run of simgan"),
        (lambda run: newest(run, HISTORY).write_bytes(newest(run, HISTORY).read_bytes()[:100]), 4, "use another step"),
        (lambda run: newest(run, HISTORY).unlink(), 4, "use another step"),
        (lambda run: save_file({"images": torch.zeros(2)}, newest(run, HISTORY)), 4, "use another step"),
        (lambda run: newest(run, "state.json").write_text("[]"), 4, "wanted a JSON object"),
        (without_history, 4, "this run has no history buffer (--history-size 0)"),
    ],
)
def test_a_missing_or_damaged_run_is_named(run: Path, tmp_path: Path, break_it: Any, code: int, words: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    break_it(copy)
    result = CliRunner().invoke(app, ["inspect-buffer", str(copy)])
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (code, True), result.output
    assert words in result.output


def test_a_running_training_can_be_inspected(tmp_path: Path) -> None:
    """Checkpoints appear and disappear during the inspection."""
    endless = ["--steps", "100000", "--save-every", "1", "--keep", "1", "--log-every", "1000"]
    command = [SIMGAN, "train", *map(str, folders(tmp_path)), *endless]
    steps: set[int] = set()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as training:
        try:
            while len(steps) < 20:
                assert training.poll() is None
                try:
                    view = open_buffer(tmp_path / "run", None)
                except SimganError:
                    assert not steps  # later there is always a checkpoint
                    time.sleep(0.01)
                    continue
                assert describe(view)["step"] == view.step
                steps.add(view.step)
        finally:
            training.kill()
