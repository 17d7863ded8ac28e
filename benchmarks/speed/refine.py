"""Throughput of `simgan refine`, files to files, against the bare network on batches of the same size.

`job` is what `simgan refine --json` reports, `process` the whole command with the interpreter's start and the imports,
`bare` the same network's forward pass on a fixed random batch in this process. Rounds of all three alternate; ratios
are taken round by round.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.speed.train_step import machine
from simgan_cli.engine.export.refiner_model import open_model
from simgan_cli.engine.runtime.device import prepare_process, resolve_device

SIMGAN = str(Path(sys.executable).with_name("simgan"))


def bare_images_per_second(model: Path, size: tuple[int, int], batch: int, device_name: str, seconds: float) -> float:
    """Return the images a second of the network alone, run for about `seconds`."""
    device = resolve_device(device_name)
    prepare_process(device, deterministic=False)
    loaded = open_model(model)
    network = loaded.network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.rand(batch, loaded.network.inputs, *size, device=device).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        network(x)
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            network(x)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            count += batch
        return count / (time.perf_counter() - started)


def refine(images: Path, model: Path, batch: int, device: str, work: Path) -> tuple[dict[str, float], float, float]:
    """Run the command into a fresh folder; return its report, the seconds of its process and its peak memory in MB."""
    out = work / "refined"
    shutil.rmtree(out, ignore_errors=True)
    command = [SIMGAN, "refine", str(images), "--model", str(model), "--out", str(out), "--batch-size", str(batch)]
    started = time.perf_counter()
    # GNU time is not everywhere, so a small parent process reports the child's peak.
    script = (
        "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(r.returncode)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *command, "--device", device, "--json", "--quiet"],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    document, peak = result.stdout.splitlines()
    return json.loads(document), seconds, int(peak) * 1024 / 1e6


def linked(images: Path, count: int, folder: Path) -> Path:
    """Return a folder with `count` links to the images of `images`, in turn."""
    files = sorted(path for path in images.iterdir() if path.suffix == ".png")
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:06}.png").symlink_to(files[number % len(files)].resolve())
    return folder


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", type=Path, help="folder of PNGs of one size, not nested")
    parser.add_argument("model", type=Path, help="a run or an exported refiner")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=(35, 55), metavar=("H", "W"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--memory", type=int, nargs="*", default=[], help="also: peak memory at these numbers of images"
    )
    options = parser.parse_args()
    print(f"{machine()}, device {options.device}, batch {options.batch_size}\n")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        rows = []
        for _ in range(options.rounds):
            bare = bare_images_per_second(options.model, tuple(options.size), options.batch_size, options.device, 10)
            report, seconds, peak = refine(options.images, options.model, options.batch_size, options.device, work)
            rows.append((bare, report["images_per_second"], report["refined"] / seconds, peak))
        job, process = ([row[index] / row[0] for row in rows] for index in (1, 2))
        medians = [statistics.median(row[index] for row in rows) for index in range(4)]
        print(
            "| images | bare images/s | job images/s | process images/s | job/bare (min-max) | process/bare | peak MB |"
        )
        print("|---|---|---|---|---|---|---|")
        print(
            f"| {report['images']:,} | {medians[0]:.1f} | {medians[1]:.1f} | {medians[2]:.1f} "
            f"| {statistics.median(job):.3f} ({min(job):.3f}-{max(job):.3f}) "
            f"| {statistics.median(process):.3f} ({min(process):.3f}-{max(process):.3f}) | {medians[3]:.0f} |",
            flush=True,
        )
        if options.memory:
            print("\n| images (links) | peak MB | images/s |\n|---|---|---|")
        for count in options.memory:
            folder = linked(options.images, count, work / f"links-{count}")
            report, _, peak = refine(folder, options.model, options.batch_size, options.device, work)
            print(f"| {count:,} | {peak:.0f} | {report['images_per_second']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
