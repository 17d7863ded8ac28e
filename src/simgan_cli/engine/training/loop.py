"""The loop around Algorithm 1: measure, judge, log, draw, save. What takes files or long goes to `Writer`."""

import time
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from simgan_cli.data.cache import PixelSet
from simgan_cli.data.sampler import on_device, to_network
from simgan_cli.engine.method.algorithm import Measures
from simgan_cli.engine.method.history import HistoryBuffer
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.engine.metrics.history_buffer import spread_by_age
from simgan_cli.engine.metrics.realism import MAX_TRAINING_IMAGES, MAX_TRAINING_VALUES, Realism, cap_by_pixels
from simgan_cli.engine.metrics.statistics import refiner_statistics
from simgan_cli.engine.run_folder.health import Finding, Health
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.engine.run_folder.report_page import N_HISTORY_IMAGES, Excerpt
from simgan_cli.engine.runtime.device import peak_memory_mb, resolve_precision, stream_number
from simgan_cli.engine.runtime.ranks import rank_zero_only
from simgan_cli.engine.runtime.stop import StopReason, StopRequest
from simgan_cli.engine.training.auto_lambda import next_lambda
from simgan_cli.engine.training.background_writer import Writer
from simgan_cli.engine.training.running_means import State, means_of
from simgan_cli.engine.training.state import RankStates, TrainState
from simgan_cli.errors import DivergedError
from simgan_cli.settings.train import TrainConfig

PROBE_IMAGES = 12
REFINED_AT_ONCE = 32  # images


class Listener(Protocol):
    """Who wants to know how a training goes."""

    def decoding(self, domain: str, done: int, total: int) -> None:
        """Images of a domain are being read."""

    def message(self, text: str) -> None:
        """Something worth a line happened."""

    def warning(self, text: str) -> None:
        """Something a person should look at happened."""

    def finding(self, finding: Finding) -> None:
        """A rule of health fired for the first time."""

    def log(self, line: dict[str, Any], total_steps: int, eta_seconds: float) -> None:
        """A line of metrics was written."""

    def advanced(self, step: int, total_steps: int) -> None:
        """A step was finished."""


class Loop:
    """The loop around Algorithm 1: what is due is done first, then comes a step, so the last needs no special case.

    All ranks go through it in step; measuring, talking and writing are the first one's. Pictures, page and checkpoint
    are copies taken here, which `writer` turns into files while the next steps run.
    """

    def __init__(
        self,
        config: TrainConfig,
        run: RunFolder,
        state: TrainState,
        domains: dict[str, PixelSet],
        listener: Listener,
        stop: StopRequest,
        board: Any,
        writer: Writer,
        started: float,
    ) -> None:
        self.config, self.run_folder, self.state, self.ranks = config, run, state, state.gan.ranks
        self.listener, self.stop, self.tensorboard, self.writer = listener, stop, board, writer
        self.domains = domains
        lines = run.read_metrics()
        self.health = Health(config, lines)
        self.realism: Realism | None = None
        self.deadline = started + config.max_time if config.max_time else None
        self.start_step = state.step
        saved_at = state.step if run.checkpoint(state.step) in run.existing_checkpoints() else None
        two_sample_step = next((line["step"] for line in reversed(lines) if "two_sample" in line), None)
        # The first rank's word: what others see of the run folder may be old.
        self.saved_at, self.two_sample_step = self.ranks.gather_objects((saved_at, two_sample_step))[0]
        self.logged_at = state.step
        self.logged_time = time.monotonic()

    def run(self) -> StopReason | None:
        """Go on until all steps are done or a stop is requested; return its reason."""
        config, state = self.config, self.state
        self.stop.is_listening = True
        if self.saved_at is not None:
            self._complete_export()
        while True:
            finished = state.step >= config.total_steps
            if self._out_of_time() and not self.stop.reason:
                self.stop.reason = "max-time"
            reason = self.ranks.reduce_stop(self.stop.reason)
            done = finished or reason is not None
            measured = self._is_to_be_measured(finished=finished)
            if measured:
                self._evaluate(finished=finished)
                self._share_lambda()
                self.saved_at = None  # a checkpoint of this step knows nothing of it
            # Measurements end a line, whose step is theirs. A stop keeps the sums: the resumed run ends the line.
            if measured or self._due(config.log_every, finished=finished):
                self._log()
            sampled = self._due(config.sample_every, finished=finished)
            saved = self._due(config.save_every) or done
            if sampled or saved:
                self._await_writer()  # so that memory holds the copies of one step at most
            if sampled:
                self._sample()
            if saved:
                self._save()
            if sampled or done:
                self._report()
            if done:
                self._await_writer()
                return None if finished else reason
            state.metrics.add(state.gan.step(state.step, state.samplers["synthetic"], state.samplers["real"]))
            state.step += 1
            self.listener.advanced(state.step, config.total_steps)

    def _out_of_time(self) -> bool:
        """Say whether `max_time` has passed, after one step at least: repeated, a command comes to its end."""
        return self.deadline is not None and self.state.step > self.start_step and time.monotonic() >= self.deadline

    def _due(self, every: int, *, finished: bool = False) -> bool:
        """Say whether this step is one of each `every`, or the last one; never where `every` is 0."""
        return every > 0 and (finished or (self.state.step > 0 and self.state.step % every == 0))

    def _is_to_be_measured(self, *, finished: bool) -> bool:
        """Say whether held-out images are due: at steps trained to, and where a run ends unjudged."""
        if not len(self.state.held_out) or not self.config.eval_every:
            return False
        if finished:
            return bool(self.two_sample_step != self.state.step)
        return self.state.step > self.start_step and self._due(self.config.eval_every)

    def _log(self) -> None:
        self._write_line(self.ranks.gather_objects(self.state.metrics.state()))
        self.state.metrics.clear()

    @rank_zero_only
    def _write_line(self, metrics: list[State]) -> None:
        self.writer.check()  # the next picture or checkpoint may be far
        state, means = self.state, means_of(metrics)
        if not means:
            return
        self._check_finite(means)
        phase = self.config.phase(state.step - 1)
        if phase == "adversarial" and "change" in means:  # else no step was done since the last line
            means |= {name: float(value) for name, value in self._probe().items()}
            means["lambda"] = state.gan.lambda_reg
        elapsed = time.monotonic() - self.logged_time
        steps = state.step - self.logged_at
        line: dict[str, Any] = {"step": state.step, "phase": phase} | means
        if steps and elapsed:
            line["images_per_second"] = round(steps * self._images_in_a_step() / elapsed, 1)
        line["peak_memory_mb"] = round(peak_memory_mb(self._device), 1)
        new = self.health.judge(line)
        if self.health.active:
            line["health"] = self.health.active
        self.run_folder.append_metrics(line)
        state.lines = (state.lines or 0) + 1
        if self.tensorboard is not None:
            for name, value in line.items():
                if isinstance(value, float):
                    self.tensorboard.add_scalar(name, value, state.step)
        remaining = (self.config.total_steps - state.step) * elapsed / max(steps, 1)
        self.listener.log(line, self.config.total_steps, remaining)
        for finding in new:
            self.listener.finding(finding)
        self.logged_at, self.logged_time = state.step, time.monotonic()

    @property
    def _device(self) -> torch.device:
        return self.state.gan.refiner.first.weight.device

    def _images_in_a_step(self) -> int:
        """Mini-batches of the step's phase times the batch size: what `images_per_second` counts."""
        adversarial = self.config.phase(self.state.step - 1) == "adversarial"
        batches = self.config.refiner_updates + self.config.discriminator_updates if adversarial else 1
        return batches * self.config.batch_size

    def _probe(self) -> Measures:
        return refiner_statistics(
            self.state.gan, *(self._fixed(name).to(self._device) for name in ("synthetic", "real"))
        )

    def _fixed(self, name: str) -> Tensor:
        """Return the images of a domain that all pictures and probes show, N x C x H x W in [-1, 1], on the CPU."""
        pixels = self.domains[name].pixels
        rng = np.random.default_rng([self.config.seed, stream_number(f"probe-{name}")])
        chosen = rng.choice(len(pixels), size=PROBE_IMAGES, replace=len(pixels) < PROBE_IMAGES)
        return to_network(torch.from_numpy(pixels[chosen]))

    @rank_zero_only
    def _sample(self) -> None:
        synthetic, real = (self._fixed(name) for name in ("synthetic", "real"))
        refined = self._refine(synthetic.to(self._device), self.state.gan.exported_refiner).cpu()
        self.writer.picture(self.state.step, synthetic, refined, real)

    @rank_zero_only
    def _report(self) -> None:
        history = self.state.gan.history
        self.writer.page(
            self.state.step, self.health.verdicts(), excerpt_of(history, N_HISTORY_IMAGES) if history else None
        )

    @rank_zero_only
    def _await_writer(self) -> None:
        self.writer.wait()

    @torch.no_grad()
    def _refine(self, images: Tensor, refiner: Refiner, *, alike: bool = False) -> Tensor:
        """Return what users of a refiner would get, on the images' device; `alike` under one noise."""
        gan = self.state.gan
        gan.restart_noise()
        refined = []
        for part in torch.split(images, min(REFINED_AT_ONCE, self.config.batch_size)):
            if alike:
                gan.restart_noise()
            with gan.autocast():
                refined.append(gan.refine(part.contiguous(memory_format=torch.channels_last), refiner, alike=alike))
        return torch.cat(refined).float().clamp(-1, 1)

    @rank_zero_only
    def _evaluate(self, *, finished: bool) -> None:
        """Measure the refiner on held-out images; the numbers join the line of metrics of this step."""
        state, held_out = self.state, self.state.held_out
        if self.realism is None:
            indices = (("synthetic", held_out.synthetic), ("real", held_out.real), ("real", held_out.other_real))
            self.realism = Realism(*(self._pixels(name, index) for name, index in indices))
        refine = partial(self._refine, refiner=state.gan.exported_refiner)
        measures = self.realism.measure(refine, partial(refine, alike=True))
        if self.config.select == "best":
            state.keep_best(measures)
        # Not by where training ends, and at no step twice.
        if self.config.lambda_reg == "auto" and self._due(self.config.eval_every) and state.step > self.start_step:
            self._adapt_lambda(float(measures.get("label_drift", 0.0)))
        if finished:
            rng = np.random.default_rng([self.config.seed, stream_number("two-sample")])
            most = cap_by_pixels(MAX_TRAINING_IMAGES, MAX_TRAINING_VALUES, self.domains["synthetic"].shape)
            known = [
                self._pixels(name, rng.choice(sampler.kept, min(most, len(sampler.kept)), replace=False))
                for name, sampler in state.samplers.items()
            ]
            exported = partial(self._refine, refiner=state.exported[1])
            measures |= self.realism.two_sample(exported, known[0], known[1], self.config.seed)
        state.metrics.add(measures)

    def _adapt_lambda(self, drift: float) -> None:
        gan = self.state.gan
        if self.config.phase(self.state.step - 1) == "adversarial":  # before, there is no balance to look at
            gan.lambda_reg = next_lambda(gan.lambda_reg, float(self._probe()["gradient_ratio"]), drift)

    def _share_lambda(self) -> None:
        if self.config.lambda_reg == "auto":
            self.state.gan.lambda_reg = self.ranks.gather_objects(self.state.gan.lambda_reg)[0]

    def _pixels(self, name: str, index: Any) -> Tensor:
        return torch.from_numpy(self.domains[name].pixels[index]).to(self._device)

    @rank_zero_only
    def _complete_export(self) -> None:
        self.writer.complete_export(*self.state.copy_of_exported(), now=self.state.step)

    def _save(self) -> None:
        if self.saved_at == self.state.step:
            return
        self._checkpoint(self.state.gather_rank_states())
        self.saved_at = self.state.step

    @rank_zero_only
    def _checkpoint(self, gathered: RankStates) -> None:
        self._check_finite(means_of(gathered.metrics))
        self.writer.checkpoint(self.state.snapshot(gathered))

    def _check_finite(self, means: dict[str, float]) -> None:
        numbers = [name for name, value in means.items() if not np.isfinite(value)]
        if not numbers and self.state.is_finite():
            return
        self.writer.wait()  # what is being written is good
        good = self.run_folder.existing_checkpoints()
        rounded = resolve_precision(self.config.precision, self._device) == "bf16"
        raise DivergedError(
            f"training diverged before step {self.state.step}: {', '.join(numbers) or 'the weights'} became NaN or "
            "infinite. "
            f"Last good checkpoint: {good[-1] if good else 'none was saved yet'}. Start anew in another --out with "
            f"lower --refiner-lr ({self.config.refiner_lr:g}) and --discriminator-lr "
            f"({self.config.discriminator_lr:g}), or with --clip-gradient 1"
            + ("; or go on with --resume auto --precision fp32" if good and rounded else "")
        )


def excerpt_of(history: HistoryBuffer, count: int) -> Excerpt:
    """Return the ages of all images, and up to `count` images evenly spread over them, oldest first."""
    made_at = history.made_at[: history.filled].copy()
    chosen = spread_by_age(made_at, count)
    images = history.images[on_device(chosen, history.images.device)].float().cpu().numpy()
    return Excerpt(history.capacity, made_at, images, made_at[chosen])
