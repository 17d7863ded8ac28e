"""The program of each rank in test_ranks.py: train, resume a checkpoint of one rank, and record results.

torchrun --standalone --nproc-per-node=2 -m tests.engine.runtime.distributed_worker FOLDER
"""

import json
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor, nn

from simgan_cli.data.cache import PixelSet
from simgan_cli.engine.runtime.ranks import SINGLE, Ranks
from simgan_cli.engine.training.build import build_state, check_same
from simgan_cli.engine.training.state import TrainState
from simgan_cli.engine.training.task import TaskLabels
from simgan_cli.errors import DataError, EndedElsewhere
from simgan_cli.settings.train import TrainConfig

STEPS = 7
PLAIN: dict[str, Any] = {
    "refiner_width": 4, "refiner_blocks": 1, "batch_size": 8, "pretrain_refiner": 1, "pretrain_discriminator": 2,
    "precision": "fp32", "noise": False,
}  # fmt: skip
# Each rank draws its own history. Without history, all ranks together train on the images of one rank alone.
CASES: dict[str, dict[str, Any]] = {
    "sgd": {"history_size": 0, "optimizer": "sgd", "refiner_lr": 0.1, "discriminator_lr": 0.1, "clip_gradient": 0.1},
    "adam": {"history_size": 13},
}


def built(case: str, ranks: Ranks = SINGLE) -> TrainState:
    config = TrainConfig.model_validate({"synthetic": "a", "real": "b"} | PLAIN | CASES[case])
    rng = np.random.default_rng(0)
    domains = {
        name: PixelSet(
            Path(name),
            rng.integers(0, 256, (count, 1, 9, 12), dtype=np.uint8),
            [],
            name,
            files=[*map(str, range(count))],
        )
        for name, count in (("synthetic", 21), ("real", 5))
    }
    points = rng.uniform(0, 1, (21, 2)).astype(np.float32)
    labels = TaskLabels("pupil", {str(index): point for index, point in enumerate(points)})
    return build_state(config, domains, torch.device("cpu"), ranks, labels if case == "adam" else None)


def train(state: TrainState, steps: int) -> None:
    for _ in range(steps):
        state.metrics.add(state.gan.advance(state.step, state.samplers["synthetic"], state.samplers["real"]))
        state.step += 1


def tensors_of(state: TrainState) -> dict[str, Tensor]:
    gan = state.gan
    networks: dict[str, nn.Module | None] = {
        "refiner": gan.refiner,
        "discriminator": gan.discriminator,
        "average": gan.average,
    }
    networks |= {} if gan.task is None else {"task": gan.task.estimator, "task-average": gan.task.average}
    found = {
        f"{name}.{key}": tensor.contiguous()
        for name, network in networks.items()
        if network is not None
        for key, tensor in network.state_dict().items()
    }
    return found | {f"history.{key}": tensor.contiguous() for key, tensor in gan.history.state_tensors().items()}


def main(folder: Path) -> None:
    ranks = Ranks.of_process()
    same_seed = torch.manual_seed
    torch.manual_seed = lambda seed: same_seed(int(seed) + ranks.rank)  # as a processor that draws other weights
    noted: dict[str, Any] = {}
    with ranks.connected():
        group = weakref.ref(dist.group.WORLD)

        def write(name: str, state: TrainState) -> None:
            safetensors.torch.save_file(tensors_of(state), folder / f"{name}-{ranks.rank}.safetensors")
            noted[name] = {key: sampler.position for key, sampler in state.samplers.items()}
            noted[f"{name} metrics"] = state.metrics.state()

        for case in CASES:
            state = built(case, ranks)
            train(state, STEPS)
            write(case, state)
        gathered = state.gather_rank_states()
        if ranks.is_first:
            state.snapshot(gathered).save(folder / "two")
        resumed = built("adam", ranks)
        resumed.load(folder / "one")  # a checkpoint of one rank
        write("resumed", resumed)
        train(resumed, 2)
        write("continued", resumed)
        noted["agreed"] = [
            ranks.reduce_stop(None),
            ranks.reduce_stop("max-time"),
            ranks.reduce_stop("interrupt" if ranks.rank else None),
        ]
        turns = folder / "turns"
        noted["turn"] = ranks.first_rank_then_others(
            lambda: turns.write_bytes(b"0" if ranks.is_first else turns.read_bytes() + b"1")
        )
        renders = PixelSet(Path("renders"), np.zeros((2, 1, 9, 12), np.uint8), [], "", files=["0", "1"])
        domains = {"synthetic": renders, "real": renders}
        check_same(domains, None, ranks)
        try:
            check_same(domains, TaskLabels("pupil", {"1": np.array([0.5, ranks.rank], np.float32)}), ranks)
        except DataError as error:
            noted["other labels"] = str(error)
        try:
            with ranks.all_or_none():
                if ranks.rank == 1:
                    raise DataError("bad")
        except (DataError, EndedElsewhere) as error:
            noted["error"] = [type(error).__name__, error.exit_code, str(error)]
    noted["connection is gone"] = group() is None
    (folder / f"noted-{ranks.rank}.json").write_text(json.dumps(noted))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
