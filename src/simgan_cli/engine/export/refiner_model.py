"""Find a trained refiner, check that its weights fit its settings, and identify them by hash and step."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import ValidationError

from simgan_cli.data.decoding import PixelCoding, Preprocess
from simgan_cli.data.matching import N_QUANTILES, Bank
from simgan_cli.data.renders import Curve
from simgan_cli.documents import ExportedConfig
from simgan_cli.engine.export.hub import TONES, fetch, is_address
from simgan_cli.engine.export.network_folder import (
    CONFIG,
    WEIGHTS,
    build_network,
    description,
    fill,
    parse_tensors,
    read_content,
    read_json,
)
from simgan_cli.engine.export.onnx_network import STEP_KEY, TONES_KEY, OnnxNetwork
from simgan_cli.engine.method.networks import Refiner, receptive_field
from simgan_cli.engine.method.noise import MAPS
from simgan_cli.engine.run_folder.checkpoints import checkpoint_of, stored_config, verify_checkpoint
from simgan_cli.engine.run_folder.layout import MANIFEST, RunFolder
from simgan_cli.errors import CheckpointError, SettingsError
from simgan_cli.files import write_atomic

MID_GREY = "#808080"


@dataclass(frozen=True)
class RefinerModel:
    """A refiner on the CPU and its origin; `sha256` is that of its weights' file."""

    network: Refiner | OnnxNetwork
    weights: Path
    sha256: str
    step: int | None  # None where the weights do not record it
    preprocess: Preprocess
    trained_size: tuple[int, int] | None  # H, W
    include: tuple[str, ...] = ()  # patterns of the renders that it was trained on, and of those left out
    exclude: tuple[str, ...] = ()
    pixels: PixelCoding = "plain"
    background: str = "#000000"  # or another colour, or keep: behind transparent pixels
    tone_curve: Curve = "srgb"
    conclusion: str | None = None  # of its training, in one line
    equalized: bool = False  # the histograms of the photographs
    tones: Bank | None = None  # of photographs of the target; None where pixels are numbers, such as depth

    @property
    def channels(self) -> int:
        """Channels of its images: 1 or 3."""
        return int(self.network.settings["channels"])

    @property
    def backend(self) -> Literal["torch", "onnxruntime"]:
        """The library that runs it."""
        return "onnxruntime" if isinstance(self.network, OnnxNetwork) else "torch"

    @property
    def device(self) -> str:
        """The device that auto means for it."""
        return "auto" if self.backend == "torch" else "cpu"

    @property
    def receptive_field(self) -> int:
        """The side, in pixels, of the window that one result depends on."""
        with torch.device("meta"):
            return receptive_field(Refiner(**self.network.settings))

    @property
    def config(self) -> dict[str, Any]:
        """The config.json of this refiner, as far as its use needs it."""
        facts = {field.alias or name: getattr(self, name) for name, field in ExportedConfig.model_fields.items()}
        return {**description(self.network.settings), **facts}


def open_model(place: str | Path, step: int | None = None) -> RefinerModel:
    """Return the refiner at `place`: a run (its export, or its checkpoint at `step`), a checkpoint, or an export.

    An export is a folder, an ONNX file, or an address on the Hub (hf://user/name@revision). Raises SettingsError where
    it is missing, CheckpointError where it is incomplete, damaged or not a refiner.
    """
    if step is not None and (is_address(place) or Path(place).suffix == ".onnx"):
        raise SettingsError(f"--step {step}: {place} is not a run, and only runs have steps; leave it out")
    path = fetch(str(place)) if is_address(place) else Path(place)
    if path.suffix == ".onnx" and path.is_file():
        return _from_onnx(path)
    if not path.is_dir():
        found = "a file, not a folder" if path.exists() else "no such folder"
        raise SettingsError(f"{path}: {found}; give a run, the folder of an exported refiner, or an .onnx file")
    run = RunFolder(path)
    if run.is_run():
        return _from_export(_export_of(run)) if step is None else _from_checkpoint(checkpoint_of(run, step))
    if step is not None:
        raise SettingsError(f"--step {step}: {path} is not a run, and only runs have steps; leave it out")
    return _from_checkpoint(path) if (path / MANIFEST).is_file() else _from_export(path)


def _from_onnx(path: Path) -> RefinerModel:
    content = read_content(path)
    network = OnnxNetwork(content, path)
    try:
        tones = base64.b64decode(network.metadata.get(TONES_KEY, ""))
    except ValueError as error:
        raise CheckpointError(f"{path}: its {TONES_KEY} is damaged ({error}); export it again") from error
    return RefinerModel(
        network=network,
        weights=path,
        sha256=hashlib.sha256(content).hexdigest(),
        step=_step_in(network.metadata, STEP_KEY),
        tones=_parse_tones(tones, path) if tones else None,
        **_facts(network.config, path),
    )


def _with_photographs(model: RefinerModel, run: RunFolder) -> RefinerModel:
    """Return a checkpoint's model with what the export of its run alone knows of the photographs."""
    if not (run.refiner / CONFIG).is_file():
        return model
    facts = _facts(read_json(run.refiner / CONFIG), run.refiner / CONFIG)
    return replace(
        model,
        tones=_read_tones(run.refiner / TONES),
        equalized=facts["equalized"],
        background=facts["background"],
    )


def _export_of(run: RunFolder) -> Path:
    if not (run.refiner / CONFIG).is_file():
        raise CheckpointError(f"{run.root}: this run has exported no refiner yet; resume it until its first checkpoint")
    return run.refiner


def _from_export(folder: Path) -> RefinerModel:
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder}: found no {CONFIG}; wanted a run of simgan or the folder of a refiner")
    config = read_json(folder / CONFIG)
    network = build_network(config, folder / CONFIG)
    content = read_content(folder / WEIGHTS)
    model = _filled(network, content, folder / WEIGHTS)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])  # valid: `_filled` has parsed it
    return RefinerModel(
        network=model,
        weights=folder / WEIGHTS,
        sha256=hashlib.sha256(content).hexdigest(),
        step=_step_in(header.get("__metadata__") or {}, "step"),
        tones=_read_tones(folder / TONES),
        **_facts(config, folder / CONFIG),
    )


def _step_in(metadata: dict[str, str], key: str) -> int | None:
    step = str(metadata.get(key))
    return int(step) if re.fullmatch("[0-9]{1,15}", step) else None


def save_tones(folder: Path, tones: Bank) -> None:
    """Write tones of photographs, as `quantiles_of` gives them, beside an exported refiner."""
    write_atomic(folder / TONES, tones_content(tones))


def tones_content(tones: Bank) -> bytes:
    """Return tones of photographs as a safetensors file."""
    return safetensors.torch.save({"quantiles": torch.from_numpy(tones)})


def _read_tones(path: Path) -> Bank | None:
    return _parse_tones(read_content(path), path) if path.is_file() else None


def _parse_tones(content: bytes, path: Path) -> Bank:
    quantiles = parse_tensors(content, path).get("quantiles")
    if quantiles is None or quantiles.ndim != 3 or quantiles.shape[2] != N_QUANTILES or not len(quantiles):
        raise CheckpointError(f"{path}: found no quantiles of photographs; use another copy, or delete the file")
    tones: Bank = quantiles.float().numpy()
    return tones


def _from_checkpoint(folder: Path) -> RefinerModel:
    state = verify_checkpoint(folder)
    config = stored_config(state["settings"], folder)
    weights = folder / ("average.safetensors" if config.ema else "refiner.safetensors")  # what --select last exports
    content = read_content(weights)
    first = parse_tensors(content, weights).get("first.weight")
    if first is None or first.ndim != 4:
        raise CheckpointError(f"{weights}: missing first.weight; use another checkpoint")
    channels = first.shape[1] - (MAPS if config.noise else 0)
    network = build_network({"network": "refiner", "settings": config.refiner_settings(channels)}, folder)
    model = RefinerModel(
        network=_filled(network, content, weights),
        weights=weights,
        sha256=hashlib.sha256(content).hexdigest(),
        step=state["step"],
        preprocess=config.preprocess,
        trained_size=config.size,
        include=config.include,
        exclude=config.exclude,
        pixels=config.pixels,
        background=MID_GREY if config.background == "real" else config.background,  # exports alone know the mean
        tone_curve=config.tone_curve,
    )
    return _with_photographs(model, RunFolder(folder.resolve().parent.parent))


def _filled(network: Any, content: bytes, source: Path) -> Refiner:
    if not isinstance(network, Refiner):
        raise CheckpointError(f"{source}: holds a {type(network).__name__.lower()}, wanted a refiner")
    tensors = parse_tensors(content, source)
    fill(network, tensors, source)
    bad = [name for name, tensor in network.state_dict().items() if not torch.isfinite(tensor).all()]
    if bad:
        raise CheckpointError(f"{source}: NaN or infinite weights in {', '.join(bad)}; use another copy or step")
    return network.eval().requires_grad_(False)


def _facts(config: dict[str, Any], source: Path) -> dict[str, Any]:
    """Return the fields of `RefinerModel` that a config.json holds. Raises CheckpointError for a bad value."""
    try:
        return ExportedConfig.model_validate(config).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise CheckpointError(
            f"{source}: {name} {first['input']!r:.60}: {first['msg']}; correct it, or use another copy"
        ) from error
