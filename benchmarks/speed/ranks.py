"""Training throughput of several ranks against one at the same total batch, in one job of torchrun.

    python -m benchmarks.speed.ranks                                        # 1 against 2 ranks on this machine's CPU
    python -m benchmarks.speed.ranks --threads 1                            # one core for each rank, also for the one
    python -m benchmarks.speed.ranks --ranks 8 --device cuda --batch-size 512 --width 64 --size 35x55

In each round, one rank first does iterations of `simgan train` on the complete batch with all cores, while the others
wait. Then all ranks do them together, each on its part of the batch and of the cores. `floor` is the throughput without
any exchange: the bare forward and backward passes of each part, all ranks at once. Ratios are taken round by round. Run
nothing else meanwhile: threads that share a convolution wait for the slowest one.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable

import torch

from benchmarks.speed._table import parser_of, print_head, spread, timed
from benchmarks.speed.train_step import bare_iteration, images_in_an_iteration, product_iteration
from simgan_cli.engine.runtime.device import prepare_process, resolve_device
from simgan_cli.engine.runtime.ranks import Ranks
from simgan_cli.settings.train import TrainConfig

COLUMNS = (
    "batch", "ranks", "one, images/s", "all, images/s", "all/one (min-max)", "floor, images/s", "all/floor (min-max)"
)  # fmt: skip


def measure(options: argparse.Namespace, ranks: Ranks) -> None:
    """Measure in every rank; the first prints a line of the table for each batch size."""
    device = resolve_device(options.device, ranks)
    prepare_process(device, deterministic=False)
    if ranks.is_first:
        where = f"{options.size[0]}x{options.size[1]} grey, refiner width {options.width}, device {options.device}"
        threads = f"{options.threads} threads a rank" if options.threads else "all cores for one, shared by all"
        conditions = f"{where}, {threads}, {options.rounds} rounds of {options.iterations} iterations"
        add_row = print_head(COLUMNS, conditions, options.record)
    for batch_size in options.batch_size:
        config = TrainConfig.model_validate(
            {"synthetic": "synthetic", "real": "real", "batch_size": batch_size, "refiner_width": options.width}
        )
        part = config.model_copy(update={"batch_size": batch_size // ranks.count})
        one = product_iteration(config, device, options.size)
        everybody = product_iteration(config, device, options.size, ranks)
        bare = bare_iteration(part, device, options.size)
        cores = torch.get_num_threads()
        share = options.threads or max(1, cores // ranks.count)
        turns = ((one, options.threads or cores, True), (everybody, share, False), (bare, share, False))
        rounds = [
            [slowest(work, threads, options.iterations, device, ranks, alone=alone) for work, threads, alone in turns]
            for _ in range(1 + options.rounds)
        ][1:]  # the first one warms up
        torch.set_num_threads(cores)
        if ranks.is_first:
            rates = [images_in_an_iteration(config) / statistics.median(column) for column in zip(*rounds, strict=True)]
            speedup, reached = ([times[i] / times[1] for times in rounds] for i in (0, 2))
            cells = (batch_size, ranks.count, f"{rates[0]:.1f}", f"{rates[1]:.1f}", spread(speedup, 3))
            add_row((*cells, f"{rates[2]:.1f}", spread(reached, 3)))


def slowest(
    work: Callable[[], None], threads: int, iterations: int, device: torch.device, ranks: Ranks, *, alone: bool
) -> float:
    """Return the seconds of one iteration of the slowest rank, or of the first one while the others wait."""
    torch.set_num_threads(threads)
    ranks.gather_objects(None)
    mine = timed(work, iterations, device)["seconds"] if ranks.is_first or not alone else 0.0
    return float(max(ranks.gather_objects(mine)))


def main() -> None:
    """Print a Markdown table."""
    parser = parser_of(__doc__, batch_size=[32, 128], size=(35, 55), rounds=5, iterations=2, device="cpu")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--width", type=int, default=16, help="feature maps of the refiner")
    parser.add_argument("--threads", type=int, help="of every rank, the one alone too; by default it has all cores")
    options = parser.parse_args()
    ranks = Ranks.of_process()
    if ranks.count > 1:
        with ranks.connected():
            measure(options, ranks)
        return
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={options.ranks}", "-m"]
    command = [sys.executable, "-m", *torchrun, "benchmarks.speed.ranks", *sys.argv[1:]]
    cores = os.environ | {"OMP_NUM_THREADS": str(os.cpu_count())}
    raise SystemExit(subprocess.run(command, env=cores, check=False).returncode)


if __name__ == "__main__":
    main()
