"""Match the tones of images to photographs: the histogram, or mean and standard deviation.

A refiner gets the mean and contrast of an image less exactly than a tone table does. Refine first, then match.
"""

import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simgan_cli.data.decoding import Pixels

Match = Literal["histogram", "mean-std", "off"]
MatchSetting = Literal["auto"] | Match
Levels = NDArray[np.floating[Any]]  # in [0, 1]
Bank = NDArray[np.float32]  # photographs x channels x N_QUANTILES, in [0, 1]
N_QUANTILES = 256
QUANTILE_RANKS = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
MAX_PHOTOGRAPHS = 256  # 256 KiB for each channel
MAX_DISTANCE_EQUALIZED = 0.08  # from uniform ranks; Pillow reaches 0.07 on small images, others stay below 0.02


def quantiles_of(images: Pixels) -> Bank:
    """Return the quantiles of each channel of N x C x H x W uint8 or uint16 images, scaled to [0, 1]."""
    flat = images.reshape(*images.shape[:2], -1)
    quantiles = np.quantile(flat, QUANTILE_RANKS, axis=-1) / np.iinfo(images.dtype).max
    return np.ascontiguousarray(np.moveaxis(quantiles, 0, -1), np.float32)


def match_tones(images: Levels, bank: Bank, chosen: Sequence[int], kind: Match) -> Levels:
    """Return N x C x H x W images in [0, 1] with the tones of the `chosen` photographs, one for each image.

    `histogram` maps each level to the photograph's level of the same rank (Gonzalez and Woods, Sec. 3.3). `mean-std`
    shifts and scales to its mean and standard deviation (Reinhard et al., 2001). Each channel is matched alone.
    """
    if kind == "off":
        return images
    channels = images.reshape(-1, images.shape[2] * images.shape[3])
    quantiles = bank[list(chosen)].reshape(-1, N_QUANTILES)
    matched = (
        _mean_std(channels, quantiles) if kind == "mean-std" else np.stack([*map(_histogram, channels, quantiles)])
    )
    return matched.reshape(images.shape)


def look_generators(
    images: Pixels, seed: int, looks: Sequence[str | None] | None = None, *stream: int
) -> list[np.random.Generator]:
    """Return a random generator for each of N images, which depends on its content, `seed` and `stream` alone.

    Images with the same name in `looks` draw the same numbers.
    """
    generators = []
    for image, look in zip(images, looks or [None] * len(images), strict=True):
        content = image.tobytes() if look is None else look.encode("utf-8", "surrogateescape")
        generators.append(np.random.default_rng([seed, zlib.crc32(content), *stream]))
    return generators


def are_equalized(images: Pixels) -> bool:
    """Return whether the histograms of N x C x H x W images are flat, as equalization leaves them."""
    return float(np.median([_distance_from_uniform(image) for image in images])) < MAX_DISTANCE_EQUALIZED


def _histogram(flat: Levels, quantiles: NDArray[np.float32]) -> Levels:
    order, starts, ends = _runs(flat)
    matched = np.empty_like(flat)
    matched[order] = np.repeat(np.interp((starts + ends) / (2 * flat.size), QUANTILE_RANKS, quantiles), ends - starts)
    return matched


def _mean_std(channels: Levels, quantiles: NDArray[np.float32]) -> Levels:
    mean, deviation = channels.mean(1, keepdims=True), np.maximum(channels.std(1, keepdims=True), 1e-6)
    gain = (quantiles.std(1, keepdims=True) / deviation).astype(channels.dtype)
    matched: Levels = np.clip((channels - mean) * gain + quantiles.mean(1, keepdims=True), 0, 1)
    return matched


def _distance_from_uniform(image: Pixels) -> float:
    """Return the largest distance between the distribution of an image's levels and the uniform one."""
    flat = image.ravel()
    order, starts, ends = _runs(flat)
    levels = flat[order[starts]]
    return float(np.abs((starts + ends) / (2 * flat.size) - (levels + 0.5) / (np.iinfo(image.dtype).max + 1)).max())


def _runs(flat: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return the order that sorts pixels, and where in it each level starts and ends."""
    order = np.argsort(flat)
    ordered = flat[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, flat.size)
    return order, np.append(0, ends[:-1]), ends
