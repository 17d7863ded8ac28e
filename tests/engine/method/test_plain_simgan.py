"""The plain example against the product: the same weights, mini-batches and noise give the same step."""

import importlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from simgan_cli.engine.method.history_buffer import HistoryBuffer
from simgan_cli.engine.training.build import build_gan, build_networks
from simgan_cli.settings.train import TrainConfig
from tests.engine.method.test_algorithm import Images

SHAPE = (1, 35, 55)
B, CAPACITY = 8, 12


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "examples")
    return importlib.import_module("plain_simgan")


def weights(network: nn.Module) -> Tensor:
    return parameters_to_vector(network.parameters()).detach()


def in_order(images: Iterable[Tensor]) -> Tensor:
    return torch.stack(sorted(images, key=lambda image: float(image.sum())))


@pytest.mark.parametrize("is_full", [True, False])
def test_an_iteration_of_the_plain_example_is_the_products(example: ModuleType, is_full: bool) -> None:
    settings = {"refiner_width": 4, "batch_size": B, "history_size": CAPACITY, "precision": "fp32", "device": "cpu"}
    config = TrainConfig.model_validate({"synthetic": "s", "real": "r", "discriminator_scales": "1"} | settings)
    networks = build_networks(config, *SHAPE[:1], SHAPE[1:])
    torch.manual_seed(1)
    nn.init.normal_(networks[0].last.weight, std=0.1)
    plain = example.SimGAN(4, B, CAPACITY)
    for theirs, ours in zip((plain.refiner, plain.discriminator), networks, strict=True):
        theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    plain.average.load_state_dict(plain.refiner.state_dict())
    before = [weights(network) for network in (plain.refiner, plain.discriminator, plain.average)]
    history = HistoryBuffer(CAPACITY, SHAPE, np.random.default_rng(0), torch.device("cpu"))
    gan = build_gan(config, *networks, history, config.rates(9 * 14))
    assert gan.noise is not None
    gan.restart_noise()
    past = (torch.rand(CAPACITY if is_full else 0, *SHAPE) * 2 - 1).half().float()
    history.replace(past, 0)
    plain.history = [*past]
    plain.generator.set_state(gan.noise._generator.get_state())
    measures = gan.iteration(0, Images(1, SHAPE), Images(2, SHAPE))
    losses = plain.iteration(Images(1, SHAPE), Images(2, SHAPE))
    assert losses == pytest.approx([float(measures[f"loss_{name}"]) for name in ("refiner", "discriminator")], rel=1e-5)
    assert gan.average is not None
    pairs: tuple[tuple[nn.Module, nn.Module], ...]
    pairs = ((plain.refiner, gan.refiner), (plain.discriminator, gan.discriminator), (plain.average, gan.average))
    for (theirs, ours), start in zip(pairs, before, strict=True):
        # Adam's first step has the sign of each gradient, which may differ where the gradient is almost 0.
        assert (weights(theirs) - weights(ours)).norm() < 0.01 * (weights(ours) - start).norm()
    images = in_order(history.images[: history.filled].float())
    torch.testing.assert_close(in_order(plain.history), images, rtol=0, atol=2**-11)
