"""Disks that fail or are full give a clear error."""

import shutil
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simgan_cli.cli.app import app
from tests.conftest import Domains
from tests.gaze.helpers import write_csv
from tests.helpers import TINY, files_below, limit_files, simgan, write_images, write_refiner

EIO = Path("/proc/self/mem")  # a regular file whose first byte gives a real EIO: no page is mapped there
needs_eio = pytest.mark.skipif(not EIO.exists(), reason="only Linux has a file that gives EIO to everybody")
UNREADABLE = "Input/output error"


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "400"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def replace_by_eio(path: Path) -> Path:
    path.unlink(missing_ok=True)
    path.symlink_to(EIO)
    return path


@needs_eio
def test_an_image_with_a_read_error_is_skipped_and_named(domains: Domains, tmp_path: Path) -> None:
    image = replace_by_eio(domains.synthetic / "0.png")
    code, output = run("train", *domains.flags, *TINY)
    assert code == 0
    assert f"skipped {image}: " in output
    code, output = run(
        "refine", domains.synthetic, "--model", write_refiner(tmp_path / "model"), "--out", tmp_path / "o"
    )
    assert code == 3, output
    assert f"{image}: {UNREADABLE}" in output
    assert len(list((tmp_path / "o").glob("*.png"))) == 11


@needs_eio
def test_a_read_error_of_any_other_file_is_named(domains: Domains, tmp_path: Path) -> None:
    out, eyes = tmp_path / "out", write_csv(tmp_path / "eyes", 12, 1)
    models = [write_refiner(tmp_path / name) for name in ("complete", "weights", "config")]
    labelled = shutil.copytree(domains.real, tmp_path / "labelled")
    cut = shutil.copytree(eyes, tmp_path / "cut")
    file, labels, table, weights, config = map(
        replace_by_eio,
        (tmp_path / "file.npz", labelled / "a.csv", cut / "labels.csv", models[1] / "model.safetensors",
         models[2] / "config.json"),
    )  # fmt: skip
    evaluate = ("eval-gaze", "--out", out / "d", "--test", eyes, "--train")
    cases: list[tuple[tuple[str | Path, ...], int, Path]] = [
        (("train", *domains.flags, "--dry-run", "--config", file), 2, file),
        (("refine", "--from-file", file, "--model", models[0], "--out", out), 2, file),
        (("refine", labelled, "--model", models[0], "--out", out), 3, labels),
        (("refine", domains.real, "--model", models[1], "--out", out / "b"), 1, weights),
        (("refine", domains.real, "--model", models[2], "--out", out / "c"), 1, config),
        ((*evaluate, f"a={file}"), 4, file),
        ((*evaluate, f"a={cut}"), 4, table),
    ]
    for arguments, code, place in cases:
        exit_code, output = run(*arguments)
        assert (exit_code, UNREADABLE in output, str(place) in output) == (code, True, True), output


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, labelled eyes and a model."""
    world = tmp_path_factory.mktemp("world")
    flags: list[str | Path] = ["--synthetic", write_images(world / "synthetic", 12, 1)]
    flags += ["--real", write_images(world / "real", 3, 2)]
    result = simgan("train", *flags, "--out", world / "run", *TINY)
    assert result.returncode == 0, result.stderr
    write_csv(world / "eyes", 60, 1)
    write_csv(world / "others", 20, 2)
    return world


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["demo-data", "out", "--count", "70"],
        ["inspect-buffer", "run", "--grid", "out/grid.png"],
        ["eval-gaze", "--train", "a=eyes", "--test", "others", "--out", "out", "--estimator", "resnet",
         "--steps", "2", "--bootstrap", "100"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_a_full_disk_is_a_clear_error(world: Path, command: list[str]) -> None:
    before = files_below(world)
    result = simgan(*command, cwd=world, preexec=limit_files(400))
    assert result.returncode == 1, result.stderr
    assert "error: " in result.stderr
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    left = files_below(world)
    assert {name: left[name] for name in before} == before
    assert not [name for name in left if name not in before and Path(name).suffix in {".png", ".safetensors"}]
    shutil.rmtree(world / "out", ignore_errors=True)


@pytest.mark.slow
def test_a_full_disk_of_the_cache_is_named(domains: Domains, tmp_path: Path) -> None:
    for cache in ("off", str(tmp_path / "cache")):
        result = simgan("train", *domains.flags, *TINY, "--cache", cache, preexec=limit_files(700))
        assert result.returncode == 1, result.stderr
        assert str(tmp_path / "cache" if cache != "off" else tempfile.gettempdir()) in result.stderr
        assert "File too large" in result.stderr
        shutil.rmtree(domains.out)
