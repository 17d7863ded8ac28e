"""The `simgan` program."""

import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from simgan_cli import __version__
from simgan_cli.cli.command import Command, exit_codes_text
from simgan_cli.cli.demo import demo
from simgan_cli.cli.demo_data import demo_data
from simgan_cli.cli.doctor import doctor
from simgan_cli.cli.eval_gaze import eval_gaze
from simgan_cli.cli.export import export
from simgan_cli.cli.inspect_buffer import inspect_buffer
from simgan_cli.cli.push import push
from simgan_cli.cli.refine import refine
from simgan_cli.cli.status import status
from simgan_cli.cli.train import train
from simgan_cli.cli.turing_test import turing_test

app = typer.Typer(
    name="simgan",
    help="Make rendered images look real while their labels stay true (SimGAN, Shrivastava et al., CVPR 2017).",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for function, exit_codes in (
    (train, (0, 1, 2, 4, 75, 130)),
    (refine, (0, 1, 2, 3, 4, 75, 130)),
    (status, (0, 1, 2, 4)),
    (inspect_buffer, (0, 1, 2, 4)),
    (export, (0, 1, 2, 4)),
    (push, (0, 1, 2, 4)),
    (eval_gaze, (0, 1, 2, 4, 75, 130)),
    (turing_test, (0, 1, 2, 4, 130)),
    (demo, (0, 1, 2, 3, 4, 75, 130)),
    (demo_data, (0, 1, 2, 75, 130)),
    (doctor, (0, 1, 2)),
):
    app.command(function.__name__.replace("_", "-"), cls=Command, epilog=exit_codes_text(exit_codes))(function)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"simgan {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Make rendered images look real while their labels stay true."""


def main() -> None:
    """Run the program, with a closed stdout or stderr as with /dev/null."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # tables and names on a terminal without UTF-8
    try:
        app(prog_name="simgan")
    except OSError as error:  # of help and tables; commands handle those of their files
        sys.stdout = None  # Python would fail again when it writes the rest at exit
        sys.exit(f"error: {error.filename or 'stdout'}: {error.strerror}; free some space, or write elsewhere")
