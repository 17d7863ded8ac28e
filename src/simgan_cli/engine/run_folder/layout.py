"""The run folder: what lies where, who may write, and which checkpoints exist. Imports no torch."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simgan_cli import __version__
from simgan_cli.errors import CheckpointError, SettingsError
from simgan_cli.files import (
    RETIRED,
    TEMPORARY_PREFIX,
    parse_json,
    remove_temporaries,
    sha256_of,
    take_lock,
    write_atomic,
    write_json,
)
from simgan_cli.settings.train import TrainConfig, is_changeable, key_of

MANIFEST, STATE = "manifest.json", "state.json"
RUN_SCHEMA = "simgan.run/1"

# What a person finds in a run folder; the reference shows this table.
LAYOUT = {
    "config.json": "the resolved settings",
    "metrics.jsonl": "a line of numbers every --log-every steps",
    "log.txt": "what the terminal said",
    "samples/step-00000250.png": "synthetic | refined | difference | real, every --sample-every steps",
    "checkpoints/step-00000100/": "everything to go on from, every file with its SHA-256; the newest --keep stay",
    "refiner/": "the refiner alone: config.json, model.safetensors, README.md, as a Hugging Face Hub folder has them",
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
        self.report = root / "report.html"

    def is_run(self) -> bool:
        """Say whether the folder holds a run of ours, if only one that failed before its first checkpoint."""
        try:
            return bool(parse_json(self.config.read_bytes())["schema"] == RUN_SCHEMA)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def is_empty_or_ours(self) -> bool:
        """Say whether no folder is there, or one with at most what a start killed before its config.json leaves."""
        ours = {".lock", self.log.name}
        return not self.root.is_dir() or all(
            entry.name in ours or entry.name.startswith(TEMPORARY_PREFIX) for entry in self.root.iterdir()
        )

    def create(self, config: TrainConfig) -> None:
        """Make the folder with its config.json, or bring that up to date after a resume."""
        write_json(self.config, {"schema": RUN_SCHEMA, "simgan": __version__, "settings": settings_of(config)})
        for folder in (self.samples, self.checkpoints):
            folder.mkdir(exist_ok=True)

    @contextmanager
    def locked(self, seen: Sequence[Path] | None = None) -> Iterator[None]:
        """Hold the run for this process alone and clear what a killed one left half written.

        `seen` are its checkpoints as they were when this process settled what to go on from. Raises SettingsError when
        another process trains into it, or has since then.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as file:
            try:
                take_lock(file.fileno(), wait=False)
            except BlockingIOError as error:
                raise SettingsError(
                    f"{self.root}: another process is training into it; wait for it or choose another --out"
                ) from error
            for folder in (self.root, self.samples, self.checkpoints, self.refiner):
                remove_temporaries(folder)
            if seen is not None and self.existing_checkpoints() != list(seen):
                raise SettingsError(
                    f"{self.root}: another process has trained into it while this one started; run it again, with "
                    "--resume auto to go on from there"
                )
            for path in set(by_step(self.checkpoints)) - set(self.existing_checkpoints()):
                shutil.rmtree(path, ignore_errors=True)  # a process was killed while it deleted this one
            yield

    def finish_interrupted_replace(self) -> None:
        """Put a checkpoint in its place that a killed process was about to replace by a new one."""
        if any(self.checkpoints.glob(f"{TEMPORARY_PREFIX}*{RETIRED}")):
            with suppress(SettingsError), self.locked():  # who trains into it now ends it, too
                pass

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint at `step`."""
        return self.checkpoints / f"step-{step:08d}"

    def existing_checkpoints(self) -> list[Path]:
        """Return the complete checkpoints, oldest first; one without a manifest does not exist.

        A copy of one under another name, such as step-00001000-good, is none of ours.
        """
        while True:
            listed = by_step(self.checkpoints)
            complete = [path for path in listed if (path / MANIFEST).is_file()]
            if complete or listed == by_step(self.checkpoints):
                return complete  # else a training has replaced all that we listed by newer ones

    def holds(self, checkpoint: Path) -> bool:
        """Say whether a checkpoint lies in this run, through whatever links."""
        return self.root.resolve() in checkpoint.resolve().parents

    def prune(self, keep: int) -> None:
        """Delete all but the `keep` newest checkpoints; 0 keeps all."""
        for path in self.existing_checkpoints()[:-keep] if keep else []:
            _delete_checkpoint(path)

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Add one line to metrics.jsonl."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())  # a checkpoint must not outlive the lines before it

    def read_metrics(self, until: int | None = None) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl up to one that is only half written, or no line of ours.

        With `until` only those of steps up to that one: others may be written meanwhile, or again soon.
        """
        lines: list[dict[str, Any]] = []
        for text in self.metrics.read_bytes().splitlines() if self.metrics.exists() else []:
            try:
                line = parse_json(text)
            except ValueError:
                break
            if not _is_line(line):
                break
            lines.append(line)
        return lines if until is None else [line for line in lines if line.get("step", until + 1) <= until]

    def last_metrics(self, until: int | None = None) -> dict[str, Any]:
        """Return the last line that `read_metrics` finds, {} where there is none."""
        lines = self.read_metrics(until)
        return lines[-1] if lines else {}

    def rewind_to(self, step: int, checkpoint: Path | None, most: int | None = None) -> int:
        """Leave the run as it was at `step`: what it holds of later ones is dropped, and written again.

        A `checkpoint` of another run brings the metrics of that run along. Of their lines the first `most` stay, those
        that the checkpoint knows of; of one that does not tell, all up to `step`. Returns their number.
        """
        for path in self.existing_checkpoints():
            if step_of(path) > step:
                _delete_checkpoint(path)
        for path in by_step(self.samples, ".png"):
            if step_of(path) > step:
                path.unlink()
        source = RunFolder(checkpoint.resolve().parent.parent) if checkpoint is not None else self
        lines = (source if source.is_run() else self).read_metrics(step)[:most]
        if lines or self.metrics.exists():
            write_atomic(self.metrics, "".join(json.dumps(line) + "\n" for line in lines))
        return len(lines)


def _delete_checkpoint(path: Path) -> None:
    (path / MANIFEST).unlink()  # from here on it does not exist, even if we are killed half way
    shutil.rmtree(path)


def _is_line(value: object) -> bool:
    """Say whether a JSON value is a line of metrics: numbers by name, beside the phase and the names of rules."""
    return isinstance(value, dict) and all(
        isinstance(number, str if name == "phase" else list if name == "health" else int | float)
        for name, number in value.items()
    )


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """Return the settings as JSON values, by the names that flags and files use."""
    return config.model_dump(mode="json", by_alias=True)


def find_checkpoint(run: RunFolder, resume: str | None) -> Path | None:
    """Return the checkpoint to go on from, None to start anew.

    None refuses to touch an existing run; "auto" goes on if there is something; "latest" and a path (of a
    checkpoint or a run) fail if there is nothing. Raises SettingsError or CheckpointError.
    """
    if not run.is_run() and not run.is_empty_or_ours():
        raise SettingsError(f"--out {run.root}: holds something else than a run of simgan; choose another folder")
    found = run.existing_checkpoints()
    if resume not in (None, "auto", "latest"):
        return _checkpoint_at(Path(resume), run)
    if resume is None and found:
        raise SettingsError(
            f"--out {run.root}: holds a run at step {step_of(found[-1])}; --resume auto goes on with it, "
            "or choose another folder"
        )
    if resume == "latest" and not found:
        raise CheckpointError(f"--resume latest: no complete checkpoint in {run.checkpoints}; start with --resume auto")
    return found[-1] if found else None


def _checkpoint_at(path: Path, run: RunFolder) -> Path:
    found = [path] if (path / MANIFEST).is_file() else RunFolder(path).existing_checkpoints()
    if not found:
        raise CheckpointError(
            f"--resume {path}: found no complete checkpoint (with {MANIFEST}) there; wanted a checkpoint or a run"
        )
    ours = run.existing_checkpoints()
    if ours and not run.holds(found[-1]):
        raise SettingsError(f"--out {run.root}: holds another run than --resume {path}; choose another folder")
    # Going back would drop later ones, again each time that a command is repeated.
    if ours and step_of(ours[-1]) > verify_checkpoint(found[-1])["step"]:  # whatever its name
        raise SettingsError(
            f"--resume {path}: its run has checkpoints up to step {step_of(ours[-1])}, and --resume auto goes on from "
            "there; to train from this one again, give another --out, or delete the later ones first"
        )
    return found[-1]


def checkpoint_of(run: RunFolder, step: int | None) -> Path:
    """Return the run's checkpoint at `step`, or its newest. Raises CheckpointError where it does not exist."""
    existing = run.existing_checkpoints()
    if not existing:
        raise CheckpointError(f"{run.root}: this run has no checkpoint yet; train on to its first (--save-every)")
    if step is None:
        return existing[-1]
    if run.checkpoint(step) not in existing:
        steps = ", ".join(str(step_of(path)) for path in existing)
        raise CheckpointError(f"{run.root}: no checkpoint at step {step}; it has {steps} (train --keep 0 keeps all)")
    return run.checkpoint(step)


def step_of(path: Path) -> int:
    """Return the step that a checkpoint's folder or a picture is named after."""
    return int(path.stem.removeprefix("step-"))


def by_step(folder: Path, suffix: str = "") -> list[Path]:
    """Return what lies in a folder under a name of ours, such as step-00001000 and `suffix`, by step."""
    ours = re.compile(rf"step-\d{{8,}}{re.escape(suffix)}")
    return sorted((path for path in folder.glob("step-*") if ours.fullmatch(path.name)), key=step_of)


def write_manifest(folder: Path) -> None:
    """List every file of a new checkpoint with its size and SHA-256: the last thing written to it."""
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in sorted(folder.iterdir())}
    write_json(folder / MANIFEST, {"schema": "simgan.checkpoint/1", "files": files})


_Count = Annotated[int, Field(ge=0, lt=2**53)]  # what JSON keeps exactly


class _Rank(BaseModel):
    """What state.json says of one rank."""

    history: _Count
    history_rng: dict[str, Any] | None
    metrics: dict[str, tuple[float, int]]


class _State(BaseModel):
    """What state.json must hold; `ranks` and the rest are absent in older checkpoints."""

    model_config = ConfigDict(extra="allow")

    step: _Count
    settings: dict[str, Any]
    fingerprints: dict[str, str]
    positions: dict[str, _Count]
    ranks: list[_Rank] = []
    lambda_reg: float | None = Field(None, alias="lambda")
    best: tuple[_Count, float] | None = None
    lines: _Count | None = None


def verify_checkpoint(folder: Path) -> dict[str, Any]:
    """Check every file of a checkpoint against its manifest and return its state.json.

    Raises CheckpointError that names the first file which is missing, cut or edited.
    """
    advice = (
        f"use an older checkpoint of {folder.parent} (delete this one, and simgan train --resume auto does), or start "
        "anew in another --out"
    )
    try:
        files = parse_json((folder / MANIFEST).read_bytes())["files"]
        for name, expected in files.items():
            path = folder / Path(name).name
            if not path.is_file():
                raise CheckpointError(f"{path}: missing from the checkpoint; {advice}")
            if path.stat().st_size != expected["bytes"]:
                raise CheckpointError(
                    f"{path}: {path.stat().st_size} bytes, the manifest says {expected['bytes']}; {advice}"
                )
            if sha256_of(path) != expected["sha256"]:
                raise CheckpointError(f"{path}: its content does not match the manifest's SHA-256; {advice}")
        return _State.model_validate(parse_json((folder / STATE).read_bytes())).model_dump(by_alias=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}: not a readable checkpoint ({error}); {advice}") from error


def stored_config(settings: dict[str, Any], source: Path) -> TrainConfig:
    """Return the settings that `source` holds. Raises CheckpointError where they are not valid in this version."""
    try:
        return TrainConfig.model_validate(settings)
    except ValidationError as error:
        raise CheckpointError(f"{source}: its settings are not valid here ({error})") from error


def resumed_config(checkpoint: Path, explicit: dict[str, Any]) -> TrainConfig:
    """Return the checkpoint's settings with those given now on top.

    Raises SettingsError that lists every setting which differs and would change results, and pydantic's
    ValidationError for values given now that are wrong by themselves.
    """
    stored = verify_checkpoint(checkpoint)["settings"]
    stored.pop("max_time", None)  # it limits one invocation, not the run
    before = stored_config(stored, checkpoint)
    now = TrainConfig.model_validate(stored | explicit)
    old, new = settings_of(before), settings_of(now)
    different = [
        f"--{key.replace('_', '-')}: the run has {_said(old[key])}, now {_said(new[key])}; "
        "leave it out to go on, or choose another --out"
        for name, key in ((name, key_of(name)) for name in TrainConfig.model_fields)
        if not is_changeable(name) and old[key] != new[key]
    ]
    if different:
        raise SettingsError(*different)
    return now


def _said(value: object) -> object:
    return "none" if value is None else value
