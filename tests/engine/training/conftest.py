"""Settings of trainings of a second."""

from pathlib import Path
from typing import Any

import pytest

from simgan_cli.engine.metrics import realism
from tests.helpers import write_images

SIZE = (12, 14)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Any]:
    return {
        "synthetic": write_images(tmp_path / "synthetic", 9, 1, SIZE),
        "real": write_images(tmp_path / "real", 3, 2, SIZE),  # fewer than a batch
        "out": tmp_path / "run", "cache": "off",
        "refiner_width": 3, "refiner_blocks": 1, "batch_size": 4, "history_size": 6, "pretrain_discriminator": 1,
        "steps": 4, "log_every": 2, "sample_every": 0, "save_every": 0,
    }  # fmt: skip


@pytest.fixture
def spacious(tmp_path: Path, folders: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Domains that can spare images for measurements, and a classifier that learns little."""
    monkeypatch.setattr(realism, "STEPS", 5)
    domains = {
        name: write_images(tmp_path / f"many-{name}", count, seed, SIZE)
        for name, count, seed in (("synthetic", 80, 1), ("real", 85, 2))
    }
    return folders | domains | {"steps": 3, "log_every": 2, "eval_every": 2, "save_every": 1, "keep": 0}
