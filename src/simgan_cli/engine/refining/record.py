"""The record in --out: which settings made the results, so that those of two are never mixed unasked."""

from pathlib import Path
from typing import Any

from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.errors import SettingsError
from simgan_cli.files import parse_json, write_json
from simgan_cli.settings.refine import RefineConfig

RECORD = ".simgan-refine.json"
REPLACING = "replacing"  # in it: results of earlier settings may be left
# Settings that results follow from.
DECISIVE = {
    "strength", "match", "augment", "copies", "seed", "format", "channels", "include", "exclude", "pixels",
    "background", "tone_curve", "keep_value", "look_by",
}  # fmt: skip


def record_of(config: RefineConfig, refiner: ImageRefiner) -> dict[str, Any]:
    """Return what --out is to record of its results. Raises SettingsError where it holds others unasked."""
    record = _settings_of(config, refiner)
    mixture = _mixture(_read(config.out), record)
    if mixture and not config.overwrite:
        raise SettingsError(
            f"--out {config.out}: {mixture}; choose another folder, or replace all results with --overwrite"
        )
    return record | {REPLACING: True} if mixture else record


def write_record(config: RefineConfig, refiner: ImageRefiner) -> None:
    """Make --out and record what refines its images, before any result."""
    record = record_of(config, refiner)
    config.out.mkdir(parents=True, exist_ok=True)
    if _read(config.out) != record:
        write_json(config.out / RECORD, record)


def complete_record(config: RefineConfig, refiner: ImageRefiner) -> None:
    """Record that results in --out are of these settings, after all parts of a job ended well."""
    if _read(config.out).get(REPLACING):
        write_json(config.out / RECORD, _settings_of(config, refiner))


def _settings_of(config: RefineConfig, refiner: ImageRefiner) -> dict[str, Any]:
    settings = config.model_dump(mode="json", include=DECISIVE)
    if not refiner.model.network.settings["noise"] and config.match == "off" and not config.augment:
        settings |= {"seed": 0, "look_by": "image"}  # which change nothing
    return {"schema": "simgan.refined/1", "model_sha256": refiner.model.sha256} | settings


def _mixture(earlier: dict[str, Any], record: dict[str, Any]) -> str:
    """Return what results of the settings in `record` would stand beside; "" where all are of the same."""
    if earlier.get(REPLACING):
        return (
            "holds results of two settings, or does not name them (an --overwrite was cut short or done in "
            f"parts, or {RECORD} is damaged)"
        )
    different = [
        f"{name} {earlier[name]}, now {value}" for name, value in record.items() if earlier.get(name, value) != value
    ]
    return f"holds results of other settings ({'; '.join(different)})" if different else ""


def _read(out: Path) -> dict[str, Any]:
    """Return what a folder records of its results: {} where there is no record, REPLACING where it is damaged."""
    try:
        record = parse_json((out / RECORD).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError:
        record = None
    return record if isinstance(record, dict) else {REPLACING: True}
