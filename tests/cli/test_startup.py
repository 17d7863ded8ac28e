"""Help and usage errors are instant: torch, which takes seconds to import, is not among the imports."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Domains

HEAVY = re.compile(r"^import time:.*\|\s*(torch|torchvision|safetensors\.torch)\b")


def imports(*arguments: str | Path) -> tuple[int, str]:
    """Return the exit code and everything on stderr, the list of imported modules included."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "simgan_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"},
    )
    assert re.search(r"^import time:.*\|\s*simgan_cli\.cli\.train$", result.stderr, re.M)
    return result.returncode, result.stderr


def heavy(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if HEAVY.match(line)]


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]], ids=" ".join)
def test_help_and_version(arguments: list[str]) -> None:
    code, stderr = imports(*arguments)
    assert (code, heavy(stderr)) == (0, [])


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
