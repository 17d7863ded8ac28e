"""Every setting of a training run: its default, bounds and meaning, the recipes and the presets.

This file imports no torch, so that `--help` and every usage error are instant.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, PlainSerializer

from simgan_cli.data.decoding import PixelCoding
from simgan_cli.data.renders import Curve
from simgan_cli.data.tree import ARCHIVE_SUFFIXES, is_archive

Phase = Literal["pretrain-refiner", "pretrain-discriminator", "adversarial"]
LAMBDA_START = 1.0  # the default, and where auto begins
LARGEST_SETTING = 4096  # layers, maps, pixels of a filter
PSI_NAMES = ("identity", "derivatives", "channel-mean", "blur", "normalized")


def parse_size(value: object) -> object:
    """Read "HxW" (rows x columns, pixels) as (H, W); anything else is left to the type check."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", value.strip())
        if match is None:
            raise ValueError(f"{value!r} is not HEIGHTxWIDTH, such as 35x55")
        return int(match[1]), int(match[2])
    return value


def parse_duration(value: object) -> object:
    """Read "90s", "30m", "2h" or "1h30m" as seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", value.strip())
        if match is None or not any(match.groups()):
            raise ValueError(f"{value!r} is not a duration, such as 90s, 30m or 1h30m")
        hours, minutes, seconds = (int(group or 0) for group in match.groups())
        return float(3600 * hours + 60 * minutes + seconds)
    return value


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


def _check_path(value: object) -> object:
    if value == "":
        raise ValueError("it is empty; '.' means the current folder")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("no path holds a NUL character")
    return value


def as_list(value: object) -> object:
    """Return a single text, as the environment holds it, as a list."""
    return [value] if isinstance(value, str) else value


PathSetting = Annotated[Path, BeforeValidator(_check_path)]
Globs = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(as_list)]
Background = Annotated[str, Field(pattern=r"^(real|keep|#[0-9a-fA-F]{6})$")]
PlainBackground = Annotated[str, Field(pattern=r"^(keep|#[0-9a-fA-F]{6})$")]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,3})?|mps)$")]
Size = Annotated[
    tuple[Annotated[int, Field(ge=4)], Annotated[int, Field(ge=4)]],
    BeforeValidator(parse_size),
    PlainSerializer(lambda size: f"{size[0]}x{size[1]}", when_used="json-unless-none"),
]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # PyTorch's generators take no more
Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
Lambda = Annotated[float | Literal["auto"], BeforeValidator(parse_lambda)]
Psi = Annotated[str, BeforeValidator(_check_psi)]


def setting(
    default: Any,
    meaning: str,
    panel: str,
    *,
    short: str | None = None,
    metavar: str | None = None,
    argument: bool = False,
    changeable: bool = False,
    **bounds: Any,
) -> Any:
    """Declare a setting: an option of its command, or an `argument` that stands without a name.

    `changeable` ones may differ when a run is resumed. They say how far, where and how carefully it goes on and what it
    keeps; eval_every also decides when `--lambda auto` adapts and which refiners `--select best` can pick.
    """
    extra: dict[str, JsonValue] = {
        "panel": panel, "short": short, "metavar": metavar, "argument": argument, "changeable": changeable,
    }  # fmt: skip
    return Field(default, description=meaning, json_schema_extra=extra, **bounds)


class TrainConfig(BaseModel):
    """The resolved settings of one training run (symbols as in Shrivastava et al., CVPR 2017)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # fmt: off
    synthetic: PathSetting = setting(..., "Folder of rendered images, searched recursively, or a tar or zip of them.", "Data", changeable=True)
    real: PathSetting = setting(..., "Folder of unlabelled real images, searched recursively, or a tar or zip of them.", "Data", changeable=True)
    out: PathSetting = setting(Path("simgan-run"), "Run folder to write.", "Data", short="-o", changeable=True)
    include: Globs = setting((), "Take only these files below --synthetic for pictures; may be repeated. Recorded in the model, so that refine takes the same.", "Data", metavar="GLOB")
    exclude: Globs = setting((), "Take these files below --synthetic for no pictures, such as masks; may be repeated. Recorded likewise.", "Data", metavar="GLOB")
    real_include: Globs = setting((), "The same as --include, below --real.", "Data", metavar="GLOB")
    real_exclude: Globs = setting((), "The same as --exclude, below --real.", "Data", metavar="GLOB")
    size: Size | None = setting(None, "Bring all images to HEIGHTxWIDTH; without it they must share one size.", "Data", metavar="HxW")
    fit: Literal["resize", "crop", "pad"] | None = setting(None, "How --size is met: stretch (resize, the default), scale and cut (crop), scale and fill with black (pad).", "Data")
    channels: Literal["1", "3"] | None = setting(None, "Convert all images to grey (1) or colour (3); without it they must agree.", "Data")
    preprocess: Literal["none", "equalize"] = setting("none", "Applied to both domains and recorded in the model: histogram equalisation.", "Data")
    pixels: PixelCoding = setting("plain", "How files code pixels: plain, or packed16, one 16-bit value in the green (high) and blue (low) bytes, as NYU's depth. Recorded in the model.", "Data")
    background: Background = setting("#000000", "What is seen through transparent pixels: a colour, real (random photographs), or keep (the colours that files hide there).", "Data", metavar="real|#rrggbb|keep")
    tone_curve: Curve = setting("srgb", "How linear pixels of EXR and other float files become pictures: the sRGB curve, or linear. Recorded in the model; refine applies its inverse.", "Data")
    flip: bool = setting(False, "Mirror random images of both domains (labels that depend on left and right turn wrong).", "Data")
    strict: bool = setting(False, "Make an unreadable image an error instead of a warning.", "Data", changeable=True)
    cache: str | None = setting(None, "Folder of the pixel cache, or 'off'; by default the platform's cache folder.", "Data", metavar="DIR|off", changeable=True)
    workers: int | None = setting(None, "Threads that decode images; by default one per core.", "Data", ge=1, changeable=True)

    preset: Literal["auto", "eyes", "hands"] = setting("auto", "Networks: eyes (35x55 grey), hands (224x224 depth), auto (the eyes networks at any size, with a narrower refiner).", "Networks")
    refiner_width: int = setting(16, "Feature maps of the refiner (the paper: 64).", "Networks", ge=1, le=LARGEST_SETTING)
    refiner_blocks: int = setting(4, "Residual blocks of the refiner.", "Networks", ge=0, le=LARGEST_SETTING)
    refiner_kernel: int = setting(3, "Filter size of the refiner's first convolution, odd.", "Networks", ge=1, le=LARGEST_SETTING)
    refiner_block_kernel: int = setting(3, "Filter size inside the blocks, odd (hands: 7, or 3 for the other reading of the paper).", "Networks", ge=1, le=LARGEST_SETTING)
    refiner_output: Literal["tanh", "residual"] = setting("residual", "tanh of the last convolution, or x + g(x) that starts as the identity.", "Networks")
    refiner_padding: Literal["zeros", "replicate"] = setting("replicate", "What the refiner sees beyond the edge: zeros leave faint strips, replicate does not.", "Networks")
    noise: bool = setting(True, "Give the refiner random maps beside the image: one rendered image gets many looks, as grain, softness and light of real images vary.", "Networks")

    recipe: Literal["stable", "paper"] = setting("stable", "A set of defaults: what proved stable, or the settings that the paper prints.", "Objective")
    adversarial: Literal["local", "global"] = setting("local", "Judge every patch (Sec. 2.2) or the whole image at once.", "Objective")
    lambda_reg: Lambda = setting(LAMBDA_START, "Weight of self-regularization (Eq. 4), both losses reduced by mean; auto starts at 1 and at each --eval-every doubles it where labels moved by more than half a pixel or its gradient is below a twentieth of the adversarial one, halves it where that is above a fifth and labels moved by less than a quarter, and else keeps it.", "Objective", alias="lambda", metavar="NUMBER|auto")
    psi: Psi = setting("normalized", "Feature transform of self-regularization: identity, derivatives, channel-mean, blur, normalized (each image by its mean and deviation), the folder of a trained network, or a weighted sum such as identity=1,derivatives=0.5.", "Objective", metavar="SPEC")
    history_size: int = setting(3200, "Refined images kept in the history buffer (B, Sec. 2.3); 0 switches it off.", "Objective", ge=0)

    steps: int = setting(2000, "Iterations of Algorithm 1 (T), after pretraining.", "Algorithm 1", ge=0, changeable=True)
    pretrain_refiner: int = setting(0, "Steps of the refiner alone on self-regularization, first.", "Algorithm 1", ge=0)
    pretrain_discriminator: int = setting(100, "Steps of the discriminator alone, second.", "Algorithm 1", ge=0)
    batch_size: int = setting(32, "Images in a mini-batch (b), that of all ranks together under torchrun.", "Algorithm 1", ge=1, le=2**20)
    refiner_updates: int = setting(2, "Refiner updates in each iteration (K_g).", "Algorithm 1", ge=1)
    discriminator_updates: int = setting(1, "Discriminator updates in each iteration (K_d).", "Algorithm 1", ge=1)
    optimizer: Literal["sgd", "adam"] = setting("adam", "Optimizer of both networks.", "Algorithm 1")
    refiner_lr: float = setting(5e-4, "Learning rate of the refiner.", "Algorithm 1", gt=0)
    discriminator_lr: float = setting(1e-3, "Learning rate of the discriminator.", "Algorithm 1", gt=0)
    beta1: float = setting(0.5, "First moment's decay of Adam.", "Algorithm 1", ge=0, lt=1)
    lr_drop_step: int = setting(0, "Iteration of Algorithm 1 after which both rates are divided by 4; 0 for never.", "Algorithm 1", ge=0)
    ema: float = setting(0.995, "Decay of the exported moving average of the refiner; 0 exports the last iterate.", "Algorithm 1", ge=0, lt=1)
    clip_gradient: float = setting(0.0, "Largest norm of a network's gradient; 0 for no clipping.", "Algorithm 1", ge=0)

    seed: Seed = setting(0, "Seed of the separate streams for data, history and initial weights.", "Runtime")
    device: Device = setting("auto", "auto, cpu, cuda, cuda:N or mps.", "Runtime", metavar="DEVICE", changeable=True)
    precision: Literal["auto", "fp32", "bf16"] = setting("auto", "Arithmetic of the networks; auto is bf16 on a GPU or CPU that computes in it, else fp32.", "Runtime", changeable=True)
    compile: Literal["auto", "on", "off"] = setting("auto", "Compile the networks' passes for this machine when training begins; auto does so on a GPU with Triton and a C++ compiler, for trainings so long that it pays.", "Runtime", changeable=True)
    deterministic: bool = setting(False, "Only deterministic kernels (slower on a GPU; a CPU is deterministic anyway).", "Runtime", changeable=True)
    max_time: Duration | None = setting(None, "Save and stop with exit code 75 after this long, such as 30m.", "Runtime", metavar="DURATION", changeable=True)

    log_every: int = setting(25, "Steps between metrics lines; measurements have a line of their step, too.", "Run folder", ge=1, changeable=True)
    sample_every: int = setting(250, "Steps between pictures of the probe batch; 0 for none.", "Run folder", ge=0, changeable=True)
    eval_every: int = setting(250, "Steps between measurements on images held out of training: patch distances and label drift; 0 for none.", "Run folder", ge=0, changeable=True)
    select: Literal["last", "best"] = setting("best", "Refiner that RUN/refiner holds: of those measured at --eval-every the one closest to real images by patch distance whose labels moved by less than 1 px and whose images still differ from each other (the newest where none is such), or the last.", "Run folder")
    save_every: int = setting(100, "Steps between checkpoints; 0 saves only at the end.", "Run folder", ge=0, changeable=True)
    keep: int = setting(2, "Newest checkpoints to keep; 0 keeps all.", "Run folder", ge=0, changeable=True)
    tensorboard: bool = setting(False, "Also write TensorBoard events (pip install 'simgan-cli[tensorboard]').", "Run folder", changeable=True)
    # fmt: on

    @property
    def pretraining_steps(self) -> int:
        """Steps before the first iteration of Algorithm 1."""
        return self.pretrain_refiner + self.pretrain_discriminator

    @property
    def total_steps(self) -> int:
        """All steps of the run, pretraining included; the `step` of metrics and checkpoints counts to this."""
        return self.pretraining_steps + self.steps

    def refiner_settings(self, channels: int) -> dict[str, Any]:
        """Return what `networks.Refiner` is built from."""
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


def key_of(name: str) -> str:
    """Return the name by which people call a field: `lambda_reg` is `lambda`, since `lambda` is a Python keyword."""
    return TrainConfig.model_fields[name].alias or name


def is_changeable(name: str) -> bool:
    """Say whether a resumed run may have another value for this field."""
    extra = TrainConfig.model_fields[name].json_schema_extra
    return isinstance(extra, dict) and bool(extra["changeable"])


# The paper gives neither lambda, nor B, nor T, and reduces by sum; ours reduce by mean. Its rate 0.001 is kept as
# printed: for the gradient of a sum over 9x14 patches, pass --refiner-lr 0.126 --discriminator-lr 0.126.
# lambda_mean = lambda_sum * pixels / patches = 15.3 lambda_sum at 35x55. "K_g = 50" stands in the same sentence as
# "R twice for each D"; 50 collapses in public ports, so 2.
RECIPES: dict[str, dict[str, Any]] = {
    "stable": {},  # the defaults above
    "paper": {
        "refiner_width": 64,
        "refiner_output": "tanh",
        "refiner_padding": "zeros",
        "noise": False,
        "lambda": 1.0,
        "psi": "identity",
        "history_size": 25_600,
        "steps": 10_000,
        "pretrain_refiner": 1_000,
        "pretrain_discriminator": 200,
        "batch_size": 512,
        "refiner_updates": 2,
        "discriminator_updates": 1,
        "optimizer": "sgd",
        "refiner_lr": 1e-3,
        "discriminator_lr": 1e-3,
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

# What the paper did otherwise for hands: its rate drops by 4 after 600,000 steps; its batch is not stated, and 512
# images of 224x224 need more memory than the GPUs of its day had.
PAPER_HANDS: dict[str, Any] = {
    "pretrain_refiner": 500,
    "batch_size": 32,
    "history_size": 1_600,
    "steps": 1_000_000,
    "refiner_lr": 2e-4,
    "discriminator_lr": 2e-4,
    "lr_drop_step": 600_000,
}


def defaults_of(recipe: str, preset: str) -> dict[str, Any]:
    """Return what a recipe and a preset set, by key; unknown names set nothing (validation names them)."""
    special = PAPER_HANDS if (recipe, preset) == ("paper", "hands") else {}
    return RECIPES.get(recipe, {}) | PRESETS.get(preset, {}) | special


def contradictions(config: TrainConfig, ranks: int = 1) -> list[str]:
    """Return every problem between settings that are each valid alone, and with so many ranks, a sentence each."""
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
    # Patterns may part one folder into two domains.
    are_alike = (config.include, config.exclude) == (config.real_include, config.real_exclude)
    if are_alike and synthetic == real:
        problems.append(
            f"--synthetic and --real are the same folder {config.real}; the method needs two domains; "
            "part it with --include and --real-include"
        )
    elif are_alike and (synthetic in real.parents or real in synthetic.parents):
        problems.append(f"--synthetic {config.synthetic} and --real {config.real}: one lies inside the other")
    for name, path in (("synthetic", synthetic), ("real", real)):
        if out == path or path in out.parents:
            problems.append(f"--out {config.out} lies inside --{name}; its pictures would become training images")
    if out.exists() and not out.is_dir():
        problems.append(f"--out {config.out}: a file, not a folder")
    if config.total_steps == 0:
        problems.append("--steps 0 without pretraining leaves nothing to do")
    if 0 < config.history_size < config.batch_size // 2:
        problems.append(
            f"--history-size {config.history_size} cannot fill half of --batch-size {config.batch_size}; "
            f"give at least {config.batch_size // 2}, or 0 for no history"
        )
    parts = 2 * ranks if config.history_size else ranks
    if ranks > 1 and config.batch_size % parts:
        halves = ", with half of each from history" if config.history_size else ""
        problems.append(
            f"--batch-size {config.batch_size} is the total of {ranks} ranks and cannot be dealt out evenly{halves}; "
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
    if config.lambda_reg == "auto" and not config.eval_every:
        problems.append("--lambda auto goes by the measurements that --eval-every 0 switches off")
    if config.fit is not None and config.size is None:
        problems.append(f"--fit {config.fit} says how to meet --size, which is not given")
    problems += [
        f"--psi {name}: neither one of {', '.join(PSI_NAMES)} nor a folder with config.json and model.safetensors"
        for name, _ in parse_psi(config.psi)
        if name not in PSI_NAMES and not os.path.isfile(f"{name}/config.json")  # noqa: PTH113  False, too, for what can be no path
    ]
    return problems
