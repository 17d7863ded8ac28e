"""Choice of the device, and of compiling networks where it works and pays."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from simgan_cli.engine.runtime.device import MIN_COMPILED_VALUES, compiler, resolve_device
from simgan_cli.engine.runtime.ranks import Ranks
from simgan_cli.errors import SettingsError

CPU = torch.device("cpu")


@pytest.mark.parametrize("choice", ["off", "auto"])
def test_networks_on_a_cpu_are_compiled_only_on_request(choice: str) -> None:
    network = nn.Conv2d(1, 1, 1)
    assert compiler(choice, CPU, MIN_COMPILED_VALUES)(network) is network


def test_auto_does_not_compile_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    network = nn.Conv2d(1, 1, 1)
    assert compiler("auto", torch.device("cuda"), MIN_COMPILED_VALUES)(network) is network


@pytest.mark.slow  # torch 2.6 starts processes to compile with
def test_auto_compiles_on_a_gpu_with_triton_and_a_compiler_where_it_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("triton") is None:  # an empty module suffices, since nothing is compiled here
        importlib.import_module("torch._dynamo")  # it must not import the empty module
        (tmp_path / "triton").mkdir()
        (tmp_path / "triton" / "__init__.py").touch()
        monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "c++").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    network = nn.Conv2d(1, 1, 1)
    assert compiler("auto", torch.device("cuda"), MIN_COMPILED_VALUES - 1)(network) is network
    compiled = compiler("auto", torch.device("cuda"), MIN_COMPILED_VALUES)(network)
    assert isinstance(compiled, nn.Module)
    assert compiled is not network
    assert [id(weight) for weight in compiled.parameters()] == [id(weight) for weight in network.parameters()]


def test_each_of_several_ranks_has_the_cpu_or_a_gpu_of_its_own() -> None:
    second = Ranks(1, 2, 1)
    assert resolve_device("cpu", second) == CPU
    for name in ("cuda:0", "mps"):
        with pytest.raises(SettingsError, match=f"--device {name}: one device for 2 ranks"):
            resolve_device(name, second)
    if torch.cuda.device_count() > 1:
        assert resolve_device("cuda", second) == torch.device("cuda:1")
    else:  # it does not silently share another rank's GPU
        with pytest.raises(SettingsError, match="--device cuda:1: this machine shows"):
            resolve_device("cuda", second)


def test_a_missing_device_is_an_error() -> None:
    with pytest.raises(SettingsError, match="--device cuda:99"):
        resolve_device("cuda:99")
    if not torch.backends.mps.is_available():
        with pytest.raises(SettingsError, match="--device mps"):
            resolve_device("mps")
