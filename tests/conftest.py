"""Fixtures of all tests."""

import os
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers import write_images
from tests.simgan_server import SERVER, SHARED, warm_simgan

# A busy machine must not fail a test.
settings.register_profile("quick", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=5000)  # takes an hour
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

CEILING = 3.0  # seconds that a test may take unless it is marked slow
PROCESS_STARTERS = ((subprocess.Popen, "__init__"), (os, "fork"), (os, "forkpty"), (os, "posix_spawn"))

# The user's own settings must not change the tests.
for name in [name for name in os.environ if name.startswith("SIMGAN_") and name != "SIMGAN_DEVICE"]:
    del os.environ[name]

# Tests compare bits, and ranks share a machine, so programs run on the CPU, except in engine/test_gpu.py.
os.environ.setdefault("SIMGAN_DEVICE", "cpu")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for slow machines."""
    parser.addoption("--no-ceiling", action="store_true", help="let tests that are not marked slow take their time")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Start one server of warm programs for all workers, unless quick tests alone run, which start no process."""
    if session.config.getoption("numprocesses", None) and not session.config.getoption("markexpr"):
        os.environ[SHARED] = str(warm_simgan())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop() -> Generator[None, object, object]:
    """End the server before coverage data is combined."""
    with SERVER:
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let tests without the mark slow start no process.

    An audit hook would see more. In Python 3.11 it sometimes kills threads that coverage follows.
    """
    if item.get_closest_marker("slow"):
        return (yield)

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(f"{item.nodeid} starts a process: mark it slow")

    with pytest.MonkeyPatch.context() as patch:
        for place, name in PROCESS_STARTERS:
            patch.setattr(place, name, refuse, raising=False)
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that is not marked slow and takes longer than the ceiling."""
    report = yield
    may_take_long = item.get_closest_marker("slow") or item.config.getoption("--no-ceiling")
    if report.passed and call.duration > CEILING and not may_take_long:
        report.outcome = "failed"
        report.longrepr = f"took {call.duration:.1f} s of at most {CEILING:g}: mark it slow, or pass --no-ceiling"
    return report


@dataclass(frozen=True)
class Domains:
    """Two folders of tiny images, the real ones fewer than many a batch."""

    synthetic: Path
    real: Path
    out: Path

    @property
    def flags(self) -> list[str]:
        """The arguments that name them."""
        return ["--synthetic", str(self.synthetic), "--real", str(self.real), "--out", str(self.out)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's cache out of the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def domains(tmp_path: Path) -> Domains:
    """Twelve synthetic and three real images of 16x20."""
    return Domains(write_images(tmp_path / "synthetic", 12, 1), write_images(tmp_path / "real", 3, 2), tmp_path / "run")
