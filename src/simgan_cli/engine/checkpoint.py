"""Everything that a training needs to go on as if it had never stopped, in one folder of safetensors and JSON."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from simgan_cli.data.files import atomic_directory, write_atomic, write_json
from simgan_cli.data.sampler import Sampler
from simgan_cli.engine.algorithm import Measures, SimGAN
from simgan_cli.engine.export import fill, read_tensors, tensors_of
from simgan_cli.engine.health import MOST_DRIFT
from simgan_cli.engine.metrics import RunningMeans
from simgan_cli.engine.networks import Refiner
from simgan_cli.engine.realism import HeldOut
from simgan_cli.engine.run import STATE, settings_of, verify_checkpoint, write_manifest
from simgan_cli.errors import CheckpointError


@dataclass(frozen=True)
class Best:
    """A refiner that came closest to real images so far."""

    step: int
    distance: float
    refiner: Refiner


class TrainState:
    """The moving parts of a training, saved and loaded whole."""

    def __init__(
        self, gan: SimGAN, synthetic: Sampler, real: Sampler, held_out: HeldOut, fingerprints: dict[str, str]
    ) -> None:
        self.step = 0
        self.gan = gan
        self.samplers = {"synthetic": synthetic, "real": real}
        self.held_out = held_out
        self.metrics = RunningMeans()
        self.best: Best | None = None
        self.fingerprints = fingerprints  # of everything outside the run that results depend on

    def is_finite(self) -> bool:
        """Say whether every weight and measure is a finite number."""
        tensors = [
            *self.gan.refiner.parameters(),
            *self.gan.discriminator.parameters(),
            *self.metrics.sums.values(),
        ]
        return bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all())

    def keep_best(self, measures: Measures) -> None:
        """Keep the refiner at hand if its images are closer to real ones than ever, and its labels stayed in place."""
        distance = float(measures["swd_refined"])
        in_place = float(measures.get("label_drift", 0)) < MOST_DRIFT
        if in_place and (self.best is None or distance < self.best.distance):
            self.best = Best(self.step, distance, copy.deepcopy(self.gan.exported_refiner))

    def selected(self) -> tuple[int, Refiner]:
        """Return the refiner that users get, and its step: the best where one was kept, else the one at hand."""
        return (self.best.step, self.best.refiner) if self.best is not None else (self.step, self.gan.exported_refiner)

    def save(self, folder: Path) -> None:
        """Write the checkpoint; `folder` appears only once it is complete. Raises OSError, leaving nothing behind."""
        gan = self.gan
        parts = {
            "refiner": tensors_of(gan.refiner),
            "discriminator": tensors_of(gan.discriminator),
            "optimizers": _optimizer_tensors(gan),
        }
        if gan.average is not None:
            parts["average"] = tensors_of(gan.average)
        if gan.history is not None:
            parts["history"] = gan.history.state_tensors()
        if self.best is not None:
            parts["best"] = tensors_of(self.best.refiner)
        state = {
            "schema": "simgan.state/1",
            "step": self.step,
            "settings": settings_of(gan.config),
            "fingerprints": self.fingerprints,
            "positions": {name: sampler.position for name, sampler in self.samplers.items()},
            "history_rng": gan.history.rng.bit_generator.state if gan.history is not None else None,
            "metrics": self.metrics.state(),
            "best": [self.best.step, self.best.distance] if self.best is not None else None,
        }
        with atomic_directory(folder) as building:
            for name, tensors in parts.items():
                write_atomic(building / f"{name}.safetensors", safetensors.torch.save(tensors))
            write_json(building / STATE, state)
            write_manifest(building)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote. Raises CheckpointError when it is damaged or belongs to something else."""
        state = verify_checkpoint(folder)
        changed = [
            f"{name} (then {state['fingerprints'].get(name, 'absent')[:12]}, now {now[:12]})"
            for name, now in self.fingerprints.items()
            if state["fingerprints"].get(name) != now
        ]
        if changed:
            raise CheckpointError(
                f"{folder} was made with other inputs: {', '.join(changed)}; restore the images or networks that the "
                "run started with, or start anew in another --out"
            )
        gan = self.gan
        fill(gan.refiner, read_tensors(folder / "refiner.safetensors"), folder / "refiner.safetensors")
        fill(
            gan.discriminator,
            read_tensors(folder / "discriminator.safetensors"),
            folder / "discriminator.safetensors",
        )
        _load_optimizers(gan, read_tensors(folder / "optimizers.safetensors"))
        if gan.average is not None:
            fill(gan.average, read_tensors(folder / "average.safetensors"), folder / "average.safetensors")
        if gan.history is not None:
            gan.history.load_state(read_tensors(folder / "history.safetensors"), state["history_rng"])
        if state.get("best") is not None:
            step, distance = state["best"]
            self.best = Best(step, distance, copy.deepcopy(gan.exported_refiner))
            fill(self.best.refiner, read_tensors(folder / "best.safetensors"), folder / "best.safetensors")
        for name, sampler in self.samplers.items():
            sampler.position = state["positions"][name]
        self.metrics.load_state(state["metrics"], next(gan.refiner.parameters()).device)
        self.step = state["step"]


def _optimizers(gan: SimGAN) -> dict[str, torch.optim.Optimizer]:
    return {"refiner": gan.refiner_optimizer, "discriminator": gan.discriminator_optimizer}


def _optimizer_tensors(gan: SimGAN) -> dict[str, Tensor]:
    """Return {network.index of the parameter.name: tensor}; rates follow from the settings and the step."""
    return {
        f"{network}.{index}.{name}": tensor.contiguous()
        for network, optimizer in _optimizers(gan).items()
        for index, moments in optimizer.state_dict()["state"].items()
        for name, tensor in moments.items()
        if isinstance(tensor, Tensor)
    }


def _load_optimizers(gan: SimGAN, tensors: dict[str, Tensor]) -> None:
    optimizers = _optimizers(gan)
    states: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in optimizers}
    for key, tensor in tensors.items():
        network, index, name = key.split(".")
        parameter = optimizers[network].param_groups[0]["params"][int(index)]
        if tensor.shape == parameter.shape:
            # Fused optimizers walk memory, not indices: moments must lie in their parameter's order (channels last).
            tensor = torch.empty_like(parameter).copy_(tensor)
        states[network].setdefault(int(index), {})[name] = tensor
    for network, optimizer in optimizers.items():
        optimizer.load_state_dict(optimizer.state_dict() | {"state": states[network]})
