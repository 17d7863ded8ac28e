"""The benchmark of the training step: the plain loop that it measures trains."""

import importlib

import torch

from simgan_cli.settings.train import TrainConfig


def test_the_plain_loop_trains() -> None:
    settings = {"refiner_width": 4, "batch_size": 4, "history_size": 4}
    config = TrainConfig.model_validate({"synthetic": "s", "real": "r"} | settings)
    iteration = importlib.import_module("train_step").plain_iteration(config, torch.device("cpu"))
    (first, _), *_, (last, _) = [iteration() for _ in range(3)]
    assert 0 < last != first
