"""The cost of a picture, page and checkpoint, for the step at which they are due and for all steps.

    python -m benchmarks.speed.saving                                           # on this machine's CPU
    python -m benchmarks.speed.saving --device cuda --compile on --width 64 --batch-size 512 --every 50

`simgan train` runs in this process on random images of 35x55 with a full history. Each step is timed from the end of
the one before, and files are due every few steps. The step after them is longer by the work that cannot run in the
background. With OMP_NUM_THREADS=1, the CPU time of the training thread shows it without the noise of other programs. On
a CPU without a free core, background work slows the next steps; the last column has the total.
"""

import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.speed._table import parser_of, print_head, spread
from benchmarks.speed.train_step import random_images
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.engine.runtime.device import resolve_device
from simgan_cli.engine.runtime.stop import StopRequest
from simgan_cli.engine.training.build import build_state, open_domains, train
from simgan_cli.engine.training.state import TrainState
from simgan_cli.settings.train import TrainConfig

COLUMNS = (
    "width", "batch", "checkpoint MB", "plain step, ms", "step with files, ms (min-max)", "more, ms", "of a step",
    "more CPU ms of the training thread (min-max)", "all steps / plain ones",
)  # fmt: skip


class Clock:
    """A listener that notes when each step was finished."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def decoding(self, domain: str, done: int, total: int) -> None: ...
    def message(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...
    def finding(self, finding: Any) -> None: ...
    def log(self, line: dict[str, Any], total_steps: int, eta_seconds: float) -> None: ...

    def advanced(self, step: int, total_steps: int) -> None:
        """Record the time, after a GPU has finished."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append((time.perf_counter(), time.thread_time()))


def begun(config: TrainConfig, size: tuple[int, int] = (35, 55)) -> Path:
    """Write domains of noise and a checkpoint whose history is full; return it."""
    for name, folder in (("synthetic", config.synthetic), ("real", config.real)):
        folder.mkdir()
        for number, image in enumerate(random_images(size)[name][:200]):
            Image.fromarray(image[0]).save(folder / f"{number}.png")
    device = resolve_device(config.device)
    state: TrainState = build_state(config, open_domains(config, Clock()), device)
    state.gan.history.replace(torch.rand(config.history_size, 1, *size, device=device) * 2 - 1, 0)
    checkpoint = RunFolder(config.out).checkpoint(0)
    state.snapshot(state.gather_rank_states()).save(checkpoint)
    return checkpoint


def measure(config: TrainConfig, every: int) -> list[object]:
    """Train and return a line of the table."""
    checkpoint, clock = begun(config), Clock()
    size = sum(path.stat().st_size for path in checkpoint.iterdir()) / 1e6
    train(config, checkpoint, clock, StopRequest())
    passed, computed = (
        [1e3 * (after[kind] - before[kind]) for before, after in itertools.pairwise(clock.times)] for kind in (0, 1)
    )
    due, plain = due_and_plain(passed, every)
    due_computed, plain_computed = due_and_plain(computed, every)
    median, more = statistics.median(plain), statistics.median(due) - statistics.median(plain)
    of_thread = [step - statistics.median(plain_computed) for step in due_computed]
    return [
        config.refiner_width, config.batch_size, f"{size:.1f}", f"{median:.0f}", spread(due, 0), f"{more:.0f}",
        f"{more / median:.2f}", spread(of_thread, 0), f"{statistics.mean(passed[every - 1 :]) / median:.2f}",
    ]  # fmt: skip


def due_and_plain(steps: list[float], every: int) -> tuple[list[float], list[float]]:
    """Split steps into those after files were due, and those in the later half between; the first step is left out."""
    numbered = list(enumerate(steps, start=1))  # by the finished steps before
    due = [step for number, step in numbered if number % every == 0]
    return due, [step for number, step in numbered if number % every >= (every + 1) // 2]


def main() -> None:
    """Print a Markdown table."""
    parser = parser_of(__doc__, batch_size=[32], width=[16], device="cpu", compile="auto")
    parser.add_argument("--every", type=int, default=6, help="steps between files")
    parser.add_argument("--times", type=int, default=12, help="how often files are due")
    options = parser.parse_args()
    where = f"{torch.get_num_threads()} threads, device {options.device}"
    conditions = f"{where}, {options.times} times, every {options.every} steps"
    add_row = print_head(COLUMNS, conditions, options.record)
    for width, batch in itertools.product(options.width, options.batch_size):
        with tempfile.TemporaryDirectory() as folder:
            paths = {name: Path(folder, name) for name in ("synthetic", "real", "out")}
            steps = options.every * options.times + options.every // 2
            settings = {
                "save_every": options.every, "sample_every": options.every, "log_every": 10**6, "eval_every": 0,
                "refiner_width": width, "batch_size": batch, "pretrain_discriminator": 0, "steps": steps,
                "cache": "off", "device": options.device, "compile": options.compile,
            }  # fmt: skip
            add_row(measure(TrainConfig.model_validate(paths | settings), options.every))


if __name__ == "__main__":
    main()
