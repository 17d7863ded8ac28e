"""Every setting of `simgan refine`: its default, bounds and meaning. Imports no torch."""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from simgan_cli.data.decoding import Channels, PixelCoding
from simgan_cli.data.matching import MatchSetting
from simgan_cli.data.renders import Curve
from simgan_cli.settings.base import (
    RUNTIME,
    Device,
    Globs,
    ModelSetting,
    PathSetting,
    PlainBackground,
    Precision,
    Seed,
    Settings,
    setting,
)

FormatName = Literal["png", "jpeg", "tiff", "bmp", "webp", "pgm", "ppm"]


def parse_shard(value: object) -> object:
    """Read "I/N", part I of N counted from 1, as (I, N)."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", str(value).strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"{value!r} is not I/N with I from 1 to N, such as 1/8")
    return int(match[1]), int(match[2])


def file_of_part(file: Path, part: tuple[int, int]) -> Path:
    """Return the name under which a part (index from 0, count) writes a file of its own."""
    index, count = part
    return file if count == 1 else file.with_name(f"{file.stem}-part-{index + 1}-of-{count}{file.suffix}")


Shard = Annotated[
    tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]],
    BeforeValidator(parse_shard),
    PlainSerializer(lambda shard: f"{shard[0]}/{shard[1]}", when_used="json-unless-none"),
]


class RefineConfig(Settings):
    """The resolved settings of one refining job."""

    command: ClassVar = "refine"

    # fmt: off
    inputs: tuple[PathSetting, ...] = setting((), "Folders of renders, or tar and zip files of them.", "Data", essential=True, metavar="DIR...", argument=True)
    from_file: PathSetting | None = setting(None, "List of further inputs, one a line; '-' reads standard input.", "Data", metavar="FILE")
    model: ModelSetting = setting(..., "Run, checkpoint, exported refiner, ONNX file, or hf://USER/NAME[@REVISION].", "Data", essential=True, short="-m", metavar="MODEL")
    step: int | None = setting(None, "Take the run's checkpoint at this step instead of RUN/refiner. Training must have kept it (--keep 0).", "Data", ge=0, metavar="N")
    out: PathSetting = setting(..., "Folder to write.", "Data", essential=True, short="-o", metavar="DIR")

    include: Globs = setting((), "Refine only these files. By default as in training.", "Data", essential=True, metavar="GLOB")
    exclude: Globs = setting((), "Copy these files unrefined. By default as in training.", "Data", essential=True, metavar="GLOB")

    format: Literal["same"] | FormatName = setting("same", "File format of the results. All but jpeg are lossless; same keeps JPEG at quality 95.", "Images")
    channels: Channels | None = setting(None, "Convert images for the model: 1 (luma) or 3 (grey thrice). Results keep their input's mode.", "Images")
    pixels: PixelCoding | None = setting(None, "How files code pixels: plain, or packed16, 16 bits in green (high) and blue (low). By default as in training.", "Images")
    background: PlainBackground | None = setting(None, "Background of transparent pixels: a colour, or keep (the colours hidden there). By default as in training.", "Images", metavar="#rrggbb|keep")
    tone_curve: Curve | None = setting(None, "How linear pixels of EXR and other float files become pictures, and back. By default as in training.", "Images")
    keep_value: int | None = setting(None, "Leave pixels of this value as they are, such as 0 for no measurement.", "Images", ge=0, le=65535, metavar="N")
    strength: float = setting(1.0, "A in x + A (R(x) - x), before --match: 0 is the input, 1 the refiner.", "Images", ge=0, le=1, metavar="A")
    match: MatchSetting = setting("auto", "Give each result the tones of a random photograph of the training. auto: mean and deviation, for grey refiners of pictures.", "Images")
    augment: bool = setting(False, "Blur, light and noise each result at random, after --match.", "Images")
    copies: int = setting(1, "Looks of each render, each with its labels. b.png becomes b_0.png, b_1.png and so on.", "Images", ge=1, metavar="N")
    seed: Seed = setting(0, "Seed of noise, photographs and augmentation. Look I of --copies has seed + I.", RUNTIME)
    look_by: str = setting("image", "Images that share a look: none (image), a folder, or those alike in the parentheses of a GLOB such as '(*)_????.png'.", "Images", metavar="image|folder|GLOB")

    copy_others: bool = setting(True, "Copy every file that is not a picture.", "Labels")
    check_labels: bool = setting(False, "Measure how far refining moves content, in pixels.", "Labels", essential=True)

    skip_existing: bool = setting(False, "Keep results that exist; resumes a job. An archive that lacks a member is written again.", "Job", essential=True)
    overwrite: bool = setting(False, "Replace results that exist.", "Job", essential=True)
    shard: Shard | None = setting(None, "Refine part I of N, such as 1/8.", "Job", essential=True, metavar="I/N")
    manifest: PathSetting | None = setting(None, "Write a JSON line for each image: source, result, hashes, status, model. Each part writes its own file.", "Job", metavar="FILE.jsonl")
    compare: PathSetting | None = setting(None, "Draw a few images before and after, with their difference.", "Job", essential=True, metavar="FILE.png")

    batch_size: int | None = setting(None, "Images, or tiles, refined together. By default 64 for each core, or 512 on a GPU.", RUNTIME, ge=1)
    tile: int = setting(512, "Longest side, in pixels, that is refined in one piece.", RUNTIME, ge=32)
    workers: int | None = setting(None, "Threads that read, and as many that write, in all processes. By default one per core, at most 16.", RUNTIME, ge=1)
    device: Device = setting("auto", "auto, cpu, cuda, cuda:N or mps.", RUNTIME, essential=True, metavar="DEVICE")
    backend: Literal["auto", "torch", "onnxruntime"] = setting("auto", "Runtime of the network. auto is onnxruntime for an ONNX file (simgan export), else torch.", RUNTIME)
    precision: Precision = setting("auto", "Arithmetic of the network. auto is bf16 on CPUs that compute in it; else, and for depth, fp32.", RUNTIME)
    # fmt: on

    @property
    def part(self) -> tuple[int, int]:
        """The part of the job that --shard names: its index from 0, and the number of parts."""
        part, parts = self.shard or (1, 1)
        return part - 1, parts

    @property
    def comparison(self) -> Path | None:
        """The file that --compare draws: with --shard, one of its own."""
        return self.compare and file_of_part(self.compare, self.part)

    @property
    def resume_hint(self) -> str:
        """How to resume after a failure or a stop; after --overwrite no file shows whether a result is new."""
        return "rerun the same command" + ("" if self.overwrite else ", with --skip-existing")
