"""Kill training and refining at random, or limit disk, files and memory, then resume and compare the results.

    python -m benchmarks.stress.crash --kills 300 --faults 60 --seed 0

Each trial runs a real command in a process forked from this one, which has already imported torch. A kill is SIGKILL
after a random part of the command's time, or when a temporary file appears at a chosen place: during a save, an export
or the building of the cache. A fault is a real limit of the process (RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_AS) or, as
root, a real small or read-only file system. After each, the same command is rerun until it succeeds. Its files must
then equal those of an undisturbed command, byte for byte.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.stress._fork import fork, silence, wait, warm_up

HEAVY = ("simgan_cli.cli.app", "simgan_cli.engine.training.build", "simgan_cli.engine.refining.job", "torch._dynamo")
MEMORY = "no more memory"
WALL_SECONDS = 300  # seconds for any command
NOT_COMPARED = {"images_per_second", "peak_memory_mb"}
TRAIN = [
    "train", "--synthetic", "synthetic", "--real", "real", "--out", "out/run", "--cache", "out/cache",
    "--resume", "auto", "--device", "cpu", "--refiner-width", "4", "--refiner-blocks", "1", "--batch-size", "4",
    "--history-size", "12", "--pretrain-refiner", "2", "--pretrain-discriminator", "2", "--steps", "6",
    "--save-every", "3", "--keep", "0", "--log-every", "4", "--sample-every", "5", "--eval-every", "0",
    "--psi", "identity",
]  # fmt: skip
REFINE = [
    "refine", "renders", "--model", "model", "--out", "out/refined", "--batch-size", "4", "--skip-existing",
    "--device", "cpu", "--workers", "2",
]  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A command, the places of its temporary files, and the files to compare at the end."""

    name: str
    command: list[str]
    places: dict[str, str]  # name of a phase to the glob of its temporary file
    result: Callable[[Path], dict[str, Any]]


@dataclass
class Ended:
    """The end of a process, and its output."""

    code: int  # negative: by that signal
    said: str


def files_below(folder: Path) -> dict[str, bytes]:
    """Return the content of every file by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def trained(world: Path) -> dict[str, Any]:
    """Return the content of a run's folder and its cache, without parts that depend on the clock or the load."""
    contents: dict[str, Any] = {}
    for name, content in files_below(world / "out").items():
        if name.endswith("state.json"):
            state = json.loads(content)
            del state["settings"]["cache"]
            contents[name] = state
        elif name.endswith("metrics.jsonl"):
            lines = [json.loads(line) for line in content.splitlines()]
            contents[name] = [{key: line[key] for key in line if key not in NOT_COMPARED} for line in lines]
        elif not name.endswith(("log.txt", "report.html", "manifest.json", "README.md", ".lock")):
            contents[name] = content
    return contents


def refined(world: Path) -> dict[str, Any]:
    """Return the files of a refining job, and its sources, which must not change."""
    return {**files_below(world / "out" / "refined"), **files_below(world / "renders")}


JOBS = (
    Job(
        "train", TRAIN,
        {"building the cache": "out/cache/simgan-pixels/.tmp-*/pixels.bin", "a save": "out/run/checkpoints/.tmp-*/*",
         "an export": "out/run/refiner/.tmp-*", "a picture": "out/run/samples/.tmp-*"},
        trained,
    ),
    Job("refine", REFINE, {"writing an image": "out/refined/**/.tmp-*", "first results": "out/refined/*.png"}, refined),
)  # fmt: skip


def build(world: Path) -> None:
    """Write images, labels, archives and a model."""
    import tarfile
    import zipfile

    import torch

    from simgan_cli.engine.export.network_folder import save_network
    from simgan_cli.engine.method.networks import Refiner

    rng = np.random.default_rng(0)

    def write(folder: Path, count: int) -> None:
        folder.mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (16, 20), np.uint8)).save(folder / f"{number}.png")

    write(world / "synthetic", 40)
    write(world / "real", 10)
    write(world / "renders", 24)
    write(world / "renders" / "sub", 12)
    (world / "renders" / "labels.csv").write_text("file,pitch,yaw\n" * 500)
    with (
        tarfile.open(world / "renders" / "shard.tar", "w") as tar,
        zipfile.ZipFile(world / "renders" / "shard.zip", "w") as packed,
    ):
        for path in sorted((world / "synthetic").iterdir())[:12]:
            tar.add(path, path.name)
            packed.write(path, path.name)
    torch.manual_seed(0)
    network = Refiner(1, 8, 1)
    save_network(world / "model", network, {"preprocess": "none", "size": [16, 20]}, {})


def start(world: Path, command: list[str], prepare: Callable[[], None] | None = None) -> int:
    """Run a command of simgan in `world` in a forked process; return the process id."""

    def run() -> int:
        os.chdir(world)
        silence("talk.txt")
        sys.argv = ["simgan", *command]
        from simgan_cli.cli.app import main

        code: object = 1
        if prepare is not None:
            prepare()
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:  # what the interpreter would print
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        return code if isinstance(code, int) else 1

    return fork(run)


def ended(world: Path, process: int) -> Ended:
    """Wait for a process to end; one that hangs is killed."""
    return Ended(wait(process, WALL_SECONDS), (world / "talk.txt").read_text(errors="replace"))


def shows(world: Path, place: str) -> bool:
    """Return whether a file exists, while a command may be moving it."""
    try:
        return next(world.glob(place), None) is not None
    except FileNotFoundError:
        return False


def kill_at(world: Path, process: int, moment: float, place: str | None) -> bool:
    """Kill after `moment` seconds or, with a `place`, when a file appears there; return whether the kill hit."""
    until = time.monotonic() + (moment if place is None else WALL_SECONDS)
    while time.monotonic() < until and not (place and shows(world, place)):
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        time.sleep(0 if place else 0.001)
    os.kill(process, signal.SIGKILL)
    return True


def happening(world: Path, job: Job) -> str:
    """Return the phase of a killed command, by the files that it left."""
    for name, place in job.places.items():
        if ".tmp-" in place and shows(world, place):
            return name
    lines = world / "out" / "run" / "metrics.jsonl"
    if job.name == "refine":
        return "refining" if (world / "out" / "refined").is_dir() else "starting"
    if lines.is_file() and lines.stat().st_size:
        return "training: after " + str(json.loads(lines.read_text().splitlines()[-1])["phase"])
    return "training: before the first line" if (world / "out" / "run" / "config.json").is_file() else "starting"


class Harness:
    """A folder with undisturbed results; disturbed commands must give the same, or are `problems`."""

    def __init__(self, world: Path, seed: int) -> None:
        self.world, self.rng = world, random.Random(seed)
        self.problems: list[str] = []
        self.expected: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}
        build(world)
        for job in JOBS:
            started = time.monotonic()
            end = self._run(job)
            assert end.code == 0, end.said
            self.seconds[job.name] = time.monotonic() - started
            self.expected[job.name] = job.result(world)
            self._clear()

    def _run(self, job: Job, prepare: Callable[[], None] | None = None) -> Ended:
        return ended(self.world, start(self.world, job.command, prepare))

    def _clear(self) -> None:
        shutil.rmtree(self.world / "out", ignore_errors=True)

    def _note(self, job: Job, what: str, end: Ended) -> None:
        self.problems.append(f"{job.name} after {what}: exit code {end.code}: {end.said[-600:]}")

    def kills(self, count: int) -> Counter[tuple[str, str]]:
        """Kill `count` times in all, one to three times before a command may end; return the phase of each kill."""
        landed = Counter[tuple[str, str]]()
        while landed.total() < count:
            job = JOBS[self.rng.random() < 0.3]
            what = "kills at"
            for _ in range(self.rng.randrange(1, 4)):
                place = self.rng.choice([None, *job.places.values()])
                moment = self.rng.uniform(0, 1.1 * self.seconds[job.name])
                process = start(self.world, job.command)
                if kill_at(self.world, process, moment, place):
                    landed[job.name, happening(self.world, job)] += 1
                    what += f" {place or f'{moment:.2f} s'}"
                end = ended(self.world, process)
                if end.code not in (0, -signal.SIGKILL):
                    self._note(job, what, end)
            self._finish(job, what)
        return landed

    def faults(self, count: int) -> Counter[tuple[str, str]]:
        """Limit a resource of the process `count` times; return how each process ended."""
        from simgan_cli.engine.run_folder.checkpoints import verify_checkpoint

        landed = Counter[tuple[str, str]]()
        ways = list(FAULTS)
        for number in range(count):
            job, name = JOBS[number % len(JOBS)], ways[number % len(ways)]  # 2 and 3 or 5: every pair in turn
            with FAULTS[name](self.world, self.rng) as prepare:
                end = self._run(job, prepare)
                # C code reports it by glibc's own line alone.
                died = name == MEMORY and (end.code < 0 or end.said.rstrip().endswith(": ABORT"))
                clear = end.code in (0, 1, 3, 4) and "Traceback" not in end.said
                if not died and (not clear or (end.code and "error: " not in end.said)):
                    self._note(job, name, end)
                kept = list((self.world / "out").rglob("manifest.json"))
            how = "ended in C code" if died else "a clear error" if end.code else "not reached"
            landed[f"{job.name}, {name}", how] += 1
            for path in kept:
                if path.exists():
                    verify_checkpoint(path.parent)  # what was saved before is complete
            self._finish(job, name)
        return landed

    def _finish(self, job: Job, what: str) -> None:
        """Run the command to its end and compare its files."""
        end = self._run(job)
        result, expected = job.result(self.world), self.expected[job.name]
        different = [name for name in result.keys() | expected.keys() if result.get(name) != expected.get(name)]
        if end.code != 0:
            self._note(job, what, end)
        elif different:
            self.problems.append(f"{job.name} after {what}: differs in {sorted(different)[:5]}")
        self._clear()


def _limited(name: int, low: int, high: int, *, above: Callable[[], int] = lambda: 0) -> Any:
    @contextlib.contextmanager
    def fault(world: Path, rng: random.Random) -> Iterator[Callable[[], None]]:
        limit = int(low * (high / low) ** rng.random()) + above()

        def prepare() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(name, (limit, resource.getrlimit(name)[1]))

        yield prepare

    return fault


def _mounted(options: Callable[[random.Random], str]) -> Any:
    """Return a fault that puts --out on a file system of its own; its files are kept for the next command."""

    @contextlib.contextmanager
    def fault(world: Path, rng: random.Random) -> Iterator[None]:
        out, kept = world / "out", world / "kept"
        out.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options(rng), "tmpfs", out], check=True, capture_output=True)
        try:
            yield
            shutil.copytree(out, kept, symlinks=True)
        finally:
            subprocess.run(["umount", out], check=True)
        out.rmdir()
        kept.rename(out)

    return fault


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


FAULTS: dict[str, Any] = {
    "a limit on file sizes": _limited(resource.RLIMIT_FSIZE, 5_000, 60_000),
    "no more file descriptors": _limited(resource.RLIMIT_NOFILE, 5, 40),
    MEMORY: _limited(resource.RLIMIT_AS, 1_000_000, 400_000_000, above=_address_space),
}


MOUNTED: dict[str, Any] = {
    "a full disk": _mounted(lambda rng: f"size={rng.choice((16, 32, 64, 128, 200))}k"),
    "a read-only disk": _mounted(lambda rng: "ro"),
}


def can_mount() -> bool:
    """Return whether this process may mount a file system."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return False
        subprocess.run(["umount", folder], check=True)
    return True


def main() -> int:
    """Run the trials, print the results, and exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ.update({"NO_COLOR": "1", "COLUMNS": "200"})
    warm_up(HEAVY)
    if can_mount():
        FAULTS.update(MOUNTED)
    else:
        print("no right to mount: a full and a read-only disk are left out")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="simgan-crash-") as folder:
        harness = Harness(Path(folder), arguments.seed)
        kills, faults = harness.kills(arguments.kills), harness.faults(arguments.faults)
    for title, landed in (("killed during", kills), ("fault", faults)):
        print(f"| command | {title} | times |\n|---|---|---|")
        for (job, what), count in sorted(landed.items()):
            print(f"| {job} | {what} | {count} |")
        print(f"| all | | {landed.total()} |\n")
    print(f"{len(harness.problems)} problems. Seed {arguments.seed}, {time.monotonic() - started:.0f} s.")
    for problem in harness.problems:
        print(f"- {problem}")
    return bool(harness.problems)


if __name__ == "__main__":
    sys.exit(main())
