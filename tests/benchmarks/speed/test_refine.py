"""The refining benchmark: its bare network runs for whatever can be refined."""

from pathlib import Path

import pytest

from benchmarks.speed.refine import bare_network
from tests.helpers import write_refiner


@pytest.mark.parametrize("noise", [True, False])
def test_the_bare_network_runs_with_and_without_noise(tmp_path: Path, noise: bool) -> None:
    model = write_refiner(tmp_path / "model", noise=noise)
    assert bare_network(model, (16, 20), 2, "cpu", 0.01).per_cpu_second > 0
