"""How a command declares its options and shows its help."""

import functools
import inspect
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from simgan_cli.cli.console import print_error
from simgan_cli.errors import EXIT_CODES
from simgan_cli.settings.base import Settings, extra_of

NAMES = 24  # most columns for the names of options in help

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Settings from a TOML file or a recorded JSON.", metavar="FILE"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print all settings, also the defaults.")]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout.")]


def with_settings(model: type[Settings]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each field of `model`, passed on as `flags`: {key: value} of those given."""
    names = dict(zip(model.fields_by_key(), model.model_fields, strict=True))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "flags"]
        options = [_parameter(names[key], key, field) for key, field in model.fields_by_key().items()]
        if any(not extra_of(field)["essential"] for field in model.model_fields.values()):
            show_all = typer.Option("--help-all", help="Show all options and exit.", is_eager=True, callback=_show_all)
            own.append(_keyword("help_all", bool, show_all, default=False))

        @functools.wraps(command)
        def wrapper(help_all: bool = False, **arguments: Any) -> None:
            given = {key: arguments.pop(name, None) for key, name in names.items()}
            command(flags={key: value for key, value in given.items() if value not in (None, [])}, **arguments)

        wrapper.__signature__ = inspect.Signature([*options, *own])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in [*options, *own]}
        wrapper.model = model  # type: ignore[attr-defined]
        return wrapper

    return decorate


class Command(TyperCommand):
    """A command whose `--help` shows the essential options on one screen, and whose `--help-all` shows all."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line; with --json, write an error in it to stdout as a document, too."""
        is_json = "--json" in args  # before the parser consumes it
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            if is_json:
                print_error(error.exit_code, [error.format_message()])
            raise

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Write the usage line with all required arguments and options."""
        required = [names_of(p) if is_argument(p) else f"{max(p.opts, key=len)} {p.metavar}" for p in self._required()]
        formatter.write_usage(ctx.command_path, " ".join([*required, "[OPTIONS]"]))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, required ones first: the essential ones, or all of them by panel."""
        required = list(self._required())
        others = [p for p in self.get_params(ctx) if p not in required]
        panels: dict[str, list[Any]] = {"Options": required}
        for parameter in others:
            field = self._field(parameter)
            if ctx.meta.get("simgan.help_all"):
                panels.setdefault(extra_of(field)["panel"] if field else "Options", []).append(parameter)
            elif field is None or extra_of(field)["essential"]:
                panels["Options"].append(parameter)
        for panel, parameters in panels.items():
            with formatter.section(panel):
                formatter.write_dl(list(_rows(parameters, formatter.width)), col_max=NAMES)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the exit codes, as a section like the others."""
        formatter.write_paragraph()
        formatter.write(f"{self.epilog}\n")

    def _field(self, parameter: Any) -> FieldInfo | None:
        model: type[Settings] | None = getattr(self.callback, "model", None)
        return model.model_fields.get(parameter.name) if model else None

    def _required(self) -> Iterable[Any]:
        for parameter in self.params:
            field = self._field(parameter)
            if is_argument(parameter) or (field is not None and field.is_required()):
                yield parameter


def exit_codes_text(codes: Iterable[int]) -> str:
    """Return the meanings of a command's exit codes, for the end of its help."""
    return "\n".join(["Exit codes:", *(f"  {code:<3}  {EXIT_CODES[code]}" for code in codes)])


def is_argument(parameter: Any) -> bool:
    """Return whether a parameter is positional."""
    return bool(parameter.param_type_name == "argument")


def names_of(parameter: Any) -> str:
    """Return a parameter as a user types it, such as "-o, --out DIR"."""
    if is_argument(parameter):
        return str(parameter.metavar or parameter.name.upper())
    names = "/".join([", ".join(sorted(parameter.opts, key=len)), *parameter.secondary_opts])
    return f"{names} {parameter.metavar}" if parameter.metavar else names


def default_of(parameter: Any) -> str:
    """Return the default that help shows, "" for none."""
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    return str(parameter.default) if parameter.show_default and parameter.default not in (None, False) else ""


def _rows(parameters: list[Any], width: int) -> Iterator[tuple[str, str]]:
    """Yield names and meanings, wrapped so that no name is broken at a hyphen, as Click would."""
    names = [names_of(parameter) for parameter in parameters]
    for name, parameter in zip(names, parameters, strict=True):
        default = default_of(parameter)
        meaning = (parameter.help or "") + (f" [default:\xa0{default}]" if default else "")
        lines = textwrap.wrap(meaning, width - min(max(map(len, names)), NAMES) - 4, break_on_hyphens=False)
        yield name, "\b\n" + "\n".join(lines).replace("\xa0", " ")


def _show_all(ctx: typer.Context, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        ctx.meta["simgan.help_all"] = True
        typer.echo(ctx.get_help())
        raise typer.Exit


def _parameter(name: str, key: str, field: FieldInfo) -> inspect.Parameter:
    """Return a setting as Typer reads it: text that the model parses, or a switch."""
    extra = extra_of(field)
    if extra["argument"]:
        argument = typer.Argument(help=field.description, metavar=extra["metavar"], show_default=False)
        return _keyword(name, list[str] | None, argument)
    kind, metavar, choices = _typed(field.annotation)
    if isinstance(field.default, tuple):
        kind = list[str]
    flag = key.replace("_", "-")
    option = typer.Option(
        f"--{flag}/--no-{flag}" if kind is bool and field.default is not False else f"--{flag}",
        *([extra["short"]] if extra["short"] else []),
        help=field.description,
        rich_help_panel=extra["panel"],
        metavar=extra["metavar"] or metavar,
        show_default=_shown(field),
        autocompletion=(lambda: choices) if choices else None,
    )
    return _keyword(name, kind | None, option)


def _keyword(name: str, kind: Any, option: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _typed(annotation: Any) -> tuple[Any, str | None, list[str]]:
    """Return a setting's type for Typer (bool or str), its placeholder in help, and its choices."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    choices = [str(choice) for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    if choices:
        return str, "|".join(choices), choices
    kind = parts[0]
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if kind is bool:
        return bool, None, []
    return str, {int: "N", float: "X"}.get(kind, "TEXT"), []


def _shown(field: FieldInfo) -> str | bool:
    if field.is_required() or field.default is None or field.default is False:
        return False
    if isinstance(field.default, tuple):
        return ", ".join(field.default) or False
    return "on" if field.default is True else str(field.default)
