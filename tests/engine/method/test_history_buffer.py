"""The history buffer against a plain model of Sec. 2.3."""

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from simgan_cli.engine.method.history_buffer import HistoryBuffer
from simgan_cli.engine.metrics.buffer_inspection import spread_by_age
from simgan_cli.engine.training.loop import excerpt_of

CPU = torch.device("cpu")
SHAPE = (1, 2, 3)


def numbered(numbers: list[int]) -> torch.Tensor:
    """Images that are recognised by their value; integers below 2048 are exact in float16."""
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, *SHAPE).clone()


def numbers_of(images: torch.Tensor) -> list[int]:
    assert (images == images[:, :1, :1, :1]).all(), "an image was overwritten in part"
    return [int(value) for value in images[:, 0, 0, 0]]


class BufferAgainstModel(RuleBasedStateMachine):
    """The model is a set of (number, step made, draws)."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = HistoryBuffer(7, SHAPE, np.random.default_rng(3), CPU)
        self.model: dict[int, tuple[int, int]] = {}
        self.next_number = 0
        self.step = 0

    @rule(count=st.integers(1, 7))
    def replace(self, count: int) -> None:
        self.step += 1
        before = set(self.model)
        added = list(range(self.next_number, self.next_number + count))
        self.next_number += count
        self.buffer.replace(numbered(added), self.step)
        held = set(numbers_of(self.buffer.images[: self.buffer.filled].float()))
        assert set(added) <= held, "every new image is in"
        assert held - set(added) <= before, "no other image is in"
        assert len(held) == min(7, len(before) + count), "nothing leaves while there is room"
        self.model = {n: self.model.get(n, (self.step, 0)) for n in held}

    @rule(count=st.integers(0, 9))
    def draw(self, count: int) -> None:
        drawn = numbers_of(self.buffer.draw(count))
        assert len(drawn) == min(count, len(self.model))
        assert len(set(drawn)) == len(drawn), "no image twice in a batch"
        assert set(drawn) <= set(self.model)
        for number in drawn:
            made_at, draws = self.model[number]
            self.model[number] = made_at, draws + 1

    @precondition(lambda self: self.model)
    @rule()
    def save_and_load(self) -> None:
        rng_state = self.buffer.rng.bit_generator.state
        restored = HistoryBuffer(7, SHAPE, np.random.default_rng(99), CPU)
        restored.load_state({name: t.clone() for name, t in self.buffer.state_tensors().items()}, rng_state)
        self.buffer = restored
        assert restored.rng.bit_generator.state == rng_state

    @invariant()
    def agrees(self) -> None:
        filled = self.buffer.filled
        held = numbers_of(self.buffer.images[:filled].float())
        found = {
            number: (int(self.buffer.made_at[place]), int(self.buffer.draws[place]))
            for place, number in enumerate(held)
        }
        assert found == self.model


TestBufferAgainstModel = BufferAgainstModel.TestCase


def test_replacement_and_draws_are_uniform() -> None:
    buffer = HistoryBuffer(50, SHAPE, np.random.default_rng(0), CPU)
    buffer.replace(numbered([0] * 50), 0)
    for step in range(1, 4001):
        buffer.draw(5)
        buffer.replace(numbered([1] * 5), step)
    ages = 4000 - buffer.made_at
    # Each step an entry survives with probability 0.9: the age is geometric with mean 9, sd of the mean of 50 is 1.3.
    assert 4 < ages.mean() < 14
    # Each step an entry is drawn with probability 0.1, so draws are a tenth of the age.
    assert 0.05 < buffer.draws.sum() / ages.sum() < 0.15


def test_a_buffer_without_capacity_stays_empty_and_draws_nothing() -> None:
    buffer = HistoryBuffer(0, SHAPE, np.random.default_rng(0), CPU)
    for _ in range(2):
        buffer.replace(numbered([1, 2]), 1)
        assert buffer.draw(2).shape == (0, *SHAPE)


def test_refined_images_are_kept_to_an_eighth_of_a_grey_level() -> None:
    buffer = HistoryBuffer(1000, (1, 1, 1), np.random.default_rng(0), CPU)
    images = torch.linspace(-1, 1, 1000).view(-1, 1, 1, 1)
    buffer.replace(images, 1)
    error = (buffer.images.float() - images).abs().max().item() * 127.5
    assert error <= 1 / 8


def test_an_excerpt_is_spread_evenly_over_ages_oldest_first() -> None:
    made_at = np.array([5, 1, 9, 3, 7])
    assert spread_by_age(made_at, 3).tolist() == [1, 0, 2]
    assert spread_by_age(made_at, 1).tolist() == [1]
    assert spread_by_age(made_at, 9).tolist() == [1, 3, 0, 4, 2]
    assert spread_by_age(made_at, 0).tolist() == []
    assert spread_by_age(np.arange(6), 4).tolist() == [0, 2, 3, 5]
    many_alike = np.repeat([1, 0], 50)
    assert spread_by_age(many_alike, 100).tolist() == [*range(50, 100), *range(50)]  # in order within an age


def test_an_excerpt_is_a_copy_of_ages_and_images() -> None:
    buffer = HistoryBuffer(7, SHAPE, np.random.default_rng(0), CPU)
    for step, numbers in ((4, [40, 41]), (9, [90, 91, 92])):
        buffer.replace(numbered(numbers), step)
    excerpt = excerpt_of(buffer, 3)
    buffer.replace(numbered([100] * 7), 10)
    assert excerpt.capacity == 7
    assert excerpt.made_at.tolist() == [4, 4, 9, 9, 9]
    assert excerpt.images[:, 0, 0, 0].tolist() == [40, 90, 92]
    assert excerpt.images.shape == (3, *SHAPE)
    assert excerpt.images_made_at.tolist() == [4, 9, 9]
