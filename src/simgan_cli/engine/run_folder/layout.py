"""The run folder: its paths, its lock, its checkpoints and its metrics."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from simgan_cli import __version__
from simgan_cli.errors import SettingsError
from simgan_cli.files import (
    TEMPORARY_PREFIX,
    parse_json,
    remove_temporaries,
    write_atomic,
    write_json,
)
from simgan_cli.portability import take_lock
from simgan_cli.settings.train import TrainConfig

MANIFEST = "manifest.json"
LOOK_SECONDS = 0.1  # that `is_locked` may wait for another call of itself

# The files of a run folder; the reference shows this table.
LAYOUT = {
    "config.json": "the resolved settings",
    "metrics.jsonl": "a line of numbers every --log-every steps",
    "log.txt": "all lines of progress",
    "samples/step-00000250.png": "synthetic | refined | difference | real, every --sample-every steps",
    "checkpoints/step-00000100/": "everything to resume from, every file with its SHA-256; the newest --keep stay",
    "refiner/": "the refiner alone, shaped as a Hugging Face Hub folder; tones.safetensors is for refine --match",
    "estimator/": "where renders have labels: the run's estimator, for eval-gaze --load",
    "weights.csv": "where renders have labels: how often each was drawn at the end, for the training of your own model",
    "report.html": "one page: conclusion, health, realism, pictures by step, curves, history, settings",
}


class RunFolder:
    """Paths of one run, and the few operations on its files that need no tensors."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.json"
        self.metrics = root / "metrics.jsonl"
        self.log = root / "log.txt"
        self.samples = root / "samples"
        self.checkpoints = root / "checkpoints"
        self.refiner = root / "refiner"
        self.estimator = root / "estimator"
        self.weights = root / "weights.csv"
        self.report = root / "report.html"
        self.lock = root / ".lock"

    def is_run(self) -> bool:
        """Return whether the folder holds a run of simgan, even one without a checkpoint."""
        try:
            return bool(parse_json(self.config.read_bytes())["schema"] == TrainConfig.recorded_as)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def is_empty_or_ours(self) -> bool:
        """Return whether the folder is missing, or holds at most the files of a run killed before its config.json."""
        ours = {".lock", self.log.name}
        return not self.root.is_dir() or all(
            entry.name in ours or entry.name.startswith(TEMPORARY_PREFIX) for entry in self.root.iterdir()
        )

    def create(self, config: TrainConfig) -> None:
        """Make the folder with its config.json, or bring that up to date after a resume."""
        write_json(
            self.config, {"schema": TrainConfig.recorded_as, "simgan": __version__, "settings": settings_of(config)}
        )
        for folder in (self.samples, self.checkpoints):
            folder.mkdir(exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run for this process and delete what a killed one left half written.

        Raises SettingsError when another process trains into it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with self.lock.open("wb") as file:
            try:
                take_lock(file.fileno(), patience=LOOK_SECONDS * 10)
            except BlockingIOError as error:
                raise SettingsError(
                    f"{self.root}: another process is training into it; wait for it or choose another --out"
                ) from error
            for folder in (self.root, self.samples, self.checkpoints, self.refiner, self.estimator):
                remove_temporaries(folder)
            for path in set(by_step(self.checkpoints)) - set(self.existing_checkpoints()):
                shutil.rmtree(path, ignore_errors=True)  # a process was killed while it deleted this one
            yield

    def is_locked(self) -> bool | None:
        """Return whether a process trains into it now; None where its file system has no locks."""
        try:
            with self.lock.open("rb") as file:
                return False if take_lock(file.fileno(), patience=LOOK_SECONDS) else None
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        except OSError:  # NFS locks no file that is open for reading alone
            return None

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint at `step`."""
        return self.checkpoints / f"step-{step:08d}"

    def existing_checkpoints(self) -> list[Path]:
        """Return the complete checkpoints, oldest first; one without a manifest does not exist.

        A copy of one under another name, such as step-00001000-good, does not count.
        """
        while True:
            listed = by_step(self.checkpoints)
            complete = [path for path in listed if (path / MANIFEST).is_file()]
            if complete or listed == by_step(self.checkpoints):
                return complete  # else a training has replaced all that we listed by newer ones

    def holds(self, checkpoint: Path) -> bool:
        """Return whether a checkpoint lies in this run, with links resolved."""
        return self.root.resolve() in checkpoint.resolve().parents

    def prune(self, keep: int) -> None:
        """Delete all but the `keep` newest checkpoints; 0 keeps all."""
        for path in self.existing_checkpoints()[:-keep] if keep else []:
            with suppress(PermissionError):  # Windows removes nothing that is being read; the next call does
                (path / MANIFEST).unlink()  # from here on it does not exist, even if we are killed half way
                shutil.rmtree(path)

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Add one line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())  # a checkpoint must not outlive the lines before it

    def read_metrics(self, until: int | None = None) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl before one that is half written; with `until`, those up to that step."""
        lines: list[dict[str, Any]] = []
        for text in self.metrics.read_bytes().splitlines() if self.metrics.exists() else []:
            try:
                lines.append(parse_json(text))
            except ValueError:
                break
        return lines if until is None else [line for line in lines if line.get("step", until + 1) <= until]

    def last_metrics(self, until: int | None = None) -> dict[str, Any]:
        """Return the last line that `read_metrics` finds, {} where there is none."""
        lines = self.read_metrics(until)
        return lines[-1] if lines else {}

    def rewind_to(self, step: int, checkpoint: Path | None) -> None:
        """Drop the pictures and metrics of steps after `step`; training writes them again.

        A `checkpoint` of another run brings the metrics of that run along.
        """
        for path in by_step(self.samples, ".png"):
            if step_of(path) > step:
                path.unlink()
        source = RunFolder(checkpoint.resolve().parent.parent) if checkpoint is not None else self
        lines = (source if source.is_run() else self).read_metrics(step)
        if lines or self.metrics.exists():
            write_atomic(self.metrics, "".join(json.dumps(line) + "\n" for line in lines))


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """Return the settings as JSON values, by the names that flags and files use."""
    return config.model_dump(mode="json", by_alias=True)


def step_of(path: Path) -> int:
    """Return the step in the name of a checkpoint's folder or a picture."""
    return int(path.stem.removeprefix("step-"))


def by_step(folder: Path, suffix: str = "") -> list[Path]:
    """Return the files and folders named as step-00001000 and `suffix`, by step."""
    ours = re.compile(rf"step-\d{{8,}}{re.escape(suffix)}")
    return sorted((path for path in folder.glob("step-*") if ours.fullmatch(path.name)), key=step_of)
