"""Real processes that are killed, stopped and resumed: the result is that of an uninterrupted run, bit for bit."""

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from simgan_cli.cli.console import exit_codes
from simgan_cli.cli.signals import stop_on_signals
from tests.helpers import INTERRUPTIBLE, LAST, SIMGAN, checkpoint, content_of, simgan, write_domains
from tests.simgan_server import warm_simgan

pytestmark = pytest.mark.slow  # complete commands

SETTINGS = [*INTERRUPTIBLE, "--batch-size", "8", "--history-size", "20", "--sample-every", "0", "--cache", "off"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both domains and an uninterrupted run."""
    root = write_domains(tmp_path_factory.mktemp("interruption"))
    finish(root, "uninterrupted")
    return root


def command(out: str, *more: str, program: str | None = None) -> list[str]:
    return [program or str(warm_simgan()), "train", *SETTINGS, "--out", out, *more]


def start_and_wait_for_a_line(place: Path, *line: str) -> subprocess.Popen[bytes]:
    """Start a training and wait until it writes of its next steps."""
    metrics = place / line[line.index("--out") + 1] / "metrics.jsonl"
    before = metrics.stat().st_size if metrics.exists() else 0
    process = subprocess.Popen(line, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not metrics.exists() or metrics.stat().st_size <= before:
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.005)
    return process


def finish(place: Path, out: str) -> None:
    result = simgan(*command(out)[1:], cwd=place)
    assert result.returncode == 0, result.stderr


def assert_same_as_uninterrupted(place: Path, out: str) -> None:
    tensors, state, metrics = content_of(place / out, LAST)
    expected_tensors, expected_state, expected_metrics = content_of(place / "uninterrupted", LAST)
    assert metrics == expected_metrics
    assert state == expected_state
    assert [name for name in tensors if tensors[name] != expected_tensors[name]] == []
    assert set(tensors) == set(expected_tensors)


def test_kill_9_and_resume_is_an_identity_and_half_written_leftovers_are_removed(place: Path) -> None:
    process = start_and_wait_for_a_line(place, *command("killed"))
    while not checkpoint(place / "killed", 5).exists():
        time.sleep(0.005)
    process.kill()
    process.communicate()
    checkpoints = place / "killed" / "checkpoints"
    assert not checkpoint(place / "killed", LAST).exists(), "the process was too quick to be killed"
    (checkpoints / ".tmp-dead").mkdir()
    (checkpoints / ".tmp-dead" / "refiner.safetensors").write_bytes(b"half")
    with (place / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    finish(place, "killed")
    assert not list(checkpoints.glob(".tmp-*"))
    assert_same_as_uninterrupted(place, "killed")


def test_signals_save_and_exit_and_resume_is_an_identity(place: Path) -> None:
    """One training, which each signal stops in turn."""
    checkpoints, saved = place / "stopped" / "checkpoints", [""]
    for number, code in ((signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)):
        process = start_and_wait_for_a_line(place, *command("stopped"))
        os.kill(process.pid, number)
        _, errors = process.communicate()
        assert process.returncode == code, errors.decode()
        assert "--resume auto" in errors.decode()
        saved.append(max(path.name for path in checkpoints.iterdir()))
        assert saved[-2] < saved[-1] < checkpoint(place, LAST).name
    finish(place, "stopped")
    assert_same_as_uninterrupted(place, "stopped")


def test_a_training_under_nohup_survives_its_terminal_and_a_second_one_is_refused(place: Path) -> None:
    process = start_and_wait_for_a_line(place, "nohup", *command("nohup", program=SIMGAN))
    os.kill(process.pid, signal.SIGHUP)
    second = simgan(*command("nohup")[1:], cwd=place)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    if second.returncode == 2:
        assert re.search("another process (is training|has trained) into it", second.stderr)
    else:  # the first ended before the second started
        assert second.returncode == 0, second.stderr
    assert_same_as_uninterrupted(place, "nohup")


@pytest.mark.parametrize("opened", [os.pipe, os.openpty], ids=["pipe", "terminal"])
def test_a_training_continues_where_nobody_reads_stderr_any_more(
    place: Path, opened: Callable[[], tuple[int, int]]
) -> None:
    out = f"unread-{opened.__name__}"
    reader, writer = opened()
    process = subprocess.Popen(command(out), cwd=place, stdout=subprocess.PIPE, stderr=writer, start_new_session=True)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    process.communicate()
    assert process.returncode == 0
    assert f"{LAST}/{LAST}" in (place / out / "log.txt").read_text()
    assert_same_as_uninterrupted(place, out)


def test_a_training_continues_with_a_closed_stderr(place: Path) -> None:
    shell = f"exec {shlex.join(command('closed', program=SIMGAN))} 2>&-"
    process = subprocess.run(["bash", "-c", shell], cwd=place, stdout=subprocess.PIPE, check=False)
    assert process.returncode == 0
    assert_same_as_uninterrupted(place, "closed")


def test_a_closed_stdout_gives_no_message(place: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        command("planned", "--dry-run", "--quiet"), cwd=place, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert process.communicate()[1] == ""
    assert process.returncode == 1


def test_a_second_ctrl_c_exits_at_once_without_a_false_claim(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, exit_codes("results", "less"), stop_on_signals() as stop:
        stop.is_listening = True
        signal.raise_signal(signal.SIGINT)
        assert stop.reason == "interrupt"  # steps are done, and would be saved
        signal.raise_signal(signal.SIGINT)
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == "interrupted; earlier saves are untouched\n"


def test_a_signal_before_the_first_step_stops_cleanly(place: Path) -> None:
    early = command("early", "--json", program=SIMGAN)
    process = subprocess.Popen(early, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not is_caught(process.pid, signal.SIGUSR1):
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGUSR1)
    output, errors = process.communicate()
    assert process.returncode == 75, errors.decode()
    assert "rerun the same command" in errors.decode()
    document = json.loads(output)
    assert (document["status"], document["step"]) == ("stopped", 0)


def is_caught(process: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal."""
    status = dict(line.split(":\t") for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return bool(int(status["SigCgt"], 16) >> (number - 1) & 1)


def test_max_time_saves_and_exits_75_until_done(place: Path) -> None:
    """Each call does at least one step."""
    (place / "short.toml").write_text("[train]\nmax_time = 0.001\n")
    for step in (1, 2):
        stopped = simgan(*command("timed", "--config", "short.toml", "--json")[1:], cwd=place)
        assert stopped.returncode == 75, stopped.stderr
        document = json.loads(stopped.stdout)
        assert (document["schema"], document["status"], document["step"]) == ("simgan.train/1", "stopped", step)
        assert checkpoint(place / "timed", step).is_dir()
    finish(place, "timed")
    assert_same_as_uninterrupted(place, "timed")


def test_a_start_killed_while_writing_settings_does_not_block_the_next(place: Path) -> None:
    run = place / "nearly"
    run.mkdir()
    for name in (".lock", "log.txt", ".tmp-0123456789abcdef"):
        (run / name).write_text("{")
    finish(place, "nearly")
    assert_same_as_uninterrupted(place, "nearly")
    assert not (run / ".tmp-0123456789abcdef").exists()
