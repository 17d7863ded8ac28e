"""Help and usage errors are instant: they do not import torch, which takes seconds."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import SIMGAN

pytestmark = pytest.mark.slow  # complete commands

NOWHERE = "train --synthetic nowhere --real neither"
LINES = {
    "--help": (0, "Commands:"),
    "--version": (0, "simgan "),
    "train --help-all": (0, "--refiner-width"),
    "doctor --help": (0, "--device"),
    "status nowhere": (2, "not a run of simgan"),
    "train --no-such-option": (2, "--no-such-option"),
    "train --config nowhere.toml": (2, "nowhere.toml"),
    f"{NOWHERE} --lambda -1": (2, "--lambda:"),
    f"{NOWHERE} --refiner-kernel 4": (2, "--refiner-kernel 4 is even"),
    f"{NOWHERE} --resume latest": (4, "no complete checkpoint"),
}
SCRIPT = """
import json, sys
from typer.testing import CliRunner
from simgan_cli.cli.app import app
for line in sys.argv[1:]:
    result = CliRunner().invoke(app, line.split())
    print(json.dumps([result.exit_code, result.output, sorted({"torch", "torchvision"} & sys.modules.keys())]))
"""


def test_help_and_usage_errors_import_no_torch(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *LINES], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    for line, (code, says), answer in zip(LINES, LINES.values(), result.stdout.splitlines(), strict=True):
        exit_code, output, heavy = json.loads(answer)
        assert (exit_code, heavy) == (code, []), line
        assert says in output


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("simgan tr", "train"),
        ("simgan train --history-s", "--history-size"),
        ("simgan train --preset h", "hands"),
    ],
)
def test_a_shell_completes_commands_and_values_without_torch(typed: str, offered: str) -> None:
    script = f"""
        eval "$({SIMGAN} --show-completion)"
        COMP_WORDS=({typed}) COMP_CWORD={typed.count(" ")}
        PYTHONPROFILEIMPORTTIME=1 _simgan_completion {SIMGAN}
        echo "${{COMPREPLY[@]}}"
    """
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout.split() == [offered]
    assert re.search(r"^import time:.*\|\s*simgan_cli\.cli\.train$", result.stderr, re.MULTILINE)
    assert not re.search(r"^import time:.*\|\s*torch(vision)?$", result.stderr, re.MULTILINE)


def test_ctrl_c_during_imports_leaves_no_traceback() -> None:
    script = "import simgan_cli.cli.app; raise KeyboardInterrupt"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (-signal.SIGINT, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_stdout_leaves_the_error_and_its_code(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [SIMGAN, "status", "nowhere", "--json"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "nowhere: not a run of simgan" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("arguments", [["--help"], ["refine", "--help"], ["--version"]])
def test_help_into_a_full_stdout_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run([SIMGAN, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("error: stdout: No space left on device")
