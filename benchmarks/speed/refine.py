"""CPU time of `simgan refine`, files to files, against the bare network and against Pillow alone.

`bare` is the network's forward pass on a fixed random batch. `job` is a complete job in this process, without the start
of the interpreter and the imports. Every round runs all rows in turn; ratios are taken round by round. Two cores are
measured by the clock, and need both cores free. A job adds noise, files, threads and Python to the network and to
Pillow, which decodes and encodes the same images in memory.
"""

import argparse
import io
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.speed._table import SIMGAN, parser_of, print_head, print_row, spread, watched
from benchmarks.speed.data_path import made, sources_of
from simgan_cli.data.matching import MAX_PHOTOGRAPHS, quantiles_of
from simgan_cli.demo.dataset import synthetic_eyes
from simgan_cli.demo.eye_world import render
from simgan_cli.engine.export.network_folder import save_network
from simgan_cli.engine.export.refiner_model import open_model, save_tones
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.engine.refining.image_file import FORMATS
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.refining.job import RefineJob
from simgan_cli.engine.refining.plan import check_inputs, make_plan
from simgan_cli.engine.refining.processes import ParallelJob, processes_for
from simgan_cli.engine.runtime.device import autocast, prepare_process, resolve_device
from simgan_cli.engine.runtime.stop import StopRequest
from simgan_cli.settings.refine import RefineConfig
from simgan_cli.settings.train import TrainConfig

COLUMNS = ("what", "rate", "unit", "ratio (min-max)", "to")
LARGE = ((480, 640), (2160, 3840))  # colour


@dataclass(frozen=True)
class Rate:
    """One measurement, on images of `pixels` pixels."""

    images: int
    pixels: int
    cpu: float  # seconds
    seconds: float

    @property
    def per_cpu_second(self) -> float:
        """Images a second of all cores."""
        return self.images / self.cpu

    @property
    def megapixels(self) -> float:
        """Megapixels a second of all cores."""
        return self.per_cpu_second * self.pixels / 1e6

    @property
    def per_second(self) -> float:
        """Images a second by the clock."""
        return self.images / self.seconds


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Run the block, and the threads that it starts, on the first `count` cores."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, sorted(cores)[:count])
    torch.set_num_threads(count)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def bare_network(
    model: Path, size: tuple[int, int], batch: int, device_name: str, seconds: float, precision: str = "fp32"
) -> Rate:
    """Run the network alone on batches of `size` for about `seconds` of CPU time."""
    device = resolve_device(device_name)
    prepare_process(device, deterministic=False)
    loaded = open_model(model)
    network = loaded.network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.rand(batch, loaded.network.inputs, *size, device=device).contiguous(memory_format=torch.channels_last)
    count = 0
    with torch.no_grad(), autocast(precision, device)():
        network(x)
        started, cpu = time.perf_counter(), time.process_time()
        while time.process_time() - cpu < seconds:
            network(x)
            count += batch
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return Rate(count, size[0] * size[1], time.process_time() - cpu, time.perf_counter() - started)


def pillow(paths: list[Path], pixels: int) -> Rate:
    """Decode and encode images by Pillow alone, in memory, with the compression of a job."""
    contents = [path.read_bytes() for path in paths]
    started, cpu = time.perf_counter(), time.process_time()
    for content in contents:
        with Image.open(io.BytesIO(content)) as image:
            array = np.asarray(image)
        Image.fromarray(array).save(io.BytesIO(), "PNG", **FORMATS["png"].options)
    return Rate(len(paths), pixels, time.process_time() - cpu, time.perf_counter() - started)


class _Silent:
    def advanced(self, done: int, total: int) -> None: ...

    def warning(self, text: str) -> None: ...


def job(images: Path, model: Path, out: Path, size: tuple[int, int], device_name: str, precision: str) -> Rate:
    """Refine a folder of images of `size` like the command, without its start."""
    device = resolve_device(device_name)
    prepare_process(device, deterministic=False)
    config = RefineConfig(inputs=(images,), model=model, out=out, device=device_name)
    plan = make_plan(check_inputs([images], out), out, None, (0, 1))
    processes = processes_for(plan, torch.get_num_threads(), size)
    torch.set_num_threads(torch.get_num_threads() // processes)
    common = config, plan, ImageRefiner(open_model(model), device, precision=precision), _Silent(), StopRequest(), None
    report = (RefineJob(*common) if processes == 1 else ParallelJob(processes, *common)).run()
    return Rate(report.images, size[0] * size[1], report.cpu_seconds, report.seconds)


def made_model(folder: Path, channels: int) -> Path:
    """Export a refiner of the default settings and random weights, with tones of noise."""
    torch.manual_seed(0)
    network = Refiner(**TrainConfig(synthetic=folder, real=folder, out=folder).refiner_settings(channels))
    torch.nn.init.normal_(network.last.weight, std=0.02)
    save_network(folder, network, {"preprocess": "none"}, {"step": "0"})
    photographs = np.random.default_rng(0).integers(0, 256, (MAX_PHOTOGRAPHS, channels, 35, 55)).astype(np.uint8)
    save_tones(folder, quantiles_of(photographs))
    return folder


def made_images(folder: Path, count: int, size: tuple[int, int], channels: int) -> Path:
    """Render simulated eyes, in colour by a tint."""
    folder.mkdir()
    eyes = synthetic_eyes(count, 0)
    tint = np.array([1.0, 0.8, 0.7], np.float32)
    for number in range(count):
        grey = 255 * render(eyes[number : number + 1], size)[0]
        pixels = np.rint(grey if channels == 1 else grey[..., None] * tint).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.png")
    return folder


class Table:
    """Rates of all rounds by row."""

    def __init__(self) -> None:
        self.rates: dict[str, list[Rate]] = {}

    def add(self, name: str, rate: Rate) -> None:
        """Keep one round's rate of a row."""
        self.rates.setdefault(name, []).append(rate)

    def rows(self, small: tuple[int, int]) -> Iterator[tuple[str, ...]]:
        """Yield the cells of each row, under COLUMNS; large images are compared with colour ones of `small`."""
        a_cpu_second = "images a CPU second"
        for precision in ("fp32", "bf16"):
            bare, pillow, one, two = (
                self.rates[f"{what} {precision}"] for what in ("bare", "Pillow", "job, 1 core,", "job, 2 cores,")
            )
            floor = [1 / (1 / a.per_cpu_second + 1 / b.per_cpu_second) for a, b in zip(bare, pillow, strict=True)]
            yield f"network alone, {precision}", _middle(rate.per_cpu_second for rate in bare), a_cpu_second, "", ""
            for limits, name in (
                ([rate.per_cpu_second for rate in bare], "the network alone"),
                (floor, "the network and Pillow"),
            ):
                share = spread([rate.per_cpu_second / limit for rate, limit in zip(one, limits, strict=True)])
                rate = _middle(rate.per_cpu_second for rate in one)
                yield f"refine, {precision}, one core", rate, a_cpu_second, share, name
            gain = spread([both.per_second / alone.per_second for both, alone in zip(two, one, strict=True)])
            rate = _middle(rate.per_second for rate in two)
            yield f"refine, {precision}, two cores", rate, "images a second", gain, "one core"
            of_small = self.rates[f"colour {small[0]}x{small[1]} {precision}"]
            for name, rates in self.rates.items():
                if name.startswith("colour") and name.endswith(precision):
                    ratio = [own.megapixels / other.megapixels for own, other in zip(rates, of_small, strict=True)]
                    rate = _middle(own.megapixels for own in rates)
                    to = f"{small[0]}x{small[1]} in colour"
                    yield f"refine, {name.replace(' ', ', ')}", rate, "megapixels a CPU second", spread(ratio), to


def _middle(values: Iterable[float]) -> str:
    return f"{statistics.median(values):,.4g}"


def measure(options: argparse.Namespace, work: Path) -> Table:
    """Run all rows in turn, round by round. Results stay until the end, since deletions slow file systems down."""
    table, colour = Table(), made_model(work / "colour", 3)
    model = options.model or made_model(work / "grey", 1)
    images = options.images or made_images(work / "images", options.count, options.size, 1)
    small = sorted(images.glob("*.png"))
    pixels = options.size[0] * options.size[1]
    large = {
        size: made_images(work / f"{size[0]}", n, size, 3) for size, n in zip(LARGE, options.large, strict=True) if n
    }
    large[options.size] = made_images(work / "small colour", options.count // 4, options.size, 3)
    for number in range(options.rounds):
        for precision in ("fp32", "bf16"):
            with on_cores(1):
                rate = bare_network(model, options.size, options.batch_size, options.device, 2, precision)
                table.add(f"bare {precision}", rate)
                table.add(f"Pillow {precision}", pillow(small[:500], pixels))
            for cores in (1, 2):
                out = work / f"out-{number}-{precision}-{cores}"
                with on_cores(cores):
                    rate = job(images, model, out, options.size, options.device, precision)
                table.add(f"job, {cores} core{'s' * (cores > 1)}, {precision}", rate)
            for size, folder in large.items():
                out = work / f"out-{number}-{precision}-{size[0]}"
                with on_cores(1):
                    rate = job(folder, colour, out, size, options.device, precision)
                table.add(f"colour {size[0]}x{size[1]} {precision}", rate)
    return table


def main() -> None:
    """Print a Markdown table, and with --memory a second one."""
    parser = parser_of(__doc__, rounds=3, size=(35, 55), device="cpu")
    parser.add_argument(
        "images", type=Path, nargs="?", help="folder of grey PNGs of one size, not nested; made by default"
    )
    parser.add_argument("model", type=Path, nargs="?", help="a run or an exported refiner; random weights by default")
    parser.add_argument("--batch-size", type=int, default=32, help="of the bare network")
    parser.add_argument("--count", type=int, default=2000, help="small images to make")
    parser.add_argument("--large", type=int, nargs=2, default=(20, 1), help="images of 640x480 and 3840x2160 to make")
    parser.add_argument(
        "--memory", type=int, nargs="*", default=[], help="also: peak memory at these numbers of images"
    )
    options = parser.parse_args()
    add_row = print_head(COLUMNS, f"device {options.device}, batch {options.batch_size}", options.record)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for cells in measure(options, work).rows(options.size):
            add_row(cells)
        if options.memory:
            print()
            print_row(("images (links)", "peak MB"))
            print_row(["---"] * 2)
            sources = sources_of(options.images or work / "images", work)
        for count in options.memory:
            out = work / "refined"
            shutil.rmtree(out, ignore_errors=True)
            flags = ["--model", options.model or work / "grey", "--out", out, "--device", options.device, "--quiet"]
            cost = watched([SIMGAN, "refine", made(sources, count, work / f"{count}"), *flags])
            print_row((f"{count:,}", f"{cost.peak_mb:.0f}"))


if __name__ == "__main__":
    main()
