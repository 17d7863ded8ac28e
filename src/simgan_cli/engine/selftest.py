"""A test of the method on a few random images, from a training step to a file and back."""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from simgan_cli.data.cache import PixelSet
from simgan_cli.documents import Check
from simgan_cli.engine.export.network_folder import save_network
from simgan_cli.engine.export.refiner_model import open_model
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.training.build import build_state
from simgan_cli.engine.training.state import TrainState
from simgan_cli.errors import SimganError
from simgan_cli.settings.train import TrainConfig

SIZE = (24, 32)  # H, W of the images
N_IMAGES = 8


def self_test(device: torch.device) -> list[Check]:
    """Train for a few steps, save and load the state, refine with the exported network; return a check of each.

    An error becomes a check that is not ok; nothing is raised.
    """
    checks: list[Check] = []
    with tempfile.TemporaryDirectory(prefix="simgan-doctor-") as folder:
        trial = _Trial(device, Path(folder))
        parts = {"training": trial.train, "checkpoint": trial.save_and_load, "refining": trial.refine}
        for name, attempt in parts.items():
            started = time.monotonic()
            try:
                found, ok = attempt(), True
            except SimganError as error:
                found, ok = str(error), False
            except Exception as error:  # a broken installation may raise anything
                found, ok = f"{type(error).__name__}: {error}", False
            seconds = round(time.monotonic() - started, 3)
            checks.append({"name": name, "ok": ok, "found": found, "seconds": seconds})
            if not ok:
                break  # the next ones need it
    return checks


class _Trial:
    """A training on noise; each method tries one part and returns a line about it."""

    state: TrainState  # once trained

    def __init__(self, device: torch.device, folder: Path) -> None:
        self.device, self.folder = device, folder

    def _build(self) -> TrainState:
        config = TrainConfig(
            synthetic=Path("synthetic"), real=Path("real"), device=str(self.device), refiner_width=4, refiner_blocks=1,
            batch_size=4, history_size=8, pretrain_discriminator=1, steps=2,
        )  # fmt: skip
        domains = {name: _noise(seed) for seed, name in enumerate(("synthetic", "real"))}
        return build_state(config, domains, self.device)

    def train(self) -> str:
        self.state = state = self._build()
        before = _weights(state.gan.refiner)
        while state.step < state.gan.config.total_steps:
            state.metrics.add(state.gan.advance(state.step, state.samplers["synthetic"], state.samplers["real"]))
            state.step += 1
        if not state.is_finite():
            raise SimganError("losses or weights became NaN or infinite")
        if torch.equal(before, _weights(state.gan.refiner)):
            raise SimganError("the refiner's weights did not change")
        return f"{state.step} steps, losses and weights finite"

    def save_and_load(self) -> str:
        self.state.snapshot(self.state.gather_rank_states()).save(self.folder / "step")
        loaded = self._build()
        loaded.load(self.folder / "step")
        for name in ("refiner", "discriminator"):
            if not torch.equal(_weights(getattr(self.state.gan, name)), _weights(getattr(loaded.gan, name))):
                raise SimganError(f"the {name} that was loaded is not the one that was saved")
        return "saved, verified and loaded, bit for bit"

    def refine(self) -> str:
        model = self.folder / "refiner"
        save_network(model, self.state.gan.exported_refiner, {"preprocess": "none", "size": list(SIZE)}, {})
        images = np.random.default_rng(2).integers(0, 256, (3, *SIZE, 1), np.uint8)
        if not np.array_equal(ImageRefiner(open_model(model), self.device, strength=0)(images), images):
            raise SimganError("strength 0 does not give the images back")
        refiner = ImageRefiner(open_model(model), self.device)
        refined = refiner(images / np.float32(255))
        if refined.shape != images.shape or not np.isfinite(refined).all():
            raise SimganError("refined images are not finite numbers of the images' shape")
        if not np.array_equal(refiner(images), refiner(images)):
            raise SimganError("the same images were refined twice and differ")
        return "exported, loaded and applied; strength 0 is the identity"


def _noise(seed: int) -> PixelSet:
    pixels = np.random.default_rng(seed).integers(0, 256, (N_IMAGES, 1, *SIZE), np.uint8)
    return PixelSet(Path("noise"), pixels, [], str(seed))


def _weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])
