"""Help and usage errors are instant: torch, which takes seconds to import, is not among the imports."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import SIMGAN
from tests.simgan_server import ENVIRONMENT

pytestmark = pytest.mark.slow  # whole commands

HEAVY = re.compile(r"^import time:.*\|\s*(torch|torchvision|safetensors\.torch)\b")
NOWHERE = "train --synthetic nowhere --real neither"


def heavy(stderr: str) -> list[str]:
    """Return the lines of Python's list of imported modules that name a slow one."""
    assert re.search(r"^import time:.*\|\s*simgan_cli\.cli\.train$", stderr, re.M)
    return [line for line in stderr.splitlines() if HEAVY.match(line)]


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("--help", 0, ""),
        ("--version", 0, ""),
        ("train --help-all", 0, ""),
        ("doctor --help", 0, ""),
        ("train --no-such-option", 2, "--no-such-option"),
        ("train --config nowhere.toml", 2, "nowhere.toml"),
        (f"{NOWHERE} --lambda -1", 2, "--lambda:"),
        (f"{NOWHERE} --refiner-kernel 4", 2, "--refiner-kernel 4 is even"),
        (f"{NOWHERE} --resume latest", 4, "no complete checkpoint"),
    ],
)
def test_help_and_usage_errors_import_no_torch(line: str, code: int, says: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "simgan_cli", *line.split()],
        capture_output=True, text=True, check=False, env=os.environ | ENVIRONMENT, cwd=tmp_path,
    )  # fmt: skip
    assert (result.returncode, heavy(result.stderr)) == (code, [])
    assert says in result.stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("simgan tr", "train"),
        ("simgan train --history-s", "--history-size"),
        ("simgan train --preset h", "hands"),
    ],
)
def test_completion_in_a_shell(typed: str, offered: str) -> None:
    script = f"""
        eval "$({SIMGAN} --show-completion)"
        COMP_WORDS=({typed}) COMP_CWORD={typed.count(" ")}
        PYTHONPROFILEIMPORTTIME=1 _simgan_completion {SIMGAN}
        echo "${{COMPREPLY[@]}}"
    """
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (result.stdout.split(), heavy(result.stderr)) == ([offered], [])
