"""Disks that fail to read, disks that are full, and clocks that are wrong: a clear error or no difference at all."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simgan_cli.cli.app import app
from tests.conftest import Domains
from tests.gaze.helpers import write_csv
from tests.helpers import TINY, files_below, limit_files, pack, simgan, write_images, write_refiner

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
def test_an_image_that_the_disk_does_not_give_is_skipped_and_named(domains: Domains, tmp_path: Path) -> None:
    image = replace_by_eio(domains.synthetic / "0.png")
    code, said = run("train", *domains.flags, *TINY)
    assert code == 0
    assert f"skipped {image}: " in said
    code, said = run("refine", domains.synthetic, "--model", write_refiner(tmp_path / "model"), "--out", tmp_path / "o")
    assert code == 3, said
    assert f"{image}: {UNREADABLE}" in said
    assert len(list((tmp_path / "o").glob("*.png"))) == 11


@needs_eio
def test_whatever_else_the_disk_does_not_give_is_named(domains: Domains, tmp_path: Path) -> None:
    out, eyes = tmp_path / "out", write_csv(tmp_path / "eyes", 12, 1)
    models = [write_refiner(tmp_path / name) for name in ("whole", "weights", "config")]
    labelled = shutil.copytree(domains.real, tmp_path / "labelled")
    cut = shutil.copytree(eyes, tmp_path / "cut")
    file, labels, table, weights, config = map(
        replace_by_eio,
        (tmp_path / "file", labelled / "a.csv", cut / "labels.csv", models[1] / "model.safetensors",
         models[2] / "config.json"),
    )  # fmt: skip
    evaluate = ("eval-gaze", "--out", out / "d", "--test", eyes, "--train")
    cases: list[tuple[tuple[str | Path, ...], int, Path]] = [
        (("train", *domains.flags, "--dry-run", "--config", file), 2, file),
        (("refine", "--from-file", file, "--model", models[0], "--out", out), 2, file),
        (("refine", labelled, "--model", models[0], "--out", out), 3, labels),
        (("refine", domains.real, "--model", models[1], "--out", out / "b"), 1, weights),
        (("refine", domains.real, "--model", models[2], "--out", out / "c"), 1, config),
        ((*evaluate, f"a={file}"), 1, file),
        ((*evaluate, f"a={cut}"), 4, table),
    ]
    for arguments, code, place in cases:
        found, said = run(*arguments)
        assert (found, UNREADABLE in said, str(place) in said) == (code, True, True), said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_a_full_folder_for_temporary_files_is_named(
    domains: Domains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(domains.synthetic, tmp_path / "packed" / "renders.tar.gz")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: Path("/dev/full").open("w+b", buffering=0))  # noqa: SIM115
    full = f"{tempfile.gettempdir()}: No space left on device; free some space"
    model = write_refiner(tmp_path / "model")
    code, said = run("refine", archive, "--model", model, "--out", tmp_path / "out")
    assert (code, full in said) == (1, True), said
    flags: list[str | Path] = ["--synthetic", archive.parent, "--real", domains.real, "--out", tmp_path / "run", *TINY]
    code, said = run("train", *flags)
    assert (code, full in said) == (1, True), said


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
        ["train", "--synthetic", "synthetic", "--real", "real", "--out", "out", *TINY],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_a_full_disk_is_an_error_that_says_so(world: Path, command: list[str]) -> None:
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


def test_dates_of_files_decide_nothing(domains: Domains) -> None:
    """A clock that jumps leaves files of the future beside files of the past; only steps and contents count."""
    flags = [*domains.flags, *TINY, "--save-every", "1", "--keep", "0"]
    assert run("train", *flags)[0] == 0
    newest = sorted((domains.out / "checkpoints").iterdir())
    for age, folder in enumerate(newest):  # the newest is the oldest by its date
        for path in (folder, *folder.iterdir()):
            os.utime(path, (4e9 - 1e9 * age, 4e9 - 1e9 * age))
    for number, path in enumerate(sorted(domains.synthetic.iterdir())):
        os.utime(path, (4e9 * (number % 2), 4e9 * (number % 2)))
    code, said = run("train", *flags, "--resume", "auto", "--steps", "4")
    assert code == 0, said
    assert f"resumed {newest[-1]}" in said
    code, said = run("inspect-buffer", domains.out, "--json")
    assert json.loads(said)["step"] == 4 + 2


@pytest.mark.slow
def test_another_clock_changes_no_bit(domains: Domains) -> None:
    """Monotonic clocks that say months more, as after a machine was moved: what is trained is the same."""
    months = ["unshare", "--time", "--monotonic", "9000000", "--boottime", "9000000"]
    if subprocess.run([*months, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody have a clock of their own")
    results = []
    for prefix in ([], months):
        shutil.rmtree(domains.out, ignore_errors=True)
        result = simgan("train", *domains.flags, *TINY, "--max-time", "1h", prefix=prefix)
        assert result.returncode == 0, result.stderr
        results.append((domains.out / "refiner" / "model.safetensors").read_bytes())
    assert results[0] == results[1]


def test_the_wall_clock_is_never_asked() -> None:
    """It may be set at any time: how long something took is for a monotonic clock, what is newer for counted steps."""
    asked = re.compile(r"\btime\.(time|time_ns|localtime|gmtime|ctime)\b|\b(now|today|utcnow)\(|CLOCK_REALTIME")
    source = Path(__file__).parents[2] / "src"
    files = sorted(source.rglob("*.py"))
    assert [str(file) for file in files if asked.search(file.read_text())] == []
    assert any("time.monotonic()" in file.read_text() for file in files)
