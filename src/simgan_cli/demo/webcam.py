"""Simulate a webcam: the faces and lamps before it, and its degradation of their image."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simgan_cli.demo.eye_world import CLEAN_LOOK, Floats, Ranges

MARGIN = 8  # pixels of padding while an image is blurred
# Other people in other light: darker skins and irises, a dull sclera in shadow, lashes that merge into a dark line.
WEBCAM_LOOK: Ranges = {
    **CLEAN_LOOK,
    "skin": (0.34, 0.74), "blotches": (0.02, 0.07), "pores": (0.01, 0.06), "wrinkles": (0.02, 0.10),
    "crease": (0.25, 0.65), "socket": (0.35, 0.75), "lid_tone": (0.9, 1.12),
    "iris": (0.08, 0.20), "iris_texture": (0.05, 0.3), "limbus": (0.1, 0.5), "limbus_width": (0.4, 0.8),
    "pupil_radius": (1.2, 3.2), "sclera": (0.46, 0.72), "veins": (0.0, 0.2),
    "lid_shadow": (0.45, 0.75), "caruncle": (0.3, 0.5), "rim": (0.4, 0.6),
    "lash_line": (0.6, 0.95), "lash_width": (0.7, 1.1), "lashes": (0.4, 0.8), "lower_lashes": (0.2, 0.6),
    "brow": (0.5, 0.9), "eyeshadow": (-0.15, 0.15),
    "light_x": (-0.75, 0.75), "light_y": (-0.6, 0.1), "ambient": (0.15, 0.4),
    "glint": (-0.4, 0.9), "glint_radius": (0.4, 1.3), "glint_x": (-0.3, 0.3), "glint_y": (-0.1, 0.25),
}  # fmt: skip
WEARS_MAKE_UP, WEARS_GLASSES = 0.15, 0.12  # shares of people
MAKE_UP: Ranges = {"lash_line": (0.9, 1.0), "lash_width": (1.1, 1.7), "eyeshadow": (0.25, 0.5)}
LOOKS_AT_A_SCREEN = {"mean": (-0.06, 0.0), "deviation": (0.13, 0.18), "most": (0.34, 0.46)}  # pitch, yaw; rad


def gaze_at_a_screen(rng: np.random.Generator, count: int) -> dict[str, NDArray[np.float64]]:
    """Return pitch and yaw (N each, radians) of people before a screen: normal, clipped to its edges."""
    mean, deviation, most = (np.array(numbers) for numbers in LOOKS_AT_A_SCREEN.values())
    pitch, yaw = np.clip(rng.normal(mean, deviation, (count, 2)), -most, most).T
    return {"pitch": pitch, "yaw": yaw}


def make_up(rng: np.random.Generator, count: int) -> dict[str, NDArray[np.float64]]:
    """Return lash and lid parameters (N each) of people; some wear eyeliner and eyeshadow."""
    wears = rng.random(count) < WEARS_MAKE_UP
    return {
        name: np.where(wears, rng.uniform(*MAKE_UP[name], count), rng.uniform(*WEBCAM_LOOK[name], count))
        for name in MAKE_UP
    }


def photograph(images: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return clean images N x H x W in [0, 1] as photographs of a poor camera, uint8.

    It adds uneven light, glasses, defocus and motion, sensor noise, JPEG, and a stretched histogram.
    """
    lit = _lit(images, rng)
    _add_glare(lit, rng)
    blurred = _blurred(lit, rng)
    _add_noise(blurred, rng)
    stretched = _stretched(blurred, rng)
    levels = np.rint(255 * np.clip(stretched, 0, 1)).astype(np.uint8)
    qualities = rng.integers(45, 95, len(levels))
    return np.stack([_through_jpeg(image, int(quality)) for image, quality in zip(levels, qualities, strict=True)])


def _uniform(rng: np.random.Generator, low: float, high: float, count: int) -> Floats:
    return rng.uniform(low, high, (count, 1, 1)).astype(np.float32)


def _places(shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Return x (1 x 1 x W) and y (1 x H x 1) from -1 to 1."""
    x, y = (np.linspace(-1, 1, length, dtype=np.float32) for length in (shape[2], shape[1]))
    return x[None, None, :], y[None, :, None]


def _lit(images: Floats, rng: np.random.Generator) -> Floats:
    """Return images in light that falls off across the face, some with a shadow's edge, through a tone curve."""
    count = len(images)
    x, y = _places(images.shape)
    light = np.exp(_uniform(rng, -0.4, 0.4, count) * x + _uniform(rng, -0.3, 0.15, count) * y)
    light *= 1 - _uniform(rng, 0, 0.25, count) * (x * x + y * y) / 2  # vignetting
    turn = _uniform(rng, 0, 2 * np.pi, count)
    beyond = np.cos(turn) * x + 0.6 * np.sin(turn) * y - _uniform(rng, 0.1, 0.9, count)
    depth = _uniform(rng, -0.9, 0.6, count).clip(0)  # more than half of the images get no shadow
    light *= 1 - depth * np.clip(beyond / _uniform(rng, 0.1, 0.6, count), 0, 1)
    toned: Floats = np.clip(images * light, 0, 1) ** _uniform(rng, 0.75, 1.35, count)
    return toned


def _add_glare(images: Floats, rng: np.random.Generator) -> None:
    """Add glasses to some images: a bright reflection, and the rim's edge."""
    count = int(rng.binomial(len(images), WEARS_GLASSES))
    wearers = rng.choice(len(images), count, replace=False)
    x, y = _places(images.shape)
    left, top = _uniform(rng, -1, 0.8, count), _uniform(rng, -1, 0.7, count)
    soft = _uniform(rng, 0.05, 0.2, count)
    across = np.abs(x - left - 0.3 * y) - _uniform(rng, 0.05, 0.25, count)
    down = np.abs(y - top) - _uniform(rng, 0.1, 0.6, count)
    patch = _uniform(rng, 0.1, 0.6, count) * np.clip(0.5 - np.maximum(across, down) / soft, 0, 1)
    bend = y - _uniform(rng, -1.1, -0.55, count) - _uniform(rng, 0.1, 0.5, count) * x * x
    rim = _uniform(rng, -0.5, 0.9, count) * np.exp(-((bend / 0.09) ** 2))
    worn = images[wearers]
    worn += patch * (1 - worn)
    worn += np.abs(rim) * ((rim > 0) - worn)  # metal shines, plastic is dark
    images[wearers] = worn


def _blurred(images: Floats, rng: np.random.Generator) -> Floats:
    """Return images blurred by defocus (a Gaussian) and motion (a line), through their transfer functions."""
    count, (height, width) = len(images), images.shape[1:]
    padded = np.pad(images, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)), mode="edge")
    fy = np.fft.fftfreq(padded.shape[1]).astype(np.float32)[None, :, None]
    fx = np.fft.rfftfreq(padded.shape[2]).astype(np.float32)[None, None, :]
    pixel = np.float32(width / 55)  # blur grows with the image, as 55 pixels wide is the reference
    sigma = pixel * _uniform(rng, 0.45, 1.15, count)
    length, turn = pixel * _uniform(rng, -2.5, 2.5, count).clip(0), _uniform(rng, 0, np.pi, count)
    transfer = np.exp(-2 * np.pi**2 * sigma**2 * (fx * fx + fy * fy))
    transfer *= np.sinc(length * (np.cos(turn) * fx + np.sin(turn) * fy))
    blurred = np.fft.irfft2(np.fft.rfft2(padded) * transfer, s=padded.shape[1:])
    return blurred[:, MARGIN : MARGIN + height, MARGIN : MARGIN + width].astype(np.float32)


def _add_noise(images: Floats, rng: np.random.Generator) -> None:
    """Add sensor noise, stronger in bright pixels and correlated between neighbours."""
    count = len(images)
    noise = rng.standard_normal(images.shape, dtype=np.float32)
    noise += _uniform(rng, 0, 0.8, count) * (np.roll(noise, 1, axis=2) + np.roll(noise, 1, axis=1))
    images += noise * _uniform(rng, 0.003, 0.025, count) * np.sqrt(0.2 + images.clip(0))


def _stretched(images: Floats, rng: np.random.Generator) -> Floats:
    """Return images whose 1st and 99th percentiles are moved towards black and white."""
    low, high = np.percentile(images, [1, 99], axis=(1, 2))[:, :, None, None].astype(np.float32)
    share = _uniform(rng, 0.6, 1.0, len(images))
    stretched: Floats = images + share * ((images - low) / np.maximum(high - low, 0.05) - images)
    return stretched


def _through_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
