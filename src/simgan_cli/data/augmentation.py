"""Degrade images by hand-made augmentation, as a camera might: the baseline that a refiner must beat."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter


def augment(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return an H x W or H x W x 3 uint8 image with random blur, side light, gamma, contrast, level and noise.

    Geometry stays, so labels stay valid.
    """
    height, width = image.shape[:2]
    blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))
    x = np.asarray(blurred, np.float64).reshape(height, width, -1) / 255
    across, down = rng.uniform(-0.6, 0.6, 2)
    light = 1 + across * np.linspace(-1, 1, width) + down * np.linspace(-1, 1, height)[:, None]
    x = np.clip(x * light[:, :, None], 0, 1) ** np.exp(rng.uniform(-0.6, 0.6))
    x = (x - x.mean()) * rng.uniform(0.6, 1.2) + x.mean() + rng.uniform(-0.15, 0.15)
    x = x + rng.normal(0, rng.uniform(0, 0.06), (height, width, 1))
    result: NDArray[np.uint8] = np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8).reshape(image.shape)
    return result
