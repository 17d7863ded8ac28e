"""Costs that must not grow: operations are counted, not timed.

Opened files are counted at Python's own functions, calls by its profiling hook, operations by torch.
"""

import builtins
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from simgan_cli.data.cache import MAX_WAITING, PixelSet, Source, _key, _Work, decoded, open_pixels
from simgan_cli.data.decoding import Preparation
from simgan_cli.data.label_images import MAX_GROUP_SAMPLES
from simgan_cli.data.selection import Selection
from simgan_cli.data.tree import Tree
from simgan_cli.engine.training.build import build_state
from simgan_cli.engine.training.state import TrainState
from simgan_cli.settings.train import TrainConfig
from tests.helpers import pack, write_images


@contextmanager
def opened_files() -> Iterator[Counter[str]]:
    """Count how often each file is opened by name, in all threads."""
    opened: Counter[str] = Counter()

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def count(file: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(file, str | bytes | os.PathLike):
                opened[os.fsdecode(file)] += 1
            return original(file, *arguments, **options)

        return count

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((builtins, "open"), (io, "open"), (os, "open")):
            patch.setattr(module, name, counting(getattr(module, name)))
        yield opened


@contextmanager
def calls() -> Iterator[Counter[str]]:
    """Count the calls of this thread, by name: "stat" is one system call."""
    counted: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            counted[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            counted[argument.__name__] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield counted
    finally:
        sys.setprofile(before)


def images_of(files: Counter[str]) -> Counter[str]:
    return Counter({name: count for name, count in files.items() if name.endswith(".png")})


def opened(place: Path, cache: Path) -> None:
    open_pixels(Source(place), Preparation(), str(cache), 2, lambda done, total: None)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_images(tmp_path / "one", 1, 1) / "0.png"


def test_the_images_that_wait_for_a_slow_disk_are_bounded(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 60, 1)
    every = Selection(Tree(folder), [])
    with opened_files() as files, closing(decoded([sorted(folder.iterdir())], Preparation(), 2, every)) as images:
        next(images)
    assert 0 < len(images_of(files)) <= 2 * MAX_WAITING + 2


def test_each_image_is_opened_once_and_never_again(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 30, 1)
    with opened_files() as first:
        opened(folder, tmp_path / "cache")
    counts = images_of(first)
    assert counts.keys() == {str(path) for path in folder.iterdir()}
    assert Counter(counts.values()) == {1: 30 - MAX_GROUP_SAMPLES, 2: MAX_GROUP_SAMPLES}  # samples twice
    with opened_files() as second:
        opened(folder, tmp_path / "cache")
    assert images_of(second) == {}
    assert second.total() > 0  # opening the cache counts, so the counter works


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_the_number_of_images_does_not_change_how_often_an_archive_is_opened(tmp_path: Path, name: str) -> None:
    times = []
    for count in (3, 30):
        archive = pack(write_images(tmp_path / str(count), count, 1), tmp_path / f"{count}-{name}")
        with opened_files() as first:
            opened(archive, tmp_path / "cache")
        with opened_files() as second:
            opened(archive, tmp_path / "cache")
        times.append(first[str(archive)])
        assert second[str(archive)] == 0
    assert times == [3, 3]  # to list it, to sample images, to read it


def test_finding_images_takes_one_stat_and_a_constant_number_of_calls_for_each(image: Path, tmp_path: Path) -> None:
    counted = []
    for count in (100, 200, 400):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.png").hardlink_to(image)
        with calls() as made:
            tree = Source(folder).read()
            _key(_Work(Source(folder), tree, Preparation(), None, lambda done, total: None, None))
        assert len(tree.images) == count
        counted.append(made)
    few, more, most = counted
    assert most["stat"] - more["stat"] == 200
    assert most["scandir"] == few["scandir"] == 1
    assert most.total() - more.total() == 2 * (more.total() - few.total())  # linear: sorting calls nothing of ours
    assert most.total() < 40 * 400


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations on tensors in its block, and the bytes of what is new."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.counts[str(func)] += 1
        if not func._schema.is_mutable:  # a mutable operation returns an existing tensor
            outputs = result if isinstance(result, list | tuple) else [result]
            self.bytes += sum(tensor.nbytes for tensor in outputs if isinstance(tensor, torch.Tensor))
        return result


def state_of(images: int, **settings: Any) -> TrainState:
    """Return a training on so many images in each domain that has its history full and a few iterations done."""
    plain = {"synthetic": "s", "real": "r", "refiner_width": 4, "refiner_blocks": 1, "batch_size": 4}
    config = TrainConfig.model_validate(plain | {"pretrain_discriminator": 0, "precision": "fp32"} | settings)
    pixels = np.random.default_rng(0).integers(0, 256, (images, 1, 12, 14), dtype=np.uint8)
    domains = {name: PixelSet(Path(name), pixels, [], name) for name in ("synthetic", "real")}
    state = build_state(config, domains, torch.device("cpu"))
    state.gan.history.replace(torch.rand(state.gan.history.capacity, 1, 12, 14) * 2 - 1, 0)
    for _ in range(2):
        one_more_step(state)
    return state


def one_more_step(state: TrainState) -> None:
    state.metrics.add(state.gan.advance(state.step, state.samplers["synthetic"], state.samplers["real"]))
    state.step += 1


def operations_of_a_step(images: int, **settings: Any) -> Operations:
    state = state_of(images, **settings)
    operations = Operations()
    with operations:
        one_more_step(state)
    return operations


def test_operations_and_memory_of_a_step_do_not_grow_with_images_history_or_batch() -> None:
    one = operations_of_a_step(40, history_size=8)
    assert one.counts.total() > 100
    assert one.bytes > 0
    for images, capacity in ((4000, 8), (40, 4000)):
        other = operations_of_a_step(images, history_size=capacity)
        assert other.counts == one.counts
        assert other.bytes == one.bytes
    assert operations_of_a_step(40, history_size=64, batch_size=64).counts == one.counts


def test_a_step_reads_nothing_back_from_the_device() -> None:
    with Operations() as sought:
        torch.ones(()).item()
        torch.ones(2).nonzero()
    waiting = set(sought.counts) - {"aten.ones.default"}
    assert len(waiting) == 2
    assert waiting.isdisjoint(operations_of_a_step(40, history_size=8).counts)


def test_no_gradient_is_computed_for_frozen_weights() -> None:
    gan = state_of(40, history_size=8).gan
    images = torch.rand(4, 1, 12, 14)
    of_refiner, of_discriminator = Operations(), Operations()
    gan.discriminator.zero_grad(set_to_none=True)
    with of_refiner:
        gan.refiner_step(images)
    assert all(weight.grad is None for weight in gan.discriminator.parameters())
    with of_discriminator:
        gan.discriminator_step(images, images, gan.history.draw(0))
    layers = {
        network: sum(isinstance(module, torch.nn.Conv2d) for module in network.modules())
        for network in (gan.refiner, gan.discriminator)
    }
    backward = "aten.convolution_backward.default"
    assert of_refiner.counts[backward] == sum(layers.values())  # through D to R
    assert of_discriminator.counts[backward] == layers[gan.discriminator]
