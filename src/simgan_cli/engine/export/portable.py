"""A refiner as one file that other programs run: ONNX, or an exported program of PyTorch (.pt2)."""

import base64
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from simgan_cli import __version__
from simgan_cli.data.archives import image_batches
from simgan_cli.data.cache import Source, decoded
from simgan_cli.data.decoding import Channels, Pixels, Preparation
from simgan_cli.data.patterns import Patterns
from simgan_cli.data.sampler import to_network
from simgan_cli.documents import ExportFormat, Port
from simgan_cli.engine.export.onnx_network import CONFIG_KEY, SHA256_KEY, STEP_KEY, TONES_KEY, OnnxNetwork, parted
from simgan_cli.engine.export.refiner_model import RefinerModel, tones_content
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.engine.method.noise import CELL, MAPS, beside_their_own_noise
from simgan_cli.errors import DataError, SettingsError, SimganError, UnreadableImage, plural

Network = Callable[[Tensor], Tensor]  # N x (C + MAPS) x H x W -> N x C x H x W
OPSET = 18  # of ONNX; runtimes from 2023 on have it
MAX_DIFFERENCE = 0.1  # grey levels of 255 between a file and the refiner that it was made from
MAX_CHECKED_IMAGES = 100


class _TwoInputs(nn.Module):
    """A refiner with image and noise as two inputs, and its result clipped to [-1, 1]."""

    def __init__(self, refiner: nn.Module) -> None:
        super().__init__()
        self.refiner = refiner

    def forward(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        refined: Tensor = self.refiner(image if noise is None else torch.cat([image, noise], dim=1))
        return refined.clamp(-1, 1)


def interface(model: RefinerModel) -> dict[str, Port]:
    """Return type, shape and meaning of each input and of the output of an exported file, by name."""
    channels, kind = model.channels, "grey" if model.channels == 1 else "RGB"
    equalized = ", histogram-equalized before" if model.preprocess == "equalize" else ""
    meanings = {
        "image": (channels, f"{kind} in [-1, 1]: level / 127.5 - 1 of 8 bits{equalized}"),
        "noise": (
            MAPS,
            "standard normal: map 1 independent at each pixel, map 2 bilinear between values about "
            f"{CELL} pixels apart, map 3 one value all over an image",
        ),
        "refined": (channels, f"{kind} in [-1, 1]: level = (refined + 1) * 127.5, rounded half to even"),
    }
    if not model.network.settings["noise"]:
        del meanings["noise"]
    return {
        name: {"type": "float32", "shape": f"N x {maps} x H x W", "meaning": meaning}
        for name, (maps, meaning) in meanings.items()
    }


def export_model(model: RefinerModel, form: ExportFormat) -> tuple[bytes, Network]:
    """Return the content of a file with `model`, and a function that runs it.

    Raises SettingsError for a model that is such a file already, or where a package is missing.
    """
    if not isinstance(model.network, Refiner):
        raise SettingsError(f"{model.weights}: an exported file already; give the run that it was made from")
    exported = _exported_program(model)
    if form == "pt2":
        file = io.BytesIO()
        description = {
            CONFIG_KEY: model.config, STEP_KEY: model.step, SHA256_KEY: model.sha256, "interface": interface(model)
        }  # fmt: skip
        files = {"simgan.json": json.dumps(description, indent=2), "README.md": _card_of(model)}
        torch.export.save(exported, file, extra_files=files)
        program = exported.module()
        return file.getvalue(), lambda seen: cast("Tensor", program(*parted(seen, model.channels)))
    content = _onnx_of(exported, model)
    return content, OnnxNetwork(content, model.weights)


def _exported_program(model: RefinerModel) -> torch.export.ExportedProgram:
    """Trace the refiner for images of any number and size."""
    example = parted(torch.zeros(2, model.network.inputs, 35, 55), model.channels)
    axes = {axis: torch.export.Dim(name, min=1) for axis, name in ((0, "N"), (2, "H"), (3, "W"))}
    network = _TwoInputs(model.network).eval()
    return torch.export.export(network, example, dynamic_shapes=(axes,) * len(example))


def _onnx_of(exported: torch.export.ExportedProgram, model: RefinerModel) -> bytes:
    try:
        import onnx
        import onnxscript  # noqa: F401 - PyTorch's exporter needs it
    except ImportError as error:
        raise SettingsError("--format onnx: needs onnx and onnxscript; pip install 'simgan-cli[onnx]'") from error
    *inputs, output = described = interface(model)
    program = torch.onnx.export(
        exported, input_names=inputs, output_names=[output], opset_version=OPSET, dynamo=True, verbose=False
    )
    proto = cast("torch.onnx.ONNXProgram", program).model_proto
    graph = proto.graph
    names = {dim.dim_param: name for dim, name in zip(graph.input[0].type.tensor_type.shape.dim, "NCHW", strict=True)}
    del graph.value_info[:]  # shapes in between; readers infer them
    for value in (*graph.input, *graph.output):
        about = described[value.name]
        value.doc_string = f"{about['type']}, {about['shape']}, {about['meaning']}"
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = names[dim.dim_param]
    for part in (graph, *graph.node, *graph.input, *graph.output):
        del part.metadata_props[:]  # traces of the exporter's source, with paths of this machine
    proto.producer_name, proto.producer_version = "simgan", __version__
    graph.doc_string = "R(image, noise) of SimGAN: makes renders look real, pixel for pixel in place."
    tones = {} if model.tones is None else {TONES_KEY: base64.b64encode(tones_content(model.tones)).decode()}
    metadata = {CONFIG_KEY: json.dumps(model.config), SHA256_KEY: model.sha256} | tones
    metadata |= {} if model.step is None else {STEP_KEY: str(model.step)}
    onnx.helper.set_model_props(proto, metadata | {"model_card": _card_of(model)})
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString()
    return content


def _card_of(model: RefinerModel) -> str:
    """Return the model card beside the weights, "" where there is none."""
    card = model.weights.parent / "README.md"
    return card.read_text(encoding="utf-8") if card.is_file() else ""


def renders_in(folder: Path, model: RefinerModel) -> list[Pixels]:
    """Return the first pictures of a folder or archive, C x H x W, as the refiner sees them.

    Raises DataError where there is none that can be read.
    """
    source = Source(folder, Patterns(model.include, model.exclude))
    channels: Channels = "1" if model.channels == 1 else "3"
    preparation = Preparation(
        None, "resize", channels, model.preprocess, model.pixels, model.background, model.tone_curve
    )
    selection = source.select(source.read())
    batch = next(image_batches(selection.tree, selection.archives, MAX_CHECKED_IMAGES))
    found = [image for _, image in decoded([batch], preparation, None, selection)]
    pixels = [image.pixels for image in found if not isinstance(image, UnreadableImage)]
    if not pixels:
        raise DataError(f"{folder}: none of its first {plural(len(found), 'image')} can be read; give another folder")
    return pixels


def patterns_for(model: RefinerModel) -> list[Pixels]:
    """Return a ramp, stripes and random pixels, C x H x W uint8, of the size of the training."""
    height, width = model.trained_size or (35, 55)
    ramp = np.linspace(0, 255, width).round().astype(np.uint8)
    stripes = np.arange(width, dtype=np.uint8) % 2 * 255
    rows = [np.broadcast_to(row, (model.channels, height, width)) for row in (ramp, stripes)]
    return [*rows, np.random.default_rng(0).integers(0, 256, (model.channels, height, width), np.uint8)]


def largest_difference(model: RefinerModel, run: Network, images: Sequence[Pixels]) -> float:
    """Return the largest difference of `run` from the model on C x H x W images, in grey levels of 255.

    Raises SimganError where it is more than rounding explains.
    """
    largest = max(_differences(model, run, images))
    if not largest <= MAX_DIFFERENCE:
        raise SimganError(
            f"the exported file differs from the refiner by {largest:.3g} grey levels, "
            f"wanted {MAX_DIFFERENCE} at most; report this with the versions that simgan doctor prints"
        )
    return largest


@torch.no_grad()
def _differences(model: RefinerModel, run: Network, images: Sequence[Pixels]) -> Iterator[float]:
    for image in images:
        x = to_network(torch.from_numpy(image[None].copy()))
        seen = beside_their_own_noise(x, 0) if model.network.settings["noise"] else x
        yield float((model.network(seen).clamp(-1, 1) - run(seen)).abs().max()) * 127.5
