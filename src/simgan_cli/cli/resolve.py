"""Settings from four places: preset and recipe < TOML file < SIMGAN_* environment < flags."""

import difflib
import functools
import inspect
import os
import re
import tomllib
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from rich.markup import escape

from simgan_cli.cli.console import echo_err
from simgan_cli.data.texts import read_text
from simgan_cli.engine.run_folder.checkpoints import resumed_config
from simgan_cli.engine.runtime.ranks import Ranks
from simgan_cli.errors import SettingsError
from simgan_cli.settings.demo import DemoConfig, DemoDataConfig
from simgan_cli.settings.doctor import DoctorConfig
from simgan_cli.settings.eval_gaze import EvalGazeConfig
from simgan_cli.settings.refine import RefineConfig
from simgan_cli.settings.train import TrainConfig, contradictions, defaults_of

ENVIRONMENT_PREFIX = "SIMGAN_"
# Kubernetes and Docker set variables for every service or linked container, named after it; modules, for a program.
OF_PLATFORM = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?|ENV_\w+)=.*"
    r"|(\w+_)?NAME=/.*"  # a linked container's: /this/that
    r"|(HOME|ROOT|DIR|VERSION|PATH|LIB|INC|BIN|PREFIX|MODULE_HOME)=.*",
    re.DOTALL,
)
COMMANDS: dict[str, type[BaseModel]] = {
    "train": TrainConfig,
    "refine": RefineConfig,
    "eval-gaze": EvalGazeConfig,
    "demo-data": DemoDataConfig,
    "demo": DemoConfig,
    "doctor": DoctorConfig,
}
Model = TypeVar("Model", bound=BaseModel)


def with_settings(model: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each field of `model`, passed on as `flags`: {key: value} of those given."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "flags"]
        options = [_option(name, field) for name, field in model.model_fields.items()]

        @functools.wraps(command)
        def wrapper(**arguments: Any) -> None:
            flags = {
                field.alias or name: arguments.pop(name)
                for name, field in model.model_fields.items()
                if name in arguments
            }
            command(flags={key: value for key, value in flags.items() if value not in (None, [])}, **arguments)

        wrapper.__signature__ = inspect.Signature([*options, *own])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in [*options, *own]}
        return wrapper

    return decorate


def gather(
    command: str, flags: Mapping[str, Any], config_file: Path | None, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the user set explicitly for `command`, by key, the stronger place winning.

    The environment and a TOML file may hold settings of other commands, too. Variables that a platform sets are
    ignored with a warning. Raises SettingsError for other unknown keys.
    """
    known = _keys(command)
    known_to_any = set().union(*map(_keys, COMMANDS))
    file = _read_toml(config_file, command) if config_file is not None else {}
    from_environment = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    foreign = [
        key
        for key, value in from_environment.items()
        if key not in known_to_any and OF_PLATFORM.fullmatch(f"{key.upper()}={value}")
    ]
    if foreign:
        _warn_of_platform(", ".join(sorted(f"{ENVIRONMENT_PREFIX}{key.upper()}" for key in foreign)))
    problems = [
        *(f"{config_file}: unknown key {key!r}{_nearest(key, known)}" for key in file if key not in known),
        *(
            f"environment: unknown {ENVIRONMENT_PREFIX}{key.upper()}{_nearest(key, known_to_any, ENVIRONMENT_PREFIX)}"
            for key in from_environment
            if key not in known_to_any and key not in foreign
        ),
    ]
    if problems:
        raise SettingsError(*problems)
    return file | {key: value for key, value in from_environment.items() if key in known} | dict(flags)


def validated(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Return the settings that `values` make. Raises SettingsError that lists everything wrong with them."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise SettingsError(*_problems(error)) from error


def resolve(explicit: Mapping[str, Any]) -> TrainConfig:
    """Return the settings of a new run. Raises SettingsError that lists everything wrong with them."""
    recipe, preset = (str(explicit.get(name, TrainConfig.model_fields[name].default)) for name in ("recipe", "preset"))
    config = validated(TrainConfig, defaults_of(recipe, preset) | dict(explicit))
    check(config)
    return config


def resolve_resumed(checkpoint: Path, explicit: dict[str, Any]) -> TrainConfig:
    """Return the settings of a run that goes on. Raises SettingsError or, for a bad checkpoint, CheckpointError."""
    try:
        config = resumed_config(checkpoint, explicit)
    except ValidationError as error:
        raise SettingsError(*_problems(error)) from error
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


def print_settings(config: BaseModel, *, everything: bool) -> None:
    """Write the settings that are not at their default, or all of them, to stderr."""
    shown = config.model_dump(mode="json", by_alias=True)
    for name, field in type(config).model_fields.items():
        if everything or field.is_required() or getattr(config, name) != field.default:
            key = field.alias or name
            value = ", ".join(shown[key]) or "none" if isinstance(shown[key], list) else shown[key]
            echo_err(f"{key.replace('_', '-'):>24}  {value}")


@functools.cache  # a demonstration runs other commands in the same process
def _warn_of_platform(names: str) -> None:
    if Ranks.of_process().is_first:
        echo_err(
            f"warning: environment: {names} ignored: no settings of ours; container platforms and environment modules "
            "set such variables",
            "yellow",
        )


def _keys(command: str) -> set[str]:
    return {field.alias or name for name, field in COMMANDS[command].model_fields.items()}


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    key = (field.alias or name).replace("_", "-")
    extra = cast("dict[str, Any]", field.json_schema_extra)  # engine.config.setting puts it there
    if extra["argument"]:
        argument = typer.Argument(help=escape(field.description or ""), metavar=extra["metavar"], show_default=False)
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[list[str] | None, argument]
        )
    repeated = isinstance(field.default, tuple)
    kind, metavar = (list[str], None) if repeated else _plain_type(field.annotation)
    flags = [f"--{key}/--no-{key}" if kind is bool else f"--{key}"]
    if extra["short"]:
        flags.append(extra["short"])
    default = False if field.is_required() else _shown(", ".join(field.default) or None if repeated else field.default)
    option = typer.Option(
        *flags,
        help=escape(field.description or "") + (" Required." if field.is_required() else ""),
        rich_help_panel=extra["panel"],
        metavar=extra["metavar"] or metavar,
        show_default=default,
    )
    annotation: Any = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _plain_type(annotation: Any) -> tuple[Any, str | None]:
    """Return the type that Typer shall read, and how help calls it: numbers, switches and choices; else text.

    Paths are text, too: the model says what is wrong with an empty one.
    """
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        if all(get_origin(part) is Literal for part in parts):
            annotation = Literal[tuple(choice for part in parts for choice in get_args(part))]
        elif len(parts) > 1:  # a number or a word, which the model tells apart
            return str, None
        else:
            annotation = parts[0]
    if get_origin(annotation) is Annotated:  # what the model parses itself
        return str, "PATH" if get_args(annotation)[0] is Path else None
    if annotation in (int, float, bool) or get_origin(annotation) is Literal:
        return annotation, None
    return str, "PATH" if annotation is Path else None


def _shown(default: Any) -> str | bool:
    if default is None:
        return False
    return str(default).lower() if isinstance(default, bool) else str(default)


def _read_toml(path: Path, table: str) -> dict[str, Any]:
    try:
        content = tomllib.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"--config {path}: cannot be read as TOML ({error})") from error
    strangers = [key for key, value in content.items() if key not in COMMANDS or not isinstance(value, dict)]
    if strangers:
        raise SettingsError(
            *(f"--config {path}: unknown table or key {key!r}; settings stand below [{table}]" for key in strangers)
        )
    return {key.replace("-", "_"): value for key, value in content.get(table, {}).items()}


def _nearest(key: str, known: Iterable[str], prefix: str = "") -> str:
    match = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {prefix}{match[0].upper() if prefix else match[0]}?" if match else ""


def _problems(error: ValidationError) -> list[str]:
    problems = []
    for item in error.errors():
        flag = "--" + str(item["loc"][0]).replace("_", "-") if item["loc"] else "settings"
        if item["type"] == "missing":
            problems.append(f"{flag} is required")
        else:
            what = item["msg"].removeprefix("Value error, ")
            problems.append(f"{flag}: {what}" + (f" (got {item['input']!r})" if "got" not in what else ""))
    return problems


def environment_of_process() -> Mapping[str, str]:
    """Return the environment that `gather` reads."""
    return os.environ
