"""`simgan inspect-buffer`: the history of refined images as numbers, bars, pictures and words."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from simgan_cli.cli.command import Json
from simgan_cli.cli.console import echo_err, exit_codes, print_json, stdout, strip_control
from simgan_cli.documents import BufferDocument
from simgan_cli.errors import SettingsError
from simgan_cli.files import write_atomic
from simgan_cli.pictures.grid import history_sheet

if TYPE_CHECKING:
    from simgan_cli.engine.metrics.buffer_inspection import BufferView

MAX_BINS, MAX_BAR_CHARACTERS = 10, 40  # of the histogram
N_GRID_IMAGES = 64


def inspect_buffer(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder, also of a training that still runs.", show_default=False)
    ],
    *,
    step: Annotated[
        int | None, typer.Option("--step", metavar="N", help="Checkpoint to look at. By default the newest.")
    ] = None,
    grid: Annotated[
        Path | None, typer.Option("--grid", metavar="FILE.png", help="Draw images by age, with their steps.")
    ] = None,
    score: Annotated[
        bool, typer.Option("--score", help="Show how refined the discriminator finds images of each age.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the history buffer of a run, and whether it works.

        simgan inspect-buffer run --score --grid history.png

    --grid draws the images. The run may still be training.
    """
    with exit_codes("the pictures", smaller="leave out --score", json=json):
        if grid is not None and (grid.suffix.lower() != ".png" or grid.is_dir()):
            raise SettingsError(f"--grid {grid}: give the name of a .png file")
        from simgan_cli.engine.metrics.buffer_inspection import (  # torch takes seconds to import
            describe,
            open_buffer,
            scores_by_age,
        )

        view = open_buffer(run, step)
        document = describe(view, scores_by_age(view) if score and view.filled else None)
        if grid is not None and not view.filled:
            echo_err(f"{grid}: not drawn, since the history holds no image yet", "yellow")
            grid = None
        elif grid is not None:
            _draw(view, grid)
        if json:
            print_json(document)
            return
        _print(view, document)
        if grid is not None:
            echo_err(f"written: {grid}")


def _draw(view: "BufferView", path: Path) -> None:
    from simgan_cli.engine.metrics.buffer_inspection import spread_by_age

    chosen = spread_by_age(view.made_at, N_GRID_IMAGES)
    title = f"history at step {view.step:,}, oldest first; the step that refined each image"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, history_sheet(view.images(chosen), view.made_at[chosen], title))


def _print(view: "BufferView", document: BufferDocument) -> None:
    stdout.print(_numbers(view, document))
    if view.filled:
        _print_histogram(view)
    for age, probability in (document["score"] or {}).items():
        stdout.print(f"age {age}: refined with probability {probability:.2f} (discriminator)")
    for verdict in document["verdicts"]:
        stdout.print(Text(strip_control(verdict), style="green" if verdict.startswith("healthy") else "yellow"))


def _numbers(view: "BufferView", document: BufferDocument) -> Table:
    rows = {
        "step": f"{view.step:,}",
        "filled": f"{view.filled:,} of {document['capacity']:,} images, {document['memory_mb']} MB on the device",
        "refiner updates": f"{document['refiner_updates']:,}",
        "share of the D batch": f"{document['history_share']:.0%}",
    }
    for name, ages in (("ages, steps", document["ages"]), ("expected ages", document["expected_ages"])):
        if ages is not None:
            rows[name] = ", ".join(f"{quantile} {age:,.0f}" for quantile, age in ages.items())
    if (draws := document["draws"]) is not None:
        rows["draws per image"] = f"mean {draws['mean']:.1f}, max {draws['max']:,}"
    table = Table(box=SIMPLE_HEAD, show_header=False, pad_edge=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _print_histogram(view: "BufferView") -> None:
    counts, edges = np.histogram(view.ages, bins=min(MAX_BINS, int(view.ages.max()) + 1))
    ages, predicted = view.expected
    expected, _ = np.histogram(ages, bins=edges, weights=predicted)
    table = Table("age, steps", "images", "expected", "", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[:3]:
        column.justify, column.no_wrap = "right", True
    starts = np.ceil(edges[:-1])  # ages are whole steps
    ends = [*(starts[1:] - 1), edges[-1]]
    for count, wanted, low, high in zip(counts, expected, starts, ends, strict=True):
        bar = "\N{FULL BLOCK}" * round(MAX_BAR_CHARACTERS * count / counts.max())
        table.add_row(f"{low:,.0f}-{high:,.0f}", f"{count:,}", f"{wanted:,.0f}", bar)
    stdout.print(table)
