"""One training from folders to an exported refiner: set up, loop, report, sample, save."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from simgan_cli.data.cache import PixelSet, describe, open_pixels
from simgan_cli.data.files import sha256_of, write_atomic
from simgan_cli.data.images import Preparation
from simgan_cli.data.sampler import Sampler, to_network
from simgan_cli.engine.algorithm import SimGAN
from simgan_cli.engine.checkpoint import TrainState
from simgan_cli.engine.config import PSI_NAMES, TrainConfig, parse_psi
from simgan_cli.engine.export import WEIGHTS, save_network
from simgan_cli.engine.history import HistoryBuffer
from simgan_cli.engine.model_card import model_card
from simgan_cli.engine.networks import Discriminator, Refiner, build_discriminator
from simgan_cli.engine.run import RunFolder
from simgan_cli.engine.runtime import (
    autocast,
    peak_memory_mb,
    prepare_process,
    resolve_device,
    resolve_precision,
    stream_number,
)
from simgan_cli.engine.stop import StopReason, StopRequest
from simgan_cli.errors import DataError, DivergedError
from simgan_cli.report.grid import sample_grid

PROBE_IMAGES = 12


class Listener(Protocol):
    """Who wants to know how a training goes."""

    def decoding(self, domain: str, done: int, total: int) -> None:
        """Images of a domain are being read."""

    def message(self, text: str) -> None:
        """Something worth a line happened."""

    def warning(self, text: str) -> None:
        """Something a person should look at happened."""

    def log(self, line: dict[str, Any], total_steps: int, eta_seconds: float) -> None:
        """A line of metrics was written."""

    def advanced(self, step: int, total_steps: int) -> None:
        """A step was finished."""


@dataclass(frozen=True)
class TrainResult:
    """How a training ended."""

    status: Literal["finished", "stopped"]
    step: int
    seconds: float
    reason: StopReason | None


def train(config: TrainConfig, checkpoint: Path | None, listener: Listener, stop: StopRequest) -> TrainResult:
    """Train a refiner as `config` says, from `checkpoint` where one is given.

    Raises a SimganError for anything a person must mend, OSError where a file cannot be written; checkpoints
    written before stay good.
    """
    started = time.monotonic()
    run = RunFolder(config.out)
    with run.locked(), ExitStack() as stack:
        device = resolve_device(config.device)
        prepare_process(device, deterministic=config.deterministic)
        if checkpoint is None:
            run.create(config)  # before anything can fail, so that the next attempt knows the folder as a run
        domains = open_domains(config, listener)
        state = build_state(config, domains, device)
        if checkpoint is not None:
            state.load(checkpoint)
            run.create(config)
            listener.message(f"resumed {checkpoint} at step {state.step}")
        run.cut_metrics(state.step)
        board = stack.enter_context(_tensorboard(run)) if config.tensorboard else None
        loop = Loop(config, run, state, domains, listener, stop, board, started)
        reason = loop.run()
    status: Literal["finished", "stopped"] = "stopped" if reason else "finished"
    return TrainResult(status, state.step, time.monotonic() - started, reason)


def open_domains(config: TrainConfig, listener: Listener) -> dict[str, PixelSet]:
    """Open both folders of images and check that they fit each other. Raises DataError."""
    preparation = preparation_of(config)
    domains = {}
    for name, folder in (("synthetic", config.synthetic), ("real", config.real)):
        pixels = open_pixels(
            folder,
            preparation,
            config.cache,
            config.workers,
            lambda done, total, name=name: listener.decoding(name, done, total),  # type: ignore[misc]
        )
        listener.message(
            f"{name}: {len(pixels.pixels):,} images of {describe(pixels.shape, pixels.pixels.dtype)}, {folder}"
        )
        _report_skipped(pixels, strict=config.strict, listener=listener)
        domains[name] = pixels
    synthetic, real = domains["synthetic"], domains["real"]
    if synthetic.shape != real.shape:
        found = " and ".join(f"{name} images are {describe(d.shape, d.pixels.dtype)}" for name, d in domains.items())
        what = "--size HEIGHTxWIDTH" if synthetic.shape[1:] != real.shape[1:] else "--channels 1 or --channels 3"
        raise DataError(f"the domains differ: {found}; pass {what}")
    return domains


def preparation_of(config: TrainConfig) -> Preparation:
    """Return how images are brought into form."""
    return Preparation(config.size, config.fit or "resize", config.channels, config.preprocess)


def build_state(config: TrainConfig, domains: dict[str, PixelSet], device: torch.device) -> TrainState:
    """Build networks, optimizers, history and samplers, each from its own stream of the seed."""
    channels, height, width = domains["synthetic"].shape
    refiner, discriminator = build_networks(config, channels, (height, width))
    layout = {"device": device, "memory_format": torch.channels_last}
    history = (
        HistoryBuffer(
            config.history_size,
            (channels, height, width),
            np.random.default_rng([config.seed, stream_number("history")]),
            device,
        )
        if config.history_size
        else None
    )
    gan = SimGAN(
        config,
        refiner.to(**layout),  # type: ignore[call-overload]
        discriminator.to(**layout),  # type: ignore[call-overload]
        history,
        autocast(resolve_precision(config.precision, device), device),
    )
    samplers = {
        name: Sampler(domain.pixels, device, (config.seed, stream_number(name)), flip=config.flip)
        for name, domain in domains.items()
    }
    fingerprints = {name: domain.fingerprint for name, domain in domains.items()}
    for name, _ in parse_psi(config.psi):
        if name not in PSI_NAMES:
            fingerprints[f"psi {name}"] = sha256_of(Path(name) / WEIGHTS)
    return TrainState(gan, samplers["synthetic"], samplers["real"], fingerprints)


def build_networks(config: TrainConfig, channels: int, size: tuple[int, int]) -> tuple[Refiner, Discriminator]:
    """Build both networks on the CPU, the same for a seed whatever the device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(np.random.SeedSequence([config.seed, stream_number("init")]).generate_state(1)[0])
        refiner = Refiner(**config.refiner_settings(channels))
        return refiner, build_discriminator(config.preset, config.adversarial, channels, size)


class Loop:
    """The loop around Algorithm 1: what is due is done first, then comes a step, so the last needs no special case."""

    def __init__(
        self,
        config: TrainConfig,
        run: RunFolder,
        state: TrainState,
        domains: dict[str, PixelSet],
        listener: Listener,
        stop: StopRequest,
        board: Any,
        started: float,
    ) -> None:
        self.config, self.run_folder, self.state = config, run, state
        self.listener, self.stop, self.board = listener, stop, board
        self.domains = domains
        self.deadline = started + config.max_time if config.max_time else None
        self.saved_at = state.step if state.step else None
        self.logged_at = state.step
        self.logged_time = time.monotonic()

    def run(self) -> StopReason | None:
        """Go on until all steps are done or a stop is requested; return its reason."""
        config, state = self.config, self.state
        self.stop.heeded = True
        while True:
            finished = state.step >= config.total_steps
            if self.deadline and time.monotonic() >= self.deadline and not self.stop.reason:
                self.stop.reason = "max-time"
            done = finished or self.stop.reason is not None
            if self._due(config.log_every) or finished:  # a stop keeps the sums: the resumed run ends the line
                self._log()
            if self._due(config.sample_every) or (finished and config.sample_every):
                self._sample()
            if self._due(config.save_every) or done:
                self._save()
            if done:
                return None if finished else self.stop.reason
            state.metrics.add(state.gan.step(state.step, state.samplers["synthetic"], state.samplers["real"]))
            state.step += 1
            self.listener.advanced(state.step, config.total_steps)

    def _due(self, every: int) -> bool:
        return every > 0 and self.state.step > 0 and self.state.step % every == 0

    def _log(self) -> None:
        state, metrics = self.state, self.state.metrics
        means = metrics.means()
        if not means:
            return
        self._check_finite()
        elapsed = time.monotonic() - self.logged_time
        steps = state.step - self.logged_at
        line: dict[str, Any] = {"step": state.step, "phase": self.config.phase(state.step - 1)} | means
        if steps and elapsed:
            line["images_per_second"] = round(steps * self._images_in_a_step() / elapsed, 1)
        line["peak_memory_mb"] = round(peak_memory_mb(self._device), 1)
        self.run_folder.append_metrics(line)
        if self.board is not None:
            for name, value in line.items():
                if isinstance(value, float):
                    self.board.add_scalar(name, value, state.step)
        remaining = (self.config.total_steps - state.step) * elapsed / max(steps, 1)
        self.listener.log(line, self.config.total_steps, remaining)
        metrics.clear()
        self.logged_at, self.logged_time = state.step, time.monotonic()

    @property
    def _device(self) -> torch.device:
        return self.state.gan.refiner.first.weight.device

    def _images_in_a_step(self) -> int:
        """Mini-batches of the step's phase times the batch size: what `images_per_second` counts."""
        adversarial = self.config.phase(self.state.step - 1) == "adversarial"
        batches = self.config.refiner_updates + self.config.discriminator_updates if adversarial else 1
        return batches * self.config.batch_size

    @torch.no_grad()
    def _sample(self) -> None:
        chosen = {
            name: np.random.default_rng([self.config.seed, stream_number(f"probe-{name}")]).choice(
                len(domain.pixels), size=PROBE_IMAGES, replace=len(domain.pixels) < PROBE_IMAGES
            )
            for name, domain in self.domains.items()
        }
        synthetic, real = (
            to_network(torch.from_numpy(self.domains[name].pixels[chosen[name]])) for name in self.domains
        )
        refined = self.state.gan.exported_refiner(synthetic.to(self._device)).float().cpu()
        title = f"step {self.state.step}" + (" (moving average)" if self.config.ema else "")
        path = self.run_folder.samples / f"step-{self.state.step:08d}.png"
        write_atomic(path, sample_grid(synthetic.numpy(), refined.numpy(), real.numpy(), title))

    def _save(self) -> None:
        if self.saved_at == self.state.step:
            return
        self._check_finite()
        self.state.save(self.run_folder.checkpoint(self.state.step))
        self.run_folder.prune(self.config.keep)
        self._export()
        self.saved_at = self.state.step

    def _export(self) -> None:
        refiner = self.state.gan.exported_refiner
        facts = {
            "preprocess": self.config.preprocess,
            "size": list(self.domains["synthetic"].shape[1:]),
            "training_images": {name: len(domain.pixels) for name, domain in self.domains.items()},
            "training_settings": self.config.model_dump(
                mode="json", by_alias=True, exclude={"synthetic", "real", "out", "cache"}
            ),
        }
        save_network(self.run_folder.refiner, refiner, facts, {"step": str(self.state.step)})
        card = model_card(facts, self.state.step, self.run_folder.last_metrics())
        write_atomic(self.run_folder.refiner / "README.md", card)

    def _check_finite(self) -> None:
        if self.state.is_finite():
            return
        numbers = {name: value for name, value in self.state.metrics.means().items() if not np.isfinite(value)}
        good = self.run_folder.existing_checkpoints()
        raise DivergedError(
            f"training diverged before step {self.state.step}: {', '.join(numbers) or 'the weights'} became NaN or "
            "infinite. "
            f"Last good checkpoint: {good[-1] if good else 'none was saved yet'}. Lower --refiner-lr "
            f"({self.config.refiner_lr:g}) and --discriminator-lr ({self.config.discriminator_lr:g}), or clip with "
            "--clip-gradient 1" + ("" if self.config.precision == "fp32" else ", or pass --precision fp32")
        )


def _report_skipped(pixels: PixelSet, *, strict: bool, listener: Listener) -> None:
    """Warn of unreadable images, or raise DataError when they are not allowed."""
    lines = [f"{path}: {reason}" for path, reason in pixels.skipped]
    if lines and strict:
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        raise DataError(f"{lines[0]}{more}; mend or remove it, or leave out --strict to skip such images")
    for line in lines[:10]:
        listener.warning(f"skipped {line}")
    if lines:
        listener.warning(
            f"skipped {len(lines)} unreadable images of {len(lines) + len(pixels.pixels)} in {pixels.folder}"
        )


def _tensorboard(run: RunFolder) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run.root / "tensorboard"))
