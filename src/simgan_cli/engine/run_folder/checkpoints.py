"""The checkpoints of a run: find one, verify it, and read the settings that it holds."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simgan_cli.engine.run_folder.layout import MANIFEST, RunFolder, settings_of, step_of
from simgan_cli.errors import CheckpointError, SettingsError
from simgan_cli.files import parse_json, sha256_of, write_json
from simgan_cli.settings.base import extra_of
from simgan_cli.settings.train import TrainConfig

STATE = "state.json"


def find_checkpoint(run: RunFolder, resume: str | None) -> Path | None:
    """Return the checkpoint to resume from, None for a new run.

    None refuses to touch an existing run; "auto" resumes if a checkpoint exists; "latest" and a path (of a
    checkpoint or a run) need one. Raises SettingsError or CheckpointError.
    """
    if not run.is_run() and not run.is_empty_or_ours():
        raise SettingsError(f"--out {run.root}: holds something other than a run of simgan; choose another folder")
    existing = run.existing_checkpoints()
    if resume not in (None, "auto", "latest"):
        return _checkpoint_at(Path(resume), run)
    if resume is None and existing:
        raise SettingsError(
            f"--out {run.root}: holds a run at step {step_of(existing[-1])}; --resume auto resumes it, "
            "or choose another folder"
        )
    if resume == "latest" and not existing:
        raise CheckpointError(f"--resume latest: no complete checkpoint in {run.checkpoints}; start with --resume auto")
    return existing[-1] if existing else None


def _checkpoint_at(path: Path, run: RunFolder) -> Path:
    candidates = [path] if (path / MANIFEST).is_file() else RunFolder(path).existing_checkpoints()
    if not candidates:
        raise CheckpointError(
            f"--resume {path}: found no complete checkpoint (with {MANIFEST}) there; wanted a checkpoint or a run"
        )
    checkpoint = candidates[-1]
    existing = run.existing_checkpoints()
    if existing and not run.holds(checkpoint):
        raise SettingsError(f"--out {run.root}: holds another run than --resume {path}; choose another folder")
    # Otherwise each rerun of the command would drop later checkpoints.
    if has_later(run, checkpoint):
        raise SettingsError(
            f"--resume {path}: its run has checkpoints up to step {step_of(existing[-1])}, and --resume auto resumes "
            "there; to train from this one again, give another --out, or delete the later ones first"
        )
    return checkpoint


def has_later(run: RunFolder, checkpoint: Path) -> bool:
    """Return whether a run has a later checkpoint than this one, which may be a copy under another name.

    Raises CheckpointError where this one is damaged.
    """
    existing = run.existing_checkpoints()
    return bool(existing) and step_of(existing[-1]) > verify_checkpoint(checkpoint)["step"]


def run_at(path: Path) -> RunFolder:
    """Return the run at `path`. Raises SettingsError where there is none."""
    run = RunFolder(path)
    if not run.is_run():
        raise SettingsError(f"{path}: not a run of simgan; give the folder that simgan train --out wrote")
    return run


def checkpoint_of(run: RunFolder, step: int | None) -> Path:
    """Return the run's checkpoint at `step`, or its newest. Raises CheckpointError where it does not exist."""
    existing = run.existing_checkpoints()
    if not existing:
        raise CheckpointError(f"{run.root}: this run has no checkpoint yet; resume it until its first (--save-every)")
    if step is None:
        return existing[-1]
    if run.checkpoint(step) not in existing:
        steps = ", ".join(str(step_of(path)) for path in existing)
        raise CheckpointError(f"{run.root}: no checkpoint at step {step}; it has {steps} (train --keep 0 keeps all)")
    return run.checkpoint(step)


def write_manifest(folder: Path) -> None:
    """List every file of a new checkpoint with its size and SHA-256: the last thing written to it."""
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in sorted(folder.iterdir())}
    write_json(folder / MANIFEST, {"schema": "simgan.checkpoint/1", "files": files})


def verify_checkpoint(folder: Path) -> dict[str, Any]:
    """Check every file of a checkpoint against its manifest and return its state.json.

    Raises CheckpointError that names the first file that is missing, cut or edited.
    """
    advice = (
        f"use an older checkpoint of {folder.parent} (delete this one, and simgan train --resume auto does), or start "
        "again in another --out"
    )
    try:
        files = parse_json((folder / MANIFEST).read_bytes())["files"]
        for name, expected in files.items():
            path = folder / Path(name).name
            if not path.is_file():
                raise CheckpointError(f"{path}: missing from the checkpoint; {advice}")
            if path.stat().st_size != expected["bytes"]:
                raise CheckpointError(
                    f"{path}: {path.stat().st_size} bytes, the manifest has {expected['bytes']}; {advice}"
                )
            if sha256_of(path) != expected["sha256"]:
                raise CheckpointError(f"{path}: its content does not match the manifest's SHA-256; {advice}")
        state: dict[str, Any] = parse_json((folder / STATE).read_bytes())
        return state
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}: not a readable checkpoint ({error}); {advice}") from error


def stored_config(settings: dict[str, Any], source: Path) -> TrainConfig:
    """Return the settings that `source` holds. Raises CheckpointError where they are not valid in this version."""
    try:
        return TrainConfig.model_validate(settings)
    except ValidationError as error:
        raise CheckpointError(
            f"{source}: its settings are not valid here ({error}); use the version of simgan that wrote them"
        ) from error


def config_of(run: RunFolder) -> TrainConfig:
    """Return the settings of a run. Raises CheckpointError where they are not valid in this version."""
    return stored_config(parse_json(run.config.read_bytes()).get("settings", {}), run.config)


def resumed_config(checkpoint: Path, explicit: dict[str, Any]) -> TrainConfig:
    """Return the checkpoint's settings with those given now on top.

    Raises SettingsError that lists every setting that differs and would change results, and pydantic's
    ValidationError for invalid values.
    """
    stored = verify_checkpoint(checkpoint)["settings"]
    stored.pop("max_time", None)  # it limits one invocation, not the run
    before = settings_of(stored_config(stored, checkpoint))
    config = TrainConfig.model_validate(stored | explicit)
    now = settings_of(config)
    different = [
        f"--{key.replace('_', '-')}: the run has {_shown(before[key])}, now {_shown(now[key])}; "
        "leave it out to resume, or choose another --out"
        for key, field in TrainConfig.fields_by_key().items()
        if not extra_of(field)["changeable"] and before[key] != now[key]
    ]
    if different:
        raise SettingsError(*different)
    return config


def _shown(value: object) -> object:
    return "none" if value is None else value
