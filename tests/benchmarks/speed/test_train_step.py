"""The benchmark of the training step: the plain loop that it measures trains."""

import torch

from benchmarks.speed.train_step import plain_iteration
from simgan_cli.settings.train import TrainConfig


def test_the_plain_loop_trains() -> None:
    settings = {"refiner_width": 4, "batch_size": 4, "history_size": 4}
    config = TrainConfig.model_validate({"synthetic": "s", "real": "r"} | settings)
    iteration = plain_iteration(config, torch.device("cpu"))
    losses = [iteration() for _ in range(3)]
    assert losses[0] != losses[-1]
