"""Every setting of a training run: its default, bounds and meaning, the recipes and the presets.

This file imports no torch, so that `--help` and every usage error are instant.
"""

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from simgan_cli.data.decoding import Channels, Fit, PixelCoding, Preprocess
from simgan_cli.data.renders import Curve
from simgan_cli.data.tree import ARCHIVE_SUFFIXES, is_archive
from simgan_cli.settings.base import (
    RUNTIME,
    Convention,
    Device,
    Duration,
    Globs,
    PathSetting,
    Precision,
    Seed,
    Settings,
    Size,
    Target,
    setting,
)

Phase = Literal["pretrain-refiner", "pretrain-discriminator", "adversarial"]
LAMBDA_START = 1.0  # the default, and the start of auto
LARGEST_SETTING = 4096  # layers, maps, pixels of a filter
PER_SUM = "xpatches"  # suffix of a rate for losses summed over patches; ours are means
PSI_NAMES = ("identity", "derivatives", "channel-mean", "blur", "normalized")


def parse_lambda(value: object) -> object:
    """Read a number of 0 or more, or "auto"."""
    if value == "auto":
        return value
    try:
        number = float(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is neither a number nor auto") from None
    if not 0 <= number < float("inf"):
        raise ValueError(f"{value!r} is not 0 or more")
    return number


def parse_rate(value: object) -> object:
    """Read a positive number, or one followed by "xpatches": the rate of losses summed over D's patches."""
    number = str(value).removesuffix(PER_SUM)
    try:
        rate = float(number)
    except ValueError:
        rate = 0
    if not 0 < rate < float("inf"):
        raise ValueError(f"{value!r} is neither a positive number nor one followed by {PER_SUM}")
    return rate if number == str(value) else value


def parse_psi(spec: str) -> list[tuple[str, float]]:
    """Read "identity=1,derivatives=0.5" as [(name or path, weight), ...]; the weight is 1 where none is given.

    Raises ValueError for an empty or repeated term, or a weight that is not a positive number.
    """
    terms: dict[str, float] = {}
    for term in spec.split(","):
        name, _, weight_text = term.strip().partition("=")
        if not name:
            raise ValueError(f"{spec!r} has an empty term; write NAME=WEIGHT, separated by commas")
        if name in terms:
            raise ValueError(f"{name!r} stands twice in {spec!r}")
        try:
            terms[name] = float(weight_text or 1)
        except ValueError:
            raise ValueError(f"the weight {weight_text!r} of {name!r} is not a number") from None
        if not 0 < terms[name] < float("inf"):
            raise ValueError(f"the weight of {name!r} must be a positive number, not {weight_text}")
    return list(terms.items())


def _check_psi(spec: object) -> object:
    if isinstance(spec, str):
        parse_psi(spec)
    return spec


Background = Annotated[str, Field(pattern=r"^(real|keep|#[0-9a-fA-F]{6})$")]
Lambda = Annotated[float | Literal["auto"], BeforeValidator(parse_lambda)]
Weights = Literal["auto", "off"] | PathSetting
Rate = Annotated[float | str, BeforeValidator(parse_rate)]
Psi = Annotated[str, BeforeValidator(_check_psi)]


class TrainConfig(Settings):
    """The resolved settings of one training run (symbols as in Shrivastava et al., CVPR 2017)."""

    command: ClassVar = "train"
    recorded_as: ClassVar = "simgan.run/1"

    # fmt: off
    synthetic: PathSetting = setting(..., "Folder of rendered images, or a tar or zip.", "Data", essential=True, metavar="DIR", changeable=True)
    real: PathSetting = setting(..., "Folder of real images, or a tar or zip.", "Data", essential=True, metavar="DIR", changeable=True)
    out: PathSetting = setting(Path("simgan-run"), "Run folder to write.", "Data", essential=True, short="-o", metavar="DIR", changeable=True)
    include: Globs = setting((), "Use only these files below --synthetic as pictures; may be repeated. refine then does the same.", "Data", metavar="GLOB")
    exclude: Globs = setting((), "Do not use these files below --synthetic as pictures, such as masks; may be repeated. refine then does the same.", "Data", metavar="GLOB")
    real_include: Globs = setting((), "The same as --include, below --real.", "Data", metavar="GLOB")
    real_exclude: Globs = setting((), "The same as --exclude, below --real.", "Data", metavar="GLOB")
    size: Size | None = setting(None, "Bring all images to this size (rows x columns).", "Data", essential=True, metavar="HxW")
    fit: Fit | None = setting(None, "How --size is met: stretch (resize, the default), scale and cut (crop), or scale and fill with black (pad).", "Data")
    channels: Channels | None = setting(None, "Make all images grey (1) or colour (3).", "Data", essential=True)
    preprocess: Preprocess = setting("none", "Histogram equalization of both domains. refine then does the same.", "Data")
    pixels: PixelCoding = setting("plain", "How files code pixels: plain, or packed16, 16 bits in green (high) and blue (low).", "Data")
    background: Background = setting("#000000", "Background of transparent pixels: a colour, real (random photographs), or keep (the colours hidden there).", "Data", metavar="real|#rrggbb|keep")
    tone_curve: Curve = setting("srgb", "How linear pixels of EXR and other float files become pictures. refine applies the inverse.", "Data")
    weights: Weights = setting("auto", "How often to draw each render: auto (as often as its label seems to occur in photographs), off (equally), or a table of weights.", "Data", metavar="auto|off|FILE")
    flip: bool = setting(False, "Mirror random images of both domains. Labels of renders are then not used.", "Data")
    strict: bool = setting(False, "Make an unreadable image an error instead of a warning.", "Data", changeable=True)

    preset: Literal["auto", "eyes", "hands"] = setting("auto", "Networks: eyes (35x55 grey), hands (224x224 depth), or auto (as eyes, but narrower and for any size).", "Networks")
    refiner_width: int = setting(16, "Feature maps of the refiner (the paper: 64).", "Networks", ge=1, le=LARGEST_SETTING)
    refiner_blocks: int = setting(4, "Residual blocks of the refiner.", "Networks", ge=0, le=LARGEST_SETTING)
    refiner_kernel: int = setting(3, "Filter size of the refiner's first convolution, odd.", "Networks", ge=1, le=LARGEST_SETTING)
    refiner_block_kernel: int = setting(3, "Filter size inside the blocks, odd.", "Networks", ge=1, le=LARGEST_SETTING)
    refiner_output: Literal["tanh", "residual"] = setting("residual", "tanh of the last convolution, or x + g(x), which starts as the identity.", "Networks")
    refiner_padding: Literal["zeros", "replicate"] = setting("replicate", "Padding of the refiner's convolutions. zeros leave faint strips at the edges.", "Networks")
    discriminator_scales: Literal["auto", "1", "2"] = setting("auto", "Sizes at which the discriminator judges images: 2 adds half the size, by a second network. auto does so where images are large enough.", "Networks")
    noise: bool = setting(True, "Give the refiner random maps beside the image, so that one render gets many looks.", "Networks")

    recipe: Literal["stable", "paper"] = setting("stable", "Our defaults, or the paper's.", "Objective", essential=True)
    adversarial: Literal["local", "global"] = setting("local", "Judge every patch (Sec. 2.2) or the complete image.", "Objective")
    lambda_reg: Lambda = setting(LAMBDA_START, "Weight of self-regularization (Eq. 4). auto adapts it at each --eval-every.", "Objective", essential=True, alias="lambda", metavar="X|auto")
    psi: Psi = setting("normalized", "Features that self-regularization compares: identity, derivatives, channel-mean, blur, normalized, a network's folder, or a weighted sum such as identity=1,blur=0.5.", "Objective", metavar="SPEC")
    labels: Literal["auto", "off", "csv", "unityeyes", "coco"] = setting("auto", "Labels of the renders, for the run's own estimator: auto, csv (labels.csv), unityeyes, coco, or off.", "Objective", metavar="LAYOUT")
    target: Target = setting("gaze", "Labels to use: gaze, the pupil's centre, or any points.", "Objective", essential=True)
    task_weight: float = setting(20.0, "Weight of the squared error of the run's estimator on refined images (task term).", "Objective", ge=0)
    convention: Convention = setting("mpiigaze", "Meaning of angles in labels.csv: mpiigaze (pitch, yaw), gazehub (yaw, pitch), or xgaze.", "Objective")
    degrees: bool = setting(False, "Angles in labels.csv are degrees, not radians.", "Objective")
    history_size: int = setting(3200, "Refined images kept in the history buffer (B, Sec. 2.3); 0 for none.", "Objective", ge=0)

    steps: int = setting(2000, "Iterations of Algorithm 1 (T).", "Algorithm 1", essential=True, ge=0, changeable=True)
    pretrain_refiner: int = setting(0, "Steps of the refiner alone on self-regularization, first.", "Algorithm 1", ge=0)
    pretrain_discriminator: int = setting(100, "Steps of the discriminator alone, second.", "Algorithm 1", ge=0)
    batch_size: int = setting(32, "Images in a batch of all ranks.", "Algorithm 1", essential=True, ge=1, le=2**20)
    refiner_updates: int = setting(2, "Refiner updates in each iteration (K_g).", "Algorithm 1", ge=1)
    discriminator_updates: int = setting(1, "Discriminator updates in each iteration (K_d).", "Algorithm 1", ge=1)
    optimizer: Literal["sgd", "adam"] = setting("adam", "Optimizer of both networks.", "Algorithm 1")
    refiner_lr: Rate = setting(5e-4, "Learning rate of the refiner. NUMBERxpatches converts a rate for losses summed over patches, as the paper's.", "Algorithm 1", metavar="NUMBER")
    discriminator_lr: Rate = setting(1e-3, "Learning rate of the discriminator, in the same form.", "Algorithm 1", metavar="NUMBER")
    beta1: float = setting(0.5, "Adam's decay of the first moment.", "Algorithm 1", ge=0, lt=1)
    lr_drop_step: int = setting(0, "Iteration of Algorithm 1 after which both rates are divided by 4; 0 for never.", "Algorithm 1", ge=0)
    ema: float = setting(0.995, "Decay of the refiner's moving average, which is exported; 0 for no average.", "Algorithm 1", ge=0, lt=1)
    clip_gradient: float = setting(0.0, "Largest norm of a network's gradient; 0 for no clipping.", "Algorithm 1", ge=0)

    seed: Seed = setting(0, "Seed of all random numbers.", RUNTIME, essential=True)
    device: Device = setting("auto", "auto, cpu, cuda, cuda:N or mps.", RUNTIME, essential=True, metavar="DEVICE", changeable=True)
    precision: Precision = setting("auto", "Arithmetic of the networks. auto is bf16 where the GPU or CPU computes in it, else fp32.", RUNTIME, changeable=True)
    compile: Literal["auto", "on", "off"] = setting("auto", "Compile the networks first. auto does so for long trainings on a GPU with Triton and a C++ compiler.", RUNTIME, changeable=True)
    deterministic: bool = setting(False, "Only deterministic kernels, slower on a GPU. A CPU is deterministic anyway.", RUNTIME, changeable=True)
    max_time: Duration | None = setting(None, "Save and stop after this long, such as 30m.", RUNTIME, essential=True, metavar="DURATION", changeable=True)
    cache: str | None = setting(None, "Folder of the pixel cache, or off. By default the platform's cache folder.", RUNTIME, metavar="DIR|off", changeable=True)
    workers: int | None = setting(None, "Threads that decode images. By default one per core.", RUNTIME, ge=1, changeable=True)

    log_every: int = setting(25, "Steps between lines of metrics. Each measurement has a line, too.", "Run folder", ge=1, changeable=True)
    sample_every: int = setting(250, "Steps between pictures of a few fixed images; 0 for none.", "Run folder", ge=0, changeable=True)
    eval_every: int = setting(250, "Steps between measurements on held-out images (patch distance, label drift) and --weights auto; 0 for none.", "Run folder", ge=0, changeable=True)
    select: Literal["last", "best"] = setting("best", "Refiner to export: the last, or the best: the closest to real images, with labels in place and varied images.", "Run folder")
    save_every: int = setting(100, "Steps between checkpoints; 0 saves only at the end.", "Run folder", ge=0, changeable=True)
    keep: int = setting(2, "Newest checkpoints to keep; 0 keeps all.", "Run folder", ge=0, changeable=True)
    tensorboard: bool = setting(False, "Also write TensorBoard events: metrics, samples, history, settings (pip install 'simgan-cli[tensorboard]').", "Run folder", changeable=True)
    # fmt: on

    @property
    def pretraining_steps(self) -> int:
        """Steps before the first iteration of Algorithm 1."""
        return self.pretrain_refiner + self.pretrain_discriminator

    @property
    def total_steps(self) -> int:
        """All steps of the run, pretraining included; the `step` of metrics and checkpoints counts to this."""
        return self.pretraining_steps + self.steps

    def rates(self, patches: int) -> tuple[float, float]:
        """Return the learning rates of refiner and discriminator for losses that are means over `patches`.

        A sum is `patches` times the mean, and so is its gradient. This holds for all of the refiner's loss (Eq. 4):
        lambda is relative to the mean of its first term.
        """
        refiner, discriminator = (
            float(rate.removesuffix(PER_SUM)) * patches if isinstance(rate, str) else rate
            for rate in (self.refiner_lr, self.discriminator_lr)
        )
        return refiner, discriminator

    def refiner_settings(self, channels: int) -> dict[str, Any]:
        """Return the arguments of `networks.Refiner`."""
        return {
            "channels": channels,
            "width": self.refiner_width,
            "blocks": self.refiner_blocks,
            "kernel": self.refiner_kernel,
            "block_kernel": self.refiner_block_kernel,
            "output": self.refiner_output,
            "padding": self.refiner_padding,
            "noise": self.noise,
        }

    def phase(self, step: int) -> Phase:
        """Return the phase that the step after `step` finished steps belongs to."""
        if step < self.pretrain_refiner:
            return "pretrain-refiner"
        return "pretrain-discriminator" if step < self.pretraining_steps else "adversarial"

    def images_in_step(self, phase: Phase) -> int:
        """Return how many images of each domain the updates of a step take together."""
        updates = self.refiner_updates + self.discriminator_updates if phase == "adversarial" else 1
        return updates * self.batch_size

    def images_after(self, step: int) -> int:
        """Return how many images of each domain the steps after `step` finished ones take together."""
        pretraining = max(0, self.pretraining_steps - step)
        iterations = max(0, self.total_steps - step) - pretraining
        return pretraining * self.batch_size + iterations * self.images_in_step("adversarial")


# The paper gives no lambda, B or T. It sums losses over patches; we average: at 35x55 (9x14 patches) its rate of 0.001
# is 0.126, and lambda_mean = lambda_sum * pixels / patches = 15.3 lambda_sum. One sentence of it has both "K_g = 50"
# and "R twice for each D"; 50 collapses in public ports, so 2.
RECIPES: dict[str, dict[str, Any]] = {
    "stable": {},  # the defaults above
    "paper": {
        "refiner_width": 64,
        "refiner_output": "tanh",
        "refiner_padding": "zeros",
        "discriminator_scales": "1",
        "noise": False,
        "lambda": 1.0,
        "psi": "identity",
        "labels": "off",
        "history_size": 25_600,
        "steps": 10_000,
        "pretrain_refiner": 1_000,
        "pretrain_discriminator": 200,
        "batch_size": 512,
        "refiner_updates": 2,
        "discriminator_updates": 1,
        "optimizer": "sgd",
        "refiner_lr": f"0.001{PER_SUM}",
        "discriminator_lr": f"0.001{PER_SUM}",
        "ema": 0.0,
        "select": "last",
    },
}

PRESETS: dict[str, dict[str, Any]] = {
    "auto": {},
    "eyes": {"size": "35x55", "channels": "1", "refiner_width": 64},
    "hands": {
        "size": "224x224",
        "channels": "1",
        "refiner_width": 64,
        "refiner_blocks": 10,
        "refiner_kernel": 7,
        "refiner_block_kernel": 7,
    },
}

# Differences for hands: the rate drops by 4 after 600,000 steps. The paper states no batch; 512 images of 224x224 need
# more memory than the GPUs of its day had.
PAPER_HANDS: dict[str, Any] = {
    "pretrain_refiner": 500,
    "batch_size": 32,
    "history_size": 1_600,
    "steps": 1_000_000,
    "refiner_lr": f"0.0002{PER_SUM}",
    "discriminator_lr": f"0.0002{PER_SUM}",
    "lr_drop_step": 600_000,
}


def defaults_of(recipe: str, preset: str) -> dict[str, Any]:
    """Return the settings of a recipe and a preset, by key; unknown names have none (validation reports them)."""
    special = PAPER_HANDS if (recipe, preset) == ("paper", "hands") else {}
    return RECIPES.get(recipe, {}) | PRESETS.get(preset, {}) | special


def contradictions(config: TrainConfig, ranks: int = 1) -> list[str]:
    """Return every contradiction between valid settings, or with the number of ranks, a sentence each."""
    problems = []
    synthetic, real, out = (path.resolve() for path in (config.synthetic, config.real, config.out))
    for name, path in (("synthetic", config.synthetic), ("real", config.real)):
        if not path.exists():
            problems.append(f"--{name} {path}: no such folder; give the folder or archive that holds the images")
        elif not path.is_dir() and not is_archive(path.name):
            problems.append(
                f"--{name} {path}: a file, not a folder or an archive ({', '.join(ARCHIVE_SUFFIXES)}); give one that "
                "holds images"
            )
    # Patterns may split one folder into two domains.
    are_alike = (config.include, config.exclude) == (config.real_include, config.real_exclude)
    if are_alike and synthetic == real:
        problems.append(
            f"--synthetic and --real are the same folder {config.real}; the method needs two domains; "
            "split it with --include and --real-include"
        )
    elif are_alike and (synthetic in real.parents or real in synthetic.parents):
        problems.append(
            f"--synthetic {config.synthetic} and --real {config.real}: one lies inside the other; "
            "split them with --include and --real-include"
        )
    for name, path in (("synthetic", synthetic), ("real", real)):
        if out == path or path in out.parents:
            problems.append(
                f"--out {config.out} lies inside --{name}; its pictures would become training images; "
                "choose another folder"
            )
    if out.exists() and not out.is_dir():
        problems.append(f"--out {config.out}: a file, not a folder; choose another name")
    if config.total_steps == 0:
        problems.append("--steps 0 without pretraining leaves nothing to do; give more")
    if 0 < config.history_size < config.batch_size // 2:
        problems.append(
            f"--history-size {config.history_size} cannot fill half of --batch-size {config.batch_size}; "
            f"give at least {config.batch_size // 2}, or 0 for no history"
        )
    parts = 2 * ranks if config.history_size else ranks
    if ranks > 1 and config.batch_size % parts:
        halves = ", with half of each from history" if config.history_size else ""
        problems.append(
            f"--batch-size {config.batch_size} is the total of {ranks} ranks and cannot be divided evenly{halves}; "
            f"give a multiple of {parts}"
        )
    if config.history_size > 0 and config.batch_size < 2:
        problems.append("--batch-size 1 leaves no half for the history buffer; give 2 or more, or --history-size 0")
    problems += [
        f"--{name.replace('_', '-')} {value} is even; 'same' padding needs an odd filter"
        for name, value in (
            ("refiner_kernel", config.refiner_kernel),
            ("refiner_block_kernel", config.refiner_block_kernel),
        )
        if value % 2 == 0
    ]
    if config.discriminator_scales == "2" and config.adversarial == "global":
        problems.append("--discriminator-scales 2 judges patches; leave out --adversarial global, or this flag")
    if config.flip and config.labels not in ("auto", "off"):
        problems.append(f"--flip mirrors images but not --labels {config.labels}; leave one of them out")
    if config.labels not in ("auto", "off") and config.synthetic.is_file():
        problems.append(
            f"--labels {config.labels}: --synthetic {config.synthetic} is an archive, and labels are read from folders "
            "alone; unpack it, or leave out this flag"
        )
    if isinstance(config.weights, Path) and not config.weights.is_file():
        problems.append(f"--weights {config.weights}: no such file; give auto, off, or a table of file and weight")
    if config.lambda_reg == "auto" and not config.eval_every:
        problems.append("--lambda auto needs the measurements that --eval-every 0 switches off; change one of them")
    if config.fit is not None and config.size is None:
        problems.append(f"--fit {config.fit} needs --size, which is not given")
    problems += [
        f"--psi {name}: neither one of {', '.join(PSI_NAMES)} nor a folder with config.json and model.safetensors"
        for name, _ in parse_psi(config.psi)
        if name not in PSI_NAMES and not os.path.isfile(f"{name}/config.json")  # noqa: PTH113  False for what cannot be a path
    ]
    return problems
