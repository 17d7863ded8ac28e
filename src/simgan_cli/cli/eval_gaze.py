"""`simgan eval-gaze`: read the sets, train and test estimators, say whether refining helps."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from simgan_cli.cli.command import ConfigFile, Json, Quiet, Verbose, with_settings
from simgan_cli.cli.console import ProgressLine, echo_err, exit_codes, print_json, stdout
from simgan_cli.cli.resolve import print_settings, read_settings
from simgan_cli.cli.signals import stop_on_signals
from simgan_cli.settings.eval_gaze import EvalGazeConfig

if TYPE_CHECKING:
    from simgan_cli.gaze.preparation import Evaluation


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
    """Measure what refining does to a gaze or pupil estimator.

        simgan eval-gaze --train raw=renders/ --model run --test eyes/ -o results

    Settings: file < environment (SIMGAN_EVAL_GAZE_SEEDS=3) < flags.
    """
    stopped = "stopped; trained estimators are kept: the same command with --skip-existing resumes"
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
            _print(document)
            echo_err(f"results: {settings.out}")


def _describe(evaluation: "Evaluation") -> None:
    for name, images in evaluation.sets.items():
        echo_err(f"{name}: {images.describe()}")
    if evaluation.test is not None:
        echo_err(f"test: {evaluation.test.describe()}")
    if evaluation.unlabelled is not None:
        echo_err(f"to weigh labels by: {len(evaluation.unlabelled):,} images ({evaluation.config.reweight_to})")


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        echo_err(f"warning: {warning}", "yellow")


def _print(document: dict[str, Any]) -> None:
    """Write the tables and the verdict to stdout."""
    unit, rows = document["unit"], document["rows"]
    errors = _table(
        f"{document['target']} error on {document['test']['images']:,} test images, {unit}",
        ["mean", "95%", "by seed", "median", "sd", "p95"],
    )
    shares = _table(f"share of test images within so many {unit}", list(rows[0]["within"]))
    for row in rows:
        errors.add_row(
            row["name"],
            row["estimator"],
            f"{row['mean']:.2f}",
            "{:.2f}-{:.2f}".format(*row["ci95"]),
            f"+- {row['seed_sd']:.2f}" if row["seed_sd"] is not None else "",
            *(f"{row[key]:.2f}" for key in ("median", "sd", "p95")),
        )
        shares.add_row(row["name"], row["estimator"], *(f"{share:.0%}" for share in row["within"].values()))
    stdout.print(errors)
    stdout.print(shares)
    for pair in document["comparisons"]:
        first, second = pair["pair"]
        low, high = pair["ci95"]
        difference = f"{pair['difference']:+.2f} {unit} (95%: {low:+.2f} to {high:+.2f})"
        stdout.print(f"{second} - {first}, {pair['estimator']}: {difference}: {pair['verdict']}")
    for row in rows:
        if (gap := row["gap_closed"]) is not None:
            low, high = gap["ci95"]
            stdout.print(
                f"{row['name']}, {row['estimator']}: closes {gap['share']:.2f} of the gap to labelled real eyes "
                f"(95%: {low:.2f} to {high:.2f})"
            )
    for row in rows:
        if row["effective_images"] is not None:
            stdout.print(
                f"{row['name']}, {row['estimator']}: its weights leave as much variety as "
                f"{row['effective_images']:,.0f} of {row['images']:,} images"
            )
    if document["preservation"] is not None:
        stdout.print(_moved(document["preservation"], unit))


def _table(title: str, numbers: list[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("trained on", overflow="fold")
    table.add_column("estimator", no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _moved(preservation: dict[str, Any], unit: str) -> str:
    parts = [f"content moved by {preservation['content_shift_px']['mean']:.2f} px"]
    if (shift := preservation.get(f"estimate_shift_{unit}")) is not None:
        parts.append(f"what the estimator reads by {shift['mean']:.2f} +- {shift['sd']:.2f} {unit}")
    return f"labels: {', '.join(parts)}"
