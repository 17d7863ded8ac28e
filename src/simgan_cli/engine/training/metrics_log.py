"""Lines of metrics: means since the last one, judged by the rules of health, for files and people."""

import time
from typing import Any, Protocol

from simgan_cli.engine.run_folder.health import Finding, Health
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.engine.runtime.device import peak_memory_mb
from simgan_cli.engine.training.evaluator import Evaluator
from simgan_cli.engine.training.state import TrainState
from simgan_cli.engine.training.tensorboard_log import TensorBoardLog
from simgan_cli.settings.train import TrainConfig


class DataListener(Protocol):
    """Hears about the reading of images."""

    def decoding(self, domain: str, done: int, total: int) -> None:
        """Images of a domain are being read."""

    def message(self, text: str) -> None:
        """Something worth a line happened."""

    def warning(self, text: str) -> None:
        """Something a person should look at happened."""


class Listener(DataListener, Protocol):
    """Hears about the progress of a training."""

    def finding(self, finding: Finding) -> None:
        """A rule of health fired for the first time."""

    def log(self, line: dict[str, Any], total_steps: int, eta_seconds: float) -> None:
        """A line of metrics was written."""

    def advanced(self, step: int, total_steps: int) -> None:
        """A step was finished."""


class MetricsLog:
    """Writes lines to metrics.jsonl, the listener and, where there is one, TensorBoard."""

    def __init__(
        self,
        config: TrainConfig,
        run: RunFolder,
        state: TrainState,
        evaluator: Evaluator,
        health: Health,
        listener: Listener,
        tensorboard: TensorBoardLog | None,
    ) -> None:
        self.config, self.run_folder, self.state, self.evaluator = config, run, state, evaluator
        self.health, self.listener, self.tensorboard = health, listener, tensorboard
        self._step, self._time = state.step, time.monotonic()  # of the last line

    def write(self, means: dict[str, float]) -> None:
        """Write the line of this step from the `means` over the steps since the last one."""
        state = self.state
        line: dict[str, Any] = {"step": state.step, "phase": self.config.phase(state.step - 1)} | means
        if line["phase"] == "adversarial":
            line |= {name: float(value) for name, value in self.evaluator.statistics().items()}
            line["lambda"] = state.gan.lambda_reg
        elapsed, remaining = time.monotonic() - self._time, 0.0
        if state.step > self._step:  # a run may end at the step where it was stopped
            images = self.config.images_after(self._step) - self.config.images_after(state.step)
            line["images_per_second"] = round(images / elapsed, 1)
            remaining = self.config.images_after(state.step) * elapsed / images
        if peak := peak_memory_mb(self.evaluator.device):
            line["peak_memory_mb"] = round(peak, 1)
        findings = self.health.judge(line)
        if self.health.active:
            line["health"] = self.health.active
        self.run_folder.append_metrics(line)
        if self.tensorboard is not None:
            self.tensorboard.line(line)
        self.listener.log(line, self.config.total_steps, remaining)
        for finding in findings:
            self.listener.finding(finding)
        self._step, self._time = state.step, time.monotonic()
