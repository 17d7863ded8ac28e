"""Training throughput at 35x55 grey against the bare forward and backward passes of the same networks.

`product` is an iteration of `simgan train` as it runs: mini-batches gathered from integer pixels, history drawn and
replaced, optimizers, moving average, running means. `bare` is what no implementation can leave out: the same
networks' passes on fixed random tensors of the same shapes. Rounds of both alternate; the ratio is taken pair by pair.
Each batch size runs in a process of its own, so that peak memory is its own.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from simgan_cli.data.cache import PixelSet
from simgan_cli.engine.checkpoint import TrainState
from simgan_cli.engine.config import TrainConfig
from simgan_cli.engine.networks import Discriminator, Refiner
from simgan_cli.engine.ranks import ALONE, Ranks
from simgan_cli.engine.runtime import autocast, peak_memory_mb, prepare_process, resolve_device, resolve_precision
from simgan_cli.engine.training import build_networks, build_state

SIZE = (35, 55)


def product_iteration(
    config: TrainConfig, device: torch.device, size: tuple[int, int] = SIZE, ranks: Ranks = ALONE
) -> Callable[[], None]:
    """Return one iteration of the product, its history filled beforehand."""
    rng = np.random.default_rng(0)
    domains = {
        name: PixelSet(Path(name), rng.integers(0, 256, (count, 1, *size), dtype=np.uint8), [], name)
        for name, count in (("synthetic", 6000), ("real", 144))
    }
    state: TrainState = build_state(config, domains, device, ranks)
    gan, samplers = state.gan, state.samplers
    if gan.history is not None:
        gan.history.replace(torch.rand(gan.history.capacity, 1, *size, device=device) * 2 - 1, 0)
    state.step = config.pretraining_steps

    def iteration() -> None:
        state.metrics.add(gan.step(state.step, samplers["synthetic"], samplers["real"]))
        state.step += 1

    return iteration


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
    both = torch.cat([images, images])
    in_precision = autocast(resolve_precision(config.precision, device), device)  # as the product computes

    def loss(logits: Tensor) -> Tensor:
        return F.softplus(logits[:, 1].float() - logits[:, 0].float()).mean()

    def iteration() -> None:
        discriminator.requires_grad_(False)
        for _ in range(config.refiner_updates):
            with in_precision():
                refined = refiner(images)
                logits = discriminator(refined)
            (loss(logits) + (refined.float() - images).abs().mean()).backward()
            refiner.zero_grad(set_to_none=True)
        discriminator.requires_grad_(True)
        for _ in range(config.discriminator_updates):
            with torch.no_grad(), in_precision():
                refiner(images[: b - b // 2])
            with in_precision():
                logits = discriminator(both)
            loss(logits).backward()  # type: ignore[no-untyped-call]
            discriminator.zero_grad(set_to_none=True)

    return iteration


def seconds(iteration: Callable[[], None], count: int, device: torch.device) -> float:
    """Return the seconds of one iteration, averaged over `count`."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(count):
        iteration()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / count


def measure(batch_size: int, rounds: int, iterations: int, device_name: str) -> dict[str, float]:
    """Measure one batch size in this process."""
    config = TrainConfig.model_validate(
        {"synthetic": "synthetic", "real": "real", "batch_size": batch_size, "device": device_name}
    )
    device = resolve_device(device_name)
    prepare_process(device, deterministic=False)
    product = product_iteration(config, device)
    seconds(product, iterations, device)
    memory = peak_memory_mb(device)  # before the bare networks exist
    bare = bare_iteration(config, device)
    seconds(bare, iterations, device)
    pairs = [(seconds(product, iterations, device), seconds(bare, iterations, device)) for _ in range(rounds)]
    ratios = [bare_time / product_time for product_time, bare_time in pairs]
    images = (config.refiner_updates + config.discriminator_updates) * batch_size
    product_median = statistics.median(pair[0] for pair in pairs)
    return {
        "batch": batch_size,
        "product": product_median,
        "bare": statistics.median(pair[1] for pair in pairs),
        "images_per_second": images / product_median,
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "memory": memory,
        "gflops": multiply_adds(config) * 2 / product_median / 1e9,
    }


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
    counts: list[int] = []

    def count(module: torch.nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(module, torch.nn.Conv2d)
        counts.append(module.weight.numel() * output.shape[2] * output.shape[3])

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 1, *SIZE))
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


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.batch_size[0], options.rounds, options.iterations, options.device)))
        return
    print(f"{machine()}, device {options.device}, {options.rounds} rounds of {options.iterations} iterations\n")
    print("| batch | product s/iteration | bare s/iteration | images/s | bare/product (min-max) | GFLOP/s | peak MB |")
    print("|---|---|---|---|---|---|---|")
    for batch in options.batch_size:
        command = [sys.executable, __file__, "--worker", "--batch-size", str(batch), "--rounds", str(options.rounds)]
        command += ["--iterations", str(options.iterations), "--device", options.device]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"| {batch} | {row['product']:.3f} | {row['bare']:.3f} | {row['images_per_second']:.1f} "
            f"| {row['ratio']:.3f} ({row['ratio_min']:.3f}-{row['ratio_max']:.3f}) | {row['gflops']:.0f} "
            f"| {row['memory']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
