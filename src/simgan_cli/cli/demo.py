"""`simgan demo`: the complete method on simulated eyes, command by command."""

import contextlib
import json as json_module
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from simgan_cli.cli.command import ConfigFile, Json, Quiet, with_settings
from simgan_cli.cli.console import echo_err, exit_codes, format_duration, print_json
from simgan_cli.cli.resolve import read_settings
from simgan_cli.documents import DemoDocument
from simgan_cli.errors import EndedElsewhere
from simgan_cli.settings.demo import DemoConfig

# Differences from the commands' defaults, so that the demo takes minutes on two cores.
SETTINGS: dict[str, dict[str, Any]] = {
    "demo-data": {"count": 4000},
    "train": {"steps": 1000, "log-every": 100},
    # Twice the batch, or half as many updates more, would lower all errors by some 0.3 degrees.
    "eval-gaze": {"estimator": "resnet", "steps": 1000, "batch-size": 32, "seeds": 1},
}
QUICK: dict[str, dict[str, Any]] = {
    "demo-data": {"count": 100},
    "train": {"refiner-width": 4, "refiner-blocks": 1, "batch-size": 4, "history-size": 8, "pretrain-discriminator": 2,
              "steps": 4, "log-every": 2, "sample-every": 3, "eval-every": 0},
    "eval-gaze": {"estimator": "resnet", "steps": 4, "batch-size": 16, "bootstrap": 100},
}  # fmt: skip
QUIETABLE = ("demo-data", "train", "refine", "eval-gaze")  # commands that have --quiet


@with_settings(DemoConfig)
def demo(
    flags: dict[str, Any],
    *,
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder to write, or to resume.", show_default=True)
    ] = Path("simgan-demo"),
    config: ConfigFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Print the commands; run none.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Try the complete method on simulated eyes in minutes.

        simgan demo

    Runs the other commands one after the other, and prints each. Takes 6 to 9 minutes of one
    core with bf16, several times as long without; nothing is downloaded. Rerun it to resume. It ends with the exit code
    of the first command that fails.
    """
    smaller = "end other programs, or try --quick, whose figures mean nothing"
    with exit_codes("the results", smaller=smaller, json=json):
        settings = read_settings(DemoConfig, flags, config)
        started = time.monotonic()
        lines = commands(folder, settings)
        for number, line in enumerate(lines, 1):
            if not quiet or dry_run:
                echo_err(f"[{number}/{len(lines)}] simgan {shlex.join(line)}", "bold")
            if not dry_run:
                _run(context, [*line, "--quiet"] if quiet and line[0] in QUIETABLE else line, hidden=quiet or json)
        if dry_run:
            return
        files = files_to_open(folder)
        seconds = time.monotonic() - started
        if json:
            print_json(_document(folder, lines, files, seconds))
        elif not quiet:
            echo_err("\nto open:")
            for meaning, path in files.items():
                echo_err(f"  {path}  {meaning}")
            took = format_duration(seconds)
            echo_err(f"done in {took}; all images are simulated: try your own with the commands above")


def commands(folder: Path, settings: DemoConfig) -> list[list[str]]:
    """Return the commands of a demo in `folder`; each resumes an earlier one."""
    data, run, refined = folder / "data", folder / "run", folder / "refined"
    synthetic, camera = data / "synthetic", data / "camera"
    more = QUICK if settings.quick else SETTINGS
    seed, device = ["--seed", settings.seed], ["--device", settings.device] if settings.device != "auto" else []

    def of_table(command: str) -> list[Any]:
        return [part for name, value in more[command].items() for part in (f"--{name}", value)]

    lines: list[list[Any]] = [
        ["demo-data", data, *of_table("demo-data"), *seed],
        ["train", "--synthetic", synthetic, "--real", camera / "train", "--out", run,
         *of_table("train"), *seed, *device, "--resume", "auto"],
        ["refine", synthetic, "--model", run, "--out", refined, "--check-labels", "--compare", folder / "refined.png",
         *device, "--skip-existing"],
        ["inspect-buffer", run, "--score", "--grid", folder / "history.png"],
        ["eval-gaze", "--train", f"synthetic={synthetic}", "--model", run,
         "--photos", camera / "train", "--baseline", "reinhard",  # the best one on these eyes
         "--real-train", camera / "oracle", "--test", camera / "test",
         "--out", folder / "gaze",
         *of_table("eval-gaze"), *seed, *device, "--skip-existing"],
    ]  # fmt: skip
    return [[str(part) for part in line] for line in lines]


def files_to_open(folder: Path) -> dict[str, Path]:
    """Return the files to look at, by meaning; missing ones are left out."""
    files = {
        "the results: verdict, errors and the training on one page": folder / "gaze" / "report.html",
        "the training: health, realism, pictures by step, curves": folder / "run" / "report.html",
        "renders before and after": folder / "refined.png",
        "the history buffer, oldest first": folder / "history.png",
        "share of test images below each error": folder / "gaze" / "curve.png",
        "test images with the largest errors": folder / "gaze" / "worst.png",
        "about the simulated eyes": folder / "data" / "README.txt",
    }
    return {meaning: path for meaning, path in files.items() if path.exists()}


def _run(context: typer.Context, line: list[str], *, hidden: bool) -> None:
    """Run a command as the program would. Raises EndedElsewhere with its exit code unless that is 0."""
    out = sys.stderr if hidden else sys.stdout  # stdout is for the one document
    with contextlib.redirect_stdout(out):
        code = context.find_root().command.main(line, prog_name="simgan", standalone_mode=False)
    if code:
        raise EndedElsewhere(code, f"simgan {line[0]} ended with exit code {code}; rerun the demo to resume")


def _document(folder: Path, lines: list[list[str]], files: dict[str, Path], seconds: float) -> DemoDocument:
    results = json_module.loads((folder / "gaze" / "results.json").read_text(encoding="utf-8"))
    return {
        "schema": "simgan.demo/1",
        "folder": str(folder),
        "simulated": True,
        "commands": [shlex.join(["simgan", *line]) for line in lines],
        "verdict": results["verdict"],
        "rows": results["rows"],
        "comparison": results["comparison"],
        "files": [str(path) for path in files.values()],
        "seconds": round(seconds, 3),
    }
