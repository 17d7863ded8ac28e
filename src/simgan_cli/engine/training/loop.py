"""The loop around Algorithm 1: measure, log, draw, save, step."""

import time

import numpy as np

from simgan_cli.data.cache import PixelSet
from simgan_cli.data.sampler import on_device
from simgan_cli.engine.method.history_buffer import HistoryBuffer
from simgan_cli.engine.metrics.buffer_inspection import spread_by_age
from simgan_cli.engine.run_folder.health import Health
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.engine.run_folder.report_page import N_HISTORY_IMAGES, Excerpt
from simgan_cli.engine.runtime.device import resolve_precision
from simgan_cli.engine.runtime.ranks import rank_zero_only
from simgan_cli.engine.runtime.stop import StopReason, StopRequest
from simgan_cli.engine.training.background_writer import BackgroundWriter
from simgan_cli.engine.training.evaluator import Evaluator, refine_in_batches
from simgan_cli.engine.training.metrics_log import Listener, MetricsLog
from simgan_cli.engine.training.running_means import means_of
from simgan_cli.engine.training.state import RankStates, TrainState
from simgan_cli.engine.training.tensorboard_log import TensorBoardLog
from simgan_cli.errors import DivergedError
from simgan_cli.settings.train import TrainConfig


class Loop:
    """The loop around Algorithm 1: do all that is due, then a step, so that the last step needs no special case.

    All ranks run it together; only the first one measures and writes. `writer` makes files of copies that are taken
    here, while the next steps run.
    """

    def __init__(
        self,
        config: TrainConfig,
        run: RunFolder,
        state: TrainState,
        domains: dict[str, PixelSet],
        listener: Listener,
        stop: StopRequest,
        tensorboard: TensorBoardLog | None,
        writer: BackgroundWriter,
        started: float,
    ) -> None:
        self.config, self.run_folder, self.state, self.ranks = config, run, state, state.ranks
        self.listener, self.stop, self.writer = listener, stop, writer
        self.health = Health(config, run.read_metrics())
        self.evaluator = Evaluator(config, state, domains)
        self.log = MetricsLog(config, run, state, self.evaluator, self.health, listener, tensorboard)
        self.deadline = started + config.max_time if config.max_time else None
        self.start_step = state.step
        saved_at = state.step if run.checkpoint(state.step) in run.existing_checkpoints() else None
        # From the first rank: others may see an older state of the run folder.
        self.saved_at = self.ranks.gather_objects(saved_at)[0]

    def run(self) -> StopReason | None:
        """Train until all steps are done or a stop is requested; return its reason."""
        config, state = self.config, self.state
        self.stop.is_listening = True
        while True:
            finished = state.step >= config.total_steps
            if self._out_of_time() and not self.stop.reason:
                self.stop.reason = "max-time"
            reason = self.ranks.reduce_stop(self.stop.reason)
            done = finished or reason is not None
            evaluated = self._evaluate(finished=finished)
            # A measurement writes a line at its step. A stop writes none: the resumed run continues the sums.
            if evaluated or self._due(config.log_every, finished=finished):
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
            state.metrics.add(state.gan.advance(state.step, state.samplers["synthetic"], state.samplers["real"]))
            state.step += 1
            self.listener.advanced(state.step, config.total_steps)

    def _out_of_time(self) -> bool:
        """Return whether `max_time` has passed, after one step at least, so that reruns always finish."""
        return self.deadline is not None and self.state.step > self.start_step and time.monotonic() >= self.deadline

    def _due(self, every: int, *, finished: bool = False) -> bool:
        """Return whether this step is one of each `every`, or the last one; never where `every` is 0."""
        return every > 0 and (finished or (self.state.step > 0 and self.state.step % every == 0))

    def _evaluate(self, *, finished: bool) -> bool:
        """Measure on held-out images where that is due after a step of this process; return whether it was."""
        is_new = self.state.step > self.start_step  # a resumed run has measured its first step already
        if not is_new or not len(self.state.held_out) or not self._due(self.config.eval_every, finished=finished):
            return False
        # Lambda and weights do not depend on where training ends.
        self.evaluator.evaluate(adapt=self._due(self.config.eval_every), two_sample=finished)
        return True

    def _log(self) -> None:
        self._write_line(means_of(self.ranks.gather_objects(self.state.metrics.state())))
        self.state.metrics.clear()

    @rank_zero_only
    def _write_line(self, means: dict[str, float]) -> None:
        self.writer.check()  # the next picture or checkpoint may be far
        if means:
            self._check_finite(means)
            self.log.write(means)

    @rank_zero_only
    def _sample(self) -> None:
        synthetic, real = (self.evaluator.probe_images(name) for name in ("synthetic", "real"))
        gan = self.state.gan
        refined = refine_in_batches(gan, gan.exported_refiner, synthetic.to(self.evaluator.device)).cpu()
        self.writer.picture(self.state.step, synthetic, refined, real)

    @rank_zero_only
    def _report(self) -> None:
        history = self.state.gan.history
        excerpt = excerpt_of(history, N_HISTORY_IMAGES) if history.capacity else None
        self.writer.page(self.state.step, self.health.verdicts(), excerpt)

    @rank_zero_only
    def _await_writer(self) -> None:
        self.writer.wait()

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
        self.writer.wait()  # for a checkpoint in hand, which is good
        good = self.run_folder.existing_checkpoints()
        rounded = resolve_precision(self.config.precision, self.evaluator.device) == "bf16"
        raise DivergedError(
            f"training diverged before step {self.state.step}: {', '.join(numbers) or 'the weights'} became NaN or "
            "infinite. "
            f"Last good checkpoint: {good[-1] if good else 'none was saved yet'}. Start again in another --out with "
            f"lower --refiner-lr ({self.config.refiner_lr}) and --discriminator-lr "
            f"({self.config.discriminator_lr}), or with --clip-gradient 1"
            + ("; or resume with --resume auto --precision fp32" if good and rounded else "")
        )


def excerpt_of(history: HistoryBuffer, count: int) -> Excerpt:
    """Return the ages of all images, and up to `count` images evenly spread over them, oldest first."""
    made_at = history.made_at[: history.filled].copy()
    chosen = spread_by_age(made_at, count)
    images = history.images[on_device(chosen, history.images.device)].float().cpu().numpy()
    return Excerpt(history.capacity, made_at, images, made_at[chosen])
