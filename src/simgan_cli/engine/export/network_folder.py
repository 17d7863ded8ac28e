"""A trained network as a folder that stands alone: config.json and model.safetensors, no code and no pickle."""

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from simgan_cli import __version__
from simgan_cli.documents import NetworkConfig
from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.engine.method.networks import Discriminator, Refiner
from simgan_cli.errors import CheckpointError
from simgan_cli.files import parse_json, with_filename, write_atomic, write_json
from simgan_cli.settings.train import LARGEST_SETTING

WEIGHTS, CONFIG = "model.safetensors", "config.json"
Network = Refiner | Discriminator | Estimator
# The networks that a config.json may name.
NETWORKS: dict[str, type[Refiner] | type[Discriminator] | type[Estimator]] = {
    "refiner": Refiner,
    "discriminator": Discriminator,
    "estimator": Estimator,
}


def save_network(folder: Path, network: Network, extra: dict[str, Any], metadata: dict[str, str]) -> None:
    """Write `network` to `folder`; `extra` goes into config.json, `metadata` into the header of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    name = next(name for name, kind in NETWORKS.items() if isinstance(network, kind))
    write_json(folder / CONFIG, {**description(network.settings, name), **extra})
    write_atomic(folder / WEIGHTS, safetensors.torch.save(tensors_of(network), metadata))


def description(settings: dict[str, Any], network: str = "refiner") -> NetworkConfig:
    """Return the config.json of a network with these `settings`."""
    return {"schema": "simgan.network/1", "simgan": __version__, "network": network, "settings": settings}


def load_network(folder: Path) -> Network:
    """Build the network that `folder` describes and fill in its weights, on the CPU.

    Raises CheckpointError for a missing or damaged file, an unknown network, or weights that do not fit.
    """
    network = build_network(read_json(folder / CONFIG), folder / CONFIG)
    fill(network, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    return network


def build_network(config: dict[str, Any], source: Path) -> Network:
    """Build the network that a config.json describes; its weights take memory only once `fill` has checked them.

    Raises CheckpointError where it describes none.
    """
    kind, settings = NETWORKS.get(str(config.get("network"))), config.get("settings")
    if kind is None or not isinstance(settings, dict):
        raise CheckpointError(
            f"{source}: found network {config.get('network')!r}, wanted one of {', '.join(NETWORKS)} "
            "with its settings; give a folder that simgan wrote"
        )
    try:
        _refuse_giants(settings)
        with torch.device("meta"):
            return kind(**settings)
    except (TypeError, ValueError, KeyError, RuntimeError, IndexError, OverflowError) as error:
        raise CheckpointError(
            f"{source}: its settings do not describe a {config['network']} ({error}); use another copy"
        ) from error


def _refuse_giants(value: object) -> None:
    """Raise ValueError for numbers above LARGEST_SETTING: a network with that many layers would never be built."""
    if isinstance(value, int) and abs(value) > LARGEST_SETTING:
        raise ValueError(f"{value:.3g} is more than {LARGEST_SETTING:,}")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _refuse_giants(inner)


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights as plain contiguous tensors, whatever memory format they train in."""
    return {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}


def fill(network: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Copy `tensors` into `network`; raises CheckpointError that lists every one missing, unexpected or misshapen."""
    expected = network.state_dict()
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in expected]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, wanted {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if problems:
        raise CheckpointError(f"{source} does not fit the network: {'; '.join(problems)}; use another copy")
    if any(tensor.is_meta for tensor in expected.values()):
        network.to_empty(device="cpu")
    network.load_state_dict(tensors)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; raises CheckpointError that names it when it is missing or damaged."""
    return parse_tensors(read_content(path), path)


def read_content(path: Path) -> bytes:
    """Return a model file's content. Raises CheckpointError when it is missing, else OSError; both name it."""
    try:
        with with_filename(path):
            return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; the folder is incomplete") from error


def parse_tensors(content: bytes, source: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file's content; raises CheckpointError when it is damaged."""
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{source} is damaged ({error}); use another copy") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises CheckpointError that names the file when it is missing or damaged."""
    try:
        value = parse_json(read_content(path))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); use another copy") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: found a {type(value).__name__}, wanted a JSON object; use another copy")
    return value
