"""Terminal output: lines fit, and file names cannot send control characters."""

import shutil
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simgan_cli.cli.app import app
from simgan_cli.cli.console import REFRESH, ProgressLine
from simgan_cli.cli.train import progress_line
from tests.gaze.helpers import write_csv
from tests.helpers import TINY, pack, simgan, write_images, write_refiner

EVIL = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202e"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders, files and a run whose names hold control characters; some are unreadable."""
    world = tmp_path_factory.mktemp("world") / EVIL
    write_images(world / "synthetic", 12, 1)
    write_images(world / "real", 3, 2)
    write_refiner(world / "model")
    for folder in ("synthetic", "real"):
        (world / folder / f"{EVIL}.png").write_bytes(b"no image")
        (world / folder / f"{EVIL}.tar").write_bytes(b"no archive")
        (world / folder / f"link{EVIL}.png").symlink_to("nowhere")
    write_images(world / "packed" / EVIL, 2, 3)
    (world / "packed" / EVIL / f"{EVIL}\n.png").write_bytes(b"no image")
    pack(world / "packed", world / "synthetic" / "shard.tar")
    shutil.rmtree(world / "packed")
    write_csv(world / "eyes", 12, 1, 3)
    assert run(world, "train", *TINY)[0] == 0
    return world


def run(world: Path, command: str, *more: str) -> tuple[int, str]:
    domains = ["--synthetic", str(world / "synthetic"), "--real", str(world / "real"), "--out", str(world / "run")]
    arguments = {
        "train": domains,
        "refine": [str(world / "synthetic"), "--model", str(world / "model"), "--out", str(world / "refined")],
        "inspect-buffer": [str(world / "run")],
        "eval-gaze": ["--train", f"raw={world / 'eyes'}", "--test", str(world / "eyes"), "--out", str(world / "out")],
        "doctor": ["--cache", str(world / "cache")],
    }
    result = CliRunner().invoke(app, [command, *arguments[command], *more])
    return result.exit_code, result.output


def orders(text: str) -> list[str]:
    return [c for c in text if not c.isprintable() and c != "\n"]


@pytest.mark.parametrize(
    ("command", "more", "code"),
    [
        ("train", ["--resume", "auto", "--steps", "4"], 0),
        ("train", ["--resume", "auto", "--strict"], 4),
        ("train", [], 2),
        ("refine", ["--overwrite"], 3),
        ("inspect-buffer", [], 0),
        ("inspect-buffer", ["--step", "77"], 4),
        ("eval-gaze", ["--estimator", "knn"], 4),
        pytest.param("doctor", [], 0, marks=pytest.mark.slow),  # Python's platform asks uname
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_output_holds_no_control_characters(world: Path, command: str, more: list[str], code: int) -> None:
    exit_code, output = run(world, command, *more)
    assert exit_code == code, output
    assert output.strip()
    assert orders(output) == []


def test_dry_runs_print_no_control_characters(world: Path, tmp_path: Path) -> None:
    code, output = run(world, "train", "--out", str(tmp_path / "new"), "--dry-run")
    assert code == 0, output
    assert "\\x1b[31mred" in output
    assert orders(output) == []


def test_the_log_of_a_run_holds_no_control_characters(world: Path) -> None:
    log = (world / "run" / "log.txt").read_text()
    assert "\\x1b[31mred" in log
    assert orders(log) == []


@pytest.mark.slow
def test_a_stdout_without_utf_8_gets_what_it_can_show(world: Path) -> None:
    result = simgan("inspect-buffer", world / "run", env={"PYTHONIOENCODING": "latin-1"}, cold=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "\\u2588" in result.stdout  # the bars


def test_progress_without_a_terminal_is_a_short_line_at_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine(2, quiet=False) as progress, ProgressLine(quiet=False, pause=60) as seldom:
        for done in (1, 2, 3, 4000):
            time.sleep(REFRESH)
            progress.update("reading \x1b", "images", done, 4000)
            seldom.update("reading", "images", done, 4000)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("reading \\x1b 2/4,000 images, ")
    assert last.startswith("reading \\x1b 4,000/4,000 images, ")
    assert last.endswith("/s, ETA 0:00:00")


def test_a_line_of_training_fits_80_columns() -> None:
    losses = {"loss_refiner": 12.3456, "loss_discriminator": 10.9876}
    rights = {"accuracy_real": 1.0, "accuracy_refined": 1.0, "accuracy_history": 1.0}
    line = {"step": 1_000_000, "change": 0.1234} | losses | rights
    assert progress_line(line | {"phase": "adversarial"}, 1_000_300, 36_000) == (
        "1000000/1000300  L_R 12.346  L_D 10.988  change 0.123  D 100%/100%  ETA 10:00:00"
    )
    shown = progress_line(line | {"phase": "pretrain-discriminator"}, 1_000_300, 36_000)
    assert shown == "1000000/1000300  pretrain-discriminator  L_D 10.988  D 100%/100%  ETA 10:00:00"
