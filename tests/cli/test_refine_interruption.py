"""Refining that is killed or stopped: nothing is half written, and resuming gives the same bytes."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers import files_below, pack, simgan, write_images, write_refiner
from tests.simgan_server import ENVIRONMENT, warm_simgan

pytestmark = pytest.mark.slow  # complete commands

COMMAND = ["refine", "images", "--model", "model", "--batch-size", "4", "--skip-existing"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that takes its time (about 1 s for all), images, labels, and an uninterrupted result."""
    root = tmp_path_factory.mktemp("refining")
    write_refiner(root / "model", width=32, blocks=2)
    write_images(root / "images" / "a", 40, 1, shape=(90, 110))
    write_images(root / "images" / "b", 20, 2, shape=(60, 130))
    for number in range(20):
        (root / "images" / f"{number}.json").write_text(str(number) * 1000)
    for number, suffix in enumerate(("tar", "zip", "tar.gz")):
        shard = write_images(root / f"shard-{number}", 12, number + 3, shape=(60, 130))
        (shard / "labels.csv").write_text("label\n")
        pack(shard, root / "images" / f"{number}.{suffix}")
    finish(root, "uninterrupted")
    return root


def finish(place: Path, out: str) -> None:
    result = simgan(*COMMAND, "--out", out, cwd=place)
    assert result.returncode == 0, result.stderr


def send(program: subprocess.Popen[bytes], number: signal.Signals) -> tuple[int, bytes]:
    """Send a program a signal; return its exit code and its stderr."""
    program.send_signal(number)
    _, stderr = program.communicate(timeout=60)
    return program.returncode, stderr


def start_and_wait_for(place: Path, out: str, count: int, pattern: str = "*.png") -> subprocess.Popen[bytes]:
    """Start refining and return once `count` results of a name are there."""
    program = subprocess.Popen(
        [warm_simgan(), *COMMAND, "--out", out], cwd=place, stderr=subprocess.PIPE, env=os.environ | ENVIRONMENT
    )
    while program.poll() is None and len(list((place / out).rglob(f"[!.]{pattern}"))) < count:
        time.sleep(0.005)
    assert program.poll() is None
    return program


def assert_all_complete(place: Path, out: str) -> None:
    """Check that every result, but for temporary files, is that of the uninterrupted run, and that some are missing."""
    uninterrupted = files_below(place / "uninterrupted")
    done = {name: content for name, content in files_below(place / out).items() if "/.tmp-" not in f"/{name}"}
    assert done.items() <= uninterrupted.items()
    assert len(done) < len(uninterrupted)


def test_a_job_killed_three_times_gives_the_uninterrupted_result(place: Path) -> None:
    moments = random.Random(0)
    for count, pattern in ((5, "*.png"), (35, "*.png"), (1, "*.tar")):  # the last kill comes within the second archive
        running = start_and_wait_for(place, "killed", count, pattern)
        time.sleep(moments.random() * 0.02)
        assert send(running, signal.SIGKILL)[0] == -signal.SIGKILL
        assert_all_complete(place, "killed")
    finish(place, "killed")
    assert files_below(place / "killed") == files_below(place / "uninterrupted")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_current_images(place: Path, number: signal.Signals, code: int) -> None:
    out = f"stopped-{number.name}"
    found, stderr = send(start_and_wait_for(place, out, 10), number)
    assert found == code, stderr
    assert b"rerun the same command, with --skip-existing" in stderr
    assert_all_complete(place, out)
    assert not list((place / out).rglob(".tmp-*"))
    finish(place, out)
    assert files_below(place / out) == files_below(place / "uninterrupted")


def test_two_jobs_at_once_into_one_folder_give_the_result_of_one(place: Path) -> None:
    command = [str(warm_simgan()), *COMMAND, "--out", "twice"]
    environment = os.environ | ENVIRONMENT
    processes = [subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert files_below(place / "twice") == files_below(place / "uninterrupted")
