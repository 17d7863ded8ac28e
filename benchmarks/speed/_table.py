"""Helpers of the speed benchmarks: options, clocks, and a Markdown table under a line that names the machine."""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks._record import append, machine

SIMGAN = str(Path(sys.executable).with_name("simgan"))
# GNU time is not everywhere, so a small parent process reports time and memory of the child.
WATCHED = (
    "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:]);"
    "u = resource.getrusage(resource.RUSAGE_CHILDREN); print(u.ru_utime + u.ru_stime, u.ru_maxrss);"
    "sys.exit(r.returncode)"
)


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of HxW."""
    height, width = text.split("x")
    return int(height), int(width)


OPTIONS: dict[str, dict[str, Any]] = {
    "batch_size": {"type": int, "nargs": "+"},
    "width": {"type": int, "nargs": "+", "help": "feature maps of the refiner"},
    "size": {"type": parse_size, "metavar": "HxW"},
    "rounds": {"type": int},
    "iterations": {"type": int, "help": "of each measurement"},
    "device": {},
    "compile": {"choices": ["auto", "on", "off"], "help": "the product's networks"},
}


def parser_of(description: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """Return a parser of those OPTIONS that have a default here."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, **OPTIONS[name])
    parser.add_argument("--record", type=Path, metavar="FILE", help="add each row as a JSON line, too")
    return parser


def print_head(
    columns: Sequence[str], conditions: str, record: Path | None = None, name: str = Path(sys.argv[0]).stem
) -> Callable[[Sequence[object]], None]:
    """Print the machine's line and the head of the table; return a function that prints and records a row."""
    print(f"{machine()}, {conditions}\n")
    print_row(columns)
    print_row(["---"] * len(columns))

    def add_row(cells: Sequence[object]) -> None:
        print_row(cells)
        if record:
            benchmark = {"benchmark": name, "conditions": conditions}
            append(record, benchmark | dict(zip(columns, cells, strict=True)))

    return add_row


def print_row(cells: Iterable[object]) -> None:
    """Print a line of the table at once."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the median with the smallest and the largest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def timed(work: Callable[[], object], count: int, device: torch.device) -> dict[str, float]:
    """Return the mean of `count` calls: `seconds` by the clock, and CPU seconds of all cores (`cpu`)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    cpu, started = time.process_time(), time.perf_counter()
    for _ in range(count):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return {"seconds": (time.perf_counter() - started) / count, "cpu": (time.process_time() - cpu) / count}


def clock_of(device: torch.device) -> str:
    """Return the clock of floors: CPU seconds on shared cores, the clock's on a GPU."""
    return "cpu" if device.type == "cpu" else "seconds"


@dataclass(frozen=True)
class Cost:
    """The cost of a process, in seconds by the clock, CPU seconds and memory, and its output."""

    seconds: float
    cpu: float
    peak_mb: float
    output: str


def watched(command: Sequence[object]) -> Cost:
    """Run a command to its end and return its cost."""
    started = time.perf_counter()
    process = [sys.executable, "-c", WATCHED, *map(str, command)]
    result = subprocess.run(process, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started
    *output, usage = result.stdout.splitlines()
    cpu, peak = usage.split()
    return Cost(seconds, float(cpu), int(peak) * 1024 / 1e6, "\n".join(output))
