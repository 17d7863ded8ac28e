"""Random maps that the refiner may see beside the image, so that one rendered image has many looks.

The paper's refiner is a function: each rendered image gets one look, while grain, softness and light of real images
vary. Given z, R(x, z) can learn that variety from the discriminator; psi and lambda hold it to the label as before.
"""

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MAPS = 3  # for each pixel, for a neighbourhood, for the whole image
Normal = Callable[[int, int], Tensor]  # height, width
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
    """Return what draws count x 1 x H x W standard normal values from one generator, on its device."""
    return lambda height, width: torch.randn((count, 1, height, width), generator=generator, device=generator.device)


class NoiseSource:
    """Fresh z for every mini-batch of a training, from a random stream that restarts at each step.

    So a resumed training needs no more than its step. `stream` tells seeds and ranks apart.
    """

    def __init__(self, stream: Sequence[int], device: torch.device) -> None:
        self._stream = tuple(stream)
        self._generator = torch.Generator(device)

    def restart(self, step: int) -> None:
        """Begin the stream of `step`."""
        self._generator.manual_seed(mixed_seed(*self._stream, step))

    def beside(self, images: Tensor, *, alike: bool = False) -> Tensor:
        """Return N x C x H x W images with z behind them, N x (C + MAPS) x H x W; all have one z where `alike`."""
        count, _, height, width = images.shape
        noise = noise_maps((height, width), normal_of(self._generator, 1 if alike else count))
        return _joined(images, noise.expand(count, -1, -1, -1))


def beside_their_own_noise(images: Tensor, seed: int, looks: Sequence[str | None] | None = None) -> Tensor:
    """Return N x C x H x W float32 images on the CPU with z behind them that follows from `seed` and their pixels.

    So an image has the same look in any company, and another one under another seed. Where `looks` names one, z follows
    from that name instead: all images of one size under one name get the same z.
    """
    generators = []
    for image, look in zip(images, looks or [None] * len(images), strict=True):
        if look is None:
            source = [zlib.crc32(image.contiguous().numpy())]
        else:
            source = [zlib.crc32(look.encode("utf-8", "surrogateescape")), 1]  # no image's stream is as long
        generators.append(torch.Generator().manual_seed(mixed_seed(seed, *source)))

    def normal(height: int, width: int) -> Tensor:
        return torch.stack([torch.randn((1, height, width), generator=generator) for generator in generators])

    return _joined(images, noise_maps((images.shape[2], images.shape[3]), normal))


def mixed_seed(*numbers: int) -> int:
    """Return one number of 32 bits for all of them: PyTorch's generator on CPUs takes no more of its seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _joined(images: Tensor, noise: Tensor) -> Tensor:
    return torch.cat([images, noise], dim=1).contiguous(memory_format=torch.channels_last)
