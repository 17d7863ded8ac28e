"""All rates on CPU cores as one table: refining, a training step, an estimator's update, the demo.

    taskset -c 0,1 python -m benchmarks.speed --record benchmarks/results/speed.jsonl

Ratios are of CPU time, but for two cores, and taken round by round; the table shows their median, smallest and largest.
The other modules of this folder measure one of these in more detail, also on a GPU.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.speed import refine
from benchmarks.speed._table import SIMGAN, parser_of, print_head, spread, timed, watched
from benchmarks.speed.train_step import compare, ratios
from simgan_cli.engine.method.gaze_estimator import Architecture, Estimator
from simgan_cli.engine.runtime.device import resolve_precision
from simgan_cli.gaze.estimator_training import Schedule, fit
from simgan_cli.gaze.labels import LabelledImages
from simgan_cli.settings.train import TrainConfig

SIZE, IMAGES, BATCH = (35, 55), 2000, 64
UPDATES = 40
CPU = torch.device("cpu")


def labelled_noise() -> LabelledImages:
    """Return noise with random gaze."""
    rng = np.random.default_rng(0)
    gaze = rng.normal(size=(IMAGES, 3))
    return LabelledImages(
        Path("noise"), "csv", "gaze", rng.integers(0, 256, (IMAGES, *SIZE), dtype=np.uint8),
        gaze / np.linalg.norm(gaze, axis=1, keepdims=True), [str(number) for number in range(IMAGES)],
    )  # fmt: skip


def plain_fit(architecture: Architecture, images: LabelledImages) -> None:
    """Train an estimator as a first, plain loop does: float32, contiguous tensors, no fused optimizer, no checks."""
    network = Estimator(architecture, *SIZE)
    optimizer, rng = torch.optim.Adam(network.parameters(), 1e-3, foreach=False), np.random.default_rng(0)
    for _ in range(UPDATES):
        chosen = rng.choice(IMAGES, BATCH)
        batch = torch.from_numpy(images.pixels[chosen])[:, None] / 127.5 - 1
        targets = torch.from_numpy(images.targets[chosen]).float()
        loss = network.squared_errors(network(batch), targets).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def estimators(rounds: int, add_row: Callable[[tuple[object, ...]], None]) -> None:
    """Add a row for each architecture: updates of a training as `simgan eval-gaze` does it, against a plain loop."""
    images = labelled_noise()
    architectures: tuple[Architecture, ...] = ("resnet", "cnn")
    for architecture in architectures:
        kinds: dict[str, Callable[[], object]] = {"plain": partial(plain_fit, architecture, images)}
        for precision in ("fp32", resolve_precision("auto", CPU)):
            schedule = Schedule(UPDATES, BATCH, 1e-3, precision)
            kinds[precision] = partial(fit, architecture, images, 0, schedule, CPU)
        turns = {kind: list[float]() for kind in kinds}
        for _ in range(1 + rounds):
            for kind, work in kinds.items():
                turns[kind].append(timed(work, 1, CPU)["cpu"])
        for kind in list(kinds)[1:]:
            mine, plain = turns[kind][1:], turns["plain"][1:]  # the first round warms up
            gain = spread([theirs / ours for ours, theirs in zip(mine, plain, strict=True)])
            rate = f"{UPDATES / np.median(mine):.1f}"
            add_row(
                (f"estimator {architecture}, {kind}", rate, "updates of 64 images a CPU second", gain, "a plain loop")
            )


def training_steps(rounds: int, add_row: Callable[[tuple[object, ...]], None]) -> None:
    """Add a row for each width and precision of a training step without labels and halves, as in the plain loop."""
    for width in (16, 64):
        config = TrainConfig(
            synthetic=Path("s"), real=Path("r"), refiner_width=width, discriminator_scales="1", device="cpu"
        )
        kinds = {"plain": config} | {
            precision: config.model_copy(update={"precision": precision})
            for precision in ("fp32", resolve_precision("auto", CPU))
        }
        turns = compare(kinds, 2, rounds)
        for kind in list(kinds)[1:]:
            rate = f"{1 / np.median([turn['cpu'] for turn in turns[kind]]):.2f}"
            gain = spread(ratios(turns, "plain", kind, "cpu"))
            add_row(
                (f"training step, width {width}, {kind}", rate, "steps of 32 images a CPU second", gain, "a plain loop")
            )


def main() -> None:
    """Print a Markdown table."""
    parser = parser_of(__doc__, rounds=3)
    parser.add_argument("--count", type=int, default=10000, help="small images to refine")
    parser.add_argument("--large", type=int, nargs=2, default=(1000, 10), help="images of 640x480 and 3840x2160")
    parser.add_argument("--demo", action="store_true", help="time simgan demo, too")
    options = parser.parse_args()
    options.size, options.batch_size, options.device, options.images, options.model = SIZE, 32, "cpu", None, None
    add_row = print_head(refine.COLUMNS, f"{options.rounds} rounds", options.record, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        for cells in refine.measure(options, Path(folder)).rows(SIZE):
            add_row(cells)
        training_steps(options.rounds, add_row)
        estimators(options.rounds, add_row)
        if options.demo:
            minutes = watched([SIMGAN, "demo", Path(folder) / "demo", "--quiet"]).cpu / 60
            add_row(("simgan demo", f"{minutes:.1f}", "CPU minutes", "", ""))


if __name__ == "__main__":
    main()
