"""Seconds and peak memory until a training starts, by the number of images.

Each number is a process of its own from its start to its end, imports included. `build` decodes all images into the
cache and `open` finds them there (`open_pixels`, without torch); `dry-run` and `start` are whole commands, the latter
`simgan train` with the cache at hand and one update of a tiny network. The images are hard links to a few files, in a
folder, or packed into tar shards. `us/image` is of a core, and what is left after `--base` images' share: that of the
interpreter and torch. It stays the same, and `ratio` is that of the numbers of images, where the time is linear.
"""

import argparse
import io
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.speed.train_step import machine

SIMGAN = str(Path(sys.executable).with_name("simgan"))
SOURCES = 256  # files that are linked to; a file system allows some 65,000 links to one
SHARD = 10_000  # images in a tar
# One update of networks that cost nothing.
UPDATE = [
    "--refiner-width", "4", "--refiner-blocks", "1", "--batch-size", "4", "--history-size", "0", "--steps", "1",
    "--pretrain-discriminator", "0", "--sample-every", "0", "--eval-every", "0", "--quiet", "--device", "cpu",
]  # fmt: skip
OPEN = (
    "import sys; from pathlib import Path; from simgan_cli.data.cache import Source, open_pixels;"
    "from simgan_cli.data.decoding import Preparation;"
    "open_pixels(Source(Path(sys.argv[1])), Preparation(), sys.argv[2], int(sys.argv[3]), lambda done, total: None)"
)
# GNU time is not everywhere, so a small parent process reports what the child took.
WATCHED = (
    "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
    "u = resource.getrusage(resource.RUSAGE_CHILDREN); print(u.ru_utime + u.ru_stime, u.ru_maxrss);"
    "sys.exit(r.returncode)"
)


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds by the clock and of a core, and memory."""

    seconds: float
    core_seconds: float
    peak_mb: float


def measured(*command: str) -> Cost:
    """Run a command and watch it."""
    started = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", WATCHED, *command], check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started
    core_seconds, peak = result.stdout.split()
    return Cost(seconds, float(core_seconds), int(peak) * 1024 / 1e6)


def made(sources: list[Path], count: int, folder: Path, *, packed: bool) -> Path:
    """Return a folder of `count` images: links to `sources` in turn, or tar shards of them."""
    folder.mkdir()
    if not packed:
        for number in range(count):
            os.link(sources[number % len(sources)], folder / f"{number:07}.png")
        return folder
    contents = [source.read_bytes() for source in sources]
    for start in range(0, count, SHARD):
        with tarfile.open(folder / f"{start // SHARD:06}.tar", "w") as shard:
            for number in range(start, min(start + SHARD, count)):
                content = contents[number % len(contents)]
                member = tarfile.TarInfo(f"{number:07}.png")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return folder


def starts(folder: Path, real: Path, work: Path, rounds: int, workers: int) -> dict[str, list[Cost]]:
    """Measure the four ways into a folder, `rounds` times each, in turn."""
    cache = str(work / "cache")
    opening = [sys.executable, "-c", OPEN, str(folder), cache, str(workers)]
    training = [SIMGAN, "train", "--synthetic", str(folder), "--real", str(real), "--out", str(work / "run"), *UPDATE]
    commands = {
        "dry-run": [*training, "--dry-run"],
        "build": opening,
        "open": opening,
        "start": [*training, "--cache", cache, "--workers", str(workers)],
    }
    costs: dict[str, list[Cost]] = {kind: [] for kind in commands}
    for _ in range(rounds):
        for kind, command in commands.items():
            costs[kind].append(measured(*command))
        for folder_made in ("cache", "run"):
            shutil.rmtree(work / folder_made)
    return costs


def bare_decoding(sources: list[Path]) -> float:
    """Return the seconds of a core that Pillow alone takes to read and decode an image: the floor of `build`."""
    started = time.process_time()
    for source in sources:
        with Image.open(source) as image:
            np.asarray(image)
    return (time.process_time() - started) / len(sources)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", type=Path, help="folder of PNGs of one size, not nested; a few will do")
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--base", type=int, default=100, help="images that stand for none")
    parser.add_argument("--rounds", type=int, default=3, help="above 100,000 images one round must do")
    parser.add_argument("--workers", type=int, default=1, help="cores that decode")
    parser.add_argument("--tar", action="store_true", help=f"pack the images into shards of {SHARD:,}")
    parser.add_argument("--work", type=Path, help="where to make the images; by default the folder for temporary files")
    options = parser.parse_args()
    print(f"{machine()}, {options.workers} decoding, {'tar shards' if options.tar else 'hard links'}\n")
    print("| images | | seconds (min-max) | core seconds | us/image | ratio | images/s | peak MB |")
    print("|---:|---|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        work = Path(name)
        (work / "sources").mkdir()
        originals = sorted(path for path in options.images.iterdir() if path.suffix == ".png")[:SOURCES]
        sources = [Path(shutil.copy(path, work / "sources")) for path in originals]
        real = made(sources, options.base, work / "real", packed=options.tar)
        base: dict[str, float] = {}
        before: dict[str, float] = {}
        floors = [bare_decoding(sources) for _ in range(9)]
        for count in [options.base, *options.counts]:
            folder = made(sources, count, work / f"{count}", packed=options.tar)
            rounds = options.rounds if count <= 100_000 else 1
            for kind, costs in starts(folder, real, work, rounds, options.workers).items():
                seconds = [cost.seconds for cost in costs]
                median = statistics.median(seconds)
                core = statistics.median(cost.core_seconds for cost in costs)
                own = core - base.setdefault(kind, core)
                if kind == "build":
                    built = own / count
                ratio = f"{own / before[kind]:.1f}" if before.get(kind) else ""
                before[kind] = own
                print(
                    f"| {count:,} | {kind} | {median:.1f} ({min(seconds):.1f}-{max(seconds):.1f}) | {core:.1f} "
                    f"| {1e6 * own / count:.1f} | {ratio} | {count / median:,.0f} "
                    f"| {statistics.median(cost.peak_mb for cost in costs):.0f} |",
                    flush=True,
                )
            shutil.rmtree(folder)
        floor = statistics.median(floors)
        print(f"\nfloor of build: {1e6 * floor:.1f} ({1e6 * min(floors):.1f}-{1e6 * max(floors):.1f}) us/image, Pillow "
              f"alone; share at {count:,} images: {floor / built:.0%}")  # fmt: skip


if __name__ == "__main__":
    main()
