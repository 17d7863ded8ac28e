"""Measurements during a training, on held-out images and on a few fixed ones; --lambda auto follows from them."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan_cli.data.cache import PixelSet
from simgan_cli.data.reweighting import effective_number, weights_like
from simgan_cli.data.sampler import as_tensor, to_network
from simgan_cli.engine.method.algorithm import Measures, SimGAN
from simgan_cli.engine.method.networks import Refiner, receptive_field
from simgan_cli.engine.method.task_term import TaskTerm, to_grey
from simgan_cli.engine.metrics.realism import MAX_TRAINING_IMAGES, MAX_TRAINING_VALUES, Realism, cap_by_pixels
from simgan_cli.engine.metrics.statistics import refiner_statistics
from simgan_cli.engine.runtime.device import stream_number
from simgan_cli.engine.runtime.ranks import rank_zero_only
from simgan_cli.engine.training.auto_lambda import next_lambda
from simgan_cli.engine.training.state import TrainState
from simgan_cli.engine.training.task import reading_errors
from simgan_cli.settings.train import TrainConfig

N_PROBE_IMAGES = 12
MAX_BATCH_IMAGES = 32
MIN_STEPS_TO_REWEIGH = 500  # so that the estimator has learned to read before its readings count
MAX_READ_PHOTOGRAPHS = 2000  # for --weights auto


class Evaluator:
    """Measures the refiner in training and the one that users get; all ranks call it, the first one measures."""

    def __init__(self, config: TrainConfig, state: TrainState, domains: dict[str, PixelSet]) -> None:
        self.config, self.state, self.domains, self.ranks = config, state, domains, state.ranks
        self.device = state.gan.refiner.first.weight.device
        self._realism: Realism | None = None
        self._first_reweighing = config.pretraining_steps + MIN_STEPS_TO_REWEIGH

    def evaluate(self, *, adapt: bool, two_sample: bool) -> None:
        """Measure the exported refiner on held-out images; the numbers join the line of metrics of this step.

        With `adapt`, --lambda auto and --weights auto change the next steps.
        """
        is_auto = self.config.lambda_reg == "auto"
        self._measure(adapt_lambda=adapt and is_auto, two_sample=two_sample)
        if is_auto:
            self.state.gan.lambda_reg = self.ranks.gather_objects(self.state.gan.lambda_reg)[0]
        if adapt and self.config.weights == "auto" and self.state.step >= self._first_reweighing:
            self._reweigh()

    def _reweigh(self) -> None:
        """Draw renders by new weights from here on, where there are labels of gaze or pupils."""
        task, labels = self.state.gan.task, self.state.labels
        if task is not None and labels is not None and self.config.target != "points":
            weights = self._weights(task, labels) if self.ranks.is_first else None
            self.state.samplers["synthetic"].reweigh(self.ranks.gather_objects(weights)[0])

    def _weights(self, task: TaskTerm, labels: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return weights of the renders under which labels are distributed as the estimator reads the photographs."""
        pixels = self.domains["real"].pixels
        rng = np.random.default_rng([self.config.seed, stream_number("weights")])
        chosen = rng.choice(len(pixels), min(MAX_READ_PHOTOGRAPHS, len(pixels)), replace=False)
        photographs = torch.split(self._pixels("real", np.sort(chosen)), MAX_BATCH_IMAGES)
        with torch.no_grad(), self.state.gan.autocast():
            read = torch.cat([task.average(to_grey(to_network(part))).float() for part in photographs]).cpu().numpy()
        known = ~np.isnan(labels).any(axis=1)
        weights = np.ones(len(labels))
        weights[known], _ = weights_like(labels[known].astype(np.float64), read.astype(np.float64))
        self.state.metrics.add({"weights_effective": torch.tensor(effective_number(weights) / len(weights))})
        return weights

    @rank_zero_only
    def _measure(self, *, adapt_lambda: bool, two_sample: bool) -> None:
        state, gan, held_out = self.state, self.state.gan, self.state.held_out
        if self._realism is None:
            indices = (("synthetic", held_out.synthetic), ("real", held_out.real), ("real", held_out.other_real))
            self._realism = Realism(*(self._pixels(name, index) for name, index in indices))
        refine = partial(refine_in_batches, gan, gan.exported_refiner)
        measures = self._realism.measure(refine, partial(refine, alike=True))
        measures |= self._label_errors(refine) | {"window": torch.tensor(self._window())}
        if self.config.select == "best":
            state.keep_best(measures)
        # Pretraining has no adversarial gradient to compare with.
        if adapt_lambda and self.config.phase(state.step - 1) == "adversarial":
            drift = float(measures.get("label_drift", 0.0))
            gan.lambda_reg = next_lambda(gan.lambda_reg, float(self.statistics()["gradient_ratio"]), drift)
        if two_sample:
            rng = np.random.default_rng([self.config.seed, stream_number("two-sample")])
            most = cap_by_pixels(MAX_TRAINING_IMAGES, MAX_TRAINING_VALUES, self.domains["synthetic"].shape)
            known = [
                self._pixels(name, rng.choice(sampler.kept, min(most, len(sampler.kept)), replace=False))
                for name, sampler in state.samplers.items()
            ]
            exported = partial(refine_in_batches, gan, state.exported[1])
            measures |= self._realism.two_sample(exported, known[0], known[1], self.config.seed)
        state.metrics.add(measures)

    def _label_errors(self, refine: Callable[[Tensor], Tensor]) -> Measures:
        task, labels, chosen = self.state.gan.task, self.state.labels, self.state.held_out.synthetic
        if task is None or labels is None:
            return {}
        images = to_network(self._pixels("synthetic", chosen))
        return reading_errors(task, images, refine(images), torch.from_numpy(labels[chosen]).to(self.device))

    def _window(self) -> float:
        """Return the largest share of an image that a refined pixel depends on."""
        side = receptive_field(self.state.gan.refiner)
        height, width = self.domains["synthetic"].shape[1:]
        return min(side, height) * min(side, width) / (height * width)

    def statistics(self) -> Measures:
        """Return statistics of the refiner in training on the probe images."""
        synthetic, real = (self.probe_images(name).to(self.device) for name in ("synthetic", "real"))
        return refiner_statistics(self.state.gan, synthetic, real)

    def probe_images(self, name: str) -> Tensor:
        """Return the images of a domain that all pictures and statistics show, N x C x H x W in [-1, 1], on the CPU."""
        pixels = self.domains[name].pixels
        rng = np.random.default_rng([self.config.seed, stream_number(f"probe-{name}")])
        chosen = rng.choice(len(pixels), size=N_PROBE_IMAGES, replace=len(pixels) < N_PROBE_IMAGES)
        return to_network(as_tensor(pixels[chosen]))

    def _pixels(self, name: str, index: NDArray[np.int64]) -> Tensor:
        return as_tensor(self.domains[name].pixels[index]).to(self.device)


@torch.no_grad()
def refine_in_batches(gan: SimGAN, refiner: Refiner, images: Tensor, *, alike: bool = False) -> Tensor:
    """Return N x C x H x W `images` as users of `refiner` get them, on their device; `alike` under one noise."""
    gan.restart_noise()
    refined = []
    for part in torch.split(images, min(MAX_BATCH_IMAGES, gan.config.batch_size)):
        if alike:
            gan.restart_noise()
        with gan.autocast():
            refined.append(gan.refine(part.contiguous(memory_format=torch.channels_last), refiner, alike=alike))
    return torch.cat(refined).float().clamp(-1, 1)
