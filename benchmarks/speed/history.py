"""The cost of the history in an iteration, b/2 images drawn and b/2 replaced, against a list as in plain loops.

`floor` is the time of the bytes that must move: b/2 stored images read and returned as float32, b/2 float32 images
stored. Its rate is that of a large copy on the same device in the same round. On CPUs all are CPU seconds.
"""

import itertools
import statistics
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.speed._table import clock_of, parser_of, print_head, spread, timed
from simgan_cli.engine.method.history_buffer import HistoryBuffer
from simgan_cli.engine.runtime.device import prepare_process, resolve_device

COLUMNS = (
    "capacity", "batch", "list, ms", "buffer, ms (min-max)", "list/buffer (min-max)", "floor, ms (share)", "buffer MB",
)  # fmt: skip
COPIED = 64 * 2**20  # bytes, of more than any cache


def buffer_turn(capacity: int, half: int, size: tuple[int, int], device: torch.device) -> Callable[[], object]:
    """Return the product's part of an iteration, with a full history."""
    history = HistoryBuffer(capacity, (1, *size), np.random.default_rng(0), device)
    history.replace(torch.rand(capacity, 1, *size, device=device) * 2 - 1, 0)
    refined = torch.rand(half, 1, *size, device=device)

    def turn() -> None:
        history.draw(half)
        history.replace(refined, 1)

    return turn


def list_turn(capacity: int, half: int, size: tuple[int, int], device: torch.device) -> Callable[[], object]:
    """Return the same with a list of float32 images."""
    rng = np.random.default_rng(0)
    history = list(torch.rand(capacity, 1, *size, device=device) * 2 - 1)
    refined = torch.rand(half, 1, *size, device=device)

    def turn() -> None:
        torch.stack([history[place] for place in rng.choice(capacity, half, replace=False)])
        for place, image in zip(rng.choice(capacity, half, replace=False), refined, strict=True):
            history[place] = image.clone()  # a view would keep the whole mini-batch

    return turn


def measure(capacity: int, batch: int, size: tuple[int, int], device: torch.device, rounds: int) -> tuple[object, ...]:
    """Return a line of the table."""
    half = batch // 2
    source = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    turns = (
        (list_turn(capacity, half, size, device), 20),
        (buffer_turn(capacity, half, size, device), 20),
        (lambda: target.copy_(source), 3),
    )
    clock = clock_of(device)
    times = [[1e3 * timed(turn, count, device)[clock] for turn, count in turns] for _ in range(1 + rounds)]
    del times[0]  # the warm-up
    moved = half * size[0] * size[1] * (2 + 4 + 4 + 2)
    floors = [copying * moved / (2 * COPIED) for _, _, copying in times]
    share = statistics.median(floor / product for floor, (_, product, _) in zip(floors, times, strict=True))
    return (
        f"{capacity:,}", batch, f"{statistics.median(plain for plain, _, _ in times):.2f}",
        spread([product for _, product, _ in times]), spread([plain / product for plain, product, _ in times]),
        f"{statistics.median(floors):.3f} ({share:.0%})", f"{capacity * size[0] * size[1] * 2 / 1e6:.1f}",
    )  # fmt: skip


def main() -> None:
    """Print a Markdown table."""
    parser = parser_of(__doc__, batch_size=[32, 512], size=(35, 55), rounds=9, device="cpu")
    parser.add_argument("--capacity", type=int, nargs="+", default=[3200, 51_200], help="images in the history")
    options = parser.parse_args()
    device = resolve_device(options.device)
    prepare_process(device, deterministic=False)
    where = f"{options.size[0]}x{options.size[1]} grey, device {options.device}, {options.rounds} rounds"
    add_row = print_head(COLUMNS, f"{torch.get_num_threads()} threads, {where}", options.record)
    for capacity, batch in itertools.product(options.capacity, options.batch_size):
        add_row(measure(capacity, batch, options.size, device, options.rounds))


if __name__ == "__main__":
    main()
