"""Kill training and refining at random instants, or take disk, files and memory from them, and go on: is it the same?

    python -m benchmarks.stress.crash --kills 300 --faults 60 --seed 0

Each trial runs a real command in a process of its own, forked from this one, which has imported torch already. A kill
is SIGKILL after a random part of the command's time, or the moment a temporary file shows at a chosen place, so that it
comes during a save, an export or the building of the cache. A fault is a real limit of the process (RLIMIT_FSIZE,
RLIMIT_NOFILE, RLIMIT_AS) or, as root, a real small or read-only file system. After each the same command is repeated
until it is done, and everything it leaves must be, byte for byte, what an undisturbed one leaves.
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
    "--history-size", "12", "--pretrain-refiner", "4", "--pretrain-discriminator", "4", "--steps", "12",
    "--save-every", "3", "--keep", "0", "--log-every", "5", "--sample-every", "8", "--eval-every", "0",
    "--psi", "identity",
]  # fmt: skip
REFINE = [
    "refine", "renders", "--model", "model", "--out", "out/refined", "--batch-size", "4", "--skip-existing",
    "--device", "cpu", "--workers", "2",
]  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A command, where its temporary files show, and what must be the same in the end."""

    name: str
    command: list[str]
    places: dict[str, str]  # glob of a temporary file, by what is going on then
    result: Callable[[Path], dict[str, Any]]


@dataclass
class Ended:
    """How a process ended, and what it said."""

    code: int  # negative: by that signal
    said: str


def files_below(folder: Path) -> dict[str, bytes]:
    """Return the content of every file by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def trained(world: Path) -> dict[str, Any]:
    """Return all that a run's folder and its cache hold, less what depends on the clock or the machine's load."""
    found: dict[str, Any] = {}
    for name, content in files_below(world / "out").items():
        if name.endswith("state.json"):
            state = json.loads(content)
            del state["settings"]["cache"]
            found[name] = state
        elif name.endswith("metrics.jsonl"):
            lines = [json.loads(line) for line in content.splitlines()]
            found[name] = [{key: line[key] for key in line if key not in NOT_COMPARED} for line in lines]
        elif not name.endswith(("log.txt", "report.html", "manifest.json", "README.md", ".lock")):
            found[name] = content
    return found


def refined(world: Path) -> dict[str, Any]:
    """Return all that a refining job has written, and its sources, which must not change."""
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
    """Run a command of simgan in `world` in a forked process; return its number."""

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
    """Return whether there is a file at a place, while a command may be moving it."""
    try:
        return next(world.glob(place), None) is not None
    except FileNotFoundError:
        return False


def kill_at(world: Path, process: int, moment: float, place: str | None) -> bool:
    """Kill after `moment` seconds or, with a `place`, when a file shows there; return whether it came in time."""
    until = time.monotonic() + (moment if place is None else WALL_SECONDS)
    while time.monotonic() < until and not (place and shows(world, place)):
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        if place is None:
            time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    return True


def happening(world: Path, job: Job) -> str:
    """Return what a killed command was at, by what it left."""
    for name, place in job.places.items():
        if ".tmp-" in place and shows(world, place):
            return name
    lines = world / "out" / "run" / "metrics.jsonl"
    if job.name == "refine":
        return "refining" if (world / "out" / "refined").is_dir() else "starting"
    if lines.is_file() and lines.stat().st_size:
        return "training: after " + str(json.loads(lines.read_text().splitlines()[-1])["phase"])
    return "training: before the first line" if (world / "out" / "run" / "config.json").is_file() else "starting"


@dataclass
class Trials:
    """What a number of trials showed."""

    landed: Counter[tuple[str, str]]
    problems: list[str]


class Harness:
    """A world with undisturbed results, and disturbed commands that must come to the same."""

    def __init__(self, world: Path, seed: int) -> None:
        self.world, self.rng = world, random.Random(seed)
        build(world)
        self.expected: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}
        for job in JOBS:
            started = time.monotonic()
            end = ended(world, start(world, job.command))
            assert end.code == 0, end.said
            self.seconds[job.name] = time.monotonic() - started
            self.expected[job.name] = job.result(world)
            self._clear()

    def _clear(self) -> None:
        shutil.rmtree(self.world / "out", ignore_errors=True)

    def kills(self, count: int) -> Trials:
        """Kill `count` times in all, one to three times before a command may end."""
        trials = Trials(Counter(), [])
        while trials.landed.total() < count:
            job = JOBS[self.rng.random() < 0.3]
            what = []
            for _ in range(self.rng.randrange(1, 4)):
                place = self.rng.choice([None, *job.places.values()])
                moment = self.rng.uniform(0, 1.1 * self.seconds[job.name])
                process = start(self.world, job.command)
                if kill_at(self.world, process, moment, place):
                    trials.landed[job.name, happening(self.world, job)] += 1
                    what.append(f"{place or f'{moment:.2f} s'}")
                end = ended(self.world, process)
                if end.code not in (0, -signal.SIGKILL):
                    trials.problems.append(f"{job.name} after kills at {what}: exit code {end.code}: {end.said[-300:]}")
            self._finish(job, f"kills at {', '.join(what)}", trials)
        return trials

    def faults(self, count: int) -> Trials:
        """Take something from the process `count` times."""
        trials = Trials(Counter(), [])
        ways = list(FAULTS)
        for number in range(count):
            job, name = JOBS[number // len(ways) % len(JOBS)], ways[number % len(ways)]
            with FAULTS[name](self.world, self.rng) as prepare:
                end = ended(self.world, start(self.world, job.command, prepare))
                # In C code, which has no way to say so but glibc's own line.
                died = name == MEMORY and (end.code < 0 or end.said.rstrip().endswith(": ABORT"))
                clear = end.code in (0, 1, 3, 4) and "Traceback" not in end.said
                if not died and (not clear or (end.code and "error: " not in end.said)):
                    trials.problems.append(f"{job.name} with {name}: exit code {end.code}: {end.said[-600:]}")
                how = "ended in C code" if died else "a clear error" if end.code else "not reached"
                kept = list((self.world / "out").rglob("manifest.json"))
            trials.landed[f"{job.name}, {name}", how] += 1
            from simgan_cli.engine.run_folder.checkpoints import verify_checkpoint

            for path in kept:
                if path.exists():
                    verify_checkpoint(path.parent)  # what was saved before is whole
            self._finish(job, name, trials)
        return trials

    def _finish(self, job: Job, what: str, trials: Trials) -> None:
        end = ended(self.world, start(self.world, job.command))
        if end.code != 0:
            trials.problems.append(f"{job.name} after {what}: exit code {end.code}: {end.said[-600:]}")
        else:
            found, expected = job.result(self.world), self.expected[job.name]
            different = [
                name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)
            ]
            if different:
                trials.problems.append(f"{job.name} after {what}: differs in {different[:5]}")
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


@contextlib.contextmanager
def small_disk(world: Path, rng: random.Random) -> Iterator[None]:
    """Put --out on a file system with little room; what fitted is kept for the next command."""
    with _mounted(world, ["-t", "tmpfs", "-o", f"size={rng.choice((16, 32, 64, 128, 200))}k", "tmpfs"]):
        yield


@contextlib.contextmanager
def read_only(world: Path, rng: random.Random) -> Iterator[None]:
    """Put --out on a file system that takes nothing."""
    with _mounted(world, ["-t", "tmpfs", "-o", "ro", "tmpfs"]):
        yield


@contextlib.contextmanager
def _mounted(world: Path, options: list[str]) -> Iterator[None]:
    out = world / "out"
    out.mkdir()
    subprocess.run(["mount", *options, str(out)], check=True, capture_output=True)
    try:
        yield
        shutil.copytree(out, world / "kept", symlinks=True, copy_function=shutil.copy2)
    finally:
        subprocess.run(["umount", str(out)], check=True)
    out.rmdir()
    (world / "kept").rename(out)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


FAULTS: dict[str, Any] = {
    "a limit on file sizes": _limited(resource.RLIMIT_FSIZE, 5_000, 60_000),
    "no more file descriptors": _limited(resource.RLIMIT_NOFILE, 5, 40),
    MEMORY: _limited(resource.RLIMIT_AS, 1_000_000, 400_000_000, above=_address_space),
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
    """Disturb, print what came of it, exit with 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ.update({"NO_COLOR": "1", "COLUMNS": "200"})
    warm_up(HEAVY)
    if can_mount():
        FAULTS.update({"a full disk": small_disk, "a read-only disk": read_only})
    else:
        print("no right to mount: a full and a read-only disk are left out")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="simgan-crash-") as folder:
        harness = Harness(Path(folder), arguments.seed)
        kills, faults = harness.kills(arguments.kills), harness.faults(arguments.faults)
    for title, trials in (("killed during", kills), ("fault", faults)):
        print(f"| command | {title} | times |\n|---|---|---|")
        for (job, what), count in sorted(trials.landed.items()):
            print(f"| {job} | {what} | {count} |")
        print(f"| all | | {trials.landed.total()} |\n")
    problems = [*kills.problems, *faults.problems]
    print(f"{len(problems)} problems. Seed {arguments.seed}, {time.monotonic() - started:.0f} s.")
    for problem in problems:
        print(f"- {problem}")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
