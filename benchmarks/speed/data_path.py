"""Seconds and peak memory until a training starts, by the number of images.

Each number is a process of its own, imports included. `build` decodes all images into the cache, and `open` finds them
there (`open_pixels`, without torch). `dry-run` and `start` are complete commands; `start` is `simgan train` with a
filled cache and one update of a tiny network. The images are hard links to a few files, in a folder or in tar shards.

`us/image` is CPU time without that of `--base` images, which is the interpreter's and torch's. Where the time is
linear, `us/image` is constant, and `ratio` is the ratio of the numbers of images.
"""

import io
import os
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.speed._table import SIMGAN, Cost, parser_of, print_head, spread, watched

SOURCES = 256  # files that are linked to; a file system allows some 65,000 links to one
SHARD = 10_000  # images in a tar
# One update of networks that cost nothing.
UPDATE = [
    "--refiner-width", "4", "--refiner-blocks", "1", "--batch-size", "4", "--history-size", "0", "--steps", "1",
    "--pretrain-discriminator", "0", "--sample-every", "0", "--eval-every", "0", "--quiet", "--device", "cpu",
]  # fmt: skip
COLUMNS = ("images", "part", "seconds (min-max)", "core seconds", "us/image", "ratio", "images/s", "peak MB")
OPEN = (
    "import sys; from pathlib import Path; from simgan_cli.data.cache import Source, open_pixels;"
    "from simgan_cli.data.decoding import Preparation;"
    "open_pixels(Source(Path(sys.argv[1])), Preparation(), sys.argv[2], int(sys.argv[3]), lambda done, total: None)"
)


def sources_of(images: Path, work: Path) -> list[Path]:
    """Copy the first PNGs of a folder to `work`, since hard links cannot leave a file system."""
    folder = work / "sources"
    folder.mkdir()
    originals = sorted(path for path in images.iterdir() if path.suffix == ".png")[:SOURCES]
    return [Path(shutil.copy(path, folder)) for path in originals]


def made(sources: list[Path], count: int, folder: Path, *, packed: bool = False) -> Path:
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
    """Measure the four commands on a folder, `rounds` times each, in turn."""
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
            costs[kind].append(watched(command))
        for folder_made in ("cache", "run"):
            shutil.rmtree(work / folder_made)
    return costs


def bare_decoding(sources: list[Path]) -> float:
    """Return the CPU seconds that Pillow alone takes to read and decode an image, the floor of `build`."""
    started = time.process_time()
    for source in sources:
        with Image.open(source) as image:
            np.asarray(image)
    return (time.process_time() - started) / len(sources)


def main() -> None:
    """Print a Markdown table."""
    parser = parser_of(__doc__, rounds=3)
    parser.add_argument("images", type=Path, help="folder of PNGs of one size, not nested; a few are enough")
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--base", type=int, default=100, help="images whose time is subtracted")
    parser.add_argument("--workers", type=int, default=1, help="cores that decode")
    parser.add_argument("--tar", action="store_true", help=f"pack the images into shards of {SHARD:,}")
    parser.add_argument("--work", type=Path, help="where to make the images; by default the folder for temporary files")
    options = parser.parse_args()
    conditions = f"{options.workers} decoding, {'tar shards' if options.tar else 'hard links'}"
    add_row = print_head(COLUMNS, conditions, options.record)
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        work = Path(name)
        sources = sources_of(options.images, work)
        real = made(sources, options.base, work / "real", packed=options.tar)
        base: dict[str, float] = {}
        before: dict[str, float] = {}
        for count in [options.base, *options.counts]:
            folder = made(sources, count, work / f"{count}", packed=options.tar)
            rounds = options.rounds if count <= 100_000 else 1
            for kind, costs in starts(folder, real, work, rounds, options.workers).items():
                seconds = [cost.seconds for cost in costs]
                cpu, peak = (statistics.median(getattr(cost, name) for cost in costs) for name in ("cpu", "peak_mb"))
                own = cpu - base.setdefault(kind, cpu)
                if kind == "build":
                    built = own / count
                ratio = f"{own / before[kind]:.1f}" if before.get(kind) else ""
                before[kind] = own
                add_row((
                    f"{count:,}", kind, spread(seconds, 1), f"{cpu:.1f}", f"{1e6 * own / count:.1f}", ratio,
                    f"{count / statistics.median(seconds):,.0f}", f"{peak:.0f}",
                ))  # fmt: skip
            shutil.rmtree(folder)
        floors = [1e6 * bare_decoding(sources) for _ in range(9)]
        share = statistics.median(floors) / (1e6 * built)
        print(f"\nfloor of build: {spread(floors, 1)} us/image, Pillow alone; share at {count:,} images: {share:.0%}")


if __name__ == "__main__":
    main()
