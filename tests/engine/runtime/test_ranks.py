"""Two ranks train one model: their weights are equal, and are those of one rank alone."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from simgan_cli.engine.runtime.device import stream_number
from simgan_cli.engine.runtime.ranks import SINGLE, Ranks
from simgan_cli.engine.training.running_means import means_of
from simgan_cli.engine.training.state import history_stream
from simgan_cli.errors import SettingsError
from tests.engine.runtime.distributed_worker import STEPS, built, tensors_of, train
from tests.helpers import torchrun


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the output of two ranks, and a checkpoint of one rank that they resumed."""
    folder = tmp_path_factory.mktemp("ranks")
    one = built("adam")
    train(one, STEPS)
    one.snapshot(one.gather_rank_states()).save(folder / "one")
    command = torchrun("-m", "tests.engine.runtime.distributed_worker", folder)
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    return folder


def tensors(place: Path, name: str, rank: int) -> dict[str, Tensor]:
    return safetensors.torch.load_file(place / f"{name}-{rank}.safetensors")


def noted(place: Path, rank: int) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((place / f"noted-{rank}.json").read_text())
    return document


def weights(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in found.items() if not name.startswith("history.")}


def images(*parts: dict[str, Tensor]) -> list[tuple[int, int, bytes]]:
    """Return every image with its step and draws, sorted so that its place does not matter."""
    return sorted(
        (int(made_at), int(draws), image.numpy().tobytes())
        for part in parts
        for image, made_at, draws in zip(
            *(part[f"history.{key}"] for key in ("images", "made_at", "draws")), strict=True
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "adam", "continued"])
def test_weights_are_the_same_on_all_ranks(place: Path, name: str) -> None:
    first, second = (weights(tensors(place, name, rank)) for rank in (0, 1))
    assert len(first) > 20
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


@pytest.mark.slow
def test_two_half_batches_give_the_update_of_one_batch(place: Path) -> None:
    alone, initial = built("sgd"), tensors_of(built("sgd"))
    train(alone, STEPS)
    wanted, found = tensors_of(alone), tensors(place, "sgd", 0)
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)
    # Rounding must be small compared with the update.
    assert max(float((wanted[name] - initial[name]).abs().max()) for name in weights(wanted)) > 0.01
    both = [noted(place, rank) for rank in (0, 1)]
    positions = {name: sampler.position for name, sampler in alone.samplers.items()}
    assert [each["sgd"] for each in both] == [positions, positions]
    means = means_of([each["sgd metrics"] for each in both])
    assert means == pytest.approx(means_of([alone.metrics.state()]), rel=1e-4, abs=1e-6)
    assert "loss_adversarial" in means


@pytest.mark.slow
def test_each_rank_has_its_own_history(place: Path) -> None:
    first, second = (tensors(place, "adam", rank) for rank in (0, 1))
    assert (len(first["history.images"]), len(second["history.images"])) == (7, 6)
    assert not set(images(first)) & set(images(second))
    saved = safetensors.torch.load_file(place / "two" / "history.safetensors")
    assert images({f"history.{name}": tensor for name, tensor in saved.items()}) == images(first, second)
    for rank, part in enumerate((first, second)):
        state = built("adam")
        state.ranks = Ranks(rank, 2, rank)  # not connected: it can be read, but not trained
        state.load(place / "two")
        assert images(tensors_of(state)) == images(part)
        assert state.metrics.state() == noted(place, rank)["adam metrics"]


@pytest.mark.slow
def test_one_rank_resumes_the_complete_state_of_two(place: Path) -> None:
    alone = built("adam")
    alone.load(place / "two")
    assert images(tensors_of(alone)) == images(*(tensors(place, "adam", rank) for rank in (0, 1)))
    both = [noted(place, rank) for rank in (0, 1)]
    assert {name: sampler.position for name, sampler in alone.samplers.items()} == both[0]["adam"] == both[1]["adam"]
    train(alone, 1)


@pytest.mark.slow
def test_two_ranks_resume_the_complete_state_of_one(place: Path) -> None:
    saved = safetensors.torch.load_file(place / "one" / "history.safetensors")
    parts = [tensors(place, "resumed", rank) for rank in (0, 1)]
    assert images(*parts) == images({f"history.{name}": tensor for name, tensor in saved.items()})
    assert [len(part["history.images"]) for part in parts] == [7, 6]
    one = built("adam")
    one.load(place / "one")
    for rank in (0, 1):
        assert noted(place, rank)["resumed"] == {name: sampler.position for name, sampler in one.samplers.items()}
    assert images(tensors(place, "continued", 0)) != images(parts[0])


@pytest.mark.slow
def test_ranks_agree_and_fail_together(place: Path) -> None:
    first, second = (noted(place, rank) for rank in (0, 1))
    assert first["agreed"] == second["agreed"] == [None, "max-time", "interrupt"]
    assert (first["turn"], second["turn"]) == (1, 2)  # bytes that each rank read and then wrote
    assert first["error"] == ["EndedElsewhere", 4, ""]
    assert second["error"] == ["DataError", 4, "bad"]


@pytest.mark.slow
def test_labels_must_be_the_same_on_all_ranks(place: Path) -> None:
    message = "renders: rank 1 found other labels there than the first one; give all machines the same"
    assert [noted(place, rank)["other labels"] for rank in (0, 1)] == [message, message]


@pytest.mark.slow
def test_the_connection_of_ranks_is_freed_at_the_end(place: Path) -> None:
    assert [noted(place, rank)["connection is gone"] for rank in (0, 1)] == [True, True]


def test_the_first_ranks_streams_are_those_of_one_rank() -> None:
    def numbers(stream: np.random.Generator) -> list[int]:
        return list(stream.integers(1 << 60, size=4))

    seed = 2**70 + 5
    plain = np.random.default_rng([seed, stream_number("history")])
    assert numbers(history_stream(seed, SINGLE)) == numbers(history_stream(seed, Ranks(0, 2))) == numbers(plain)
    places = [(0, 0), (1, 0), (2, 0), (0, 5), (1, 5), (0, 6)]
    assert len({tuple(numbers(history_stream(seed, Ranks(rank, 3), step))) for rank, step in places}) == len(places)


def test_ranks_of_an_older_torch_are_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.9.1+cpu"))
    message = r"2 ranks need PyTorch 2\.11 or newer, and this is 2\.9\.1\+cpu: older ranks may hang"
    with pytest.raises(SettingsError, match=message), Ranks(0, 2).connected():
        pass
    with Ranks().connected():
        pass


def test_ranks_without_a_master_address_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(SettingsError, match="start with torchrun"), Ranks(0, 2).connected():
        pass


@pytest.mark.parametrize("count", [None, "1", "3"])
def test_a_rank_beyond_the_number_of_ranks_is_refused(monkeypatch: pytest.MonkeyPatch, count: str | None) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if count is not None:
        monkeypatch.setenv("WORLD_SIZE", count)
    with pytest.raises(SettingsError, match=f"RANK is 3, but WORLD_SIZE is {count or 1}; start with torchrun, or"):
        Ranks.of_process()


def test_ranks_that_are_not_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(SettingsError, match="RANK=first: not a number; start with torchrun"):
        Ranks.of_process()
