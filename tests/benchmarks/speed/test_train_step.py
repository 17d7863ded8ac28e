"""The benchmark of the training step: the plain loop that it measures trains."""

import numpy as np
import pytest
import torch

from benchmarks import plain_loop
from simgan_cli.engine.training.build import build_networks
from simgan_cli.settings.train import TrainConfig


def test_the_plain_networks_are_the_products() -> None:
    config = TrainConfig.model_validate({"synthetic": "s", "real": "r", "refiner_width": 4, "seed": 3})
    refiner, discriminator = build_networks(config, 1, (35, 55))
    torch.nn.init.normal_(refiner.last.weight)
    for ours, plain in ((refiner, plain_loop.Refiner(config)), (discriminator, plain_loop.discriminator())):
        plain.load_state_dict(dict(zip(plain.state_dict(), ours.state_dict().values(), strict=True)))
        images = torch.randn(2, ours.inputs, 35, 55)
        torch.testing.assert_close(plain(images), ours(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_plain_loop_trains() -> None:
    small = {"refiner_width": 4, "refiner_blocks": 1, "batch_size": 4, "history_size": 4, "discriminator_lr": 0.01}
    config = TrainConfig.model_validate({"synthetic": "s", "real": "r"} | small)
    rng = np.random.default_rng(0)  # the domains differ in brightness, which D can tell at once
    domains = {
        name: rng.integers(low, low + 60, (8, 1, 35, 55), dtype=np.uint8)
        for name, low in (("synthetic", 20), ("real", 150))
    }
    iteration = plain_loop.plain_iteration(config, domains, torch.device("cpu"))
    losses = [iteration() for _ in range(12)]
    assert losses[-1]["loss_discriminator"] < losses[0]["loss_discriminator"] - 0.1
    assert all(np.isfinite(list(loss.values())).all() for loss in losses)
