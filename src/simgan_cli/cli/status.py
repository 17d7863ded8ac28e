"""`simgan status`: how far a training has come, for people and for queues."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from simgan_cli.cli.command import Json
from simgan_cli.cli.console import exit_codes, format_duration, print_json, strip_control
from simgan_cli.documents import StatusDocument
from simgan_cli.engine.run_folder.progress import progress_of

TRAINING = {True: "yes, a process is training now", False: "no", None: "unknown: this file system has no locks"}


def status(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a training.", show_default=False)],
    *,
    json: Json = False,
) -> None:
    """Show how far a training has come, and whether it runs.

        simgan status run --json

    It only reads files, so it never disturbs a training.
    """
    with exit_codes("nothing", smaller="end other programs", json=json):
        document = progress_of(run)
        if json:
            print_json(document)
            return
        for name, value in _rows(document):
            sys.stdout.write(strip_control(f"{name:>10}  {value}") + "\n")


def _rows(document: StatusDocument) -> list[tuple[str, str]]:
    newest, eta = document["checkpoint"], document["eta_seconds"]
    rows = [
        ("run", document["run"]),
        ("step", f"{document['step']:,} of {document['total_steps']:,}"),
        ("training", TRAINING[document["training"]]),
        ("ETA", "unknown yet" if eta is None else format_duration(eta)),
        (
            "checkpoint",
            f"step {newest['step']:,}, {format_duration(newest['age_seconds'])} ago" if newest else "none yet",
        ),
    ]
    for verdict in document["health"]:
        when = "" if verdict["active"] else ", no longer active"
        rows.append(("health", f"{verdict['rule']} from step {verdict['step']}{when}: {verdict['advice']}"))
    return rows if document["health"] else [*rows, ("health", "no rule has fired")]
