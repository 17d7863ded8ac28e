"""Feature transforms psi of self-regularization (Eq. 4): the features that a refined image must keep."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from simgan_cli.settings.train import PSI_NAMES

# N x C x H x W in [-1, 1] -> N x features (any shape after N).
FeatureTransform = Callable[[Tensor], Tensor]

FLAT = 0.05  # deviation of an image that is little more than noise, which must not be amplified
BLUR_SIGMA = 2.0  # pixels; wide enough to drop texture and noise, narrow enough to keep the pupil in place


def identity(images: Tensor) -> Tensor:
    """Return the pixels themselves, the paper's default."""
    return images


def derivatives(images: Tensor) -> Tensor:
    """Return horizontal and vertical differences of neighbouring pixels, N x features."""
    across = images[..., :, 1:] - images[..., :, :-1]
    down = images[..., 1:, :] - images[..., :-1, :]
    return torch.cat([across.flatten(1), down.flatten(1)], dim=1)


def channel_mean(images: Tensor) -> Tensor:
    """Return the mean over the colour channels, N x 1 x H x W."""
    return images.mean(dim=1, keepdim=True)


def blur(images: Tensor) -> Tensor:
    """Return the images under a Gaussian of BLUR_SIGMA pixels, so that fine texture is free to change."""
    from torchvision.transforms.v2.functional import gaussian_blur  # type: ignore[import-untyped]  # slow to import, seldom needed

    radius = min(int(3 * BLUR_SIGMA), *(side - 1 for side in images.shape[2:]))  # reflection needs radius < side
    blurred: Tensor = gaussian_blur(images, [2 * radius + 1, 2 * radius + 1], [BLUR_SIGMA, BLUR_SIGMA])
    return blurred


def normalized(images: Tensor, flat: float = FLAT) -> Tensor:
    """Return each image less its mean, over its deviation: brightness and contrast are free to change.

    Images of a deviation below `flat`, with pixels in [-1, 1], are not amplified to that of the others.
    """
    centred = images - images.mean((1, 2, 3), keepdim=True)
    return centred / (centred.square().mean((1, 2, 3), keepdim=True) + flat**2).sqrt()


BUILT_IN: dict[str, FeatureTransform] = dict(
    zip(PSI_NAMES, (identity, derivatives, channel_mean, blur, normalized), strict=True)
)


@dataclass(frozen=True)
class SelfRegularization:
    """The weighted sum over transforms of mean |psi(R(x)) - psi(x)|, the second term of Eq. 4 without lambda."""

    terms: Sequence[tuple[FeatureTransform, float]]  # psi, weight

    def __call__(self, refined: Tensor, synthetic: Tensor) -> Tensor:
        """Return the sum, a float32 scalar, for R(x) and x, N x C x H x W in [-1, 1]."""
        total = refined.new_zeros((), dtype=torch.float32)
        for transform, weight in self.terms:
            total = total + weight * (transform(refined.float()) - transform(synthetic.float())).abs().mean()
        return total
