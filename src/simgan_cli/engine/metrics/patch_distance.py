"""The sliced Wasserstein distance of image patches on a Laplacian pyramid (Karras et al., ICLR 2018, Sec. 5)."""

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH_PIXELS = 7  # side of a patch
N_PATCHES = 16_384  # in a set of images, on each level
N_DIRECTIONS = 128  # random ones that patches are projected on
BINOMIAL = tuple(x / 16 for x in (1, 4, 6, 4, 1))


class PatchDistance:
    """The distance of patches on a Laplacian pyramid from those of reference images N x C x H x W in [-1, 1].

    As in Karras et al., but scaled by mean and deviation of the reference alone, so that a difference in brightness or
    contrast counts. The unit is one such deviation, averaged over levels.
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
    """Return N x C x H x W images as bands of detail, finest first, and the remaining coarsest image.

    After Burt and Adelson (1983), but enlarged bilinearly with edges, not pixel centres, aligned. The half pixel leaves
    a little of a coarse band in the finer one, the same in all images; recorded distances include it. Halving ends
    before the shorter side is below two patches.
    """
    bands = []
    while min(images.shape[2:]) >= 4 * PATCH_PIXELS:
        coarser = _halved(images)
        bands.append(images - F.interpolate(coarser, images.shape[2:], mode="bilinear", align_corners=False))
        images = coarser
    return [*bands, images]


def _halved(images: Tensor) -> Tensor:
    channels = images.shape[1]
    row = torch.tensor(BINOMIAL, device=images.device)
    kernel = torch.outer(row, row).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), kernel, stride=2, groups=channels)


def _patches(images: Tensor) -> list[Tensor]:
    """Return patches P x (C * side**2) of each band, at places that depend on its shape alone."""
    levels = []
    for band in laplacian_pyramid(images.float()):
        count, _, height, width = band.shape
        side = min(PATCH_PIXELS, height, width)
        generator = torch.Generator().manual_seed(0)
        each = max(1, N_PATCHES // count)
        rows = torch.randint(height - side + 1, (count * each, 1, 1), generator=generator) + torch.arange(side)[:, None]
        columns = torch.randint(width - side + 1, (count * each, 1, 1), generator=generator) + torch.arange(side)
        numbers = torch.arange(count).repeat_interleave(each)[:, None, None]
        image, row, column = (index.to(band.device) for index in (numbers, rows, columns))
        levels.append(band.movedim(1, -1)[image, row, column].reshape(count * each, -1))
    return levels


def _directions(dimensions: int) -> Tensor:
    """Return random unit vectors, `dimensions` x N_DIRECTIONS."""
    return F.normalize(torch.randn(dimensions, N_DIRECTIONS, generator=torch.Generator().manual_seed(1)), dim=0)


def _projected(patches: Tensor, mean: Tensor, deviation: Tensor, directions: Tensor) -> Tensor:
    return ((patches - mean) / deviation @ directions).sort(dim=0).values
