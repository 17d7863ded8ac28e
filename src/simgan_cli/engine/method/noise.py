"""Random maps that the refiner may see beside the image, so that one rendered image has many looks.

The paper's refiner is a function: each rendered image gets one look, while grain, softness and light of real images
vary. Given z, R(x, z) can learn that variety from the discriminator; psi and lambda still keep the label.
"""

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from simgan_cli.data.sampler import to_pixels

MAPS = 3  # for each pixel, for a neighbourhood, for the complete image
Normal = Callable[[int, int], Tensor]  # height, width
MAX_VALUES_AT_ONCE = 2**16  # so that temporaries stay in the cache
GOLDEN = np.uint32(0x9E3779B9)  # spreads consecutive numbers over 32 bits
CELL = 9  # pixels between the independent values of a neighbourhood's map: about half of what R sees


def noise_maps(size: tuple[int, int], normal: Normal) -> Tensor:
    """Return z, N x MAPS x H x W float32 of standard normal values; `normal` draws N x 1 x H x W of them.

    The first map is independent at every pixel, the second bilinear between values CELL pixels apart, the third the
    same all over an image.
    """
    fine, image = normal(*size), normal(1, 1)
    coarse = normal(*(max(2, round(side / CELL) + 1) for side in size))
    coarse = F.interpolate(coarse, size, mode="bilinear", align_corners=True)
    return torch.cat([fine, coarse, image.expand_as(fine)], dim=1)


def normal_of(generator: torch.Generator, count: int) -> Normal:
    """Return a function that draws count x 1 x H x W standard normal values from one generator, on its device."""
    return lambda height, width: torch.randn((count, 1, height, width), generator=generator, device=generator.device)


class NoiseSource:
    """Fresh z for every mini-batch of a training, from a random stream that restarts at each step.

    A resumed training therefore needs only its step. `stream` holds the seed and the rank.
    """

    def __init__(self, stream: Sequence[int], device: torch.device) -> None:
        self._stream = tuple(stream)
        self._generator = torch.Generator(device)

    def restart(self, step: int) -> None:
        """Start the stream of `step`."""
        self._generator.manual_seed(mixed_seed(*self._stream, step))

    def beside(self, images: Tensor, *, alike: bool = False) -> Tensor:
        """Return N x C x H x W images with z behind them, N x (C + MAPS) x H x W; all have one z where `alike`."""
        count, _, height, width = images.shape
        noise = noise_maps((height, width), normal_of(self._generator, 1 if alike else count))
        seen = torch.cat([images, noise.expand(count, -1, -1, -1)], dim=1)
        return seen.contiguous(memory_format=torch.channels_last)


def beside_their_own_noise(images: Tensor, seed: int, looks: Sequence[str | None] | None = None) -> Tensor:
    """Return N x C x H x W float32 images on the CPU with z behind them that follows from their `look_keys`.

    All images of one size under one name in `looks` get the same z.
    """
    count, channels, height, width = images.shape
    keys = look_keys(images, seed, looks)
    drawn = 0

    def normal(height: int, width: int) -> Tensor:
        nonlocal drawn
        values = normal_values(keys, drawn, height * width)
        drawn += height * width + height * width % 2
        return torch.from_numpy(values).view(count, 1, height, width)

    seen = torch.empty((count, channels + MAPS, height, width), memory_format=torch.channels_last)
    seen[:, :channels] = images
    seen[:, channels:] = noise_maps((height, width), normal)
    return seen


def look_keys(images: Tensor, seed: int, looks: Sequence[str | None] | None = None) -> NDArray[np.uint32]:
    """Return N x 2 keys of random streams for N x C x H x W float32 images on the CPU in [-1, 1].

    An image's key follows from its pixels and `seed`, not from its batch. Pixels count as 16-bit levels, so that
    integers and floats of one image have one look. Where `looks` has a name, the key follows from it instead.
    """
    levels = to_pixels(images.contiguous(), np.dtype(np.uint16))
    sources = [
        (zlib.crc32(image), 0) if look is None else (zlib.crc32(look.encode("utf-8", "surrogateescape")), 1)
        for image, look in zip(levels, looks or [None] * len(images), strict=True)
    ]
    of_seed = np.random.SeedSequence(seed).generate_state(4).reshape(2, 2)  # for images and for looks
    return np.array([of_seed[kind] ^ np.uint32(number) for number, kind in sources])


def choices(keys: NDArray[np.uint32], count: int) -> list[int]:
    """Return a random number below `count` for each of N x 2 `keys`, from a place that no noise reaches."""
    last = np.full((len(keys), 1), 2**32 - 1, np.uint32)
    bits = _hashed(_hashed(last * GOLDEN + keys[:, :1]) + keys[:, 1:])
    return (bits[:, 0] % count).tolist()  # type: ignore[no-any-return]


def normal_values(keys: NDArray[np.uint32], first: int, count: int) -> NDArray[np.float32]:
    """Return N x `count` standard normal values from the streams of N x 2 `keys`, from number `first`, even, onwards.

    Each depends on its key and number alone: two rounds of a hash (lowbias32, Wellons, "Prospecting for hash
    functions"), then Box and Muller's transform of pairs.
    """
    pairs = -(-count // 2)
    values = np.empty((len(keys), pairs, 2), np.float32)
    step = max(2, MAX_VALUES_AT_ONCE // (2 * len(keys)))
    for start in range(0, pairs, step):
        stop = min(pairs, start + step)
        numbers = np.arange(first + 2 * start, first + 2 * stop, dtype=np.uint32)
        bits = _hashed(_hashed(numbers * GOLDEN + keys[:, :1]) + keys[:, 1:])
        uniform = ((bits >> 8).astype(np.float32) + np.float32(0.5)) * np.float32(2**-24)  # in (0, 1)
        radius, angle = np.sqrt(-2 * np.log(uniform[:, ::2])), np.float32(2 * np.pi) * uniform[:, 1::2]
        np.multiply(radius, np.cos(angle), out=values[:, start:stop, 0])
        np.multiply(radius, np.sin(angle), out=values[:, start:stop, 1])
    return values.reshape(len(keys), 2 * pairs)[:, :count]


def _hashed(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return hashed 32-bit words, each bit dependent on all bits of its input, which is overwritten."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        words ^= words >> shift
        words *= np.uint32(factor)
    words ^= words >> 16
    return words


def mixed_seed(*numbers: int) -> int:
    """Return one 32-bit number for all of them: PyTorch's generator on CPUs uses no more bits of its seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
