"""The renders' labels in a training: build and measure the run's estimator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan_cli.data.decoding import Pixels, luma
from simgan_cli.data.matching import quantiles_of
from simgan_cli.data.sampler import Sampler
from simgan_cli.engine.method.algorithm import Measures
from simgan_cli.engine.method.gaze_estimator import Architecture, Estimator, can_read
from simgan_cli.engine.method.task_term import RandomLooks, TaskTerm, to_grey
from simgan_cli.engine.runtime.device import stream_number
from simgan_cli.engine.runtime.ranks import Ranks
from simgan_cli.engine.training.photographs import choose_photographs
from simgan_cli.settings.train import TrainConfig

ARCHITECTURE: Architecture = "resnet"


@dataclass(frozen=True)
class TaskLabels:
    """Labels of renders as the estimator gives them: unit vectors, or points in fractions of width and height.

    `points` are the names of points other than the pupil; a missing one is NaN.
    """

    target: str
    by_file: dict[str, NDArray[np.float32]]
    points: tuple[str, ...] = ()

    def of(self, files: Sequence[str]) -> NDArray[np.float32]:
        """Return a row for each file, of NaN where it has no label."""
        count = len(next(iter(self.by_file.values())))
        missing = np.full(count, np.nan, np.float32)
        return np.stack([self.by_file.get(file, missing) for file in files])


def build_task(
    config: TrainConfig, labels: TaskLabels, real: Pixels, synthetic: Sampler, device: torch.device, ranks: Ranks
) -> TaskTerm:
    """Build the estimator, the same for a seed on every device, and its term; `real` are all photographs."""
    size = (real.shape[2], real.shape[3])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(np.random.SeedSequence([config.seed, stream_number("task")]).generate_state(1)[0])
        estimator = Estimator(ARCHITECTURE, *size, labels.target, labels.points)
    ranks.broadcast(estimator)
    estimator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    photographs, looks = choose_photographs(config, real), None
    if photographs is not None:
        grey = luma(photographs) if photographs.shape[1] == 3 else photographs
        looks = RandomLooks(quantiles_of(grey), (config.seed, stream_number("looks"), ranks.rank))
    return TaskTerm(estimator, config.task_weight, lambda: cast("Tensor", synthetic.targets), config.ema, looks)


def is_readable(size: tuple[int, int]) -> bool:
    """Return whether images of `size` (H, W) are large enough for the estimator."""
    return can_read(ARCHITECTURE, *size)


def reading_errors(task: TaskTerm, synthetic: Tensor, refined: Tensor, targets: Tensor) -> Measures:
    """Return f's mean error on x and on R(x), N x C x H x W in [-1, 1]: in degrees, or in pixels of these images.

    Empty where no image has a label.
    """
    known = ~targets.isnan().all(dim=1)
    if not known.any():
        return {}
    return {
        f"label_error_{name}": _errors(task.average, images[known], targets[known]).mean()
        for name, images in (("synthetic", synthetic), ("refined", refined))
    }


@torch.no_grad()
def _errors(estimator: Estimator, images: Tensor, targets: Tensor) -> Tensor:
    predicted = estimator(to_grey(images))
    if estimator.settings["target"] == "gaze":
        # atan2 is exact where arccos of a float32 near 1 is not.
        cross = torch.linalg.cross(predicted, targets).norm(dim=1)
        errors: Tensor = torch.rad2deg(torch.atan2(cross, (predicted * targets).sum(dim=1)))
        return errors
    size = torch.tensor(images.shape[:1:-1], device=images.device)
    distances: Tensor = ((predicted - targets).unflatten(1, (-1, 2)) * size).norm(dim=2).nanmean(dim=1)
    return distances
