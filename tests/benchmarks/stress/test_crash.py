"""A few kills and faults of benchmarks/stress/crash.py, which checks itself that nothing was lost."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # complete commands

ROOT = Path(__file__).parents[3]


def test_killed_or_starved_commands_give_the_uninterrupted_result() -> None:
    script = [sys.executable, "-m", "benchmarks.stress.crash", "--kills", "3", "--faults", "3", "--seed", "2"]
    result = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "\n0 problems." in result.stdout
    kills, faults = (int(line.split("|")[3]) for line in result.stdout.splitlines() if line.startswith("| all "))
    assert kills >= 3
    assert faults == 3
