"""The report of `simgan train --dry-run`: the data as found and the networks as they would be built."""

import copy

import torch
from torch import Tensor, nn

from simgan_cli.data.archives import image_batches
from simgan_cli.data.cache import decoded
from simgan_cli.data.decoding import Pixels, Preparation, describe
from simgan_cli.data.selection import Selection
from simgan_cli.documents import FoundImages, FoundNetwork, TrainPlanDocument
from simgan_cli.engine.method.networks import Discriminator, Refiner, map_size, receptive_field
from simgan_cli.engine.runtime.device import resolve_device, resolve_precision
from simgan_cli.engine.training.build import (
    ReadLabels,
    build_networks,
    check_alike,
    describe_rates,
    held_out_of,
    preparation_of,
    sources_of,
)
from simgan_cli.engine.training.learned_psi import check_psi
from simgan_cli.errors import DataError, UnreadableImage, plural
from simgan_cli.settings.train import TrainConfig


def describe_run(config: TrainConfig, read_labels: ReadLabels = lambda report, warn: None) -> TrainPlanDocument:
    """Count the images, read the first of each domain, and build the networks without memory.

    Raises DataError for a folder without a readable image, or domains whose first images differ in shape. Raises
    SettingsError for a psi that cannot read them, or too few images for --lambda auto.
    """
    labels: list[str] = []
    read_labels(labels.append, labels.append)
    data: dict[str, FoundImages] = {}
    images = {}
    photograph = None
    for name, source in sources_of(config).items():
        selection = source.select(source.read())
        first = _first_readable(selection, config, preparation_of(config, name), photograph)
        if first is None:
            raise DataError(
                f"{source.folder}: none of {plural(selection.count, 'image file')} can be read; "
                "give another folder, or fix them"
            )
        data[name] = {
            "files": selection.count,
            "first": describe(first.shape, first.dtype),
            "unusable": [f"{path}: {reason}" for path, reason in selection.tree.unusable_images()],
            "notes": selection.notes(config.pixels, selection.odd),
        }
        images[name] = first
        photograph = first[None] if config.background == "real" else None
    check_alike(images)
    channels, height, width = images["synthetic"].shape
    shape, size = (channels, height, width), (height, width)
    held_out_of(config, {name: found["files"] for name, found in data.items()}, shape)
    check_psi(config.psi, shape)
    with torch.device("meta"):
        refiner, discriminator = build_networks(config, channels, size)
    networks: dict[str, Refiner | Discriminator] = {"refiner": refiner, "discriminator": discriminator}
    device = resolve_device(config.device)
    return {
        "schema": "simgan.train.dry-run/1",
        "data": data,
        "networks": {name: _describe_network(network, size) for name, network in networks.items()},
        "labels": labels,
        "learning_rates": describe_rates(config, discriminator, shape),
        "device": str(device),
        "precision": resolve_precision(config.precision, device),
    }


def _describe_network(network: Refiner | Discriminator, size: tuple[int, int]) -> FoundNetwork:
    return {
        "parameters": parameter_count(network),
        "receptive_field": receptive_field(network),
        "map": list(map_size(network, size)),
        "layers": layer_table(network, size),
    }


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def layer_table(network: Refiner | Discriminator, size: tuple[int, int]) -> list[tuple[str, list[int], int]]:
    """Return name, output [C, H, W] and parameters of each convolution and pooling on an image of `size` (H, W)."""
    network = copy.deepcopy(network).to("meta")  # shapes only
    rows: list[tuple[str, list[int], int]] = []

    def add_row(module: nn.Module, _: object, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            name = f"Conv{height}x{width}/{module.stride[0]}-{module.out_channels}"
        else:
            name = f"MaxPool{module.kernel_size}x{module.kernel_size}/{module.stride}"
        rows.append((name, list(output.shape[1:]), parameter_count(module)))

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            module.register_forward_hook(add_row)
    network(torch.zeros(1, network.inputs, *size, device="meta"))
    return rows


def as_text(document: TrainPlanDocument) -> str:
    """Return the description as a page of text."""
    lines = []
    for name, found in document["data"].items():
        lines.append(f"{name}: {plural(found['files'], 'file')}, the first is {found['first']}")
        lines += [f"    unusable: {problem}" for problem in found["unusable"]]
        lines += [f"    {note}" for note in found["notes"]]
    lines += document["labels"]
    for name, network in document["networks"].items():
        height, width = network["map"]
        field = network["receptive_field"]
        lines.append(f"{name}: {network['parameters']:,} parameters, receptive field {field} px, map {height}x{width}")
        lines += [
            f"    {layer:<16} {'x'.join(map(str, output)):>14} {parameters:>10,}"
            for layer, output, parameters in network["layers"]
        ]
    if document["learning_rates"]:
        lines.append(document["learning_rates"])
    return "\n".join([*lines, f"device: {document['device']}, precision {document['precision']}"])


def _first_readable(
    selection: Selection, config: TrainConfig, preparation: Preparation, photographs: Pixels | None
) -> Pixels | None:
    batches = image_batches(selection.tree, selection.archives, 1)
    for _, found in decoded(batches, preparation, 1, selection, photographs):
        if not isinstance(found, UnreadableImage):
            return found.pixels
        if config.strict:
            raise found
    return None
