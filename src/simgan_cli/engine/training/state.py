"""Everything that a training needs to resume as if it had never stopped, in one folder of safetensors and JSON."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simgan_cli.data.sampler import Sampler
from simgan_cli.engine.export.network_folder import fill, read_tensors, tensors_of
from simgan_cli.engine.method.algorithm import Measures, SimGAN
from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.engine.metrics.realism import HeldOut
from simgan_cli.engine.run_folder.checkpoints import STATE, verify_checkpoint, write_manifest
from simgan_cli.engine.run_folder.health import is_exportable
from simgan_cli.engine.run_folder.layout import settings_of
from simgan_cli.engine.runtime.device import stream_number
from simgan_cli.engine.runtime.ranks import Ranks
from simgan_cli.engine.training.running_means import RunningMeans, State
from simgan_cli.errors import CheckpointError
from simgan_cli.files import atomic_directory, write_atomic, write_json

Network = TypeVar("Network", Refiner, Estimator)


@dataclass(frozen=True)
class Best:
    """The refiner that came closest to real images so far."""

    step: int
    distance: float
    refiner: Refiner


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint that is not written yet: copies on the CPU, which training does not change."""

    step: int
    tensors: dict[str, dict[str, Tensor]]  # by file
    state: dict[str, Any]  # of state.json
    exported: tuple[int, Refiner]  # that users get, and its step
    estimator: Estimator | None  # of the task term

    def save(self, folder: Path) -> None:
        """Write it; `folder` appears only once it is complete. Raises OSError, leaving nothing behind."""
        with atomic_directory(folder) as building:
            for name, tensors in self.tensors.items():
                write_atomic(building / f"{name}.safetensors", safetensors.torch.save(tensors))
            write_json(building / STATE, self.state)
            write_manifest(building)


@dataclass(frozen=True)
class RankStates:
    """The state that differs between ranks, on the first one: `history` joined, `by_rank` as in state.json."""

    history: dict[str, Tensor]  # of images, made_at, draws
    by_rank: list[dict[str, Any]]  # history (number of images), history_rng, metrics

    @property
    def metrics(self) -> list[State]:
        """Each rank's measures since the last line of metrics."""
        return [rank["metrics"] for rank in self.by_rank]


class TrainState:
    """The moving parts of a training, saved and loaded together."""

    def __init__(
        self,
        gan: SimGAN,
        ranks: Ranks,
        samplers: dict[str, Sampler],
        held_out: HeldOut,
        fingerprints: dict[str, str],
        labels: NDArray[np.float32] | None = None,
    ) -> None:
        self.step = 0
        self.gan, self.ranks = gan, ranks
        self.samplers = samplers  # by domain
        self.held_out = held_out
        self.metrics = RunningMeans()
        self.best: Best | None = None
        self.labels = labels  # of all synthetic images, NaN where unknown
        self.fingerprints = fingerprints  # of everything outside the run that results depend on

    def is_finite(self) -> bool:
        """Return whether every weight and measure is a finite number."""
        tensors = [
            *self.gan.refiner.parameters(),
            *self.gan.discriminator.parameters(),
            *(self.gan.task.estimator.parameters() if self.gan.task is not None else ()),
            *self.metrics.sums.values(),
        ]
        return bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all())

    def keep_best(self, measures: Measures) -> None:
        """Keep the current refiner if it may be exported and is the closest to real images so far."""
        distance = float(measures["swd_refined"])
        phase = self.gan.config.phase(self.step - 1)
        if is_exportable({**measures, "phase": phase}) and (self.best is None or distance < self.best.distance):
            self.best = Best(self.step, distance, copy.deepcopy(self.gan.exported_refiner))

    @property
    def exported(self) -> tuple[int, Refiner]:
        """The refiner that users get, after its step: the best so far where one is kept, else the newest."""
        return (self.best.step, self.best.refiner) if self.best is not None else (self.step, self.gan.exported_refiner)

    def gather_rank_states(self) -> RankStates:
        """Return copies of the state that differs between ranks; all must call it, the first one saves it."""
        history = self.gan.history
        mine = {
            "history": history.filled,
            "history_rng": history.rng.bit_generator.state,
            "metrics": self.metrics.state(),
        }
        return RankStates(self.ranks.gather_tensors(history.state_tensors()), self.ranks.gather_objects(mine))

    def snapshot(self, gathered: RankStates) -> Snapshot:
        """Return a checkpoint of this moment. It takes as much memory as its files."""
        gan = self.gan
        parts = {
            "refiner": tensors_of(gan.refiner),
            "discriminator": tensors_of(gan.discriminator),
            "optimizers": _optimizer_tensors(gan),
        }
        if gan.average is not None:
            parts["average"] = tensors_of(gan.average)
        if gan.task is not None:
            parts |= {"task": tensors_of(gan.task.estimator), "task-average": tensors_of(gan.task.average)}
        if self.best is not None:
            parts["best"] = tensors_of(self.best.refiner)
        copies = {
            file: {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}
            for file, tensors in parts.items()
        }
        copies["history"] = gathered.history
        weights = self.samplers["synthetic"].weights
        if gan.config.weights == "auto" and weights is not None:
            copies["weights"] = {"synthetic": torch.from_numpy(weights)}
        state = {
            "schema": "simgan.state/1",
            "step": self.step,
            "settings": settings_of(gan.config),
            "fingerprints": self.fingerprints,
            "positions": {name: sampler.position for name, sampler in self.samplers.items()},
            "ranks": gathered.by_rank,
            "lambda": gan.lambda_reg,
            "best": [self.best.step, self.best.distance] if self.best is not None else None,
        }
        exported_step, refiner = self.exported
        estimator = None if gan.task is None else _copy_on_cpu(gan.task.average)
        return Snapshot(self.step, copies, state, (exported_step, _copy_on_cpu(refiner)), estimator)

    def load(self, folder: Path) -> None:
        """Restore the state of a snapshot; another number of ranks shares out its history again.

        Raises CheckpointError when it is damaged, belongs to other inputs, or does not fit the networks.
        """
        state = verify_checkpoint(folder)
        before = state["fingerprints"]
        changed = [
            f"{name} (then {before.get(name, 'absent')[:12]}, now {self.fingerprints.get(name, 'absent')[:12]})"
            for name in sorted(before | self.fingerprints)
            if before.get(name) != self.fingerprints.get(name)
        ]
        if changed:
            raise CheckpointError(
                f"{folder} was made with other inputs: {', '.join(changed)}; restore the images, labels or "
                "networks that the run started with, or start again in another --out"
            )
        gan, ranks = self.gan, self.ranks
        _fill(gan.refiner, folder / "refiner.safetensors")
        _fill(gan.discriminator, folder / "discriminator.safetensors")
        _load_optimizers(gan, read_tensors(folder / "optimizers.safetensors"))
        if gan.average is not None:
            _fill(gan.average, folder / "average.safetensors")
        if gan.task is not None:
            _fill(gan.task.estimator, folder / "task.safetensors")
            _fill(gan.task.average, folder / "task-average.safetensors")
        places, mine = _part_of(state["ranks"], ranks)
        stream = mine["history_rng"] or history_stream(gan.config.seed, ranks, state["step"]).bit_generator.state
        history = read_tensors(folder / "history.safetensors")
        gan.history.load_state({name: tensor[places] for name, tensor in history.items()}, stream)
        gan.lambda_reg = state["lambda"]
        if state["best"] is not None:
            step, distance = state["best"]
            self.best = Best(step, distance, copy.deepcopy(gan.exported_refiner))
            _fill(self.best.refiner, folder / "best.safetensors")
        for name, sampler in self.samplers.items():
            sampler.position = state["positions"][name]
        if (weights := folder / "weights.safetensors").exists():
            self.samplers["synthetic"].reweigh(read_tensors(weights)["synthetic"].numpy())
        self.metrics.load_state(mine["metrics"], next(gan.refiner.parameters()).device)
        self.step = state["step"]


def _copy_on_cpu(network: Network) -> Network:
    return copy.deepcopy(network).to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]


def _fill(network: nn.Module, path: Path) -> None:
    fill(network, read_tensors(path), path)


def _part_of(by_rank: list[dict[str, Any]], ranks: Ranks) -> tuple[slice, dict[str, Any]]:
    """Return a rank's images of the joined history, and its random state and measures.

    After a change of the number of ranks, each takes every n-th image, old and new ones. It then has no random state
    and starts a new line of metrics.
    """
    if len(by_rank) != ranks.count:
        return slice(ranks.rank, None, ranks.count), {"history_rng": None, "metrics": {}}
    start = sum(rank["history"] for rank in by_rank[: ranks.rank])
    mine = by_rank[ranks.rank]
    return slice(start, start + mine["history"]), mine


def _optimizers(gan: SimGAN) -> dict[str, torch.optim.Optimizer]:
    optimizers = {"refiner": gan.refiner_optimizer, "discriminator": gan.discriminator_optimizer}
    return optimizers | ({"task": gan.task.optimizer} if gan.task is not None else {})


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
            # Fused optimizers go by memory, not by index: moments need their parameter's layout (channels last).
            tensor = torch.empty_like(parameter).copy_(tensor)
        states[network].setdefault(int(index), {})[name] = tensor
    for network, optimizer in optimizers.items():
        optimizer.load_state_dict(optimizer.state_dict() | {"state": states[network]})


def history_stream(seed: int, ranks: Ranks, step: int = 0) -> np.random.Generator:
    """Return the random stream of a rank's buffer, another one where buffers are shared out again at `step`."""
    place = (ranks.rank, step)
    return np.random.default_rng([seed, stream_number("history"), *(place if any(place) else ())])
