"""`simgan train`: resolve the settings, print them, train."""

import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simgan_cli.cli.command import ConfigFile, Json, Quiet, Verbose, with_settings
from simgan_cli.cli.console import (
    ProgressLine,
    echo_err,
    exit_codes,
    format_duration,
    print_json,
    stderr,
    strip_control,
)
from simgan_cli.cli.resolve import gather, print_settings, resolve, resolve_resumed
from simgan_cli.cli.signals import stop_on_signals
from simgan_cli.documents import JobStatus, TrainConclusion, TrainDocument
from simgan_cli.engine.run_folder.checkpoints import find_checkpoint
from simgan_cli.engine.run_folder.health import Finding, Health, Line, conclude, exported_line, why_unmeasured
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.engine.runtime.ranks import Ranks
from simgan_cli.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_STOPPED, Interrupted, SettingsError, plural
from simgan_cli.settings.train import TrainConfig

if TYPE_CHECKING:
    from simgan_cli.engine.training.build import TrainResult

READING_PAUSE = 30.0  # seconds between lines of reading images, where there is no bar


@with_settings(TrainConfig)
def train(
    flags: dict[str, Any],
    *,
    config: ConfigFile = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="WHERE", help="Resume: auto, latest (must exist), or a path.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Print settings, networks and data; do not train.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Learn a refiner from rendered images and real ones.

        simgan train --synthetic renders/ --real photos/ --out run

    Settings: recipe and preset < file < environment (SIMGAN_TRAIN_STEPS=500) < flags.
    Under torchrun the ranks train one refiner together.
    """
    code = EXIT_OK
    with (
        exit_codes(
            writing="the run folder",
            again="--resume auto",
            smaller="lower --batch-size or --history-size",
            interrupted="stopped at once; earlier saves are untouched; rerun the same command, with --resume auto if "
            "--out holds a checkpoint",
            json=json,
        ),
        Ranks.of_process().connected() as ranks,
    ):
        with ranks.all_or_none():
            resolved = _resolve(flags, config, resume) if ranks.is_first else None
        # The first rank alone reads the run folder: others may see an older state of it.
        settings, checkpoint = ranks.gather_objects(resolved)[0]
        quiet, json = quiet or not ranks.is_first, json and ranks.is_first
        if not quiet:
            print_settings(settings, everything=verbose or dry_run)
        if dry_run:
            with ranks.all_or_none():
                if ranks.is_first:
                    _print_plan(settings, json=json)
        else:
            code = ranks.exit_code = _train(settings, checkpoint, ranks, quiet=quiet, json=json)
    if code:
        raise typer.Exit(code)


def _resolve(flags: dict[str, Any], config: Path | None, resume: str | None) -> tuple[TrainConfig, Path | None]:
    """Return the settings and the checkpoint to resume, if any."""
    explicit, origins = gather("train", flags, config)
    out = Path(str(explicit.get("out", TrainConfig.model_fields["out"].default)))  # a file may hold a number
    run = RunFolder(out)
    checkpoint = find_checkpoint(run, resume)
    if checkpoint and "out" not in explicit and not run.holds(checkpoint):
        raise SettingsError(
            f"--resume {resume}: belongs to another run than the default --out {out}; give --out: that run to resume "
            "it, or a new folder to start another run from it"
        )
    if checkpoint:
        return resolve_resumed(checkpoint, {"out": out} | explicit, origins), checkpoint
    return resolve(explicit, origins), None


def _print_plan(settings: TrainConfig, *, json: bool) -> None:
    from simgan_cli.engine.training.dry_run import as_text, describe_run
    from simgan_cli.gaze.task_labels import read_task_labels

    document = describe_run(settings, partial(read_task_labels, settings))
    print_json(document) if json else sys.stdout.write(strip_control(as_text(document)) + "\n")


def _train(settings: TrainConfig, checkpoint: Path | None, ranks: Ranks, *, quiet: bool, json: bool) -> int:
    """Train and report how it ended; return the exit code."""
    started = time.monotonic()
    run = RunFolder(settings.out)
    with stop_on_signals() as stop:
        stop.is_listening = not ranks.is_first  # other ranks stop when the first one does, also before training starts
        try:
            from simgan_cli.engine.training import build  # torch takes seconds to import
            from simgan_cli.gaze.task_labels import read_task_labels

            with ProgressLine(quiet=quiet, pause=READING_PAUSE) as progress:
                listener = _ConsoleListener(run, progress, quiet=quiet, is_first=ranks.is_first)
                result = build.train(settings, checkpoint, listener, stop, ranks, partial(read_task_labels, settings))
        except Interrupted:
            if json:
                _print_result(settings, "stopped", None, time.monotonic() - started)
            raise
    if json:
        _print_result(settings, result.status, result.step, result.seconds)
    if ranks.is_first:
        _summarize(run, settings, result, quiet=quiet)
    if result.status == "finished":
        return EXIT_OK
    return EXIT_INTERRUPTED if result.reason == "interrupt" else EXIT_STOPPED


def _print_result(settings: TrainConfig, status: JobStatus, step: int | None, seconds: float) -> None:
    lines = RunFolder(settings.out).read_metrics()
    last = lines[-1] if lines else {}
    document: TrainDocument = {
        "schema": "simgan.train/1",
        "run": str(settings.out),
        "status": status,
        "step": step if step is not None else last.get("step", 0),
        "seconds": round(seconds, 3),
        "metrics": last,
        "health": Health(settings, lines).verdicts(),
        "exported": exported_line(lines, settings.select),
        "conclusion": _conclusion(lines, settings.select),
    }
    print_json(document)


def _conclusion(lines: list[Line], select: str) -> TrainConclusion | None:
    conclusion = conclude(lines, select)
    if conclusion is None:
        return None
    return {"closer": conclusion.closer, "sentence": conclusion.sentence, "advice": conclusion.advice}


def _print_health(settings: TrainConfig, lines: list[Line]) -> None:
    verdicts = Health(settings, lines).verdicts()
    for verdict in verdicts:
        when = "still active at the end" if verdict["active"] else "no longer active"
        echo_err(f"health: {verdict['rule']} from step {verdict['step']}, {when}: {verdict['advice']}", "yellow")
    if not verdicts:
        echo_err("health: no rule has fired")


def _print_conclusion(settings: TrainConfig, lines: list[Line], images: dict[str, int], *, quiet: bool) -> None:
    """Print the conclusion of a training; if `quiet`, only a bad or missing one."""
    conclusion, measured = conclude(lines, settings.select), exported_line(lines, settings.select)
    if conclusion is None or measured is None:
        echo_err(f"conclusion: {why_unmeasured(settings, images)}", "yellow")
        return
    if quiet and conclusion.closer:
        return
    echo_err(f"conclusion: {conclusion.in_one_line()}", "" if conclusion.closer else "yellow")
    facts = [f"labels moved by {measured['label_drift']:.2f} px"] if "label_drift" in measured else []
    if "two_sample" in measured:
        facts.append(f"a fresh classifier separates refined from real in {measured['two_sample']:.0%} (50% is chance)")
    if facts and not quiet:
        echo_err(f"realism: {', '.join(facts)}")


def _summarize(run: RunFolder, settings: TrainConfig, result: "TrainResult", *, quiet: bool) -> None:
    lines = run.read_metrics()
    if not quiet:
        _print_health(settings, lines)
    if not quiet or result.status == "finished":
        _print_conclusion(settings, lines, result.images, quiet=quiet)
    if quiet:
        return
    if result.status == "finished":
        echo_err(f"finished {plural(result.step, 'step')} in {result.seconds:.0f} s")
        echo_err(f"refiner: {run.refiner}, report: {run.report}")
    else:
        echo_err(f"stopped at step {result.step} of {settings.total_steps} ({result.reason}) and saved; "
            "rerun with --resume auto to resume")  # fmt: skip


def progress_line(line: dict[str, Any], total_steps: int, eta_seconds: float) -> str:
    """Return the progress that a line of metrics shows, in at most 80 columns.

    After D come its accuracies on real and on refined patches.
    """
    words = [f"{line['step']}/{total_steps}"] + ([line["phase"]] if line["phase"] != "adversarial" else [])
    numbers = {"L_D": "loss_discriminator"}
    if line["phase"] != "pretrain-discriminator":
        numbers = {"L_R": "loss_refiner"} | numbers | {"change": "change"}
    words += [f"{label} {line[name]:.3f}" for label, name in numbers.items() if name in line]
    if "accuracy_real" in line:
        words.append(f"D {line['accuracy_real']:.0%}/{line['accuracy_refined']:.0%}")
    return "  ".join([*words, f"ETA {format_duration(eta_seconds)}"])


class _ConsoleListener:
    """Shows progress as a bar on a terminal, elsewhere as plain lines, and writes log.txt; only if it `is_first`."""

    def __init__(self, run: RunFolder, progress: ProgressLine, *, quiet: bool, is_first: bool) -> None:
        self.run, self.progress, self.quiet, self.is_first = run, progress, quiet, is_first

    def decoding(self, domain: str, done: int, total: int) -> None:
        self.progress.update(f"reading {domain}", "images", done, total)

    def message(self, text: str) -> None:
        self._write(text, shown=not self.quiet)

    def warning(self, text: str) -> None:
        self._write(f"warning: {text}", shown=True, style="yellow")

    def finding(self, finding: Finding) -> None:
        self.warning(f"health at step {finding.step}: {finding.sentence()}")

    def log(self, line: dict[str, Any], total_steps: int, eta_seconds: float) -> None:
        self._write(progress_line(line, total_steps, eta_seconds), shown=not self.quiet)

    def advanced(self, step: int, total_steps: int) -> None:
        if stderr.is_terminal:  # elsewhere `log` writes lines
            self.progress.update("training", "steps", step, total_steps)

    def _write(self, text: str, *, shown: bool, style: str = "") -> None:
        if not self.is_first:
            return
        if shown:
            echo_err(text, style)
        with self.run.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {strip_control(text)}\n")
