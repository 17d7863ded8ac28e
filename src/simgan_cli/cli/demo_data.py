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
from simgan_cli.demo.dataset import RECORD, record, test_count, write_demo_data
from simgan_cli.errors import SettingsError
from simgan_cli.settings.demo import DemoDataConfig

LOG_EVERY = 2000  # images between lines of progress where there is no terminal


@with_settings(DemoDataConfig)
def demo_data(
    flags: dict[str, Any],
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write.", show_default=False)],
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Do nothing if DIR holds these images.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DIR, if this command wrote it.")] = False,
    config: ConfigFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Describe the images; write nothing.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Draw simulated eyes: renders, and images of a webcam.

        simgan demo-data eyes/

    synthetic has labels. camera/train has none, to train a refiner.
    camera/test has them, to measure. camera/oracle is camera/train with labels.
    """
    with exit_codes(
        "the images",
        again="the same command",
        smaller="lower --size",
        interrupted="stopped; nothing written",
        json=json,
    ):
        settings = read_settings(DemoDataConfig, flags, config)
        folder = folder.resolve()
        there = _is_there(folder, settings, skip_existing=skip_existing, overwrite=overwrite)
        if not quiet:
            print_settings(settings, everything=verbose)
        images = {
            "synthetic": settings.count,
            "camera/train": settings.count,
            "camera/test": test_count(settings.count),
        }
        document: dict[str, Any] = {"schema": "simgan.demo-data/1", "folder": str(folder), "images": images}
        height, width = settings.size
        counts = ", ".join(f"{name} {count:,}" for name, count in images.items())
        say_if = (lambda _: None) if quiet else echo_err
        say_if(f"simulated eyes of {height}x{width}: {counts} -> {folder}")
        if dry_run or there:
            status = "dry-run" if dry_run else "skipped"
            say_if("they are there already" if there else "nothing written (--dry-run)")
        else:
            status, started = "finished", time.monotonic()
            with stop_on_signals(), ProgressLine(LOG_EVERY, quiet=quiet) as progress:
                advanced = partial(progress.update, "drawing", "images")
                write_demo_data(folder, settings.count, settings.seed, settings.size, advanced)
            document["seconds"] = round(time.monotonic() - started, 3)
            say_if(f"written in {document['seconds']:.1f} s; {folder / 'README.txt'} says what is what")
        if json:
            print_json(document | {"status": status})


def _is_there(folder: Path, settings: DemoDataConfig, *, skip_existing: bool, overwrite: bool) -> bool:
    """Return whether nothing is left to do. Raises SettingsError where something else would be lost."""
    if skip_existing and overwrite:
        raise SettingsError("--skip-existing and --overwrite contradict each other; give one of them")
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{folder}: a file, not a folder; give a new folder")
    if not folder.exists() or not any(folder.iterdir()):
        return False
    written = _read_record(folder / RECORD)
    if not written:
        raise SettingsError(f"{folder}: holds files that this command did not write; give a new or empty folder")
    if overwrite:
        return False
    if not skip_existing:
        raise SettingsError(f"{folder}: holds images already; give --overwrite to replace them, or a new folder")
    wanted = record(settings.count, settings.seed, settings.size)
    if written != wanted:
        different = ", ".join(
            f"{key} {written.get(key)}, not {wanted[key]}" for key in wanted if written.get(key) != wanted[key]
        )
        raise SettingsError(f"{folder}: was written with {different}; give --overwrite, those settings or a new folder")
    return True


def _read_record(path: Path) -> dict[str, Any]:
    """Return what wrote a folder; {} where that is unknown."""
    try:
        content = json_module.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
