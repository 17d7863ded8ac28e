"""Means over steps and ranks, against arithmetic by hand; a checkpoint keeps them exactly."""

import json

import torch

from simgan_cli.engine.training.running_means import RunningMeans, means_of

CPU = torch.device("cpu")


def scalars(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def test_each_name_has_the_mean_of_the_steps_that_measured_it() -> None:
    running = RunningMeans()
    running.add(scalars(a=1.0, b=10.0))
    running.add(scalars(a=2.0))
    running.add(scalars(a=6.0))
    assert running.state() == {"a": [9.0, 3], "b": [10.0, 1]}
    assert means_of([running.state()]) == {"a": 3.0, "b": 10.0}
    running.clear()
    assert (running.state(), means_of([running.state()])) == ({}, {})
    running.add(scalars(a=4.0))
    assert means_of([running.state()]) == {"a": 4.0}


def test_means_continue_after_a_round_trip_through_json() -> None:
    running, resumed = RunningMeans(), RunningMeans()
    for value in (0.1, 0.7):
        running.add(scalars(a=value))
    resumed.load_state(json.loads(json.dumps(running.state())), CPU)
    assert isinstance(resumed.counts["a"], int)
    for means in (running, resumed):
        means.add(scalars(a=0.4, b=2.0))
    assert resumed.state() == running.state()
    assert running.state()["a"][1] == 3


def test_ranks_are_weighted_by_their_measured_steps() -> None:
    states = [{"a": [6.0, 2], "b": [5.0, 1]}, {"a": [3.0, 1]}, {}]
    assert means_of(states) == {"a": 3.0, "b": 5.0}
    assert means_of([]) == {}
