"""The report of a job's CPU time, against the test's own clocks around the same functions."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simgan_cli.data.matching import quantiles_of
from simgan_cli.engine.export.refiner_model import open_model, save_tones
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.engine.refining import image_refiner, job
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.refining.job import RefineJob
from simgan_cli.engine.refining.outputs import Outputs
from simgan_cli.engine.refining.plan import check_inputs, make_plan
from simgan_cli.engine.runtime.stop import StopRequest
from simgan_cli.settings.refine import RefineConfig
from tests.helpers import write_images, write_refiner

FUNCTIONS: list[tuple[str, Any, str]] = [
    ("decoding", job, "read_picture"),
    ("encoding", job, "write_picture"),
    ("noise", image_refiner, "beside_their_own_noise"),
    ("matching", image_refiner, "match_tones"),
    ("network", Refiner, "forward"),
    ("files", job, "read_content"),
    ("files", Outputs, "keep"),
]


class Silent:
    def advanced(self, done: int, total: int) -> None: ...

    def warning(self, text: str) -> None: ...


def clocked(function: Callable[..., Any], name: str, seconds: Counter[str]) -> Callable[..., Any]:
    """Return the function itself, with a clock of the thread's CPU time around it."""

    def run(*arguments: Any) -> Any:
        started = time.thread_time()
        result = function(*arguments)
        seconds[name] += time.thread_time() - started  # type: ignore[assignment]
        return result

    return run


def test_the_report_gives_the_shares_of_cpu_time_that_functions_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = write_images(tmp_path / "images", 48, 1, shape=(40, 60)), tmp_path / "out"
    model = write_refiner(tmp_path / "model", noise=True)
    save_tones(model, quantiles_of(np.random.default_rng(0).integers(0, 256, (9, 1, 40, 60)).astype(np.uint8)))
    config = RefineConfig(inputs=(images,), model=model, out=out, workers=1, match="histogram")
    refiner = ImageRefiner(open_model(model), torch.device("cpu"), match=config.match)
    plan = make_plan(check_inputs([images], out), out, None, (0, 1))
    seconds: Counter[str] = Counter()
    for name, place, attribute in FUNCTIONS:
        monkeypatch.setattr(place, attribute, clocked(getattr(place, attribute), name, seconds))
    started = time.process_time()
    report = RefineJob(config, plan, refiner, Silent(), StopRequest()).run()
    everything = time.process_time() - started
    wanted = {name: taken / everything for name, taken in seconds.items()}
    wanted["other"] = 1 - sum(wanted.values())
    assert report.shares == pytest.approx(wanted, abs=0.1)
    assert report.limit in {next(iter(report.shares)), "waiting"}
