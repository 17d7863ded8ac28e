"""Follow a training while it runs, to send its metrics and samples to a tracker."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def settings(run: Path) -> dict[str, Any]:
    """Return the settings of a run, by their names."""
    recorded: dict[str, Any] = json.loads((run / "config.json").read_text(encoding="utf-8"))["settings"]
    return recorded


def events(run: Path, pause: float = 10.0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield step and values of each line of metrics, and step and path of each sheet of samples, until training ends.

    It looks for new ones every `pause` seconds.
    """
    metrics = run / "metrics.jsonl"
    sent: set[Path] = set()
    n_lines = 0
    while True:
        status = subprocess.run(["simgan", "status", run, "--json"], stdout=subprocess.PIPE, check=True)
        is_training = json.loads(status.stdout)["training"]
        text = metrics.read_text(encoding="utf-8") if metrics.exists() else ""
        lines = text.split("\n")[:-1]  # the last one may be unfinished
        for line in map(json.loads, lines[n_lines:]):
            yield line["step"], {name: value for name, value in line.items() if isinstance(value, float)}
        n_lines = len(lines)
        for sheet in sorted(set((run / "samples").glob("step-*.png")) - sent):
            yield int(sheet.stem.removeprefix("step-")), {"samples": sheet}
            sent.add(sheet)
        if not is_training:
            return
        time.sleep(pause)
