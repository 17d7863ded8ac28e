"""What the machine is asked for: compiling networks only where it can and pays."""

from pathlib import Path

import pytest
import torch
from torch import nn

from simgan_cli.engine.runtime import compiler
from simgan_cli.errors import SettingsError

CPU = torch.device("cpu")


@pytest.mark.parametrize("choice", ["off", "auto"])
def test_networks_on_a_cpu_stay_as_they_are_unless_asked(choice: str) -> None:
    network = nn.Conv2d(1, 1, 1)
    assert compiler(choice, CPU)(network) is network


def test_compiling_without_a_compiler_is_an_error_and_auto_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(SettingsError, match=r"--compile on: no C\+\+ compiler .* use auto or off"):
        compiler("on", CPU)
    network = nn.Conv2d(1, 1, 1)
    assert compiler("auto", torch.device("cuda"))(network) is network


def test_a_gpu_with_triton_and_a_compiler_compiles_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").touch()
    (tmp_path / "c++").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    network = nn.Conv2d(1, 1, 1)
    compiled = compiler("auto", torch.device("cuda"))(network)
    assert isinstance(compiled, nn.Module)
    assert compiled is not network
    assert [id(weight) for weight in compiled.parameters()] == [id(weight) for weight in network.parameters()]
