"""Tests that need a GPU: training matches the CPU, repeats with --deterministic, and no step waits for the GPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simgan_cli.data.cache import PixelSet
from simgan_cli.data.sampler import Sampler
from simgan_cli.engine.runtime.device import resolve_device
from simgan_cli.engine.training.build import build_state
from simgan_cli.engine.training.state import TrainState
from simgan_cli.engine.training.task import TaskLabels
from simgan_cli.settings.train import TrainConfig
from tests.conftest import Domains
from tests.helpers import TINY, simgan

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU in this machine"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),  # it warns that it does not find everything
]
SIZE = (16, 20)


@pytest.fixture
def waiting_is_an_error() -> Iterator[Any]:
    """Return a function after which operations that wait for the GPU raise, until the test ends."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


def noise(count: int, seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, *size), np.uint8)


def training(
    device: str, labels: TaskLabels | None = None, size: tuple[int, int] = SIZE, **settings: Any
) -> TrainState:
    small = {"refiner_width": 4, "refiner_blocks": 1, "batch_size": 8, "history_size": 16, "pretrain_discriminator": 1}
    fixed = {"synthetic": "a", "real": "b", "device": device, "compile": "off", "precision": "fp32"}
    files = [str(number) for number in range(40)]
    domains = {
        name: PixelSet(Path(name), noise(40, seed, size), [], name, files=files)
        for seed, name in enumerate(("synthetic", "real"))
    }
    config = TrainConfig.model_validate(fixed | small | settings)
    return build_state(config, domains, resolve_device(device), labels=labels)


def step(state: TrainState) -> None:
    state.metrics.add(state.gan.advance(state.step, state.samplers["synthetic"], state.samplers["real"]))
    state.step += 1


def test_devices_have_their_index() -> None:
    assert resolve_device("cuda") == resolve_device("auto") == torch.device("cuda", torch.cuda.current_device())
    assert resolve_device("cuda:0") == torch.device("cuda:0")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_waits_for_the_gpu(precision: str, waiting_is_an_error: Any) -> None:
    state = training("cuda", precision=precision)
    for _ in range(4):  # the first steps choose kernels and allocate memory
        step(state)
    waiting_is_an_error()
    for _ in range(4):
        step(state)


def test_streamed_pixels_equal_those_resident_on_the_gpu(waiting_is_an_error: Any) -> None:
    resident, streamed = (
        Sampler(noise(7, 0), torch.device("cuda:0"), (0, 7), flip=True, resident=resident) for resident in (True, False)
    )
    for count in (3, 3, 5, 9):
        assert torch.equal(resident(count), streamed(count))
    waiting_is_an_error()
    streamed(9)


def test_a_gpu_trains_as_a_cpu_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    flags: dict[str, Any] = {"noise": False, "optimizer": "sgd", "refiner_lr": 0.1, "discriminator_lr": 0.1}
    on_cpu, on_gpu = training("cpu", **flags), training("cuda", **flags)
    before = [parameter.detach().clone() for parameter in on_cpu.gan.refiner.parameters()]
    for state in (on_cpu, on_gpu):
        for _ in range(3):
            step(state)
    found: dict[str, Any] = on_gpu.metrics.state()
    expected = on_cpu.metrics.state()
    assert found.keys() == expected.keys()
    for name, (total, count) in expected.items():
        assert found[name] == [pytest.approx(total, rel=0.05), count], name
    for network in ("refiner", "discriminator"):
        there, here = (list(getattr(state.gan, network).parameters()) for state in (on_gpu, on_cpu))
        assert all(torch.allclose(a.cpu(), b, atol=1e-3) for a, b in zip(there, here, strict=True))
    moved = max(
        (a.detach() - b).abs().max().item() for a, b in zip(on_cpu.gan.refiner.parameters(), before, strict=True)
    )
    assert moved > 0.01


def test_labels_of_large_images_train_with_deterministic_kernels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    labels = TaskLabels("pupil", {str(number): np.full(2, 0.5, np.float32) for number in range(40)})
    state = training("cuda", labels, (96, 128), pretrain_discriminator=0)
    torch.use_deterministic_algorithms(True)
    try:
        step(state)
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_resumed_training_ends_like_an_uninterrupted_one(domains: Domains, tmp_path: Path) -> None:
    flags = [*domains.flags, *TINY, "--device", "cuda", "--deterministic", "--compile", "off"]
    parts = [*flags, "--out", str(tmp_path / "parts")]
    for command in (flags, [*parts, "--steps", "1"], [*parts, "--resume", "auto"]):
        result = simgan("train", *command)
        assert result.returncode == 0, result.stderr
    complete, in_parts = (run / "refiner" / "model.safetensors" for run in (domains.out, tmp_path / "parts"))
    assert complete.read_bytes() == in_parts.read_bytes()
