"""How close refined images are to real ones, without anybody's trained weights: patch distances and a two-sample test.

Everything is computed on images that training does not see.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from simgan_cli.data.sampler import to_network
from simgan_cli.engine.method.algorithm import Measures, loss_if_real, loss_if_refined, patch_log_odds
from simgan_cli.engine.method.networks import build_discriminator
from simgan_cli.engine.metrics.label_drift import SMALLEST_SIDE, drift
from simgan_cli.engine.metrics.statistics import diversity
from simgan_cli.engine.run_folder.health import FEWEST, SHARE
from simgan_cli.engine.runtime.device import stream_number

MOST = 256  # images in a sample, at most
PATCH, PATCHES, DIRECTIONS = 7, 16_384, 128  # side, number in a set, and random directions they are projected on
TRAINING, STEPS, BATCH, RATE = 2000, 200, 32, 1e-3  # of the two-sample classifier: images and batch of each class
TRAINING_VALUES, BATCH_VALUES, FEW = 2**26, 2**19, 4  # of large images fewer: 32 of 128x128 in a batch, 8 of 256x256
HELD_OUT_VALUES = 2**25  # likewise: 170 images of 256x256 in colour, 10 of 1024x1024, and 8 of what is larger still
BINOMIAL = tuple(x / 16 for x in (1, 4, 6, 4, 1))
Refine = Callable[[Tensor], Tensor]  # N x C x H x W -> the same, in [-1, 1]


def cap_by_pixels(count: int, values: int, shape: Sequence[int]) -> int:
    """Return `count`, or fewer images C x H x W where so many have more than `values` in all; at least FEW."""
    return min(count, max(FEW, values // math.prod(shape)))


@dataclass(frozen=True)
class HeldOut:
    """Indices of the images that training leaves to measurements: n synthetic ones, n real ones and n other real ones.

    The second real set says how far apart two samples of one domain are. All are empty for domains of fewer than 80
    images, which cannot spare them.
    """

    synthetic: NDArray[np.int64]
    real: NDArray[np.int64]
    other_real: NDArray[np.int64]

    @classmethod
    def of(cls, synthetic: int, real: int, shape: Sequence[int], seed: int) -> "HeldOut":
        """Choose from so many synthetic and real images, C x H x W."""
        most = max(FEWEST, cap_by_pixels(MOST, HELD_OUT_VALUES, shape))
        count = min(most, synthetic // SHARE, real // SHARE)
        if count < FEWEST:
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
        """Return the patch distance of refined, raw and other real images from real ones, and what labels need.

        `diversity_held_out` is of images refined under one noise. `label_drift` is how far content moved in pixels,
        mean over images; absent where images are too small to tell.
        """
        refined = refine(self._synthetic)
        measures = {"swd_refined": self.distance(refined)} | self._fixed
        measures["diversity_held_out"] = diversity(refine_alike(self._synthetic), self._synthetic)
        if min(refined.shape[2:]) >= SMALLEST_SIDE:
            measures["label_drift"] = drift(self._synthetic, refined).mean()
        return measures

    def two_sample(self, refine: Refine, synthetic: Tensor, real: Tensor, seed: int) -> Measures:
        """Return the accuracy of a fresh classifier that tells refined from real, with its 95% interval.

        It learns from `synthetic` and `real`, integers, and is asked about the held-out images; 0.5 is chance
        (Lopez-Paz and Oquab, ICLR 2017).
        """
        known = to_network(synthetic)
        refined = refine(torch.cat([known, self._synthetic]))  # at once: noise begins anew with each call
        classify = _classifier(refined[: len(known)], to_network(real), seed)
        tests = ((refined[len(known) :], True), (self._real, False))
        right = sum(int((classify(images) == answer).sum()) for images, answer in tests)
        accuracy, low, high = wilson(right, 2 * len(self._real))
        numbers = {"two_sample": accuracy, "two_sample_low": low, "two_sample_high": high}
        return {name: torch.tensor(value, device=self._real.device) for name, value in numbers.items()}


class PatchDistance:
    """The sliced Wasserstein distance of patches on a Laplacian pyramid from those of reference images.

    As in Karras et al. (ICLR 2018, Sec. 5), but scaled by mean and deviation of the reference alone, so that a
    difference in brightness or contrast counts. The unit is one such deviation, averaged over levels.
    """

    def __init__(self, reference: Tensor) -> None:
        self._levels = []
        for patches in _patches(reference):
            mean, deviation = patches.mean(0), patches.std() + 1e-6
            directions = _directions(patches.shape[1]).to(patches.device)
            self._levels.append((mean, deviation, directions, _projected(patches, mean, deviation, directions)))

    def __call__(self, images: Tensor) -> Tensor:
        """Return the distance of as many images as the reference has, a scalar."""
        distances = [
            (_projected(patches, mean, deviation, directions) - projected).abs().mean()
            for patches, (mean, deviation, directions, projected) in zip(_patches(images), self._levels, strict=True)
        ]
        return torch.stack(distances).mean()


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """Return N x C x H x W images as bands of detail, finest first, and what is left at the coarsest.

    After Burt and Adelson (1983), but enlarged bilinearly with edges, not pixel centres, aligned: half a pixel off, so
    that a little of a coarse band stays in the finer one, the same in all images. Recorded distances are of it. Halving
    ends before the shorter side is smaller than two patches.
    """
    bands = []
    while min(images.shape[2:]) >= 4 * PATCH:
        coarser = _halved(images)
        bands.append(images - F.interpolate(coarser, images.shape[2:], mode="bilinear", align_corners=False))
        images = coarser
    return [*bands, images]


def wilson(right: int, total: int) -> tuple[float, float, float]:
    """Return a share with its 95% interval (Wilson 1927)."""
    share, z = right / total, 1.959964
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * (share * (1 - share) / total + z**2 / (4 * total**2)) ** 0.5
    return share, middle - half, middle + half


def _halved(images: Tensor) -> Tensor:
    channels = images.shape[1]
    row = torch.tensor(BINOMIAL, device=images.device)
    kernel = torch.outer(row, row).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), kernel, stride=2, groups=channels)


def _patches(images: Tensor) -> list[Tensor]:
    """Return patches P x (C * side**2) of each band, at places that depend on its shape alone."""
    found = []
    for band in laplacian_pyramid(images.float()):
        count, _, height, width = band.shape
        side = min(PATCH, height, width)
        generator = torch.Generator().manual_seed(0)
        each = max(1, PATCHES // count)
        rows = torch.randint(height - side + 1, (count * each, 1, 1), generator=generator) + torch.arange(side)[:, None]
        columns = torch.randint(width - side + 1, (count * each, 1, 1), generator=generator) + torch.arange(side)
        numbers = torch.arange(count).repeat_interleave(each)[:, None, None]
        places = [index.to(band.device) for index in (numbers, rows, columns)]
        found.append(band.movedim(1, -1)[places[0], places[1], places[2]].reshape(count * each, -1))
    return found


def _directions(dimensions: int) -> Tensor:
    return F.normalize(torch.randn(dimensions, DIRECTIONS, generator=torch.Generator().manual_seed(1)), dim=0)


def _projected(patches: Tensor, mean: Tensor, deviation: Tensor, directions: Tensor) -> Tensor:
    return ((patches - mean) / deviation @ directions).sort(dim=0).values


def _classifier(refined: Tensor, real: Tensor, seed: int) -> Callable[[Tensor], Tensor]:
    """Train a discriminator like the paper's from scratch; the mean over an image's patches is its answer."""
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_discriminator("auto", "local", refined.shape[1], (refined.shape[2], refined.shape[3]))
    network.to(refined.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    size = cap_by_pixels(BATCH, BATCH_VALUES, refined.shape[1:])
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
