"""Several trainings at once: the same results, a common progress, and one error that stops all."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from simgan_cli.errors import DivergedError
from simgan_cli.gaze.estimator_training import Schedule, fit
from simgan_cli.gaze.parallel_training import Report, run_trainings
from tests.gaze.test_estimator_training import eyes


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_number_of_workers_changes_no_bit() -> None:
    torch.set_num_threads(1)
    images, device = eyes(10, 1), torch.device("cpu")

    def train(seed: int, report: Report) -> dict[str, Tensor]:
        return fit("resnet", images, seed, Schedule(2, 4, 1e-3, "fp32"), device, report).state_dict()

    trainings = [partial(train, seed) for seed in range(2)]
    one, two = (run_trainings(trainings, workers, lambda *_: None) for workers in (1, 2))
    for ours, theirs in zip(one, two, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_is_the_sum_over_trainings(workers: int) -> None:
    def train(updates: int, report: Report) -> int:
        for done in range(1, updates + 1):
            report(done, 4)
        return updates

    seen: list[tuple[int, int]] = []
    counts = [4, 2, 4]  # the second stops early, and counts as complete
    assert run_trainings([partial(train, count) for count in counts], workers, lambda *at: seen.append(at)) == counts
    assert seen == sorted(seen)
    assert seen[-1][1] == 3 * 4
    assert workers == 2 or seen[-1] == (12, 12)


def test_each_of_two_trainings_has_half_the_threads() -> None:
    assert run_trainings([lambda _: torch.get_num_threads()] * 2, 2, lambda *_: None) == [1, 1]
    assert torch.get_num_threads() == 2


def test_one_error_stops_the_other_trainings_and_is_raised() -> None:
    has_begun, was_stopped = threading.Event(), threading.Event()

    def diverge(_: Report) -> None:
        has_begun.wait()
        raise DivergedError("lower --lr")

    def train(report: Report) -> None:
        try:
            while True:
                report(1, 2)
                has_begun.set()
        finally:
            was_stopped.set()

    with pytest.raises(DivergedError, match="lower --lr"):
        run_trainings([train, diverge, train], 2, lambda *_: None)
    assert was_stopped.is_set()
    assert torch.get_num_threads() == 2
