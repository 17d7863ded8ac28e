"""Settings from four places: preset and recipe < file < SIMGAN_* environment < flags."""

import difflib
import functools
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from simgan_cli.cli.console import echo_err
from simgan_cli.data.texts import read_text
from simgan_cli.engine.run_folder.checkpoints import resumed_config
from simgan_cli.engine.runtime.ranks import Ranks
from simgan_cli.errors import SettingsError
from simgan_cli.settings.base import RUNTIME, Settings, extra_of
from simgan_cli.settings.demo import DemoConfig, DemoDataConfig
from simgan_cli.settings.doctor import DoctorConfig
from simgan_cli.settings.eval_gaze import EvalGazeConfig
from simgan_cli.settings.refine import RefineConfig
from simgan_cli.settings.train import TrainConfig, contradictions, defaults_of
from simgan_cli.settings.turing_test import TuringTestConfig

ENVIRONMENT_PREFIX = "SIMGAN_"
# Kubernetes and Docker name variables after services and linked containers, environment modules after programs.
OF_PLATFORM = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?|ENV_\w+)=.*"
    r"|(\w+_)?NAME=/.*"  # a linked container's: /this/that
    r"|(HOME|ROOT|DIR|VERSION|PATH|LIB|INC|BIN|PREFIX|MODULE_HOME)=.*",
    re.DOTALL,
)
MODELS = (TrainConfig, RefineConfig, EvalGazeConfig, DemoDataConfig, DemoConfig, DoctorConfig, TuringTestConfig)
COMMANDS: dict[str, type[Settings]] = {model.command: model for model in MODELS}
Model = TypeVar("Model", bound=Settings)


class Given(NamedTuple):
    """Values that the user set, by key, and the name of each one's place: a flag, a variable, or a file and its key."""

    values: dict[str, Any]
    origins: dict[str, str]


def read_settings(model: type[Model], flags: Mapping[str, Any], config_file: Path | None) -> Model:
    """Return the settings of a command. Raises SettingsError that lists all their problems."""
    return validated(model, *gather(model.command, flags, config_file))


def gather(
    command: str,
    flags: Mapping[str, Any],
    config_file: Path | None,
    environment: Mapping[str, str] = os.environ,
) -> Given:
    """Return the values that the user set for `command`; the stronger place wins.

    The environment and a TOML file may hold settings of other commands, too. Variables that a platform sets are
    ignored with a warning. Raises SettingsError for other unknown keys.
    """
    model = COMMANDS[command]
    known = model.fields_by_key()
    file = _read_file(config_file, model) if config_file is not None else {}
    every = {name: key for other in COMMANDS for name, key in variables_of(other).items()}
    problems = [f"{config_file}: unknown key {key!r}{_hint(_nearest(key, known))}" for key in file if key not in known]
    unknown = sorted(n for n in environment if n.startswith(ENVIRONMENT_PREFIX) and n not in every)
    foreign = [n for n in unknown if OF_PLATFORM.fullmatch(f"{n.removeprefix(ENVIRONMENT_PREFIX)}={environment[n]}")]
    if foreign:
        _warn_of_platform(", ".join(foreign))
    problems += [
        f"environment: unknown {n}{_hint(_nearest_variable(n, command, every))}" for n in unknown if n not in foreign
    ]
    if problems:
        raise SettingsError(*problems)
    variables = {name: key for name, key in variables_of(command).items() if name in environment}
    return Given(
        file | {key: environment[name] for name, key in variables.items()} | dict(flags),
        {key: f"{config_file}: {key}" for key in file}
        | {key: name for name, key in variables.items()}
        | {key: _flag(key) for key in flags},
    )


def variables_of(command: str) -> dict[str, str]:
    """Return the key that each variable of the environment sets for a command, the stronger variable later."""
    keys = COMMANDS[command].fields_by_key()
    own = f"{ENVIRONMENT_PREFIX}{command.replace('-', '_').upper()}_"
    shared = {f"{ENVIRONMENT_PREFIX}{key.upper()}": key for key in sorted(shared_keys() & keys.keys())}
    return shared | {f"{own}{key.upper()}": key for key in keys}


@functools.cache
def shared_keys() -> set[str]:
    """Return the keys that are only runtime settings, and of several commands: one variable sets all."""
    panels: dict[str, list[str]] = {}
    for model in MODELS:
        for key, field in model.fields_by_key().items():
            panels.setdefault(key, []).append(extra_of(field)["panel"])
    return {key for key, where in panels.items() if len(where) > 1 and set(where) == {RUNTIME}}


def validated(
    model: type[Model], values: Mapping[str, Any], origins: Mapping[str, str] = MappingProxyType({})
) -> Model:
    """Return the settings that `values` make. Raises SettingsError that lists all their problems."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise SettingsError(*_problems(error, origins)) from error


def resolve(explicit: Mapping[str, Any], origins: Mapping[str, str] = MappingProxyType({})) -> TrainConfig:
    """Return the settings of a new run. Raises SettingsError that lists all their problems."""
    recipe, preset = (str(explicit.get(name, TrainConfig.model_fields[name].default)) for name in ("recipe", "preset"))
    config = validated(TrainConfig, defaults_of(recipe, preset) | dict(explicit), origins)
    check(config)
    return config


def resolve_resumed(checkpoint: Path, explicit: dict[str, Any], origins: Mapping[str, str]) -> TrainConfig:
    """Return the settings of a run that is resumed. Raises SettingsError or, for a bad checkpoint, CheckpointError."""
    try:
        config = resumed_config(checkpoint, explicit)
    except ValidationError as error:
        raise SettingsError(*_problems(error, origins)) from error
    check(config)
    return config


def check(config: TrainConfig) -> None:
    """Raise SettingsError that lists every contradiction between settings."""
    problems = contradictions(config, Ranks.of_process().count)
    if config.tensorboard:
        from importlib.util import find_spec

        if find_spec("tensorboard") is None:
            problems.append("--tensorboard: not installed; pip install 'simgan-cli[tensorboard]'")
    if problems:
        raise SettingsError(*problems)


def print_settings(config: Settings, *, everything: bool) -> None:
    """Write the settings that are not at their default, or all of them, to stderr."""
    shown = config.model_dump(mode="json", by_alias=True)
    for (key, field), chosen in zip(config.fields_by_key().items(), dict(config).values(), strict=True):
        if everything or field.is_required() or chosen != field.default:
            value = ", ".join(map(str, shown[key])) or "none" if isinstance(shown[key], list) else shown[key]
            echo_err(f"{key.replace('_', '-'):>24}  {value}")


@functools.cache  # once: the demo runs other commands in the same process
def _warn_of_platform(names: str) -> None:
    if Ranks.of_process().is_first:
        echo_err(
            f"warning: environment: {names} ignored: not settings of simgan; container platforms and environment "
            "modules set such variables",
            "yellow",
        )


def _read_file(path: Path, model: type[Settings]) -> dict[str, Any]:
    """Return the settings of a command in a TOML file, or in the JSON file that a command wrote."""
    kind = "TOML"
    try:
        text = read_text(path)
        if text.lstrip().startswith("{"):  # TOML never does
            kind = "JSON"
            return _recorded(json.loads(text), path, model)
        content = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"--config {path}: cannot be read as {kind} ({error})") from error
    unknown = [key for key, value in content.items() if key not in COMMANDS or not isinstance(value, dict)]
    if unknown:
        raise SettingsError(
            *(
                f"--config {path}: unknown table or key {key!r}; settings belong below [{model.command}]"
                for key in unknown
            )
        )
    return {key.replace("-", "_"): value for key, value in content.get(model.command, {}).items()}


def _recorded(document: dict[str, Any], path: Path, model: type[Settings]) -> dict[str, Any]:
    settings = document.get("settings")
    if model.recorded_as is None or document.get("schema") != model.recorded_as or not isinstance(settings, dict):
        wanted = f"a TOML file, or JSON of {model.recorded_as}" if model.recorded_as else "a TOML file"
        raise SettingsError(f"--config {path}: holds no settings of simgan {model.command}; give {wanted}")
    return settings


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _nearest_variable(name: str, command: str, every: Mapping[str, str]) -> str | None:
    """Return the variable to suggest: a similar one of the command, another's of that key, or the most similar."""
    key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
    own = {key: name for name, key in reversed(variables_of(command).items())}
    if similar := _nearest(key, own, 0.8):
        return own[similar]
    return {key: name for name, key in every.items()}.get(key) or _nearest(name, every)


def _nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    return next(iter(difflib.get_close_matches(name, sorted(known), 1, cutoff)), None)


def _hint(nearest: str | None) -> str:
    return f"; did you mean {nearest}?" if nearest else ""


def _problems(error: ValidationError, origins: Mapping[str, str]) -> list[str]:
    problems = []
    for item in error.errors():
        key = str(item["loc"][0])
        if item["type"] == "missing":
            problems.append(f"{_flag(key)} is required")
        else:
            problem = item["msg"].removeprefix("Value error, ")
            got = f" (got {item['input']!r})" if "got" not in problem else ""
            problems.append(f"{origins.get(key, _flag(key))}: {problem}{got}")
    return problems
