"""Training throughput at 35x55 grey against the bare passes of the same networks, or with --plain a plain loop of them.

`product` is a complete iteration of `simgan train`: mini-batches gathered from integer pixels, history drawn and
replaced, optimizers, moving average, running means. `bare` is the work that every implementation has: the same
networks' passes on fixed random tensors of the same shapes. With --plain, `examples/plain_simgan.py` is compared with
the product in float32 and in its own precision. Each runs in a process of its own, since allocators and thread pools
belong to a process. Rounds of all alternate; ratios are taken round by round.
"""

import itertools
import math
import multiprocessing
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed._table import clock_of, parser_of, print_head, spread, timed
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

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import plain_simgan

SIZE = (35, 55)
MATRIX, MATRIX_ON_GPU = 2048, 8192  # side of the matrices whose product shows the machine's peak
BARE_COLUMNS = (
    "width", "batch", "product s/iteration", "bare s/iteration", "images/s", "bare/product (min-max)", "GFLOP/s",
    "peak MB",
)  # fmt: skip
PLAIN_COLUMNS = (
    "width", "batch", "plain images/s", "fp32 images/s", "product images/s", "plain/fp32", "plain/fp32, CPU time",
    "plain/product", "plain/product, CPU time", "fp32 floor ms (share)", "product floor ms (share)",
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
    """Return one iteration of the plain loop, its history filled beforehand; only width and batch are set."""
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
    inputs = torch.cat([images, noise], dim=1).contiguous(memory_format=torch.channels_last)
    both = torch.cat([images, images])
    in_precision = autocast(resolve_precision(config.precision, device), device)  # as the product computes

    def loss(logits: Tensor) -> Tensor:
        return F.softplus(logits[:, 1].float() - logits[:, 0].float()).mean()

    def iteration() -> None:
        discriminator.requires_grad_(False)
        for _ in range(config.refiner_updates):
            with in_precision():
                refined = refiner(inputs)
                logits = discriminator(refined)
            (loss(logits) + (refined.float() - images).abs().mean()).backward()
            refiner.zero_grad(set_to_none=True)
        discriminator.requires_grad_(True)
        for _ in range(config.discriminator_updates):
            with torch.no_grad(), in_precision():
                refiner(inputs[: b - b // 2])
            with in_precision():
                logits = discriminator(both)
            loss(logits).backward()  # type: ignore[no-untyped-call]
            discriminator.zero_grad(set_to_none=True)

    return iteration


def compare(kinds: dict[str, TrainConfig], iterations: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Return the measurements of each round by kind; the first word of a kind names the loop.

    Each has a process of its own, which waits while another has its turn.
    """
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = {kind: stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn)) for kind in kinds}
        turns = [
            {kind: pool.submit(turn, kind, kinds[kind], iterations).result() for kind, pool in pools.items()}
            for _ in range(1 + rounds)
        ][1:]  # the first one warms up
    return {kind: [measured[kind] for measured in turns] for kind in kinds}


def turn(kind: str, config: TrainConfig, iterations: int) -> dict[str, float]:
    """Return the seconds of an iteration by both clocks, peak memory in MB, and the peak of operations per second."""
    device = resolve_device(config.device)
    measured = timed(iteration_of(kind, config), iterations, device)
    measured["memory"] = peak_memory_mb(device) or math.nan
    in_bf16 = kind != "plain" and resolve_precision(config.precision, device) == "bf16"
    return measured | {"flops": peak_flops(torch.bfloat16 if in_bf16 else torch.float32, device)}


@cache
def iteration_of(kind: str, config: TrainConfig) -> Callable[[], object]:
    """Return an iteration of a kind, its networks and data prepared."""
    device = resolve_device(config.device)
    if kind == "plain":
        return plain_iteration(config, device)
    prepare_process(device, deterministic=False)
    return bare_iteration(config, device) if kind == "bare" else product_iteration(config, device)


def peak_flops(dtype: torch.dtype, device: torch.device) -> float:
    """Return the operations per second of one core, or of the GPU, in a large matrix product; the best of three."""
    side = MATRIX if device.type == "cpu" else MATRIX_ON_GPU
    matrix = torch.rand(side, side, device=device).to(dtype)
    return 2 * side**3 / min(timed(lambda: matrix @ matrix, 1, device)[clock_of(device)] for _ in range(3))


def images_in_an_iteration(config: TrainConfig) -> int:
    """Return the images per second, counted as in a run's metrics."""
    return (config.refiner_updates + config.discriminator_updates) * config.batch_size


def operations_of(config: TrainConfig) -> int:
    """Return the floating-point operations of an iteration's bare passes, two for each multiply-add."""
    iteration = bare_iteration(config.model_copy(update={"precision": "fp32"}), torch.device("meta"))
    with FlopCounterMode(display=False) as counter:
        iteration()
    return int(counter.get_total_flops())


def compare_with_bare(config: TrainConfig, iterations: int, rounds: int) -> tuple[object, ...]:
    """Return a line of the table: the product and its bare passes."""
    turns = compare({"product": config, "bare": config}, iterations, rounds)
    product, bare = (statistics.median(measured["seconds"] for measured in turns[kind]) for kind in turns)
    return (
        config.refiner_width, config.batch_size, f"{product:.3f}", f"{bare:.3f}",
        f"{images_in_an_iteration(config) / product:.1f}", spread(ratios(turns, "bare", "product", "seconds"), 3),
        f"{operations_of(config) / product / 1e9:.0f}", f"{turns['product'][0]['memory']:.0f}",
    )  # fmt: skip


def compare_with_plain(config: TrainConfig, iterations: int, rounds: int) -> tuple[object, ...]:
    """Return a line of the table: the plain loop and the product in two precisions."""
    config = config.model_copy(update={"discriminator_scales": "1"})  # as the plain loop has
    products = {"fp32": config.model_copy(update={"precision": "fp32"}), "product": config}
    turns = compare({"plain": config} | products, iterations, rounds)
    images, operations = images_in_an_iteration(config), operations_of(config)
    rates = [images / statistics.median(measured["seconds"] for measured in turns[kind]) for kind in turns]
    gains = [spread(ratios(turns, "plain", kind, clock)) for kind in products for clock in ("seconds", "cpu")]
    clock, floors = clock_of(resolve_device(config.device)), []
    for kind in products:
        floor = statistics.median(operations / measured["flops"] for measured in turns[kind])
        share = statistics.median(operations / measured["flops"] / measured[clock] for measured in turns[kind])
        floors.append(f"{floor * 1e3:.1f} ({share:.0%})")
    return config.refiner_width, config.batch_size, *(f"{rate:.1f}" for rate in rates), *gains, *floors


def ratios(turns: dict[str, list[dict[str, float]]], one: str, other: str, clock: str) -> list[float]:
    """Return the times of one kind over those of another, round by round."""
    return [first[clock] / second[clock] for first, second in zip(turns[one], turns[other], strict=True)]


def main() -> None:
    """Print a Markdown table."""
    parser = parser_of(
        __doc__, batch_size=[32, 128], width=[16], rounds=7, iterations=2, device="cpu", compile="auto"
    )  # fmt: skip
    parser.add_argument("--plain", action="store_true", help="compare with a plain PyTorch loop, not the bare passes")
    parser.add_argument("--precision", default="auto", help="of the product")
    options = parser.parse_args()
    columns, compared = (PLAIN_COLUMNS, compare_with_plain) if options.plain else (BARE_COLUMNS, compare_with_bare)
    how = f"device {options.device}, precision {options.precision}, compile {options.compile}"
    where = f"{torch.get_num_threads()} threads, {how}"
    conditions = f"{where}, {options.rounds} rounds of {options.iterations} iterations"
    add_row = print_head(columns, conditions, options.record)
    common = {"device": options.device, "precision": options.precision, "compile": options.compile}
    for width, batch in itertools.product(options.width, options.batch_size):
        settings = {"synthetic": "synthetic", "real": "real", "batch_size": batch, "refiner_width": width}
        add_row(compared(TrainConfig.model_validate(settings | common), options.iterations, options.rounds))


if __name__ == "__main__":
    main()
