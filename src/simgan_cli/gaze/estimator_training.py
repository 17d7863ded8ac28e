"""Train an estimator with early stopping on a held-out part of its training set, and predict with it."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan_cli.data.sampler import to_network
from simgan_cli.engine.method.gaze_estimator import Architecture, Estimator
from simgan_cli.engine.metrics.realism import cap_by_pixels
from simgan_cli.engine.runtime.device import autocast, stream_number
from simgan_cli.errors import DataError, DivergedError
from simgan_cli.gaze.geometry import unit
from simgan_cli.gaze.labels import LabelledImages

HELD_OUT_FRACTION, MAX_HELD_OUT = 0.1, 2000
MIN_PERSONS_TO_HOLD_OUT = 5  # with fewer, holding out complete persons costs too much training data
N_CHECKS, MAX_FRUITLESS_CHECKS = 20, 5  # held-out checks in a training; checks without gain before it stops
N_NEIGHBOURS, NEIGHBOUR_SIZE = 5, 16  # of knn: k, and the longer side of its images
MAX_BATCH, MAX_BATCH_VALUES = 512, 2**20  # images in a forward pass, fewer where they are large: 20 of 224x224
INITIALISING = threading.Lock()  # all threads draw new weights from one generator
Targets = NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """How to train an estimator."""

    steps: int
    batch_size: int
    learning_rate: float
    precision: str


def held_out(images: LabelledImages, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices to train on, and a held-out tenth, of other persons where five or more are known.

    Looks of one render stay together. Raises DataError for fewer than two images.
    """
    count = len(images)
    if count < 2:
        raise DataError(f"{images.source}: {count} image; an estimator needs 2, and thousands to be useful")
    rng = np.random.default_rng([seed, stream_number("held-out")])
    copies = images.copies
    renders = rng.permutation(-(-count // copies))
    order = (renders[:, None] * copies + np.arange(copies)).ravel()
    order = order[order < count]  # a few photographs at the end may be no multiple
    wanted = min(MAX_HELD_OUT // copies, max(1, round(HELD_OUT_FRACTION * len(renders)))) * copies
    if images.persons is not None and len(set(images.persons)) >= MIN_PERSONS_TO_HOLD_OUT:
        names = np.array(images.persons)
        people = rng.permutation(np.unique(names))
        chosen = people[: max(1, round(HELD_OUT_FRACTION * len(people)))]
        mask = np.isin(names[order], chosen)
        return np.sort(order[~mask]), np.sort(order[mask][:MAX_HELD_OUT])
    return np.sort(order[wanted:]), np.sort(order[:wanted])


def fit(
    architecture: Architecture,
    images: LabelledImages,
    seed: int,
    schedule: Schedule,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Estimator:
    """Return an estimator trained by Adam on the squared Euclidean distance, at its best held-out check.

    Weighted images are drawn with replacement, and held-out errors are weighted, too. Raises DataError for too few
    images, or where no training image has a weight; DivergedError where the error is no longer finite.
    """
    train, stop = held_out(images, seed)
    if images.weights is not None and not images.weights[train].any():
        raise DataError(
            f"{images.source}: no training image has a weight, only held-out ones; render more like these, or leave "
            "--reweight-to out"
        )
    with INITIALISING:
        torch.manual_seed(seed)
        network = Estimator(architecture, *images.size, images.target, images.points)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), schedule.learning_rate, fused=True)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.steps)
    pixels = torch.from_numpy(images.pixels)[:, None].to(device)
    targets = torch.from_numpy(_as_output(images.targets, images)).float().to(device)
    train_index, stop_index = (torch.from_numpy(index).to(device) for index in (train, stop))
    stop_weights = _weights(images, stop).to(device)
    casting = autocast(schedule.precision, device)
    draws = torch.Generator().manual_seed(seed)
    best, best_state, fruitless_checks = float("inf"), network.state_dict(), 0
    every = max(1, schedule.steps // N_CHECKS)
    size = min(schedule.batch_size, len(train))
    order = torch.empty(0, dtype=torch.int64)
    for step in range(1, schedule.steps + 1):
        if len(order) < size:
            order = _an_epoch(images, train, draws)
        batch, order = train_index[order[:size].to(device)], order[size:]
        network.train()
        with casting():
            output = network(to_network(pixels[batch]).contiguous(memory_format=torch.channels_last))
        loss = network.squared_errors(output, targets[batch]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
        progress(step, schedule.steps)
        if step % every == 0 or step == schedule.steps:
            errors = network.squared_errors(_outputs(network, pixels[stop_index], casting), targets[stop_index])
            error = float((errors * stop_weights).mean())
            if not np.isfinite(error):
                raise DivergedError(f"training on {images.source} gave no finite error; lower --lr")
            fruitless_checks += 1
            if error < best:
                best, fruitless_checks = error, 0
                best_state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
            if fruitless_checks >= MAX_FRUITLESS_CHECKS:
                break
    network.load_state_dict(best_state)
    network.eval().requires_grad_(False)
    return network


def _weights(images: LabelledImages, index: NDArray[np.int64]) -> Tensor:
    """Return the weights of the images at `index`, 1 on average; all 1 where none has any."""
    equal = torch.ones(len(index))
    weights = equal if images.weights is None else torch.from_numpy(images.weights[index]).float()
    return weights / weights.mean() if weights.any() else equal


def _an_epoch(images: LabelledImages, train: NDArray[np.int64], draws: torch.Generator) -> Tensor:
    """Return indices into `train` for an epoch: a permutation, or a draw by weights with replacement."""
    if images.weights is None:
        return torch.randperm(len(train), generator=draws)
    return torch.multinomial(_weights(images, train), len(train), replacement=True, generator=draws)


def predict(network: Estimator, pixels: NDArray[np.uint8], device: torch.device, precision: str) -> Targets:
    """Return unit vectors N x 3, or K points N x 2K in pixels, of images N x H x W of the network's size."""
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    tensor = torch.from_numpy(pixels)[:, None].to(device)
    output = _outputs(network, tensor, autocast(precision, device)).cpu().double().numpy()
    if network.settings["target"] != "gaze":
        output = output * _scales(output, network.settings["height"], network.settings["width"])
    return np.asarray(output, np.float64)


def nearest_neighbours(train: LabelledImages, pixels: NDArray[np.uint8], device: torch.device) -> Targets:
    """Return the mean target of the 5 nearest training images, compared as small images of mean 0 and variance 1.

    A missing point counts as the training mean of that point.
    """
    known = _small(train.pixels, device)
    filled = np.where(np.isnan(train.targets), np.nanmean(train.targets, axis=0), train.targets)
    targets = torch.from_numpy(filled)  # on the CPU: MPS has no float64
    means = []
    for part in torch.split(_small(pixels, device), MAX_BATCH):
        nearest = torch.cdist(part, known).topk(min(N_NEIGHBOURS, len(known)), largest=False).indices.cpu()
        means.append(targets[nearest].mean(dim=1))
    return _unit_if_gaze(torch.cat(means).numpy(), train)


def predict_mean(train: LabelledImages, count: int) -> Targets:
    """Return the mean of the training targets `count` times."""
    return np.repeat(_unit_if_gaze(np.nanmean(train.targets, axis=0, keepdims=True), train), count, axis=0)


def _unit_if_gaze(targets: Targets, images: LabelledImages) -> Targets:
    return unit(targets) if images.target == "gaze" else targets


def _as_output(targets: Targets, images: LabelledImages) -> Targets:
    return targets if images.target == "gaze" else targets / _scales(targets, *images.size)


def _scales(targets: Targets, height: int, width: int) -> NDArray[np.int64]:
    """Return width and height for each point of targets N x 2K, which turn fractions into pixels."""
    return np.tile((width, height), targets.shape[1] // 2)


@torch.no_grad()
def _outputs(network: Estimator, pixels: Tensor, casting: Callable[[], AbstractContextManager[object]]) -> Tensor:
    network.eval()
    outputs = []
    for part in torch.split(pixels, cap_by_pixels(MAX_BATCH, MAX_BATCH_VALUES, pixels.shape[1:])):
        with casting():
            outputs.append(network(to_network(part).contiguous(memory_format=torch.channels_last)))
    return torch.cat(outputs)


def _small(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    height, width = pixels.shape[1:]
    scale = min(1.0, NEIGHBOUR_SIZE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    parts = []
    for part in torch.split(torch.from_numpy(pixels), MAX_BATCH):
        small = torch.nn.functional.adaptive_avg_pool2d(part[:, None].to(device).float(), size).flatten(1)
        parts.append((small - small.mean(1, keepdim=True)) / (small.std(1, keepdim=True) + 1e-3))
    return torch.cat(parts)
