"""What `simgan train --dry-run` tells: the data as found and the networks as they would be built."""

from typing import Any

from simgan_cli.data.archives import image_batches
from simgan_cli.data.cache import decoded
from simgan_cli.data.decoding import Pixels, Preparation, describe
from simgan_cli.data.selection import Selection
from simgan_cli.errors import DataError, UnreadableImage
from simgan_cli.settings.train import TrainConfig


def describe_run(config: TrainConfig) -> dict[str, Any]:
    """Count the images, read the first of each domain, and build the networks without memory.

    Raises DataError for a folder without a readable image, or domains whose first images differ in shape, and
    SettingsError for a psi that cannot read them, or too few to adapt lambda by.
    """
    import torch

    from simgan_cli.engine.method.networks import (
        Discriminator,
        Refiner,
        layer_table,
        map_size,
        parameter_count,
        receptive_field,
    )
    from simgan_cli.engine.method.psi import check_psi
    from simgan_cli.engine.runtime.device import resolve_device, resolve_precision
    from simgan_cli.engine.training.build import build_networks, check_alike, held_out_of, preparation_of, sources_of

    document: dict[str, Any] = {"schema": "simgan.train.dry-run/1", "data": {}, "networks": {}}
    images = {}
    photograph = None
    for name, source in sources_of(config).items():
        selection = source.select(source.read())
        first = _first_readable(selection, config, preparation_of(config, name), photograph)
        if first is None:
            raise DataError(f"{source.folder}: no readable image among {selection.count} image files")
        found = {"files": selection.count, "first": describe(first.shape, first.dtype)}
        if unusable := [f"{path}: {reason}" for path, reason in selection.tree.unusable_images()]:
            found["unusable"] = unusable
        if notes := selection.notes(config.pixels, selection.odd):
            found["notes"] = notes
        document["data"][name] = found
        images[name] = first
        photograph = first[None] if config.background == "real" else None
    check_alike(images)
    channels, *size = images["synthetic"].shape
    shape = (channels, size[0], size[1])
    held_out_of(config, {name: found["files"] for name, found in document["data"].items()}, shape)
    check_psi(config.psi, shape)
    with torch.device("meta"):
        refiner, discriminator = build_networks(config, channels, (size[0], size[1]))
    networks: dict[str, Refiner | Discriminator] = {"refiner": refiner, "discriminator": discriminator}
    for name, network in networks.items():
        document["networks"][name] = {
            "parameters": parameter_count(network),
            "receptive_field": receptive_field(network),
            "map": list(map_size(network, (size[0], size[1]))),
            "layers": [
                [row.name, list(row.output), row.parameters] for row in layer_table(network, (size[0], size[1]))
            ],
        }
    device = resolve_device(config.device)
    document["device"], document["precision"] = str(device), resolve_precision(config.precision, device)
    return document


def as_text(document: dict[str, Any]) -> str:
    """Return the description as a page of text."""
    lines = []
    for name, found in document["data"].items():
        lines.append(f"{name}: {found['files']:,} files, the first is {found['first']}")
        lines += [f"    unusable: {problem}" for problem in found.get("unusable", ())]
        lines += [f"    {note}" for note in found.get("notes", ())]
    for name, network in document["networks"].items():
        height, width = network["map"]
        field = network["receptive_field"]
        lines.append(f"{name}: {network['parameters']:,} parameters, receptive field {field} px, map {height}x{width}")
        lines += [
            f"    {layer:<16} {'x'.join(map(str, output)):>14} {parameters:>10,}"
            for layer, output, parameters in network["layers"]
        ]
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
