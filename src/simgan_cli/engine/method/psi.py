"""Feature transforms psi of self-regularization (Eq. 4): what of the rendered image the refined one must keep."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simgan_cli.engine.export.network_folder import Network, load_network
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.engine.method.noise import MAPS
from simgan_cli.errors import SettingsError
from simgan_cli.settings.train import PSI_NAMES, parse_psi

# N x C x H x W in [-1, 1] -> N x features (any shape after N).
FeatureTransform = Callable[[Tensor], Tensor]

FLAT = 0.05  # a deviation at which an image is hardly more than noise, which should not be blown up
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

    Images of a deviation below `flat`, with pixels in [-1, 1], keep it: they are not blown up to that of the others.
    """
    centred = images - images.mean((1, 2, 3), keepdim=True)
    return centred / (centred.square().mean((1, 2, 3), keepdim=True) + flat**2).sqrt()


def learned(folder: Path, device: torch.device) -> FeatureTransform:
    """Return the frozen convolutional part of the network in `folder` (config.json, model.safetensors).

    Raises CheckpointError when the folder does not hold one of our networks.
    """
    return _frozen(load_network(folder), device)


def _frozen(network: Network, device: torch.device) -> FeatureTransform:
    network.to(device).eval().requires_grad_(False)
    if isinstance(network, Refiner) and network.settings["noise"]:
        return lambda images: network.features(F.pad(images, (0, 0, 0, 0, 0, MAPS)))  # noise of its mean
    return network.features


def check_psi(spec: str, shape: tuple[int, int, int]) -> None:
    """Raise SettingsError unless all transforms in `spec` take images of `shape`, C x H x W.

    Raises CheckpointError when a folder does not hold one of our networks.
    """
    for name, _ in parse_psi(spec):
        if name not in _BUILT_IN:
            _check_learned(Path(name), shape)


def _check_learned(folder: Path, shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    network = load_network(folder)
    wanted = network.settings.get("channels", 1)  # estimators have no such setting: they read grey images
    if wanted != channels:
        raise SettingsError(
            f"--psi {folder}: its network takes images of {wanted} channels, and these have {channels}; take another "
            f"one, or bring the images to its form with --channels {wanted}"
        )
    without_memory = torch.device("meta")
    try:
        _frozen(network, without_memory)(torch.zeros(1, *shape, device=without_memory))
    except RuntimeError as error:
        raise SettingsError(
            f"--psi {folder}: images of {height}x{width} are too small for its network; take another one, or bring "
            "them to a larger --size"
        ) from error


_BUILT_IN: dict[str, FeatureTransform] = dict(
    zip(PSI_NAMES, (identity, derivatives, channel_mean, blur, normalized), strict=True)
)


class SelfRegularization(nn.Module):
    """The weighted sum over transforms of mean |psi(R(x)) - psi(x)|, the second term of Eq. 4 without lambda."""

    def __init__(self, spec: str, device: torch.device) -> None:
        super().__init__()
        self.terms = [(_BUILT_IN.get(name) or learned(Path(name), device), weight) for name, weight in parse_psi(spec)]

    def forward(self, refined: Tensor, synthetic: Tensor) -> Tensor:
        total = refined.new_zeros((), dtype=torch.float32)
        for transform, weight in self.terms:
            total = total + weight * (transform(refined.float()) - transform(synthetic.float())).abs().mean()
        return total
