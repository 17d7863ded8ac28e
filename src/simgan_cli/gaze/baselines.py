"""Training sets made without a refiner: the baselines that refining must beat."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from simgan_cli.data.augmentation import augment
from simgan_cli.data.matching import Levels, Match, are_equalized, match_tones, quantiles_of
from simgan_cli.gaze.labels import Grey, LabelledImages
from simgan_cli.settings.eval_gaze import BaselineName

BETA = 0.05  # FDA's low frequencies, as a share of the shorter side, on either side of zero
BLOCK = 256  # images that are floating-point numbers at once
Make = Callable[[Grey, Grey, np.random.Generator], Grey]  # images and photographs, N x H x W uint8 -> images


def make_baseline(name: BaselineName, images: LabelledImages, photographs: Grey, seed: int) -> LabelledImages:
    """Return `images` changed by a baseline towards unlabelled `photographs` of the same size, M x H x W uint8.

    Each image gets a random photograph. If the photographs are equalized, so is the result.
    """
    rng = np.random.default_rng([seed, 1])
    result = replace(images, reader=f"{images.reader}, {name}", pixels=_MAKE[name](images.pixels, photographs, rng))
    return result.equalized() if are_equalized(photographs[:, None]) else result


def _toward_chosen(
    images: Grey, photographs: Grey, rng: np.random.Generator, change: Callable[[Grey, NDArray[np.int64]], Levels]
) -> Grey:
    """Return `change` of images and the indices of random photographs, levels of 0 to 255.

    It takes a block of images at a time, since floating-point numbers need many times the memory.
    """
    chosen = rng.integers(len(photographs), size=len(images))
    starts = range(0, len(images), BLOCK)
    blocks = (change(images[at : at + BLOCK], chosen[at : at + BLOCK]) for at in starts)
    return np.concatenate([np.rint(block.clip(0, 255)).astype(np.uint8) for block in blocks])


def _matched(kind: Match) -> Make:
    def make(images: Grey, photographs: Grey, rng: np.random.Generator) -> Grey:
        bank = quantiles_of(photographs[:, None])

        def match(block: Grey, chosen: NDArray[np.int64]) -> Levels:
            return 255 * match_tones(block[:, None] / 255, bank, chosen.tolist(), kind)[:, 0]

        return _toward_chosen(images, photographs, rng, match)

    return make


def _fda(images: Grey, photographs: Grey, rng: np.random.Generator) -> Grey:
    """Return images with the amplitudes of a photograph's low frequencies (Yang and Soatto, CVPR 2020, Eq. 2)."""
    side = int(BETA * min(images.shape[1:]))
    rows, columns = (np.abs(np.fft.fftfreq(n, 1 / n)) <= side for n in images.shape[1:])
    low = rows[:, None] & columns

    def adapt(block: Grey, chosen: NDArray[np.int64]) -> Levels:
        ours, theirs = np.fft.fft2(block), np.fft.fft2(photographs[chosen])
        amplitude = np.where(low, np.abs(theirs), np.abs(ours))
        return np.fft.ifft2(amplitude * np.exp(1j * np.angle(ours))).real

    return _toward_chosen(images, photographs, rng, adapt)


def _augmented(images: Grey, _: Grey, rng: np.random.Generator) -> Grey:
    return np.stack([augment(image, rng) for image in images])


def _mixed(images: Grey, photographs: Grey, rng: np.random.Generator) -> Grey:
    """Return images augmented and then matched, the best combination of these baselines."""
    return _matched("histogram")(_augmented(images, photographs, rng), photographs, rng)


_MAKE: dict[BaselineName, Make] = {
    "histogram": _matched("histogram"),
    "reinhard": _matched("mean-std"),
    "fda": _fda,
    "augment": _augmented,
    "mixed": _mixed,
}
