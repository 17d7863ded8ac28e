"""The photographs whose tones a run keeps: the estimator learns in them, and refine --match gives them to results."""

import numpy as np

from simgan_cli.data.decoding import Pixels
from simgan_cli.data.matching import MAX_PHOTOGRAPHS
from simgan_cli.engine.runtime.device import stream_number
from simgan_cli.settings.train import TrainConfig


def choose_photographs(config: TrainConfig, real: Pixels) -> Pixels | None:
    """Return some of N x C x H x W `real` images; None where values are distances, which have no tones.

    Grey images of 16 bits count as distances: depth has this form, and matched it would be lost.
    """
    is_depth = real.shape[1] == 1 and real.dtype == np.uint16
    if is_depth or config.pixels == "packed16" or config.preset == "hands":
        return None
    rng = np.random.default_rng([config.seed, stream_number("tones")])
    chosen: Pixels = real[np.sort(rng.choice(len(real), min(MAX_PHOTOGRAPHS, len(real)), replace=False))]
    return chosen
