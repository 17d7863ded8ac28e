"""A run of a few tiny images, without a training."""

from pathlib import Path
from typing import Any

import numpy as np

from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.settings.train import TrainConfig
from tests.helpers import write_images, write_refiner


def write_run(folder: Path, count: int = 14, dtype: Any = np.uint8, channels: int = 1) -> Path:
    """Write `count` renders and photographs, and a run whose refiner changes them a good deal."""
    shape = (16, 20) if channels == 1 else (16, 20, 3)
    for seed, name in enumerate(("renders", "photos")):
        write_images(folder / name, count, seed, shape, dtype)
    run = RunFolder(folder / "run")
    run.root.mkdir()
    run.create(TrainConfig(synthetic=folder / "renders", real=folder / "photos", out=run.root, cache="off"))
    write_refiner(run.refiner, channels)
    return run.root
