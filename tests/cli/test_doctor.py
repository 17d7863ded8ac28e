"""`simgan doctor` tells what runs here, and a broken machine from a sound one."""

import importlib.metadata
import json
import platform
import resource
import signal
import tomllib
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from simgan_cli.cli.doctor import EXTRAS, PACKAGES
from simgan_cli.data.cache import Source, clear_cache, open_pixels
from simgan_cli.data.decoding import Preparation
from simgan_cli.engine.runtime.device import resolve_device
from simgan_cli.engine.selftest import self_test
from simgan_cli.files import locked_file
from tests.helpers import files_below, invoke, simgan, write_images


def cached(tmp_path: Path, name: str, seed: int) -> Path:
    cache = tmp_path / "cache"  # of which the pixels take a folder of their own
    open_pixels(Source(write_images(tmp_path / name, 3, seed)), Preparation(), str(cache), 1, lambda done, total: None)
    return cache


def doctor(*arguments: str | Path) -> dict[str, object]:
    document: dict[str, object] = json.loads(invoke("doctor", "--json", *arguments).stdout)
    return document


@pytest.mark.slow
def test_the_installed_program_says_what_runs_here_and_that_all_is_well(tmp_path: Path) -> None:
    result = simgan("doctor", cold=True, env={"SIMGAN_CACHE": str(cached(tmp_path, "a", 1))})
    assert result.returncode == 0, result.stderr
    rows = dict(line.strip().split(None, 1) for line in result.stdout.splitlines())
    assert rows["python"] == platform.python_version()
    assert rows["pillow"] == importlib.metadata.version("pillow")
    assert rows["cache"] == f"{tmp_path / 'cache' / 'simgan-pixels'}: 1 entries, 0.0 MB"
    assert [rows[name].split(":")[0] for name in ("training", "checkpoint", "refining")] == ["ok"] * 3
    assert "--clear-cache" in result.stderr


def test_the_packages_of_every_extra_of_users_are_named() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = [project["optional-dependencies"][name] for name in ("gaze", "plots", "renders", "tensorboard")]
    assert {line.split(">=")[0] for line in chain(*extras)} <= {*PACKAGES, *EXTRAS}


@pytest.mark.slow  # Python's platform asks uname
def test_clearing_deletes_the_cache_and_nothing_else(tmp_path: Path) -> None:
    cache = cached(tmp_path, "a", 1)
    source = Source(write_images(tmp_path / "b", 3, 2))
    opened = open_pixels(source, Preparation(), str(cache), 1, lambda done, total: None).pixels
    before = np.array(opened)
    (cache / "thesis.tex").write_text("years of work")
    pixels = cache / "simgan-pixels"
    left = pixels / f".tmp-{'0' * 32}-dead"  # of a process that was killed
    left.mkdir()
    (left / "pixels.bin").write_bytes(bytes(100))
    size = sum(map(len, files_below(pixels).values()))
    document = doctor("--cache", cache, "--clear-cache", "--device", "cpu")
    assert document["healthy"] is True
    assert (document["device"], document["threads"]) == ("cpu", torch.get_num_threads())
    assert document["cache"] == {
        "folder": str(pixels), "entries": 0, "bytes": 0, "cleared": {"entries": 3, "bytes": size},
    }  # fmt: skip
    assert list(files_below(cache)) == ["thesis.tex"]
    assert np.array_equal(opened, before)  # what is open stays


def test_clearing_leaves_alone_what_another_process_builds(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    pixels = cache / "simgan-pixels"
    building = pixels / f".tmp-{'0' * 32}-alive"
    building.mkdir(parents=True)
    with locked_file(pixels / f"{'0' * 32}.lock"):
        assert clear_cache(str(cache))[0] == 0
        assert building.is_dir()
    assert clear_cache(str(cache))[0] == 1
    assert list(pixels.iterdir()) == []


def test_an_absent_device_is_a_usage_error() -> None:
    assert "--device cuda:99" in invoke("doctor", "--device", "cuda:99", code=2).stderr


def test_a_machine_that_computes_wrongly_is_found_out() -> None:
    """Arithmetic in which everything is NaN, as a broken driver's: torch itself is told to give it."""

    class Broken(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = function(*args, **(kwargs or {}))
            return result * float("nan") if function is torch.conv2d else result

    with Broken():
        checks = self_test(resolve_device("cpu"))
    assert [check.ok for check in checks] == [False]
    assert "NaN" in checks[0].found


@pytest.mark.slow
def test_a_full_disk_is_found_out(tmp_path: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    result = simgan("doctor", "--json", "--cache", tmp_path, preexec=limit)
    assert result.returncode == 1, result.stderr
    document = json.loads(result.stdout)
    assert document["healthy"] is False
    assert [check["ok"] for check in document["checks"]] == [True, False]
    assert "File too large" in result.stdout
