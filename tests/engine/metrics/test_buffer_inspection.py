"""The buffer of a checkpoint: expected ages against simulation, verdicts against buffers made for them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from simgan_cli.engine.method.history_buffer import HistoryBuffer
from simgan_cli.engine.metrics.buffer_inspection import (
    BufferView,
    describe,
    expected_ages,
    scores_by_age,
    verdicts,
)
from simgan_cli.settings.train import TrainConfig


def filled_buffer(capacity: int, added: int, iterations: int, seed: int = 0) -> HistoryBuffer:
    buffer = HistoryBuffer(capacity, (1, 1, 1), np.random.default_rng(seed), torch.device("cpu"))
    for step in range(1, iterations + 1):
        buffer.draw(added)
        buffer.replace(torch.zeros(added, 1, 1, 1), step)
    return buffer


def view_of(buffer: HistoryBuffer, batch: int, step: int, **settings: Any) -> BufferView:
    config = TrainConfig(
        synthetic=Path("s"), real=Path("r"), batch_size=batch, history_size=buffer.capacity, pretrain_discriminator=0,
        **settings,
    )  # fmt: skip
    made_at, draws = buffer.made_at[: buffer.filled], buffer.draws[: buffer.filled]
    return BufferView(Path("run/checkpoints/step-00000001"), step, config, made_at, draws, (1, 1, 1))


@pytest.mark.parametrize(("capacity", "added", "iterations"), [(40, 8, 3), (40, 8, 5), (42, 8, 60), (16, 16, 9)])
def test_expected_ages_are_the_mean_of_many_buffers(capacity: int, added: int, iterations: int) -> None:
    runs = 100
    total = np.zeros(iterations)
    for seed in range(runs):
        buffer = filled_buffer(capacity, added, iterations, seed)
        total += np.bincount(iterations - buffer.made_at[: buffer.filled], minlength=iterations)
    ages, counts = expected_ages(iterations, added, capacity)
    assert np.array_equal(ages, np.arange(iterations))
    assert counts.sum() == pytest.approx(min(capacity, added * iterations))
    assert np.allclose(total / runs, counts, atol=5 * np.sqrt(added / runs))


def test_a_working_buffer_is_healthy_and_its_ages_as_expected() -> None:
    buffer = filled_buffer(320, 8, 400)
    document: Any = describe(view_of(buffer, 16, 400))
    assert document["verdicts"] == ["healthy: filled, sampled, and of the ages that random replacement predicts"]
    assert document["filled"] == document["capacity"] == 320
    assert document["history_share"] == 0.5
    assert document["refiner_updates"] == 800
    for name in ("min", "median", "p90"):
        assert document["ages"][name] == pytest.approx(document["expected_ages"][name], abs=25)
    assert document["draws"]["mean"] == pytest.approx(buffer.draws.mean())
    json.dumps(document)


@pytest.mark.parametrize(
    ("break_it", "verdict"),
    [
        (lambda b: b.draws.__setitem__(slice(None), 0), "never sampled"),
        (lambda b: b.made_at.__setitem__(slice(None), 400), "all of one age"),
        (lambda b: b.made_at.__setitem__(slice(None), np.repeat(np.arange(361, 401), 8)), "replacement is broken"),
    ],
)
def test_verdicts_name_a_broken_buffer(break_it: Any, verdict: str) -> None:
    buffer = filled_buffer(320, 8, 400)
    break_it(buffer)
    assert any(verdict in text for text in verdicts(view_of(buffer, 16, 400), None))


def test_verdicts_name_early_small_and_forgetful_buffers() -> None:
    (early,) = verdicts(view_of(filled_buffer(320, 8, 10), 16, 10), None)
    assert early == "not filled yet: 80 of 320; it needs 30 more iterations"
    (small,) = verdicts(view_of(filled_buffer(80, 8, 400), 16, 400), None)
    assert small == "too small: an image stays for 10 iterations; use --history-size 160 or more"
    healthy = view_of(filled_buffer(320, 8, 400), 16, 400)
    (forgetful,) = verdicts(healthy, {"100-300": 0.3, "0-99": 0.8})
    assert "has forgotten" in forgetful
    assert verdicts(healthy, {"100-300": 0.7, "0-99": 0.8})[0].startswith("healthy")
    renewed = view_of(filled_buffer(2, 2, 30), 4, 30, steps=30)
    assert verdicts(renewed) == ["too small: an image stays for 1 iteration; use --history-size 40 or more"]
    empty = view_of(filled_buffer(320, 8, 0), 16, 0)
    assert describe(empty)["verdicts"] == ["empty: no iteration of Algorithm 1 is done yet"]


class Scored(BufferView):
    """A buffer whose discriminator goes by an image's place."""

    def score(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return a tenth of each place."""
        return places / 10


def test_groups_of_the_same_age_are_merged() -> None:
    config = TrainConfig(synthetic="s", real="r", pretrain_discriminator=0)
    view = Scored(Path(), 3, config, np.array([1, 1, 1, 1, 1, 1, 2, 2]), np.zeros(8, int), (1, 4, 4))
    assert scores_by_age(view) == {"2-2": pytest.approx(0.25), "1-1": pytest.approx(0.65)}
