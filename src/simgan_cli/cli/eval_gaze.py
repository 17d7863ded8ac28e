"""`simgan eval-gaze`: read the sets, train and test estimators, report whether refining helps."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from simgan_cli.cli.command import ConfigFile, Json, Quiet, Verbose, with_settings
from simgan_cli.cli.console import ProgressLine, echo_err, exit_codes, print_json, stdout
from simgan_cli.cli.resolve import print_settings, read_settings
from simgan_cli.cli.signals import stop_on_signals
from simgan_cli.documents import EvalGazeDocument, Preservation, Row
from simgan_cli.errors import plural
from simgan_cli.settings.eval_gaze import EvalGazeConfig, only_on_curve

if TYPE_CHECKING:
    from simgan_cli.gaze.preparation import Evaluation

POINT_LIMIT = "5"  # pixels, as in the paper's Table 4


@with_settings(EvalGazeConfig)
def eval_gaze(
    flags: dict[str, Any],
    *,
    config: ConfigFile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Read and describe the data; train nothing.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Test whether refining helps to estimate gaze or points.

        simgan eval-gaze --train raw=renders/ --model run --test eyes/ -o results

    Settings: file < environment (SIMGAN_EVAL_GAZE_SEEDS=3) < flags.
    """
    stopped = "stopped; trained estimators are kept; rerun with --skip-existing to resume"
    with exit_codes(
        "the results", again="--skip-existing", smaller="lower --batch-size", interrupted=stopped, json=json
    ):
        settings = read_settings(EvalGazeConfig, flags, config)
        if not quiet:
            print_settings(settings, everything=verbose)
        with stop_on_signals():
            from simgan_cli.gaze.evaluation import run  # torch takes seconds to import
            from simgan_cli.gaze.preparation import prepare
            from simgan_cli.gaze.results import plan

            evaluation = prepare(settings, lambda text: None if quiet else echo_err(text))
            if not quiet:
                _describe(evaluation)
            _warn(evaluation.warnings)
            warned = len(evaluation.warnings)
            if dry_run:
                if json:
                    print_json(plan(evaluation))
                return

            with ProgressLine(settings.log_every, quiet=quiet) as progress:
                document = run(evaluation, lambda label, done, n: progress.update(label, "updates", done, n))
        _warn(evaluation.warnings[warned:])
        if json:
            print_json(document)
        elif not quiet:
            echo_err(f"results: {settings.out / 'report.html'}")
            _print(document)


def _describe(evaluation: "Evaluation") -> None:
    for name, images in evaluation.sets.items():
        echo_err(f"{name}: {images.describe()}")
    if evaluation.test is not None:
        echo_err(f"test: {evaluation.test.describe()}")
    if evaluation.unlabelled is not None:
        echo_err(f"photographs: {plural(len(evaluation.unlabelled), 'image')} ({evaluation.photographs_from})")


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        echo_err(f"warning: {warning}", "yellow")


def _print(document: EvalGazeDocument) -> None:
    """Write the table to stdout, after a difference in content, and the verdict last."""
    unit = document["unit"]
    hidden = only_on_curve(document["settings"])
    rows = [row for row in document["rows"] if row["name"] not in hidden]
    names = _names(rows)
    if document["content"] is not None and document["content"]["differs"]:
        stdout.print(document["content"]["sentence"])
    title = (
        f"{document['target'].removesuffix('s')} error on {plural(document['test']['images'], 'test image')}, {unit}"
    )
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("trained on", overflow="fold", min_width=13)
    headings = ["mean", "95%", "to best free", "gap closed"]
    if document["points"]:
        headings.append(f"within {POINT_LIMIT} px")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in zip(names, rows, strict=True):
        free, gap = row["to_best_free"], row["gap_closed"]
        table.add_row(
            name,
            f"{row['mean']:.2f}",
            "{:.2f}-{:.2f}".format(*row["ci95"]),
            "{:+.2f} ({:.2f}, {:.2f})".format(free["difference"], *free["ci95"]) if free else "",
            "{:.2f} ({:.2f}, {:.2f})".format(gap["share"], *gap["ci95"]) if gap else "",
            *([f"{row['within'][POINT_LIMIT]:.1%}"] if document["points"] else []),
        )
    stdout.print(table)
    for name, row in zip(names, rows, strict=True):
        if row["effective_images"] is not None:
            stdout.print(
                f"{name}: weighted, {row['images']:,} images count as {row['effective_images']:,.0f} (effective size)"
            )
        if row["worth"] is not None:
            stdout.print(row["worth"]["sentence"])
    if document["preservation"] is not None:
        stdout.print(_moved(document["preservation"], unit))
    if document["verdict"] is not None:
        stdout.print(document["verdict"]["sentence"], style="bold")


def _names(rows: list[Row]) -> list[str]:
    """Return each row's name: its set, and its estimator where there are several."""
    estimators = {row["estimator"] for row in rows} - {"mean"}
    return [
        f"mean of {row['name']}"
        if row["estimator"] == "mean"
        else f"{row['name']}, {row['estimator']}"
        if len(estimators) > 1
        else row["name"]
        for row in rows
    ]


def _moved(preservation: Preservation, unit: str) -> str:
    parts = [f"content moved by {preservation['content_shift_px']['mean']:.2f} px"]
    if (shift := preservation["estimate_shift"]) is not None:
        parts.append(f"estimates moved by {shift['mean']:.2f} +- {shift['sd']:.2f} {unit}")
    return f"labels: {', '.join(parts)}"
