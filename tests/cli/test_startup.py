"""Help and usage errors are instant: torch, which takes seconds to import, is not among the imports."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import simgan_cli
from simgan_cli.engine.runtime.device import resolve_device, resolve_precision
from tests.conftest import Domains
from tests.helpers import SIMGAN, simgan
from tests.simgan_server import ENVIRONMENT

pytestmark = pytest.mark.slow  # whole commands

HEAVY = re.compile(r"^import time:.*\|\s*(torch|torchvision|safetensors\.torch)\b")


def imports(*arguments: str | Path) -> tuple[int, str]:
    """Return the exit code and everything on stderr, the list of imported modules included."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "simgan_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | ENVIRONMENT,
    )
    assert re.search(r"^import time:.*\|\s*simgan_cli\.cli\.train$", result.stderr, re.M)
    return result.returncode, result.stderr


def heavy(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if HEAVY.match(line)]


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]], ids=" ".join)
def test_help(arguments: list[str]) -> None:
    code, stderr = imports(*arguments)
    assert (code, heavy(stderr)) == (0, [])


@pytest.mark.parametrize(("typed", "offered"), [("simgan tr", "train"), ("simgan train --history-s", "--history-size")])
def test_completion_in_a_shell(typed: str, offered: str) -> None:
    script = f"""
        eval "$({SIMGAN} --show-completion)"
        COMP_WORDS=({typed}) COMP_CWORD={typed.count(" ")}
        PYTHONPROFILEIMPORTTIME=1 _simgan_completion {SIMGAN}
        echo "${{COMPREPLY[@]}}"
    """
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (result.stdout.split(), heavy(result.stderr)) == ([offered], [])
    assert "simgan_cli.cli.train" in result.stderr


def test_version_names_what_would_run() -> None:
    result = simgan("--version", cold=True)
    assert result.returncode == 0
    ours, *others = result.stdout.splitlines()
    assert ours == f"simgan {simgan_cli.__version__}"
    device = resolve_device("auto")
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    assert dict(line.split(" ", 1) for line in others) == {
        "torch": torch.__version__,
        "device": f"{device}{name}",
        "precision": resolve_precision("auto", device),
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--no-such-option"], "--no-such-option"),
        (["--synthetic", "nowhere", "--real", "neither"], "--real neither: no such folder"),
        (["--synthetic", "nowhere", "--real", "neither", "--lambda", "-1"], "--lambda:"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_usage_errors(arguments: list[str], says: str) -> None:
    code, stderr = imports("train", *arguments)
    assert (code, heavy(stderr)) == (2, [])
    assert says in stderr


def test_contradictions(domains: Domains) -> None:
    code, stderr = imports("train", *domains.flags, "--refiner-kernel", "4")
    assert (code, heavy(stderr)) == (2, [])
    assert "--refiner-kernel 4 is even" in stderr
