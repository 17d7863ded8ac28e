"""Distance of refined images from real ones, without pretrained weights: patch distances and a two-sample test.

Both are measured on images that training does not see.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan_cli.data.sampler import to_network
from simgan_cli.engine.method.algorithm import Measures, loss_if_real, loss_if_refined, patch_log_odds
from simgan_cli.engine.method.networks import build_discriminator
from simgan_cli.engine.metrics.label_drift import MIN_SIDE_PIXELS, drift
from simgan_cli.engine.metrics.patch_distance import PatchDistance
from simgan_cli.engine.metrics.statistics import diversity
from simgan_cli.engine.run_folder.health import HELD_OUT_FRACTION, MIN_HELD_OUT
from simgan_cli.engine.runtime.device import stream_number

MAX_HELD_OUT = 256  # images in a sample
MAX_TRAINING_IMAGES = 2000  # of each class, for the two-sample classifier
STEPS, BATCH_SIZE, LEARNING_RATE = 200, 32, 1e-3  # of that classifier; the batch is of each class
# Caps for large images, never below MIN_IMAGES. A batch has 32 of 128x128, 8 of 256x256; 170 of 256x256 in colour are
# held out, 10 of 1024x1024, and MIN_HELD_OUT of larger ones.
MAX_TRAINING_VALUES, MAX_BATCH_VALUES, MAX_HELD_OUT_VALUES = 2**26, 2**19, 2**25
MIN_IMAGES = 4
Refine = Callable[[Tensor], Tensor]  # N x C x H x W -> the same, in [-1, 1]


def cap_by_pixels(count: int, values: int, shape: Sequence[int]) -> int:
    """Return `count`, or fewer where `count` images C x H x W exceed `values` in all; at least MIN_IMAGES."""
    return min(count, max(MIN_IMAGES, values // math.prod(shape)))


@dataclass(frozen=True)
class HeldOut:
    """Indices of the images that training leaves to measurements: n synthetic ones, n real ones and n other real ones.

    The second real set gives the distance of two samples of one domain. All are empty for domains of fewer than 80
    images.
    """

    synthetic: NDArray[np.int64]
    real: NDArray[np.int64]
    other_real: NDArray[np.int64]

    @classmethod
    def choose(cls, synthetic: int, real: int, shape: Sequence[int], seed: int) -> "HeldOut":
        """Choose from `synthetic` and `real` images of `shape` C x H x W."""
        limit = max(MIN_HELD_OUT, cap_by_pixels(MAX_HELD_OUT, MAX_HELD_OUT_VALUES, shape))
        count = min(limit, int(min(synthetic, real) * HELD_OUT_FRACTION))
        if count < MIN_HELD_OUT:
            count = 0
        rng = np.random.default_rng([seed, stream_number("held-out-images")])
        chosen = rng.choice(synthetic, count, replace=False)
        of_real = rng.choice(real, 2 * count, replace=False)
        return cls(np.sort(chosen), np.sort(of_real[:count]), np.sort(of_real[count:]))

    @property
    def all_real(self) -> NDArray[np.int64]:
        """Both real samples."""
        return np.concatenate([self.real, self.other_real])

    def __len__(self) -> int:
        return len(self.synthetic)


class Realism:
    """Measures of a refiner on fixed images n x C x H x W, integers: synthetic, real, and a second real sample."""

    def __init__(self, synthetic: Tensor, real: Tensor, other_real: Tensor) -> None:
        self._synthetic = to_network(synthetic)
        self._real = to_network(real)
        self.distance = PatchDistance(self._real)
        self._fixed = {
            "swd_synthetic": self.distance(self._synthetic),
            "swd_real": self.distance(to_network(other_real)),
        }

    def measure(self, refine: Refine, refine_alike: Refine) -> Measures:
        """Return the patch distance of refined, raw and other real images from real ones, diversity and label drift.

        `diversity_held_out` is of images refined under one noise. `label_drift` is the shift of content in pixels, mean
        over images; absent where images are too small to measure.
        """
        refined = refine(self._synthetic)
        measures = {"swd_refined": self.distance(refined)} | self._fixed
        measures["diversity_held_out"] = diversity(refine_alike(self._synthetic), self._synthetic)
        if min(refined.shape[2:]) >= MIN_SIDE_PIXELS:
            measures["label_drift"] = drift(self._synthetic, refined).mean()
        return measures

    def two_sample(self, refine: Refine, synthetic: Tensor, real: Tensor, seed: int) -> Measures:
        """Return the accuracy of a fresh classifier that separates refined from real, with its 95% interval.

        It learns from `synthetic` and `real`, integers, and is tested on the held-out images; 0.5 is chance
        (Lopez-Paz and Oquab, ICLR 2017).
        """
        from scipy.stats import binomtest  # half a second, and a training needs it at its end alone

        known = to_network(synthetic)
        refined = refine(torch.cat([known, self._synthetic]))  # in one call: each call restarts the noise
        classify = _classifier(refined[: len(known)], to_network(real), seed)
        tests = ((refined[len(known) :], True), (self._real, False))
        right = sum(int((classify(images) == answer).sum()) for images, answer in tests)
        total = 2 * len(self._real)
        interval = binomtest(right, total).proportion_ci(0.95, "wilson")
        numbers = {"two_sample": right / total, "two_sample_low": interval.low, "two_sample_high": interval.high}
        return {name: torch.tensor(float(value), device=self._real.device) for name, value in numbers.items()}


def _classifier(refined: Tensor, real: Tensor, seed: int) -> Callable[[Tensor], Tensor]:
    """Train a discriminator like the paper's from scratch; return it as a function from N images to N booleans."""
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_discriminator("auto", "local", refined.shape[1], (refined.shape[2], refined.shape[3]))
    network.to(refined.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    size = cap_by_pixels(BATCH_SIZE, MAX_BATCH_VALUES, refined.shape[1:])
    for _ in range(STEPS):
        batch = [
            images[torch.randint(len(images), (size,), generator=draws).to(images.device)] for images in (refined, real)
        ]
        odds = patch_log_odds(network(torch.cat(batch).contiguous(memory_format=torch.channels_last)))
        loss = loss_if_refined(odds[:size]) + loss_if_real(odds[size:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    @torch.no_grad()
    def is_refined(images: Tensor) -> Tensor:
        parts = [patch_log_odds(network(part)).flatten(1).mean(1) for part in torch.split(images, size)]
        return torch.cat(parts) > 0

    return is_refined
