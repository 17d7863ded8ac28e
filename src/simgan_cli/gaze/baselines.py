"""Training sets made without a refiner: the baselines that refining must beat."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from simgan_cli.data.augmentation import augment
from simgan_cli.data.matching import Match, are_equalized, match_tones, quantiles_of
from simgan_cli.gaze.labels import Grey, LabelledImages
from simgan_cli.settings.eval_gaze import BaselineName

BETA = 0.05  # FDA's low frequencies, as a share of the shorter side, on either side of zero
Make = Callable[[Grey, Grey, np.random.Generator], Grey]  # images and photographs, N x H x W uint8 -> images


def make_baseline(name: BaselineName, images: LabelledImages, photographs: Grey, seed: int) -> LabelledImages:
    """Return `images` changed by a baseline towards unlabelled `photographs` of the same size, M x H x W uint8.

    Each image gets a random photograph. If the photographs are equalized, so is the result.
    """
    rng = np.random.default_rng([seed, 1])
    result = replace(images, reader=f"{images.reader}, {name}", pixels=_MAKE[name](images.pixels, photographs, rng))
    return result.equalized() if are_equalized(photographs[:, None]) else result


def _matched(kind: Match) -> Make:
    def make(images: Grey, photographs: Grey, rng: np.random.Generator) -> Grey:
        chosen = rng.integers(len(photographs), size=len(images)).tolist()
        matched = match_tones(images[:, None] / 255, quantiles_of(photographs[:, None]), chosen, kind)[:, 0]
        result: Grey = np.rint(matched * 255).astype(np.uint8)
        return result

    return make


def _fda(images: Grey, photographs: Grey, rng: np.random.Generator) -> Grey:
    """Return images with the amplitudes of a photograph's low frequencies (Yang and Soatto, CVPR 2020, Eq. 2)."""
    chosen = photographs[rng.integers(len(photographs), size=len(images))]
    side = int(BETA * min(images.shape[1:]))
    ours, theirs = np.fft.fft2(images), np.fft.fft2(chosen)
    rows, columns = (np.abs(np.fft.fftfreq(n, 1 / n)) <= side for n in images.shape[1:])
    low = rows[:, None] & columns
    amplitude = np.where(low, np.abs(theirs), np.abs(ours))
    mixed = np.fft.ifft2(amplitude * np.exp(1j * np.angle(ours))).real
    result: NDArray[np.uint8] = np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)
    return result


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
