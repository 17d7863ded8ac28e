"""`simgan eval-gaze`: read the sets, train and test estimators, say whether refining helps."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simgan_cli.cli.console import ProgressLine, exit_codes, print_json, printable, say
from simgan_cli.cli.options import ConfigFile, Json, Quiet, Verbose
from simgan_cli.cli.settings import environment_of_process, gather, print_settings, validated, with_settings
from simgan_cli.cli.signals import stop_on_signals
from simgan_cli.errors import Interrupted
from simgan_cli.gaze.config import EvalGazeConfig

if TYPE_CHECKING:
    from simgan_cli.gaze.evaluation import Evaluation


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
    """Measure what refining does to a gaze (or pupil) estimator on real eyes.

    Settings: TOML file < SIMGAN_* environment (SIMGAN_SEEDS=3) < flags.

    Exit codes: 0 done; 1 failed (disk, memory); 2 usage; 4 bad data; 75 stopped by SIGTERM or SIGUSR1, and 130 by
    Ctrl-C: --skip-existing goes on with the estimators trained so far.
    """
    with exit_codes(writing="the results", again="--skip-existing", smaller="--train-batch"):
        settings = validated(EvalGazeConfig, gather("eval-gaze", flags, config, environment_of_process()))
        if not quiet:
            print_settings(settings, everything=verbose)
        with stop_on_signals():
            from simgan_cli.gaze.evaluation import prepare, run  # torch takes seconds to import

            evaluation = prepare(settings)
            if not quiet:
                _describe(evaluation)
            told = len(evaluation.warnings)
            if dry_run:
                return
            try:
                with _Listener(settings.log_every, quiet=quiet) as progress:
                    document = run(evaluation, progress)
            except Interrupted:
                say(f"stopped; {settings.out} keeps trained estimators: the same command with --skip-existing goes on")
                raise
        if not quiet:
            for warning in evaluation.warnings[told:]:
                say(f"warning: {warning}", "yellow")
        if json:
            print_json(document)
        elif not quiet:
            _print(document)
            say(f"results: {settings.out}")


class _Listener:
    """Shows one training after the other."""

    def __init__(self, every: int, *, quiet: bool) -> None:
        self._every, self._quiet = every, quiet
        self._label, self._line = "", ProgressLine("", "updates", every, quiet=True)

    def __enter__(self) -> "_Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self._line.__exit__()

    def __call__(self, label: str, done: int, total: int) -> None:
        if label != self._label:
            self._line.__exit__()
            self._label = label
            self._line = ProgressLine(printable(label), "updates", self._every, quiet=self._quiet).__enter__()
        self._line.update(done, total)


def _describe(evaluation: "Evaluation") -> None:
    for name, images in evaluation.sets.items():
        say(f"{name}: {images.describe()}")
    if evaluation.test is not None:
        say(f"test: {evaluation.test.describe()}")
    for warning in evaluation.warnings:
        say(f"warning: {warning}", "yellow")


def _print(document: dict[str, Any]) -> None:
    """Write the tables and the verdict to stdout."""
    unit, rows = document["unit"], document["rows"]
    errors = Table(title=f"{document['target']} error on {document['test']['images']:,} test images, {unit}")
    shares = Table(title=f"share of test images within so many {unit}")
    for table, numbers in (
        (errors, ["images", "mean", "95% interval", "seeds (sd)", "median", "sd", "p95"]),
        (shares, list(rows[0]["within"])),
    ):
        for name in ("trained on", "estimator"):
            table.add_column(name)
        for name in numbers:
            table.add_column(name, justify="right")
    for row in rows:
        name = escape(printable(row["name"]))
        spread = f"{row['seeds']} ({row['seed_sd']:.2f})" if row["seed_sd"] is not None else str(row["seeds"])
        moments = [f"{row[key]:.2f}" for key in ("median", "sd", "p95")]
        interval = "{:.2f}-{:.2f}".format(*row["ci95"])
        errors.add_row(
            name,
            row["estimator"],
            f"{row['images']:,}",
            f"{row['mean']:.2f}",
            interval,
            spread,
            *moments,
        )
        shares.add_row(name, row["estimator"], *(f"{share:.0%}" for share in row["within"].values()))
    console = Console(highlight=False, soft_wrap=True)
    console.print(errors)
    console.print(shares)
    for pair in document["comparisons"]:
        first, second = pair["pair"]
        low, high = pair["ci95"]
        text = (
            f"{second} - {first}: {pair['difference']:+.2f} {unit} (95%: {low:+.2f} to {high:+.2f}): {pair['verdict']}"
        )
        console.print(escape(printable(text)))
    if document["preservation"] is not None:
        moved = document["preservation"]
        text = f"labels: content moved by {moved['content_shift_px']['mean']:.2f} px"
        if "pupil_shift_px" in moved:
            shift = moved["pupil_shift_px"]
            text += f", the pupil's surroundings by {shift['mean']:.2f} +- {shift['sd']:.2f} px"
        if f"estimate_shift_{unit}" in moved:
            shift = moved[f"estimate_shift_{unit}"]
            text += f"; what the estimator reads moved by {shift['mean']:.2f} +- {shift['sd']:.2f} {unit}"
        console.print(text)
