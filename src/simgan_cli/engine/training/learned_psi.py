"""A psi that was learned: the features of a trained network, frozen."""

from pathlib import Path

import torch
import torch.nn.functional as F

from simgan_cli.engine.export.network_folder import Network, load_network
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.engine.method.noise import MAPS
from simgan_cli.engine.method.psi import BUILT_IN, FeatureTransform
from simgan_cli.errors import SettingsError, plural
from simgan_cli.settings.train import parse_psi


def psi_terms(spec: str, device: torch.device) -> list[tuple[FeatureTransform, float]]:
    """Return the transforms that `spec` names, built in or learned, each with its weight.

    Raises CheckpointError when a folder does not hold one of our networks.
    """
    return [(BUILT_IN.get(name) or learned(Path(name), device), weight) for name, weight in parse_psi(spec)]


def learned_folders(spec: str) -> list[Path]:
    """Return the folders of networks that `spec` names."""
    return [Path(name) for name, _ in parse_psi(spec) if name not in BUILT_IN]


def learned(folder: Path, device: torch.device) -> FeatureTransform:
    """Return the frozen convolutional part of the network in `folder` (config.json, model.safetensors).

    Raises CheckpointError when the folder does not hold one of our networks.
    """
    return _frozen(load_network(folder), device)


def _frozen(network: Network, device: torch.device) -> FeatureTransform:
    network.to(device).eval().requires_grad_(False)
    if isinstance(network, Refiner) and network.settings["noise"]:
        return lambda images: network.features(F.pad(images, (0, 0, 0, 0, 0, MAPS)))  # zero, the noise's mean
    return network.features


def check_psi(spec: str, shape: tuple[int, int, int]) -> None:
    """Raise SettingsError unless all transforms in `spec` take images of `shape`, C x H x W.

    Raises CheckpointError when a folder does not hold one of our networks.
    """
    channels, height, width = shape
    meta = torch.device("meta")  # shapes alone, without memory
    for folder in learned_folders(spec):
        network = load_network(folder)
        wanted = network.settings.get("channels", 1)  # estimators have no such setting: they read grey images
        if wanted != channels:
            raise SettingsError(
                f"--psi {folder}: its network takes {plural(wanted, 'channel')}, the images have {channels}; "
                f"choose another one, or convert the images with --channels {wanted}"
            )
        try:
            _frozen(network, meta)(torch.zeros(1, *shape, device=meta))
        except RuntimeError as error:
            raise SettingsError(
                f"--psi {folder}: images of {height}x{width} are too small for its network; choose another one, or a "
                "larger --size"
            ) from error
