"""The record in --out: the settings of its results, so that results of two settings are never mixed unasked."""

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
    """Return the record for --out. Raises SettingsError where it holds other settings, unless --overwrite is given."""
    record = _settings_of(config, refiner)
    mixture = _mixture(_read(config.out), record)
    if mixture and not config.overwrite:
        raise SettingsError(
            f"--out {config.out}: {mixture}; choose another folder, or replace all results with --overwrite"
        )
    return record | {REPLACING: True} if mixture else record


def write_record(config: RefineConfig, refiner: ImageRefiner) -> None:
    """Make --out and write its record, before any result."""
    record = record_of(config, refiner)
    config.out.mkdir(parents=True, exist_ok=True)
    if _read(config.out) != record:
        write_json(config.out / RECORD, record)


def complete_record(config: RefineConfig, refiner: ImageRefiner) -> None:
    """Record that all results in --out are of these settings, after all parts of a job succeeded."""
    if _read(config.out).get(REPLACING):
        write_json(config.out / RECORD, _settings_of(config, refiner))


def _settings_of(config: RefineConfig, refiner: ImageRefiner) -> dict[str, Any]:
    settings = config.model_dump(mode="json", include=DECISIVE)
    if not refiner.model.network.settings["noise"] and config.match == "off" and not config.augment:
        settings |= {"seed": 0, "look_by": "image"}  # neither changes results here
    return {"schema": "simgan.refined/1", "model_sha256": refiner.model.sha256} | settings


def _mixture(earlier: dict[str, Any], record: dict[str, Any]) -> str:
    """Return a description of results that differ from `record` in settings; "" where there are none."""
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
    """Return the record of a folder: {} where there is none, REPLACING where it is damaged."""
    try:
        record = parse_json((out / RECORD).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError:
        record = None
    return record if isinstance(record, dict) else {REPLACING: True}
