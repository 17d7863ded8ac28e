"""Training throughput at 35x55 grey against the bare passes of the same networks, or with --plain a plain loop of them.

`product` is an iteration of `simgan train` as it runs: mini-batches gathered from integer pixels, history drawn and
replaced, optimizers, moving average, running means. `bare` is what no implementation can leave out: the same
networks' passes on fixed random tensors of the same shapes. Rounds of both alternate; the ratio is taken pair by pair.
Each batch size runs in a process of its own, so that peak memory is its own.

--plain: `examples/plain_simgan.py` against the product in float32 and in its own precision, each in a process of its
own that waits while another has its turn, since allocators and thread pools are a process's.
"""

import argparse
import copy
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.plain_loop import plain_iteration
from simgan_cli.data.cache import PixelSet
from simgan_cli.engine.method.networks import Discriminator, Refiner
from simgan_cli.engine.runtime.device import (
    autocast,
    peak_memory_mb,
    prepare_process,
    resolve_device,
    resolve_precision,
)
from simgan_cli.engine.runtime.ranks import SINGLE, Ranks
from simgan_cli.engine.training.build import build_networks, build_state
from simgan_cli.engine.training.state import TrainState
from simgan_cli.settings.train import TrainConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import plain_simgan

SIZE = (35, 55)
MATRIX, MATRIX_ON_GPU = 2048, 8192  # side of the matrices whose product shows the machine's peak
KINDS = ("seconds", "cpu")
BARE_COLUMNS = (
    "width", "batch", "product s/iteration", "bare s/iteration", "images/s", "bare/product (min-max)", "GFLOP/s",
    "peak MB",
)  # fmt: skip
PLAIN_COLUMNS = (
    "width", "batch", "plain images/s", "fp32 images/s", "product images/s", "plain/fp32", "the same, CPU time",
    "plain/product", "the same, CPU time", "fp32 floor ms (share)", "product floor ms (share)",
)  # fmt: skip


def random_images(size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return two domains of noise, N x 1 x H x W uint8."""
    rng = np.random.default_rng(0)
    counts = {"synthetic": 6000, "real": 144}
    return {name: rng.integers(0, 256, (count, 1, *size), dtype=np.uint8) for name, count in counts.items()}


def product_iteration(
    config: TrainConfig, device: torch.device, size: tuple[int, int] = SIZE, ranks: Ranks = SINGLE
) -> Callable[[], None]:
    """Return one iteration of the product, its history filled beforehand."""
    domains = {name: PixelSet(Path(name), pixels, [], name) for name, pixels in random_images(size).items()}
    state: TrainState = build_state(config, domains, device, ranks)
    gan, samplers = state.gan, state.samplers
    gan.history.replace(torch.rand(gan.history.capacity, 1, *size, device=device) * 2 - 1, 0)
    state.step = config.pretraining_steps

    def iteration() -> None:
        state.metrics.add(gan.advance(state.step, samplers["synthetic"], samplers["real"]))
        state.step += 1

    return iteration


def plain_iteration(config: TrainConfig, device: torch.device) -> Callable[[], object]:
    """Return one iteration of the plain loop, its history filled beforehand; of the settings it has width and batch."""
    gan = plain_simgan.SimGAN(config.refiner_width, config.batch_size, config.history_size, device)
    gan.history = [*torch.rand(config.history_size, 1, *SIZE, device=device) * 2 - 1]
    domains, rng = random_images(SIZE), np.random.default_rng(0)

    def batches(pixels: np.ndarray) -> Callable[[int], Tensor]:
        return lambda count: torch.from_numpy(pixels[rng.choice(len(pixels), count)]).to(device) / 127.5 - 1

    return partial(gan.iteration, batches(domains["synthetic"]), batches(domains["real"]))


def bare_iteration(config: TrainConfig, device: torch.device, size: tuple[int, int] = SIZE) -> Callable[[], None]:
    """Return K_g forward and backward passes through both networks for theta, and K_d for phi."""
    networks = [
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for network in build_networks(config, 1, size)
    ]
    refiner: Refiner = networks[0]
    discriminator: Discriminator = networks[1]
    b = config.batch_size
    images = torch.rand(b, 1, *size, device=device).contiguous(memory_format=torch.channels_last) * 2 - 1
    noise = torch.randn(b, refiner.inputs - 1, *size, device=device)
    seen = torch.cat([images, noise], dim=1).contiguous(memory_format=torch.channels_last)
    both = torch.cat([images, images])
    in_precision = autocast(resolve_precision(config.precision, device), device)  # as the product computes

    def loss(logits: Tensor) -> Tensor:
        return F.softplus(logits[:, 1].float() - logits[:, 0].float()).mean()

    def iteration() -> None:
        discriminator.requires_grad_(False)
        for _ in range(config.refiner_updates):
            with in_precision():
                refined = refiner(seen)
                logits = discriminator(refined)
            (loss(logits) + (refined.float() - images).abs().mean()).backward()
            refiner.zero_grad(set_to_none=True)
        discriminator.requires_grad_(True)
        for _ in range(config.discriminator_updates):
            with torch.no_grad(), in_precision():
                refiner(seen[: b - b // 2])
            with in_precision():
                logits = discriminator(both)
            loss(logits).backward()  # type: ignore[no-untyped-call]
            discriminator.zero_grad(set_to_none=True)

    return iteration


def seconds(iteration: Callable[[], object], count: int, device: torch.device) -> float:
    """Return the seconds of one iteration, averaged over `count`."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(count):
        iteration()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / count


def measure(config: TrainConfig, rounds: int, iterations: int) -> dict[str, float]:
    """Measure the product against the bare passes in this process."""
    device = resolve_device(config.device)
    prepare_process(device, deterministic=False)
    product = product_iteration(config, device)
    seconds(product, iterations, device)
    memory = peak_memory_mb(device)  # before the bare networks exist
    bare = bare_iteration(config, device)
    seconds(bare, iterations, device)
    pairs = [(seconds(product, iterations, device), seconds(bare, iterations, device)) for _ in range(rounds)]
    ratios = [bare_time / product_time for product_time, bare_time in pairs]
    product_median = statistics.median(pair[0] for pair in pairs)
    return {
        "product": product_median,
        "bare": statistics.median(pair[1] for pair in pairs),
        "images_per_second": images_in_an_iteration(config) / product_median,
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "memory": memory,
        "gflops": multiply_adds(config) * 2 / product_median / 1e9,
    }


def take_turns(config: TrainConfig, iterations: int, *, plain: bool) -> None:
    """Measure once for each line on stdin: seconds and CPU seconds of one iteration, and the machine's FLOP/s."""
    device = resolve_device(config.device)
    if plain:
        iteration: Callable[[], object] = plain_iteration(config, device)
        dtype = torch.float32
    else:
        prepare_process(device, deterministic=False)
        iteration = product_iteration(config, device)
        dtype = torch.bfloat16 if resolve_precision(config.precision, device) == "bf16" else torch.float32
    for _ in sys.stdin:
        elapsed, computing = both_clocks(iteration, iterations, device)
        print(json.dumps({"seconds": elapsed, "cpu": computing, "peak": peak_flops(dtype, device)}), flush=True)


def both_clocks(iteration: Callable[[], object], count: int, device: torch.device) -> tuple[float, float]:
    """Return the seconds of one iteration by the clock and of all cores that computed, averaged over `count`."""
    started = time.process_time()
    elapsed = seconds(iteration, count, device)
    return elapsed, (time.process_time() - started) / count


def peak_flops(dtype: torch.dtype, device: torch.device) -> float:
    """Return the operations of a product of large matrices in a second of a core, or of the GPU; the best of three."""
    side = MATRIX if device.type == "cpu" else MATRIX_ON_GPU
    matrix = torch.rand(side, side, device=device).to(dtype)
    times = [both_clocks(lambda: matrix @ matrix, 1, device)[clock_of(device)] for _ in range(3)]
    return 2 * side**3 / min(times)


def clock_of(device: torch.device) -> int:
    """Return which clock floors go by: cores are shared with other programs and their seconds count, a GPU is not."""
    return 1 if device.type == "cpu" else 0


def images_in_an_iteration(config: TrainConfig) -> int:
    """Return what `images_per_second` of a run counts."""
    return (config.refiner_updates + config.discriminator_updates) * config.batch_size


def multiply_adds(config: TrainConfig) -> float:
    """Return the convolutions' multiply-adds of one iteration: a backward pass costs one more for each gradient.

    R's step: R forward, weights and inputs; D forward and inputs. D's step: R forward on half; D on 2b images forward,
    weights and inputs. (Gradients of the first layers' inputs, which nobody needs, are under 1 % and counted.)
    """
    b = config.batch_size
    refiner, discriminator = (network_multiply_adds(network) for network in build_networks(config, 1, SIZE))
    refiner_step = b * (3 * refiner + 2 * discriminator)
    discriminator_step = (b - b // 2) * refiner + 2 * b * 3 * discriminator
    return config.refiner_updates * refiner_step + config.discriminator_updates * discriminator_step


def network_multiply_adds(network: Refiner | Discriminator) -> float:
    """Return the multiply-adds of one image's forward pass: weights times places of each convolution."""
    network = copy.deepcopy(network).to("meta")
    counts: list[int] = []

    def count(module: torch.nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(module, torch.nn.Conv2d)
        counts.append(module.weight.numel() * output.shape[2] * output.shape[3])

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, network.inputs, *SIZE, device="meta"))
    return float(sum(counts))


def machine() -> str:
    """Return what the figures hold for."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return f"{model}, {os.cpu_count()} cores, torch {torch.__version__}, commit {commit.stdout.strip() or 'unknown'}"


def compare_with_plain(config: TrainConfig, flags: list[str], rounds: int) -> str:
    """Return a line of the table: the plain loop and the product in two precisions, in turn, each in its process."""
    kinds = [["--plain"], ["--precision", "fp32"], ["--precision", config.precision]]
    command = [sys.executable, "-m", "benchmarks.speed.train_step", "--worker", *flags]
    workers = [
        subprocess.Popen([*command, *kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for kind in kinds
    ]
    turns = [[turn_of(worker) for worker in workers] for _ in range(1 + rounds)][1:]  # the first one warms up
    for worker in workers:
        worker.communicate()
    images, operations = images_in_an_iteration(config), 2 * multiply_adds(config)
    rates = [images / statistics.median(turn[place]["seconds"] for turn in turns) for place in range(3)]
    cells = [str(config.refiner_width), str(config.batch_size), *(f"{rate:.1f}" for rate in rates)]
    cells += [spread([turn[0][kind] / turn[place][kind] for turn in turns]) for place in (1, 2) for kind in KINDS]
    clock = KINDS[clock_of(resolve_device(config.device))]
    floors = [[operations / turn[place]["peak"] for turn in turns] for place in (1, 2)]
    for place, floor in zip((1, 2), floors, strict=True):
        share = statistics.median(f / turn[place][clock] for f, turn in zip(floor, turns, strict=True))
        cells.append(f"{statistics.median(floor) * 1e3:.1f} ({share:.0%})")
    return f"| {' | '.join(cells)} |"


def turn_of(worker: "subprocess.Popen[str]") -> dict[str, float]:
    """Let a worker measure while the others wait."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    print("go", file=worker.stdin, flush=True)
    return dict(json.loads(worker.stdout.readline()))


def spread(values: list[float], digits: int = 2) -> str:
    """Return the median with the smallest and the largest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--width", type=int, nargs="+", default=[16], help="feature maps of the refiner")
    parser.add_argument("--plain", action="store_true", help="compare with a plain PyTorch loop, not the bare passes")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto", help="of the product")
    parser.add_argument("--compile", choices=["auto", "on", "off"], default="auto", help="the product's networks")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.worker:
        print(f"{machine()}, {torch.get_num_threads()} threads, device {options.device}, "
              f"{options.rounds} rounds of {options.iterations} iterations\n")  # fmt: skip
        columns = PLAIN_COLUMNS if options.plain else BARE_COLUMNS
        print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for width, batch in itertools.product(options.width, options.batch_size):
        settings = {"batch_size": batch, "refiner_width": width}
        settings |= {"device": options.device, "precision": options.precision, "compile": options.compile}
        config = TrainConfig.model_validate({"synthetic": "synthetic", "real": "real"} | settings)
        flags = [
            "--batch-size",
            batch,
            "--width",
            width,
            "--device",
            options.device,
            "--compile",
            options.compile,
            "--iterations",
            options.iterations,
        ]
        if options.worker and options.rounds:
            print(json.dumps(measure(config, options.rounds, options.iterations)))
        elif options.worker:
            take_turns(config, options.iterations, plain=options.plain)
        elif options.plain:
            print(compare_with_plain(config, [*map(str, flags), "--rounds", "0"], options.rounds), flush=True)
        else:
            print(compare_with_bare(config, [*map(str, flags), "--rounds", str(options.rounds)]), flush=True)


def compare_with_bare(config: TrainConfig, flags: list[str]) -> str:
    """Return a line of the table: the product and its bare passes, in a process of their own."""
    command = [sys.executable, "-m", "benchmarks.speed.train_step", "--worker", *flags, "--precision", config.precision]
    row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return (
        f"| {config.refiner_width} | {config.batch_size} | {row['product']:.3f} | {row['bare']:.3f} "
        f"| {row['images_per_second']:.1f} | {row['ratio']:.3f} ({row['ratio_min']:.3f}-{row['ratio_max']:.3f}) "
        f"| {row['gflops']:.0f} | {row['memory']:.0f} |"
    )


if __name__ == "__main__":
    main()
