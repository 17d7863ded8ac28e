"""The `simgan` program."""

import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from simgan_cli import __version__
from simgan_cli.cli.demo import demo
from simgan_cli.cli.demo_data import demo_data
from simgan_cli.cli.doctor import doctor
from simgan_cli.cli.eval_gaze import eval_gaze
from simgan_cli.cli.inspect_buffer import inspect_buffer
from simgan_cli.cli.refine import refine
from simgan_cli.cli.train import train

app = typer.Typer(
    name="simgan",
    help="Make rendered images look real while their labels stay true (SimGAN, Shrivastava et al., CVPR 2017).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train)
app.command()(refine)
app.command("inspect-buffer")(inspect_buffer)
app.command("eval-gaze")(eval_gaze)
app.command()(demo)
app.command("demo-data")(demo_data)
app.command()(doctor)


def _version(wanted: bool) -> None:
    if not wanted:
        return
    sys.stdout.write(f"simgan {__version__}\n")
    sys.stdout.flush()  # torch takes seconds to import
    import torch

    from simgan_cli.engine.runtime.device import resolve_device, resolve_precision

    device = resolve_device("auto")
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    precision = resolve_precision("auto", device)
    sys.stdout.write(f"torch {torch.__version__}\ndevice {device}{name}\nprecision {precision}\n")
    raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the versions of simgan and torch, the device and precision that auto picks, and exit.",
            callback=_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Make rendered images look real while their labels stay true."""


def main() -> None:
    """Run the program, with a closed stdout or stderr as with /dev/null."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # tables and names on a terminal without UTF-8
    app(prog_name="simgan")
