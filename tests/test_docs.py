"""What the documentation tells people to type works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from simgan_cli.cli.app import app
from simgan_cli.engine.health import RULES
from tests.conftest import Domains
from tests.gaze.helpers import write_csv
from tests.helpers import SIMGAN, TINY, simgan, write_images, write_refiner

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS, REFINING, EVALUATING, INSPECTING = (
    re.findall(rf"^(?:.*&& )?(?:\.venv/bin/)?simgan ({name} .*)$", README, re.MULTILINE)
    for name in ("train", "refine", "eval-gaze", "inspect-buffer")
)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readmes_commands_are_understood(command: str, tmp_path: Path) -> None:
    write_images(tmp_path / "renders", 2, 1)
    write_images(tmp_path / "photos", 2, 2)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    result = subprocess.run(
        [SIMGAN, *shlex.split(command), "--dry-run"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "discriminator: 75,906 parameters" in result.stdout


@pytest.mark.parametrize("command", REFINING)
def test_the_readmes_refining_works(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "renders", 2, 1)
    write_refiner(tmp_path / "run" / "refiner")
    (tmp_path / "run" / "config.json").write_text('{"schema": "simgan.run/1"}')
    result = CliRunner().invoke(app, shlex.split(command))
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "refined" / "0.png").exists() == ("--dry-run" not in command)


@pytest.mark.parametrize("command", EVALUATING)
def test_the_readmes_evaluations_are_understood(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("labelled", "refined-labelled", "eyes", "more-eyes")):
        write_csv(tmp_path / name, 6, seed, persons=2)
    write_refiner(tmp_path / "run" / "refiner")
    (tmp_path / "run" / "config.json").write_text('{"schema": "simgan.run/1"}')
    result = CliRunner().invoke(app, [*shlex.split(command), "--dry-run"])
    assert result.exit_code == 0, result.stderr


def test_the_readmes_inspections_work(domains: Domains, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(domains.out.parent)
    assert simgan("train", *domains.flags, *TINY).returncode == 0
    assert len(INSPECTING) >= 2
    for command in INSPECTING:
        result = CliRunner().invoke(app, shlex.split(command))
        assert result.exit_code == 0, result.stderr


def test_the_readmes_table_of_rules_is_that_of_the_code() -> None:
    table = README.split("| verdict | seen |")[1].split("\n\n")[0]
    assert re.findall(r"^\| ([a-z][^|]+) \|", table, re.MULTILINE) == [rule.name for rule in RULES]


def test_the_readmes_python_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_refiner(tmp_path / "run" / "refiner")
    (tmp_path / "run" / "config.json").write_text('{"schema": "simgan.run/1"}')
    snippet = README.split("```python\n")[1].split("```")[0]
    names = {"images": np.zeros((2, 5, 6, 1), np.uint8)}
    exec(snippet, names)
    assert names["refined"].shape == (2, 5, 6, 1)


def test_the_readme_has_the_commands_it_should() -> None:
    assert len(COMMANDS) >= 5
    assert len(REFINING) >= 5
    assert len(EVALUATING) >= 4
    assert "<!-- the test command -->" in README


def test_the_run_folder_is_as_documented(domains: Domains) -> None:
    result = simgan("train", *domains.flags, *TINY, "--sample-every", "5")
    assert result.returncode == 0, result.stderr
    documented = set(re.findall(r"^run/([a-z.]+)", README, re.MULTILINE))
    assert {path.name for path in domains.out.iterdir()} == documented | {".lock"}


def test_the_discs_example_runs_and_draws_its_sheet(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "examples" / "discs.py"), str(tmp_path)]
    quick = ["--steps", "2", "--pretrain-discriminator", "1", "--batch-size", "4", "--sample-every", "3"]
    result = subprocess.run([*script, *quick, "--cache", "off"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    sheet = np.asarray(Image.open(tmp_path / "run" / "samples" / "step-00000003.png"))
    assert sheet.shape[1] > 4 * 150
    assert sheet.std() > 30
