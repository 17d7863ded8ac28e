"""Throughput of `simgan refine`, files to files, against the bare network on batches of the same size.

`job` is what `simgan refine --json` reports, `process` the whole command with the interpreter's start and the imports,
`bare` the same network's forward pass on a fixed random batch in this process. Rounds of all three alternate; ratios
are taken round by round.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.speed._table import SIMGAN, Cost, parser_of, print_head, print_row, spread, watched
from benchmarks.speed.data_path import made, sources_of
from simgan_cli.engine.export.refiner_model import open_model
from simgan_cli.engine.runtime.device import prepare_process, resolve_device

COLUMNS = (
    "images", "bare images/s", "job images/s", "process images/s", "job/bare (min-max)", "process/bare (min-max)",
    "peak MB",
)  # fmt: skip


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


def refine(images: Path, options: argparse.Namespace, out: Path) -> tuple[dict[str, float], Cost]:
    """Run the command into a fresh folder; return its report and what its process took."""
    shutil.rmtree(out, ignore_errors=True)
    flags = ["--batch-size", options.batch_size, "--device", options.device, "--json", "--quiet"]
    cost = watched([SIMGAN, "refine", images, "--model", options.model, "--out", out, *flags])
    return json.loads(cost.output), cost


def main() -> None:
    """Print Markdown tables."""
    parser = parser_of(__doc__, rounds=3, size=(35, 55), device="cpu")
    parser.add_argument("images", type=Path, help="folder of PNGs of one size, not nested")
    parser.add_argument("model", type=Path, help="a run or an exported refiner")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--memory", type=int, nargs="*", default=[], help="also: peak memory at these numbers of images"
    )
    options = parser.parse_args()
    add_row = print_head(COLUMNS, f"device {options.device}, batch {options.batch_size}", options.record)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        rows = []
        for _ in range(options.rounds):
            bare = bare_images_per_second(options.model, options.size, options.batch_size, options.device, 10)
            report, cost = refine(options.images, options, work / "refined")
            rows.append((bare, report["images_per_second"], report["refined"] / cost.seconds, cost.peak_mb))
        *rates, peak = (statistics.median(column) for column in zip(*rows, strict=True))
        shares = [spread([row[place] / row[0] for row in rows], 3) for place in (1, 2)]
        add_row((f"{report['images']:,}", *(f"{rate:.1f}" for rate in rates), *shares, f"{peak:.0f}"))
        if options.memory:
            print()
            print_row(("images (links)", "peak MB", "images/s"))
            print_row(["---"] * 3)
            sources = sources_of(options.images, work)
        for count in options.memory:
            report, cost = refine(made(sources, count, work / f"{count}"), options, work / "refined")
            print_row((f"{count:,}", f"{cost.peak_mb:.0f}", f"{report['images_per_second']:.1f}"))


if __name__ == "__main__":
    main()
