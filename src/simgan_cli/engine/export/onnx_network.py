"""A refiner in an ONNX file, run by ONNX Runtime."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simgan_cli.engine.export.network_folder import build_network
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.errors import CheckpointError, SettingsError
from simgan_cli.files import parse_json

# Keys of the file's metadata.
CONFIG_KEY, STEP_KEY, TONES_KEY = "simgan.config", "simgan.step", "simgan.tones"
SHA256_KEY = "simgan.weights_sha256"


class OnnxNetwork(nn.Module):
    """R of an ONNX file: called as `Refiner` is, in float32 on the CPU, in the calling thread.

    `config` is that of an exported folder's config.json; `metadata` is that of the file. Raises SettingsError without
    ONNX Runtime, CheckpointError for a file that it cannot run or that `simgan export` did not write.
    """

    def __init__(self, content: bytes, source: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise SettingsError(f"{source}: running it needs onnxruntime; pip install 'simgan-cli[onnx]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # callers share out the cores
        options.log_severity_level = 4  # errors are raised, too
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no narrower base
            raise CheckpointError(f"{source}: ONNX Runtime cannot load it ({error}); export it again") from error
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.config = _config_in(self.metadata, source)
        outline = build_network(self.config, source)  # without weights
        if not isinstance(outline, Refiner):
            raise CheckpointError(f"{source}: holds a {type(outline).__name__.lower()}, wanted a refiner")
        self.settings, self.inputs = outline.settings, outline.inputs
        self._names = [value.name for value in self._session.get_inputs()]
        if self._names != ["image", "noise"][: 1 + self.settings["noise"]]:
            raise CheckpointError(f"{source}: its inputs do not fit its {CONFIG_KEY}; export it again")

    def forward(self, x: Tensor) -> Tensor:
        """Return R(x), N x C x H x W in [-1, 1]; the noise of `x` follows its C channels."""
        parts = [part.contiguous().numpy() for part in parted(x, self.settings["channels"])]
        (refined,) = self._session.run(None, dict(zip(self._names, parts, strict=True)))
        return torch.from_numpy(refined)


def parted(seen: Tensor, channels: int) -> tuple[Tensor, ...]:
    """Return a refiner's input as images of `channels` channels and, where there is some, the noise behind them."""
    return tuple(part for part in (seen[:, :channels], seen[:, channels:]) if part.shape[1])


def _config_in(metadata: dict[str, str], source: Path) -> dict[str, Any]:
    try:
        config = parse_json(metadata[CONFIG_KEY])
    except KeyError as error:
        raise CheckpointError(f"{source}: its metadata has no {CONFIG_KEY}; make it with simgan export") from error
    except ValueError as error:
        raise CheckpointError(f"{source}: its {CONFIG_KEY} is damaged ({error}); export it again") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{source}: its {CONFIG_KEY} is not a JSON object; export it again")
    return config
