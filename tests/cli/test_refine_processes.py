"""A refining job in two processes: the results of one, and an end of all of them when one of them ends."""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simgan_cli.engine.refining.processes import MIN_IMAGES
from tests.helpers import files_below, simgan, write_images, write_refiner
from tests.simgan_server import ENVIRONMENT, warm_simgan

COUNT = 2 * MIN_IMAGES + 1
COMMAND = ["refine", "images", "--model", "model", "--skip-existing"]
pytestmark = [
    pytest.mark.slow,  # whole commands
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are forked on Linux alone"),
]
TWO_CORES = os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": "2"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images for two processes, labels, and the results of one process."""
    root = tmp_path_factory.mktemp("processes")
    write_refiner(root / "model", width=16, noise=True)
    write_images(root / "images", COUNT, 1, shape=(60, 80))
    names = sorted(path.name for path in (root / "images").iterdir())
    for name in names[10:90:20]:  # all in the first of two parts, for which alone they would be too many labels
        Image.fromarray(np.full((60, 80), 1000, np.uint16)).save(root / "images" / name)
    (root / "images" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "images" / "labels.csv").write_text("file,gx\n")
    files = ["--manifest", "one.jsonl", "--compare", "one.png"]
    one = simgan(*COMMAND, "--out", "one", *files, cwd=root, env=TWO_CORES | {"OMP_NUM_THREADS": "1"})
    assert one.returncode == 3, one.stderr
    return root


def start(place: Path, out: str) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a job; return it and its processes as soon as each has written a few results."""
    command = [str(warm_simgan()), *COMMAND, "--out", out]
    program = subprocess.Popen(command, cwd=place, env=TWO_CORES, stderr=subprocess.PIPE, text=True)
    while len(list((place / out).glob("[0-9]*.png"))) < 100:
        assert program.poll() is None, program.communicate()[1]
        time.sleep(0.005)
    return program, parts_in(place)


def parts_in(place: Path) -> list[int]:
    """Return the processes that refine a part in `place`: those whose parent does so, too."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if (folder / "cwd").readlink() == place:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    return [process for process, parent in parents.items() if parents.get(parent, 0) and parent != process]


def assert_resumes(place: Path, out: str) -> None:
    """Check that no result is incomplete, that no process is left, and that the same command completes the job."""
    deadline = time.monotonic() + 20
    while parts_in(place):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    complete = files_below(place / "one")
    done = {name: content for name, content in files_below(place / out).items() if not name.startswith(".tmp-")}
    assert done.items() <= complete.items()
    assert len(done) < len(complete)
    assert simgan(*COMMAND, "--out", out, cwd=place, env=TWO_CORES).returncode == 3
    assert files_below(place / out) == complete


def test_two_processes_write_the_results_the_manifest_and_the_report_of_one(place: Path) -> None:
    files = ["--manifest", "two.jsonl", "--compare", "two.png"]
    two = simgan(*COMMAND, "--out", "two", *files, "--json", cwd=place, env=TWO_CORES)
    assert two.returncode == 3, two.stderr
    assert files_below(place / "two") == files_below(place / "one")
    lines = [
        sorted((place / f"{name}.jsonl").read_text().replace(f"{name}/", "").splitlines()) for name in ("one", "two")
    ]
    assert lines[0] == lines[1]
    assert (place / "one.png").read_bytes() == (place / "two.png").read_bytes()
    document = json.loads(two.stdout)
    assert (document["refined"], document["looked_like_labels"], document["labels"]) == (COUNT - 4, 4, 1 + 4)
    assert [Path(failure["path"]).name for failure in document["failed"]] == ["bad.png"]
    assert "bad.png" in two.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_to_the_first_process_stops_all(place: Path, number: signal.Signals, code: int) -> None:
    program, parts = start(place, number.name)
    assert len(parts) == 2
    for part in 2 * parts:  # a terminal sends Ctrl-C to all processes
        os.kill(part, number)
    program.send_signal(number)
    stderr = program.communicate(timeout=60)[1]
    assert "\nrefined " in stderr and "rerun the same command, with --skip-existing" in stderr
    assert program.returncode == code
    assert_resumes(place, number.name)


def test_the_parts_end_with_a_killed_first_process(place: Path) -> None:
    program, parts = start(place, "killed")
    assert len(parts) == 2
    program.kill()
    program.communicate(timeout=60)
    assert_resumes(place, "killed")


@pytest.mark.parametrize("count", [1, 2])
def test_killed_parts_end_the_job_with_an_error(place: Path, count: int) -> None:
    program, parts = start(place, f"bereft of {count}")
    for part in parts[:count]:
        os.kill(part, signal.SIGKILL)
    stderr = program.communicate(timeout=60)[1]
    assert program.returncode == 1
    assert "error: a process of this job ended with code -9, as by lack of memory; rerun the same command" in stderr
    assert_resumes(place, f"bereft of {count}")
