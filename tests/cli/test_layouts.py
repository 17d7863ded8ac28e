"""Folders of renderers, refined: pictures change, everything else is copied byte for byte."""

import shlex
from pathlib import Path

import pytest

from simgan_cli.engine.refining.record import RECORD
from tests.helpers import files_below, members, pack, simgan, write_refiner
from tests.layouts import LAYOUTS, Writer

pytestmark = pytest.mark.slow  # complete commands


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_refiner(tmp_path_factory.mktemp("model"), channels=3)


def settled(stderr: str) -> list[str]:
    """Return the arguments of the command in an error that leaves labels unchanged."""
    (line,) = [line for line in stderr.splitlines() if line.startswith("to leave labels as they are: ")]
    return shlex.split(line.partition(": ")[2])[1:]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_change_and_everything_else_is_equal(layout: str, model: Path, tmp_path: Path) -> None:
    write = Writer(tmp_path / "in")
    write.layout(layout)
    write.file(".settings", b"\0hidden")
    (tmp_path / "in" / "empty").mkdir()
    before = files_below(tmp_path / "in")
    result = simgan("refine", "in", "--model", model, "--out", "out", cwd=tmp_path)
    if layout not in ("unityeyes", "yolo"):
        assert result.returncode == 4, result.stderr
        assert "look like labels, not pictures" in result.stderr
        assert not (tmp_path / "out").exists()
        result = simgan(*settled(result.stderr), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    after = files_below(tmp_path / "out")
    del after[RECORD]
    assert after.keys() == before.keys()
    assert {name for name in before if after[name] != before[name]} == write.pictures
    assert (tmp_path / "out" / "empty").is_dir()
    assert files_below(tmp_path / "in") == before
    assert ("imageData" in result.stderr) == (layout == "labelme")


@pytest.mark.parametrize("name", ["a.tar", "a.zip", "a.tar.gz"])
def test_the_same_holds_inside_an_archive(name: str, model: Path, tmp_path: Path) -> None:
    write = Writer(tmp_path / "in")
    write.layout("solo")
    archive = pack(tmp_path / "in", tmp_path / name)
    result = simgan("refine", archive, "--model", model, "--out", tmp_path / "out")
    assert result.returncode == 4, result.stderr
    result = simgan(*settled(result.stderr))
    assert result.returncode == 0, result.stderr
    before, after = members(archive), members(tmp_path / "out" / name)
    assert after.keys() == before.keys()
    assert {path for path in before if after[path] != before[path]} == write.pictures


def test_label_images_are_copied_with_one_warning_also_with_another_format(model: Path, tmp_path: Path) -> None:
    write = Writer(tmp_path / "in")
    for i in range(40):
        write.picture(f"{i:03}.jpg")
    write.mask("odd.png")
    write.palette("100.png")  # a mask whose name fits the pictures
    before = files_below(tmp_path / "in")
    result = simgan("refine", "in", "--model", model, "--out", "out", "--format", "tiff", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    after = files_below(tmp_path / "out")
    assert (after["odd.png"], after["100.png"]) == (before["odd.png"], before["100.png"])
    assert len([name for name in after if name.endswith(".tif")]) == 40
    (warning,) = [line for line in result.stderr.splitlines() if "like labels" in line]
    assert "2 images look like labels" in warning


def test_many_label_images_found_late_stop_the_job(model: Path, tmp_path: Path) -> None:
    """Names are only numbers, and too few images are sampled: a person must name the labels."""
    write = Writer(tmp_path / "in")
    for i in range(400):
        write.mask(f"{i:03}.png") if i % 80 == 7 else write.picture(f"{i:03}.png")
    result = simgan("refine", "in", "--model", model, "--out", "out", cwd=tmp_path)
    assert result.returncode == 4, result.stderr
    assert "5 images look like labels" in result.stderr
    assert "--include '*'" in result.stderr
