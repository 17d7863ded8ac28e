"""Refining that is killed, stopped or runs out of disk: nothing is half written, and going on gives the same bytes."""

import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers import SIMGAN, UNMEASURED, files_below, simgan, write_images, write_refiner

pytestmark = pytest.mark.slow  # whole commands

IMAGES = 240


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that takes its time (about 3 s for all), images, labels, and an undisturbed result."""
    root = tmp_path_factory.mktemp("refining")
    write_refiner(root / "model", width=32, blocks=2)
    write_images(root / "images" / "a", IMAGES // 2, 1, shape=(90, 110))
    write_images(root / "images" / "b", IMAGES // 2, 2, shape=(60, 130))
    for number in range(20):
        (root / "images" / f"{number}.json").write_text(str(number) * 1000)
    finish(root, "whole")
    return root


def command(out: str) -> list[str]:
    return [SIMGAN, "refine", "images", "--model", "model", "--out", out, "--batch-size", "8", "--skip-existing"]


def finish(place: Path, out: str) -> None:
    result = simgan(*command(out)[1:], cwd=place)
    assert result.returncode == 0, result.stderr


def start_and_wait_for_images(place: Path, out: str, count: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command(out), cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and len(list((place / out).rglob("[!.]*.png"))) < count:
        time.sleep(0.005)
    return process


def test_killed_at_three_moments_and_restarted_the_result_is_that_of_an_undisturbed_run(place: Path) -> None:
    moments = random.Random(0)
    killed = 0
    for attempt in range(3):
        process = start_and_wait_for_images(place, "killed", 5 + attempt * IMAGES // 4)
        time.sleep(moments.random() * 0.1)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 2
    finish(place, "killed")
    assert files_below(place / "killed") == files_below(place / "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_signal_finishes_what_is_in_hand(place: Path, number: signal.Signals, code: int) -> None:
    out = f"stopped-{number.name}"
    process = start_and_wait_for_images(place, out, 10)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert b"run the same command again, with --skip-existing" in stderr
    done = files_below(place / out)
    whole = files_below(place / "whole")
    assert 10 <= len(done) < len(whole)
    assert all(whole[name] == content for name, content in done.items())  # whole, and no temporary file among them
    finish(place, out)
    assert files_below(place / out) == whole


def test_a_disk_that_fills_leaves_nothing_half_written(place: Path) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))  # between the sizes of the two kinds of images

    result = subprocess.run(
        [*UNMEASURED, "--ignore-signal=XFSZ", *command("full")],
        cwd=place, capture_output=True, text=True, check=False, preexec_fn=little_room,
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "--skip-existing" in result.stderr
    assert "Traceback" not in result.stderr
    whole = files_below(place / "whole")
    assert all(whole[name] == content for name, content in files_below(place / "full").items())
    finish(place, "full")
    assert files_below(place / "full") == whole


def test_two_at_once_into_one_folder_do_no_harm(place: Path) -> None:
    processes = [subprocess.Popen(command("twice"), cwd=place, stderr=subprocess.PIPE) for _ in range(2)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert files_below(place / "twice") == files_below(place / "whole")
