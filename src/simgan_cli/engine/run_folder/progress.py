"""How far a training has come, from the files of its run alone."""

import time
from pathlib import Path

from simgan_cli.documents import NewestCheckpoint, StatusDocument
from simgan_cli.engine.run_folder.checkpoints import config_of, run_at
from simgan_cli.engine.run_folder.health import Health
from simgan_cli.engine.run_folder.layout import MANIFEST, RunFolder, step_of


def progress_of(path: Path) -> StatusDocument:
    """Return the document of `simgan status` for the run at `path`.

    Raises SettingsError where there is no run, and CheckpointError where its settings are of another version.
    """
    run = run_at(path)
    config = config_of(run)
    lines = run.read_metrics()
    checkpoint = _newest_checkpoint(run)
    step = max(lines[-1]["step"] if lines else 0, checkpoint["step"] if checkpoint else 0)
    is_training = run.is_locked()
    rates = [line for line in lines if line.get("images_per_second")]
    eta = None
    if step >= config.total_steps:
        eta = 0.0
    elif rates:
        rate = rates[-1]["images_per_second"]
        since = time.time() - run.metrics.stat().st_mtime if is_training else 0.0
        # A resumed run reads images before it trains.
        since = min(since, config.log_every * config.images_in_step(rates[-1]["phase"]) / rate)
        eta = max(0.0, config.images_after(step) / rate - since)
    return {
        "schema": "simgan.status/1",
        "run": str(path),
        "training": is_training,
        "step": step,
        "total_steps": config.total_steps,
        "eta_seconds": eta if eta is None else round(eta, 1),
        "checkpoint": checkpoint,
        "health": Health(config, lines).verdicts(),
    }


def _newest_checkpoint(run: RunFolder) -> NewestCheckpoint | None:
    """Return its path, step and age, None where there is none."""
    existing = run.existing_checkpoints()
    if not existing:
        return None
    age = time.time() - (existing[-1] / MANIFEST).stat().st_mtime
    return {"path": str(existing[-1]), "step": step_of(existing[-1]), "age_seconds": round(max(0.0, age), 1)}
