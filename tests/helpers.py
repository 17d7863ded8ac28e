"""Helpers of several tests: running the program, tiny images, the folder of real data."""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ConfigDict, TypeAdapter
from typer.testing import CliRunner
from typer.testing import Result as Result

from simgan_cli.cli.app import app
from simgan_cli.documents import Document
from simgan_cli.engine.export.network_folder import save_network
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.engine.runtime.ranks import MIN_TORCH
from tests.simgan_server import ENVIRONMENT, warm_simgan

SIMGAN = str(Path(sys.executable).with_name("simgan"))
SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the evaluation images, whose licences forbid copying them, are not beside the checkout"
)
# Root can read everything, so programs run without root's capabilities.
UNPRIVILEGED = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
needs_permissions = pytest.mark.skipif(
    bool(UNPRIVILEGED) and shutil.which("setpriv") is None, reason="root reads everything, and setpriv is not here"
)
# A training of a second or two.
TINY = [
    "--refiner-width", "4", "--refiner-blocks", "1", "--batch-size", "4", "--history-size", "8",
    "--pretrain-discriminator", "2", "--steps", "3", "--log-every", "1", "--sample-every", "0",
]  # fmt: skip
# Enough steps (of 0.02 s) that a signal arrives before the end; lines of metrics cross the checkpoints.
INTERRUPTIBLE = [
    "--synthetic", "synthetic", "--real", "real", "--refiner-width", "4", "--refiner-blocks", "1",
    "--pretrain-discriminator", "2", "--steps", "24", "--log-every", "3", "--save-every", "5", "--keep", "0",
    "--resume", "auto",
]  # fmt: skip
LAST = 26  # its pretraining and steps
# Settings below flags and above files and recipes: every training and evaluation takes a moment.
QUICK = [*TINY, "--pretrain-refiner", "1"]
QUICK_ENVIRONMENT = {
    f"SIMGAN_TRAIN_{flag[2:].upper().replace('-', '_')}": value
    for flag, value in zip(QUICK[::2], QUICK[1::2], strict=True)
} | {
    "SIMGAN_EVAL_GAZE_ESTIMATOR": "resnet", "SIMGAN_EVAL_GAZE_STEPS": "2", "SIMGAN_EVAL_GAZE_BATCH_SIZE": "8",
    "SIMGAN_EVAL_GAZE_BOOTSTRAP": "100", "SIMGAN_TURING_TEST_TRIALS": "2",
}  # fmt: skip


def simgan(
    *arguments: str | Path,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    prefix: Sequence[str] = (),
    preexec: Callable[[], None] | None = None,
    cold: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run the program to its end: in a process that has imported torch already, or in a new one where that matters."""
    program = SIMGAN if prefix or cold else warm_simgan()
    return subprocess.run(
        [*prefix, program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | ENVIRONMENT | (env or {}),
        preexec_fn=preexec,
    )


def invoke(*arguments: object, code: int = 0, env: dict[str, str] | None = None) -> Result:
    """Run a command in this process, where starting a process is not what is tested, and check its exit code."""
    result = CliRunner().invoke(app, [*map(str, arguments)], env=ENVIRONMENT | (env or {}))
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def parse_document(text: str) -> dict[str, Any]:
    """Return what a command wrote with --json; fail unless it is of the type that its schema has."""
    (kind,) = (
        kind for kind in get_args(Document) if json.loads(text)["schema"] in get_args(kind.__annotations__["schema"])
    )
    return parse_as(kind, text)


def parse_as(kind: Any, text: str) -> dict[str, Any]:
    """Return the JSON object in `text`; fail unless its fields, and all within them, are those of a type."""
    exact = ConfigDict(strict=True, extra="forbid")
    TypeAdapter(list[kind], config=exact).validate_json(f"[{text}]")
    return dict(json.loads(text))


def skip_without_ranks() -> None:
    """Skip a test that needs ranks where PyTorch is too old for them."""
    if torch.__version__ < MIN_TORCH:
        pytest.skip(f"torch {torch.__version__} is too old for ranks")


def torchrun(*arguments: object) -> list[str]:
    """Return the command that starts a Python module as two ranks, all of whose processes have imported torch."""
    skip_without_ranks()
    program = warm_simgan().with_name("torchrun")
    return [str(program), "--standalone", "--nproc-per-node=2", *map(str, arguments)]


def limit_files(size: int) -> Callable[[], None]:
    """Return a function that limits files to `size` bytes in a process: larger writes fail as on a full disk."""
    return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))


def checkpoint(run: Path, step: int) -> Path:
    """Return the folder of a checkpoint."""
    return run / "checkpoints" / f"step-{step:08d}"


def content_of(run: Path, last: int) -> tuple[dict[str, bytes], dict[str, Any], list[dict[str, Any]]]:
    """Return the last checkpoint's tensors and state and the metrics, less what depends on the clock or the place."""
    folder = checkpoint(run, last)
    state = json.loads((folder / "state.json").read_text())
    for name in ("out", "cache", "max_time"):
        state["settings"].pop(name)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = [{key: line[key] for key in line if key not in ("images_per_second", "peak_memory_mb")} for line in lines]
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}, state, lines


def write_images(folder: Path, count: int, seed: int, shape: tuple[int, ...] = (16, 20), dtype: Any = np.uint8) -> Path:
    """Write `count` PNGs of noise of `shape` (H, W) or (H, W, 3)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def write_domains(root: Path) -> Path:
    """Write the two folders of images of an INTERRUPTIBLE training into `root`."""
    for seed, (name, count) in enumerate((("synthetic", 40), ("real", 11))):
        write_images(root / name, count, seed)
    return root


def write_renders(folder: Path) -> Path:
    """Write seven grey images of two sizes in two folders, with labels."""
    write_images(folder, 5, 1)
    write_images(folder / "deep er", 2, 2, shape=(20, 16))
    (folder / "labels.csv").write_text("file,pitch\n")
    for number in range(2):
        (folder / "deep er" / f"{number}.json").write_text(f'{{"n": {number}}}')
    return folder


def write_refiner(folder: Path, channels: int = 1, preprocess: str = "none", **settings: Any) -> Path:
    """Export a small refiner of random weights that changes images a good deal."""
    torch.manual_seed(0)
    small: dict[str, Any] = {"width": 8, "blocks": 1, "output": "residual", "padding": "replicate"}
    network = Refiner(channels, **small | settings)
    torch.nn.init.normal_(network.last.weight, std=0.3)
    save_network(folder, network, {"preprocess": preprocess, "size": [16, 20]}, {"step": "7"})
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below `folder` by its relative path, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pack(folder: Path, archive: Path, seed: int = 0) -> Path:
    """Pack everything below `folder` into a tar, tar.gz or zip, in a random order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    random.Random(seed).shuffle(files)
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path in files:
                zipped.write(path, path.relative_to(folder))
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix in {".gz", ".tgz"} else "w") as tar:
            for path in files:
                tar.add(path, path.relative_to(folder))
    return archive


def members(archive: Path) -> dict[str, bytes]:
    """Return the content of every file in an archive by its name."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            return {name: zipped.read(name) for name in zipped.namelist() if not name.endswith("/")}
    with tarfile.open(archive) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar if info.isfile()}  # type: ignore[union-attr]
