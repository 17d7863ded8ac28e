"""Records of measurements: one JSON line each, with the commit, machine and torch of its figures."""

import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

PROVENANCE = re.compile(r"(?P<machine>.+), torch (?P<torch>.+), commit (?P<commit>.+)")  # of what `machine` returns


def machine() -> str:
    """Return the conditions of figures: processor, cores, torch and commit."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return f"{model}, {os.cpu_count()} cores, torch {torch.__version__}, commit {commit.stdout.strip() or 'unknown'}"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file, oldest first; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, fields: dict[str, Any], where: str | None = None) -> None:
    """Add a record of `fields` made `where` (by default here), unless the file has the same one."""
    provenance = PROVENANCE.fullmatch(where or machine())
    assert provenance is not None
    record = fields | provenance.groupdict()
    if record not in read_lines(path):
        with path.open("a") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
