"""One training from folders to an exported refiner: open the data, build everything, loop."""

import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from simgan_cli.data.cache import PixelSet, Source, open_pixels
from simgan_cli.data.decoding import Pixels, Preparation, describe
from simgan_cli.data.patterns import Patterns
from simgan_cli.data.sampler import Sampler
from simgan_cli.data.weights import read_weights
from simgan_cli.documents import JobStatus
from simgan_cli.engine.export.network_folder import WEIGHTS
from simgan_cli.engine.method.algorithm import Network, SimGAN
from simgan_cli.engine.method.history_buffer import HistoryBuffer
from simgan_cli.engine.method.networks import Discriminator, Refiner, build_discriminator, count_patches, map_size
from simgan_cli.engine.method.noise import NoiseSource
from simgan_cli.engine.method.psi import SelfRegularization
from simgan_cli.engine.metrics.label_drift import MIN_SIDE_PIXELS
from simgan_cli.engine.metrics.realism import HeldOut
from simgan_cli.engine.run_folder.checkpoints import has_later
from simgan_cli.engine.run_folder.health import MIN_MEASURED_IMAGES
from simgan_cli.engine.run_folder.layout import MANIFEST, RunFolder
from simgan_cli.engine.runtime.device import (
    autocast,
    compiler,
    prepare_process,
    resolve_device,
    resolve_precision,
    stream_number,
)
from simgan_cli.engine.runtime.ranks import SINGLE, Ranks
from simgan_cli.engine.runtime.stop import StopReason, StopRequest
from simgan_cli.engine.training.background_writer import BackgroundWriter
from simgan_cli.engine.training.learned_psi import check_psi, learned_folders, psi_terms
from simgan_cli.engine.training.loop import Loop
from simgan_cli.engine.training.metrics_log import DataListener, Listener
from simgan_cli.engine.training.state import TrainState, history_stream
from simgan_cli.engine.training.task import TaskLabels, build_task, is_readable
from simgan_cli.engine.training.tensorboard_log import TensorBoardLog
from simgan_cli.errors import DataError, SettingsError, plural
from simgan_cli.files import sha256_of
from simgan_cli.settings.train import LAMBDA_START, TrainConfig

Report = Callable[[str], None]
ReadLabels = Callable[[Report, Report], TaskLabels | None]  # its arguments report a line and a warning


@dataclass(frozen=True)
class TrainResult:
    """How a training ended."""

    status: JobStatus
    step: int
    seconds: float
    reason: StopReason | None
    images: dict[str, int]  # that were read, by domain


def train(
    config: TrainConfig,
    checkpoint: Path | None,
    listener: Listener,
    stop: StopRequest,
    ranks: Ranks = SINGLE,
    read_labels: ReadLabels = lambda report, warn: None,
) -> TrainResult:
    """Train a refiner by `config`, from `checkpoint` where one is given, and an estimator of the renders' labels.

    All `ranks` call this with the same images and run folder; only the first one writes. Raises a SimganError for
    anything a person must fix, OSError where a file cannot be written; earlier checkpoints stay good.
    """
    started = time.monotonic()
    run = RunFolder(config.out)
    with ExitStack() as stack:
        with ranks.all_or_none():
            if ranks.is_first:
                stack.enter_context(run.locked())
                _check_newest(run, checkpoint)
            device = resolve_device(config.device, ranks)
            prepare_process(device, deterministic=config.deterministic)
            if checkpoint is None and ranks.is_first:
                run.create(config)  # before anything can fail, so that the next attempt knows the folder as a run
        domains = ranks.first_rank_then_others(lambda: open_domains(config, listener))
        with ranks.all_or_none():
            labels = read_labels(listener.message, listener.warning)
        with ranks.all_or_none():
            if ranks.count > 1:
                check_same(domains, labels, ranks)
                share = config.batch_size // ranks.count
                listener.message(f"{ranks.count} ranks, {share} of {config.batch_size} images of a mini-batch each")
            state = build_state(config, domains, device, ranks, labels)
            if checkpoint is not None:
                state.load(checkpoint)
                listener.message(f"resumed {checkpoint} at step {state.step}")
            if conversion := describe_rates(config, state.gan.discriminator, domains["synthetic"].shape):
                listener.message(conversion)
            if ranks.is_first:
                if checkpoint is not None:
                    run.create(config)
                run.rewind_to(state.step, checkpoint)
        tensorboard = None
        if config.tensorboard and ranks.is_first:
            tensorboard = stack.enter_context(TensorBoardLog(run, config, state.step))
        writer = stack.enter_context(BackgroundWriter(run, config, domains, tensorboard))
        reason = Loop(config, run, state, domains, listener, stop, tensorboard, writer, started).run()
    status: JobStatus = "stopped" if reason else "finished"
    images = {name: len(domain.pixels) for name, domain in domains.items()}
    return TrainResult(status, state.step, time.monotonic() - started, reason, images)


def _check_newest(run: RunFolder, checkpoint: Path | None) -> None:
    """Raise SettingsError where another process has trained further since `checkpoint` was looked up."""
    if checkpoint is not None and run.holds(checkpoint) and (checkpoint / MANIFEST).is_file():
        is_behind = has_later(run, checkpoint)
    else:
        is_behind = bool(run.existing_checkpoints())
    if is_behind:
        raise SettingsError(f"{run.root}: another process has trained into it meanwhile; rerun the same command")


def open_domains(config: TrainConfig, listener: DataListener) -> dict[str, PixelSet]:
    """Open both folders of images and check that they fit each other. Raises DataError."""
    domains: dict[str, PixelSet] = {}
    for name, source in sources_of(config).items():
        pixels = open_pixels(
            source,
            preparation_of(config, name),
            config.cache,
            config.workers,
            lambda done, total, name=name: listener.decoding(name, done, total),  # type: ignore[misc]
            domains.get("real") if config.background == "real" else None,
        )
        listener.message(
            f"{name}: {plural(len(pixels.pixels), 'image')} of {describe(pixels.shape, pixels.pixels.dtype)}, "
            f"{source.folder}"
        )
        _report_skipped(pixels, strict=config.strict, listener=listener)
        for note in pixels.notes:
            listener.warning(f"{source.folder}: {note}")
        domains[name] = pixels
    check_alike({name: domain.pixels[0] for name, domain in domains.items()})
    return domains


def check_alike(images: dict[str, Pixels]) -> None:
    """Raise DataError unless an image of each domain, C x H x W, has the same shape."""
    synthetic, real = images["synthetic"].shape, images["real"].shape
    if synthetic != real:
        found = " and ".join(f"{name} images are {describe(i.shape, i.dtype)}" for name, i in images.items())
        flag = "--size HEIGHTxWIDTH" if synthetic[1:] != real[1:] else "--channels 1 or --channels 3"
        raise DataError(f"the domains differ: {found}; pass {flag}")


def sources_of(config: TrainConfig) -> dict[str, Source]:
    """Return the sources of both domains; photographs first where they are the background of renders."""
    synthetic = Source(config.synthetic, Patterns(config.include, config.exclude))
    patterns = Patterns(config.real_include, config.real_exclude)
    real = Source(config.real, patterns, ("--real-include", "--real-exclude"))
    names = ("real", "synthetic") if config.background == "real" else ("synthetic", "real")
    return {name: {"synthetic": synthetic, "real": real}[name] for name in names}


def preparation_of(config: TrainConfig, domain: str) -> Preparation:
    """Return the preparation of a domain's images; photographs are never a background of themselves."""
    is_photograph = domain == "real" and config.background == "real"
    return Preparation(
        config.size,
        config.fit or "resize",
        config.channels,
        config.preprocess,
        config.pixels,
        "#000000" if is_photograph else config.background,
        config.tone_curve,
    )


def build_state(
    config: TrainConfig,
    domains: dict[str, PixelSet],
    device: torch.device,
    ranks: Ranks = SINGLE,
    labels: TaskLabels | None = None,
) -> TrainState:
    """Build networks, optimizers, history and samplers, each from its own stream of the seed.

    Networks are the same on all `ranks`; each has its part of the history, and of every mini-batch.
    """
    shape = channels, height, width = domains["synthetic"].shape
    check_psi(config.psi, shape)
    refiner, discriminator = build_networks(config, channels, (height, width))
    ranks.broadcast(refiner)
    ranks.broadcast(discriminator)
    layout = {"device": device, "memory_format": torch.channels_last}
    share = config.batch_size // ranks.count
    capacity = len(range(ranks.rank, config.history_size, ranks.count))
    gan = build_gan(
        config,
        refiner.to(**layout),  # type: ignore[call-overload]
        discriminator.to(**layout),  # type: ignore[call-overload]
        HistoryBuffer(capacity, shape, history_stream(config.seed, ranks), device),
        config.rates(count_patches(discriminator, shape[1:])),
        ranks,
        compiler(config.compile, device, config.total_steps * share * height * width * config.refiner_width),
    )
    counts = {name: len(domain.pixels) for name, domain in domains.items()}
    held_out = held_out_of(config, counts, shape)
    weights = read_weights(config.weights, domains["synthetic"].files) if isinstance(config.weights, Path) else None
    targets = None if labels is None or not is_readable(shape[1:]) else labels.of(domains["synthetic"].files)
    samplers = {
        name: Sampler(
            domains[name].pixels,
            device,
            (config.seed, stream_number(name)),
            flip=config.flip,
            left_out=left_out,
            part=(ranks.rank, ranks.count),
            labels=targets if name == "synthetic" else None,
            weights=weights if name == "synthetic" else None,
        )
        for name, left_out in (("synthetic", held_out.synthetic), ("real", held_out.all_real))
    }
    fingerprints = {name: domain.fingerprint for name, domain in domains.items()}
    if labels is not None and targets is not None:
        gan.task = build_task(config, labels, domains["real"].pixels, samplers["synthetic"], device, ranks)
        fingerprints["labels"] = _fingerprint(targets)
    if isinstance(config.weights, Path):
        fingerprints["weights"] = sha256_of(config.weights)
    fingerprints |= {f"psi {folder}": sha256_of(folder / WEIGHTS) for folder in learned_folders(config.psi)}
    return TrainState(gan, ranks, samplers, held_out, fingerprints, targets)


def build_gan(
    config: TrainConfig,
    refiner: Refiner,
    discriminator: Discriminator,
    history: HistoryBuffer,
    rates: tuple[float, float],
    ranks: Ranks = SINGLE,
    compiled: Callable[[nn.Module], Network] = lambda network: network,
) -> SimGAN:
    """Build the trainer of both networks, on their device, at the `rates` of refiner and discriminator."""
    device = refiner.first.weight.device
    optimizers = _optimizer(config, refiner, rates[0]), _optimizer(config, discriminator, rates[1])

    def schedule(step: int) -> None:
        dropped = 0 < config.lr_drop_step <= step - config.pretraining_steps
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate / 4 if dropped else rate

    stream = (config.seed, stream_number("noise"), ranks.rank)
    return SimGAN(
        config,
        refiner,
        discriminator,
        history,
        *optimizers,
        schedule=schedule,
        regularization=SelfRegularization(psi_terms(config.psi, device)),
        lambda_reg=LAMBDA_START if config.lambda_reg == "auto" else config.lambda_reg,
        batch_size=config.batch_size // ranks.count,
        noise=NoiseSource(stream, device) if config.noise else None,
        autocast=autocast(resolve_precision(config.precision, device), device),
        average_gradients=ranks.average_gradients,
        compiled=compiled,
    )


def _optimizer(config: TrainConfig, network: nn.Module, rate: float) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=rate)
    return torch.optim.Adam(network.parameters(), lr=rate, betas=(config.beta1, 0.999), fused=True)


def held_out_of(config: TrainConfig, counts: dict[str, int], shape: tuple[int, int, int]) -> HeldOut:
    """Return the images to hold out; `counts` are those of each domain, `shape` is C x H x W.

    Raises SettingsError for --lambda auto where images are too few or too small to measure on.
    """
    held_out = HeldOut.choose(counts["synthetic"], counts["real"], shape, config.seed)
    if config.lambda_reg == "auto" and not len(held_out):
        raise SettingsError(
            f"--lambda auto measures on held-out images, and {min(counts.values())} in a domain are too few to hold "
            f"any out (wanted: {MIN_MEASURED_IMAGES}); give --lambda a number"
        )
    if config.lambda_reg == "auto" and min(shape[1:]) < MIN_SIDE_PIXELS:
        raise SettingsError(
            f"--lambda auto measures how far labels move, and images of {shape[1]}x{shape[2]} are too small for it "
            f"(wanted: sides of {MIN_SIDE_PIXELS} or more); give --lambda a number"
        )
    return held_out


def build_networks(config: TrainConfig, channels: int, size: tuple[int, int]) -> tuple[Refiner, Discriminator]:
    """Build both networks on the CPU, the same for a seed on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(np.random.SeedSequence([config.seed, stream_number("init")]).generate_state(1)[0])
        refiner = Refiner(**config.refiner_settings(channels))
        return refiner, build_discriminator(
            config.preset, config.adversarial, channels, size, config.discriminator_scales
        )


def describe_rates(config: TrainConfig, discriminator: Discriminator, shape: tuple[int, int, int]) -> str | None:
    """Return a line with the rates after conversion from summed losses at C x H x W, None where none was converted."""
    refiner_lr, discriminator_lr = config.rates(count_patches(discriminator, shape[1:]))
    if (refiner_lr, discriminator_lr) == (config.refiner_lr, config.discriminator_lr):
        return None
    height, width = map_size(discriminator, shape[1:])
    scales = "" if discriminator.of_halves is None else " at each of two sizes"
    return (
        f"learning rates: refiner {refiner_lr:g}, discriminator {discriminator_lr:g}; "
        f"the paper sums losses over {height}x{width} patches{scales}, ours are means"
    )


def _fingerprint(targets: NDArray[np.float32]) -> str:
    return hashlib.sha256(targets.tobytes()).hexdigest()


def check_same(domains: dict[str, PixelSet], labels: TaskLabels | None, ranks: Ranks) -> None:
    """Raise DataError, the same to all ranks, unless they found the same images and labels."""
    renders = domains["synthetic"]
    mine = {f"{name} images": (domain.folder, domain.fingerprint) for name, domain in domains.items()}
    mine["labels"] = renders.folder, "none" if labels is None else _fingerprint(labels.of(renders.files))
    for name, (folder, fingerprint) in mine.items():
        found = ranks.gather_objects(fingerprint)
        others = [rank for rank, other in enumerate(found) if other != found[0]]
        if others:
            raise DataError(
                f"{folder}: rank {others[0]} found other {name} there than the first one; give all machines the same"
            )


def _report_skipped(pixels: PixelSet, *, strict: bool, listener: DataListener) -> None:
    """Warn of unreadable images, or raise DataError when they are not allowed."""
    lines = [f"{path}: {reason}" for path, reason in pixels.skipped]
    if lines and strict:
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        raise DataError(f"{lines[0]}{more}; fix or remove it, or leave out --strict to skip such images")
    for line in lines[:10]:
        listener.warning(f"skipped {line}")
    if lines:
        listener.warning(
            f"skipped {plural(len(lines), 'unreadable image')} of {len(lines) + len(pixels.pixels)} in {pixels.folder}"
        )
