"""The history buffer in a checkpoint: ages, draws and faults. Images are read from its file one by one, as needed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from simgan_cli.documents import BufferDocument, Quantile
from simgan_cli.engine.export.network_folder import fill, read_json, read_tensors
from simgan_cli.engine.method.algorithm import patch_log_odds
from simgan_cli.engine.method.networks import build_discriminator
from simgan_cli.engine.run_folder.checkpoints import STATE, checkpoint_of, run_at, stored_config
from simgan_cli.engine.run_folder.layout import step_of
from simgan_cli.errors import CheckpointError, plural
from simgan_cli.settings.train import TrainConfig

HISTORY, DISCRIMINATOR = "history.safetensors", "discriminator.safetensors"
QUANTILES: dict[Quantile, float] = {"min": 0.0, "median": 0.5, "p90": 0.9, "max": 1.0}
MAX_SCORED_IMAGES, MAX_BATCH_IMAGES = 2000, 256  # evenly spread over ages; in a forward pass
N_AGE_GROUPS = 4  # in scores
MIN_LIFETIME_STEPS = 20  # that an image stays on average
MAX_AGE_DISTANCE = 0.2  # of the ages' distribution from the expected one (Kolmogorov-Smirnov)
MAX_FORGETTING = 0.1  # by which the oldest images may look less refined than the newest


@dataclass(frozen=True)
class BufferView:
    """The history buffer in one checkpoint; `images` reads from its file."""

    checkpoint: Path
    step: int
    config: TrainConfig
    made_at: NDArray[np.int64]
    draws: NDArray[np.int64]
    shape: tuple[int, int, int]  # C, H, W

    @property
    def filled(self) -> int:
        """Images in the buffer."""
        return len(self.made_at)

    @property
    def iterations(self) -> int:
        """Iterations of Algorithm 1 that have put images into the buffer."""
        return max(0, self.step - self.config.pretraining_steps)

    @property
    def added(self) -> int:
        """Images that an iteration puts in."""
        return self.config.batch_size // 2

    @property
    def ages(self) -> NDArray[np.int64]:
        """Steps since each image was made."""
        return self.step - self.made_at

    @property
    def expected(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The result of `expected_ages` for this buffer."""
        return expected_ages(self.iterations, self.added, self.config.history_size)

    def images(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read images at `places`: N x C x H x W in [-1, 1]."""
        with _opened(self.checkpoint / HISTORY) as file:
            part = file.get_slice("images")
            return np.stack([part[int(place) : int(place) + 1].float().numpy()[0] for place in places])

    def score(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the discriminator's mean probability of "refined" for images at `places`."""
        path = self.checkpoint / DISCRIMINATOR
        channels, *size = self.shape
        config = self.config
        network = build_discriminator(
            config.preset, config.adversarial, channels, (size[0], size[1]), config.discriminator_scales
        )
        fill(network, read_tensors(path), path)
        scores = []
        with torch.no_grad():
            for part in np.array_split(places, -(-len(places) // MAX_BATCH_IMAGES)):
                log_odds = patch_log_odds(network(torch.from_numpy(self.images(part))))
                scores.append(log_odds.sigmoid().flatten(1).mean(1).double().numpy())
        return np.concatenate(scores)


def open_buffer(path: Path, step: int | None) -> BufferView:
    """Return the buffer in the newest checkpoint of the run at `path`, or in that at `step`.

    Raises SettingsError where there is no run, CheckpointError where it has no such checkpoint, no history, or a
    damaged one.
    """
    run = run_at(path)
    while True:
        checkpoint = checkpoint_of(run, step)
        try:
            return _view(checkpoint)
        except CheckpointError:
            if checkpoint in run.existing_checkpoints():
                raise  # else a training has just replaced it by a newer one


def _view(checkpoint: Path) -> BufferView:
    state = read_json(checkpoint / STATE)
    config = stored_config(state.get("settings", {}), checkpoint)
    if not config.history_size:
        raise CheckpointError(f"{checkpoint}: this run has no history buffer (--history-size 0)")
    with _opened(checkpoint / HISTORY) as file:
        made_at, draws = (file.get_tensor(name).numpy() for name in ("made_at", "draws"))
        _, channels, height, width = file.get_slice("images").get_shape()
    view = BufferView(checkpoint, step_of(checkpoint), config, made_at, draws, (channels, height, width))
    if view.filled and not view.iterations:
        raise CheckpointError(
            f"{checkpoint}: holds {plural(view.filled, 'refined image')} before its first iteration; damaged"
        )
    return view


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file without reading its tensors. Raises CheckpointError, also for a missing tensor."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            yield file
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:  # RuntimeError: torch found no file to map
        raise CheckpointError(f"{path}: cannot be read ({error}); use another step") from error


def describe(view: BufferView, scores: Mapping[str, float] | None = None) -> BufferDocument:
    """Return the document of `simgan inspect-buffer --json`; `scores` are those of `scores_by_age`."""
    config = view.config
    document: BufferDocument = {
        "schema": "simgan.inspect-buffer/1",
        "run": str(view.checkpoint.parents[1]),
        "step": view.step,
        "capacity": config.history_size,
        "filled": view.filled,
        "refiner_updates": view.iterations * config.refiner_updates,
        "ages": None,
        "expected_ages": None,
        "draws": None,
        "history_share": min(view.added, view.filled) / config.batch_size,
        "memory_mb": round(config.history_size * int(np.prod(view.shape)) * 2 / 1e6, 1),
        "score": None if scores is None else dict(scores),
        "verdicts": verdicts(view, scores),
    }
    if view.filled:
        document["ages"] = {name: float(np.quantile(view.ages, q)) for name, q in QUANTILES.items()}
        document["expected_ages"] = {name: _quantile(*view.expected, q) for name, q in QUANTILES.items()}
        document["draws"] = {"mean": float(view.draws.mean()), "max": int(view.draws.max())}
    return document


def expected_ages(iterations: int, added: int, capacity: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return ages in steps, youngest first, and the mean number of images of each under uniform random replacement.

    Every iteration adds `added` images: they fill empty places first, then replace different random images (Sec. 2.3).
    """
    added = min(added, capacity)
    before = np.minimum(np.arange(iterations) * added, capacity)  # images before each iteration
    overwritten = added - np.minimum(added, capacity - before)
    survival = 1 - overwritten / np.maximum(before, 1)
    later = np.concatenate([np.cumprod(survival[::-1])[::-1][1:], [1.0]])
    return np.arange(iterations), added * later[::-1]


def scores_by_age(view: BufferView) -> dict[str, float]:
    """Return the discriminator's mean probability of "refined" for groups of images from the oldest to the newest.

    Groups of the same ages are one.
    """
    places = spread_by_age(view.made_at, MAX_SCORED_IMAGES)
    scores, ages = view.score(places), view.ages[places]
    groups: dict[str, list[float]] = {}
    for part in np.array_split(np.arange(len(places)), min(N_AGE_GROUPS, len(places))):
        groups.setdefault(f"{ages[part].min()}-{ages[part].max()}", []).extend(scores[part])
    return {name: float(np.mean(group)) for name, group in groups.items()}


def verdicts(view: BufferView, scores: Mapping[str, float] | None = None) -> list[str]:
    """Return the faults of a buffer in words, or one line that it is healthy."""
    capacity, added = view.config.history_size, view.added
    if not view.filled:
        return ["empty: no iteration of Algorithm 1 is done yet"]
    faults = []
    is_aging = view.iterations > 1 and added < capacity  # else all have one age, and go before they are drawn
    if view.filled < capacity:
        missing = -(-(capacity - view.filled) // max(1, added))
        faults.append(f"not filled yet: {view.filled:,} of {capacity:,}; it needs {plural(missing, 'more iteration')}")
    if is_aging and not view.draws.any():
        faults.append("never sampled: the discriminator has not seen any of these images again")
    distance = _age_distance(view)
    if is_aging and view.ages.min() == view.ages.max():
        faults.append("all of one age: images are not replaced one by one, or training has only started")
    elif distance > MAX_AGE_DISTANCE and view.filled >= 4 * added:
        faults.append(f"ages do not follow uniform random replacement (distance {distance:.2f}): replacement is broken")
    lifetime = capacity / max(1, added)
    if lifetime < MIN_LIFETIME_STEPS and view.config.steps > 2 * lifetime:
        wanted = MIN_LIFETIME_STEPS * added
        stay = plural(round(lifetime), "iteration")
        faults.append(f"too small: an image stays for {stay}; use --history-size {wanted:,} or more")
    if scores:
        by_age = list(scores.values())
        oldest, newest = by_age[0], by_age[-1]
        if oldest < 0.5 and oldest < newest - MAX_FORGETTING:
            faults.append(
                f"the discriminator has forgotten: it calls the oldest images refined by {oldest:.2f}, the newest by "
                f"{newest:.2f}; use a larger --history-size"
            )
    return faults or ["healthy: filled, sampled, and of the ages that random replacement predicts"]


def _age_distance(view: BufferView) -> float:
    """Return the largest difference of the cumulative distributions of the ages and the expected ones."""
    ages, counts = view.expected
    expected = np.cumsum(counts) / counts.sum()
    actual = np.searchsorted(np.sort(view.ages), ages, side="right") / view.filled
    return float(np.abs(actual - expected).max())


def _quantile(ages: NDArray[np.int64], counts: NDArray[np.float64], q: float) -> float:
    """Return the q-quantile of the ages; the last one leaves less than half an expected image above it."""
    cumulative = np.cumsum(counts)
    return float(ages[np.searchsorted(cumulative, min(q * cumulative[-1], cumulative[-1] - 0.5))])


def spread_by_age(made_at: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the places of up to `count` images evenly spread over the ages, oldest first."""
    order = np.argsort(made_at, kind="stable")
    return order[np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64))]
