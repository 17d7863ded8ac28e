"""Every setting of `simgan refine`: its default, bounds and meaning. Imports no torch."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from simgan_cli.data.decoding import PixelCoding
from simgan_cli.data.renders import Curve
from simgan_cli.settings.train import Device, Globs, PathSetting, PlainBackground, setting

FormatName = Literal["png", "jpeg", "tiff", "bmp", "webp", "pgm", "ppm"]


def parse_shard(value: object) -> object:
    """Read "I/N", part I of N counted from 1, as (I, N)."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", str(value).strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"{value!r} is not I/N with I from 1 to N, such as 1/8")
    return int(match[1]), int(match[2])


def file_of_part(file: Path, part: int, parts: int) -> Path:
    """Return the name under which part I of N, counted from 1, writes a file of its own."""
    return file if parts == 1 else file.with_name(f"{file.stem}-part-{part}-of-{parts}{file.suffix}")


Shard = Annotated[
    tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]],
    BeforeValidator(parse_shard),
    PlainSerializer(lambda shard: f"{shard[0]}/{shard[1]}", when_used="json-unless-none"),
]


class RefineConfig(BaseModel):
    """The resolved settings of one refining job."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # fmt: off
    inputs: tuple[PathSetting, ...] = setting((), "Folders of rendered images, refined with everything below them; or tar and zip files, which become others of the same name.", "Data", metavar="DIR...", argument=True)
    from_file: PathSetting | None = setting(None, "File with one more input folder or archive a line; '-' reads standard input.", "Data", metavar="LIST")
    model: PathSetting = setting(..., "A run, whose exported refiner (RUN/refiner) is taken, one of its checkpoints, or an exported refiner folder.", "Data", short="-m")
    step: int | None = setting(None, "Take the run's checkpoint at this step instead of the exported refiner (RUN/refiner); training must have kept it (--keep 0, --save-every).", "Data", ge=0)
    out: PathSetting = setting(..., "Folder to write; with several inputs, each gets a folder of its name in it.", "Data", short="-o")

    include: Globs = setting((), "Refine only these files; all others are carried along. May be repeated; by default the patterns that the model was trained with.", "Data", metavar="GLOB")
    exclude: Globs = setting((), "Carry these files along unrefined, such as masks; may be repeated. By default the patterns that the model was trained with.", "Data", metavar="GLOB")

    format: Literal["same"] | FormatName = setting("same", "File format of the results. All but jpeg are lossless; same keeps that of the input, JPEG as JPEG at quality 95.", "Images")
    channels: Literal["1", "3"] | None = setting(None, "What the model sees, where images do not have its channels: 1, the luma of colour images, whose hue stays; 3, grey as three equal channels. Results keep their input's mode.", "Images")
    pixels: PixelCoding | None = setting(None, "How files code pixels: plain, or packed16, one 16-bit value in the green (high) and blue (low) bytes; by default as in training.", "Images")
    background: PlainBackground | None = setting(None, "What the refiner sees through transparent pixels: a colour, or keep (the colours hidden there); by default as in training, for --background real the photographs' mean colour. Alpha is written back as it was.", "Images", metavar="#rrggbb|keep")
    tone_curve: Curve | None = setting(None, "How linear pixels of EXR and other float files become pictures, and back: the sRGB curve, or linear; by default as in training.", "Images")
    keep_value: int | None = setting(None, "Leave pixels of this value as they are, such as 0 where that means no measurement.", "Images", ge=0, le=65535, metavar="N")
    strength: float = setting(1.0, "A in x + A (R(x) - x): 0 is the input (equalized, where the refiner was trained so), 1 the refiner.", "Images", ge=0, le=1, metavar="A")
    seed: int = setting(0, "Chooses among the looks that a refiner trained with --noise gives an image.", "Images", ge=0, lt=2**31)
    look_by: str = setting("image", "Give one look to each image, to all images of a folder, or to all that match a GLOB; parentheses in it keep groups apart, as in '(*)_????.png' for sequences and '(*)_*.png' for pairs.", "Images", metavar="image|folder|GLOB")

    copy_others: bool = setting(True, "Carry every file that is no picture along.", "Labels")
    link: bool = setting(False, "Hard-link those files instead of copying them; not those in archives.", "Labels")
    check_labels: bool = setting(False, "Measure how far refining moves image content, in pixels.", "Labels")

    skip_existing: bool = setting(False, "Leave results that exist: resumes after an interruption. An archive that lacks a member is made again as a whole.", "Job")
    overwrite: bool = setting(False, "Replace results that exist.", "Job")
    fail_fast: bool = setting(False, "Stop at the first image that fails (exit code 4).", "Job")
    shard: Shard | None = setting(None, "Do part I of N, such as 1/8: the parts together are the whole.", "Job", metavar="I/N")
    manifest: PathSetting | None = setting(None, "Write a JSON line for each image: source, result, hashes, status, model; a file for each part.", "Job", metavar="FILE.jsonl")
    compare: PathSetting | None = setting(None, "Draw before | after | difference of a few images; a file for each part.", "Job", metavar="FILE.png")

    batch_size: int | None = setting(None, "Images, or tiles of large ones, that are refined together; by default 32 for each core, or 512 on a GPU.", "Runtime", ge=1)
    tile: int = setting(512, "Longest side, in pixels, that is refined in one piece.", "Runtime", ge=32)
    workers: int | None = setting(None, "Threads that read, and as many that write; by default one per core, at most 16.", "Runtime", ge=1)
    device: Device = setting("auto", "auto, cpu, cuda, cuda:N or mps.", "Runtime", metavar="DEVICE")
    precision: Literal["auto", "fp32", "bf16"] = setting("auto", "Arithmetic of the network; auto is fp32 (TF32 on GPUs that have it).", "Runtime")
    # fmt: on

    @property
    def comparison(self) -> Path | None:
        """The file that --compare draws: with --shard, one of its own."""
        part, parts = self.shard or (1, 1)
        return self.compare and file_of_part(self.compare, part, parts)

    @property
    def resume_hint(self) -> str:
        """How to resume after a failure or a stop: after --overwrite nothing tells which of the results are new."""
        return "run the same command again" + ("" if self.overwrite else ", with --skip-existing")
