"""`simgan demo-data`: draw two domains of eyes to try the method on."""

import json as json_module
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from simgan_cli.cli.command import ConfigFile, Json, Quiet, Verbose, with_settings
from simgan_cli.cli.console import ProgressLine, echo_err, exit_codes, print_json
from simgan_cli.cli.resolve import print_settings, read_settings
from simgan_cli.cli.signals import stop_on_signals
from simgan_cli.demo.dataset import RECORD, WRITTEN, record, test_count, write_demo_data
from simgan_cli.documents import DemoDataDocument
from simgan_cli.errors import SettingsError
from simgan_cli.settings.demo import DemoDataConfig

LOG_EVERY = 2000  # images between lines of progress where there is no terminal


@with_settings(DemoDataConfig)
def demo_data(
    flags: dict[str, Any],
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write.", show_default=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DIR, if this command wrote it.")] = False,
    config: ConfigFile = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Draw simulated eyes: renders, and images of a webcam.

        simgan demo-data eyes/

    synthetic has labels. camera/train has none, to train a refiner.
    camera/test has them, to measure. camera/oracle is camera/train with labels.
    A folder that holds these images already is left as it is.
    """
    with exit_codes("the images", smaller="lower --size", interrupted="stopped; nothing written", json=json):
        settings = read_settings(DemoDataConfig, flags, config)
        folder = folder.resolve()
        is_there = _is_there(folder, settings, overwrite=overwrite)
        if not quiet:
            print_settings(settings, everything=verbose)
        tests = test_count(settings.count)
        document: DemoDataDocument = {
            "schema": "simgan.demo-data/1",
            "folder": str(folder),
            "images": {"synthetic": settings.count, "camera/train": settings.count, "camera/test": tests},
            "seconds": None,
            "status": "skipped" if is_there else "finished",
        }
        if not is_there:
            started = time.monotonic()
            with stop_on_signals(), ProgressLine(LOG_EVERY, quiet=quiet) as progress:
                advanced = partial(progress.update, "drawing", "images")
                write_demo_data(folder, settings.count, settings.seed, settings.size, advanced)
            document["seconds"] = round(time.monotonic() - started, 3)
        if not quiet:
            counts = ", ".join(f"{name} {count:,}" for name, count in document["images"].items())
            echo_err(f"{folder}: {counts}, {'there already' if is_there else 'written; README.txt describes them'}")
        if json:
            print_json(document)


def _is_there(folder: Path, settings: DemoDataConfig, *, overwrite: bool) -> bool:
    """Return whether the folder holds these images already. Raises SettingsError where other files would be lost."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        written = json_module.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise SettingsError(f"{folder}: this command did not write it; give a new or empty folder") from None
    if overwrite:
        others = sorted({entry.name for entry in folder.iterdir()} - WRITTEN)
        if others:
            raise SettingsError(f"{folder}: --overwrite would delete {', '.join(others)}; move that elsewhere first")
        return False
    if written != record(settings.count, settings.seed, settings.size):
        raise SettingsError(
            f"{folder}: holds images of other settings, see {RECORD}; give --overwrite to replace them, or a new folder"
        )
    return True
