"""Properties of the settings of all commands."""

import re
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import torch
from pydantic import ValidationError

from simgan_cli.cli.resolve import MODELS
from simgan_cli.engine.run_folder.layout import settings_of
from simgan_cli.settings.base import Settings, parse_duration
from simgan_cli.settings.train import TrainConfig

REQUIRED = {"train": {"synthetic": "x", "real": "y"}, "refine": {"model": "x", "out": "y"}, "eval-gaze": {"out": "x"}}


def plain(annotation: Any) -> Any:
    """Return a type without bounds, without None, which may be its default, and without the choices of a text."""
    if get_origin(annotation) is Annotated:
        return plain(get_args(annotation)[0])
    parts = [plain(part) for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) is Literal:
        return type(get_args(annotation)[0])
    if get_origin(annotation) in (None, tuple):
        return annotation
    return parts[0] if len(set(parts)) == 1 else tuple(parts)


def test_a_key_has_one_type_in_all_commands() -> None:
    types: dict[str, list[Any]] = {}
    for model in MODELS:
        for key, field in model.fields_by_key().items():
            types.setdefault(key, []).append(plain(field.annotation))
    assert {key: found for key, found in types.items() if any(kind != found[0] for kind in found)} == {}
    assert sum(len(found) > 1 for found in types.values()) > 10


def test_help_texts_are_short() -> None:
    for model in MODELS:
        for key, field in model.fields_by_key().items():
            meaning = field.description or ""
            assert len(meaning.split()) <= 25, key
            assert meaning[-1] == "."
            assert len(re.findall(r"\. [A-Za-z]", meaning)) <= 1, key  # two sentences


def test_recorded_settings_make_the_same_settings() -> None:
    given = {"synthetic": "x", "real": "y", "size": "4x6", "lambda": "auto", "max_time": "1h", "include": "*.png"}
    config = TrainConfig.model_validate(given)
    assert TrainConfig.model_validate(settings_of(config)) == config


@pytest.mark.parametrize("model", [model for model in MODELS if "seed" in model.model_fields])
def test_every_valid_seed_suits_pytorch(model: type[Settings]) -> None:
    wanted, largest = REQUIRED.get(model.command, {}), 2**63 - 1
    assert model.model_validate(wanted | {"seed": largest}).model_dump()["seed"] == largest
    assert torch.Generator().manual_seed(largest).initial_seed() == largest
    for seed in (-1, largest + 1, 2**64):
        with pytest.raises(ValidationError, match="seed"):
            model.model_validate(wanted | {"seed": seed})


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("90", 90), ("30m", 1800), ("2h", 7200), ("1h30m5s", 5405), (7.5, 7.5)]
)
def test_durations_are_parsed(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1d", "-5s", "5s3m", "1.5h"])
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)
