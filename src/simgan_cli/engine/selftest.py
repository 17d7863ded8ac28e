"""The method on a handful of random images, from a training step to a file and back: does this machine do it right?"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from simgan_cli.data.cache import PixelSet
from simgan_cli.engine.export.network_folder import save_network
from simgan_cli.engine.export.refiner_model import open_model
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.training.build import build_state
from simgan_cli.engine.training.state import TrainState
from simgan_cli.errors import SimganError
from simgan_cli.settings.train import TrainConfig

SIZE = (24, 32)  # H, W of the images
IMAGES = 8


@dataclass(frozen=True)
class Check:
    """One thing that was tried: whether it went well, what came of it, and how long it took."""

    name: str
    ok: bool
    found: str
    seconds: float


class _Failed(SimganError):
    """A result is not what it must be."""


def self_test(device: torch.device) -> list[Check]:
    """Train for a few steps, save and load the state, refine with the exported network; return what was found.

    Whatever goes wrong becomes a check that is not ok: nothing is raised.
    """
    with tempfile.TemporaryDirectory(prefix="simgan-doctor-") as folder:
        config = TrainConfig(
            synthetic=Path("synthetic"), real=Path("real"), device=str(device), refiner_width=4, refiner_blocks=1,
            batch_size=4, history_size=8, pretrain_discriminator=1, steps=2,
        )  # fmt: skip
        domains = {name: _noise(seed) for seed, name in enumerate(("synthetic", "real"))}
        build = partial(build_state, config, domains, device)
        state: list[TrainState] = []
        steps: dict[str, Callable[[], str]] = {
            "training": lambda: _train(build, state),
            "checkpoint": lambda: _save_and_load(build, state[0], Path(folder) / "step"),
            "refining": lambda: _refine(state[0], device, Path(folder) / "refiner"),
        }
        checks: list[Check] = []
        for name, step in steps.items():
            checks.append(_checked(name, step))
            if not checks[-1].ok:
                break  # the next ones need it
        return checks


def _checked(name: str, step: Callable[[], str]) -> Check:
    started = time.monotonic()
    try:
        found, ok = step(), True
    except _Failed as error:
        found, ok = str(error), False
    except Exception as error:  # a broken installation may raise anything, and to say what is this command's purpose
        found, ok = f"{type(error).__name__}: {error}", False
    return Check(name, ok, found, round(time.monotonic() - started, 3))


def _noise(seed: int) -> PixelSet:
    pixels = np.random.default_rng(seed).integers(0, 256, (IMAGES, 1, *SIZE), np.uint8)
    return PixelSet(Path("noise"), pixels, [], str(seed))


def _train(build: Callable[[], TrainState], made: list[TrainState]) -> str:
    state = build()
    before = _weights(state.gan.refiner)
    while state.step < state.gan.config.total_steps:
        state.metrics.add(state.gan.step(state.step, state.samplers["synthetic"], state.samplers["real"]))
        state.step += 1
    if not state.is_finite():
        raise _Failed("losses or weights became NaN or infinite")
    if torch.equal(before, _weights(state.gan.refiner)):
        raise _Failed("the refiner's weights did not change")
    made.append(state)
    return f"{state.step} steps, losses and weights finite"


def _save_and_load(build: Callable[[], TrainState], state: TrainState, folder: Path) -> str:
    state.snapshot(state.gather_rank_states()).save(folder)
    loaded = build()
    loaded.load(folder)
    for name in ("refiner", "discriminator"):
        if not torch.equal(_weights(getattr(state.gan, name)), _weights(getattr(loaded.gan, name))):
            raise _Failed(f"the {name} that was loaded is not the one that was saved")
    return "saved, verified and loaded, bit for bit"


def _refine(state: TrainState, device: torch.device, folder: Path) -> str:
    save_network(folder, state.gan.exported_refiner, {"preprocess": "none", "size": list(SIZE)}, {})
    images = np.random.default_rng(2).integers(0, 256, (3, *SIZE, 1), np.uint8)
    if not np.array_equal(ImageRefiner(open_model(folder), device, strength=0)(images), images):
        raise _Failed("strength 0 does not give the images back")
    refiner = ImageRefiner(open_model(folder), device)
    refined = refiner(images.astype(np.float32) / 127.5 - 1)
    if refined.shape != images.shape or not np.isfinite(refined).all():
        raise _Failed("refined images are not finite numbers of the images' shape")
    if not np.array_equal(refiner(images), refiner(images)):
        raise _Failed("the same images were refined twice and differ")
    return "exported, loaded and applied; strength 0 is the identity"


def _weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])
