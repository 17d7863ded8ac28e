"""`simgan doctor` reports what runs here, and detects a broken machine."""

import importlib.metadata
import platform
import resource
import signal
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import torch

from simgan_cli.cli.doctor import EXTRAS, PACKAGES
from simgan_cli.engine.runtime.device import resolve_device
from simgan_cli.engine.selftest import self_test
from tests.helpers import invoke, parse_document, simgan


@pytest.mark.slow
def test_doctor_reports_versions_devices_and_that_all_is_well(tmp_path: Path) -> None:
    (tmp_path / "simgan-pixels").mkdir()
    (tmp_path / "simgan-pixels" / "pixels.bin").write_bytes(bytes(1_500_000))
    result = simgan("doctor", cold=True, env={"SIMGAN_CACHE": str(tmp_path)})
    assert result.returncode == 0, result.stderr
    rows = dict(line.strip().split(None, 1) for line in result.stdout.splitlines())
    assert rows["python"] == platform.python_version()
    assert rows["pillow"] == importlib.metadata.version("pillow")
    assert rows["cache"] == f"{tmp_path / 'simgan-pixels'}: 1.5 MB; may be deleted"
    assert [rows[name].split(":")[0] for name in ("training", "checkpoint", "refining")] == ["ok"] * 3


def test_the_packages_of_every_extra_of_users_are_named() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = [project["optional-dependencies"][name] for name in ("gaze", "plots", "renders", "tensorboard")]
    assert {line.split(">=")[0] for line in chain(*extras)} <= {*PACKAGES, *EXTRAS}


def test_an_absent_device_is_a_usage_error() -> None:
    assert "--device cuda:99" in invoke("doctor", "--device", "cuda:99", code=2).stderr


def test_doctor_detects_wrong_arithmetic() -> None:
    """Torch is made to return NaN, as a broken driver might."""

    class Broken(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = function(*args, **(kwargs or {}))
            return result * float("nan") if function is torch.conv2d else result

    with Broken():
        checks = self_test(resolve_device("cpu"))
    assert [check["ok"] for check in checks] == [False]
    assert "NaN" in checks[0]["found"]


@pytest.mark.slow
def test_doctor_detects_a_full_disk(tmp_path: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    result = simgan("doctor", "--json", "--cache", tmp_path, preexec=limit)
    assert result.returncode == 1, result.stderr
    document = parse_document(result.stdout)
    assert document["healthy"] is False
    assert [check["ok"] for check in document["checks"]] == [True, False]
    assert "File too large" in result.stdout
