import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from simgan_cli.demo.eye_world import UNIFORM_GAZE
from simgan_cli.gaze.labels import LabelFormat
from simgan_cli.gaze.readers import read
from tests.helpers import SIMGAN, files_below, invoke, parse_document


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the command."""
    folder = tmp_path_factory.mktemp("demo") / "data"
    document = parse_document(invoke("demo-data", folder, "--count", "70", "--seed", "4", "--json").stdout)
    assert document["schema"] == "simgan.demo-data/1"
    assert document["status"] == "finished"
    assert document["images"] == {"synthetic": 70, "camera/train": 70, "camera/test": 23}
    return folder


def test_the_labelled_folders_are_read_as_such(data: Path) -> None:
    for name, count in (("synthetic", 70), ("camera/test", 23), ("camera/oracle", 70)):
        images = read(data / name, LabelFormat())
        assert (images.reader, len(images), images.size, images.warnings) == ("csv", count, (35, 55), [])
    pitch, yaw = (np.radians(values) for values in read(data / "synthetic", LabelFormat()).coordinates().values())
    for values, (low, high) in ((pitch, UNIFORM_GAZE["pitch"]), (yaw, UNIFORM_GAZE["yaw"])):
        assert low <= values.min() < 0.7 * low
        assert high >= values.max() > 0.7 * high


@pytest.mark.parametrize("target", ["gaze", "pupil"])
def test_both_kinds_of_labels_agree(data: Path, target: str) -> None:
    table = read(data / "synthetic", LabelFormat(target=target))  # type: ignore[arg-type]
    renders = read(data / "synthetic", LabelFormat(target=target), "unityeyes")  # type: ignore[arg-type]
    assert renders.files == table.files
    if target == "gaze":
        np.testing.assert_allclose(renders.targets, table.targets, atol=2e-4)
    else:  # another crop around the eye's middle, so places only correlate
        assert np.corrcoef(renders.targets[:, 0], table.targets[:, 0])[0, 1] > 0.9


def test_json_labels_give_the_pupil_of_the_table(data: Path) -> None:
    table = read(data / "synthetic", LabelFormat(target="pupil"))
    for number in (0, 33):
        content = json.loads((data / "synthetic" / f"{number:05}.json").read_text())
        iris = np.array([[float(part) for part in text.strip("()").split(",")] for text in content["iris_2d"]])
        x, y_up, _ = iris.mean(axis=0)
        np.testing.assert_allclose([x, 35 - y_up], table.targets[number], atol=2e-3)


def test_the_camera_training_set_has_no_labels(data: Path) -> None:
    train, oracle = data / "camera" / "train", data / "camera" / "oracle"
    assert {path.suffix for path in train.iterdir()} == {".png"}
    labelled = files_below(oracle)
    del labelled["labels.csv"]
    assert labelled == files_below(train)
    assert "none is a photograph" in (data / "README.txt").read_text()


def test_the_domains_differ_in_looks(data: Path) -> None:
    clean, camera = (read(data / name, LabelFormat()).pixels.astype(float) for name in ("synthetic", "camera/test"))
    assert camera.std(axis=(1, 2)).mean() > 1.2 * clean.std(axis=(1, 2)).mean()
    assert np.percentile(camera, 5) < np.percentile(clean, 5) - 15


@pytest.mark.slow
def test_a_seed_determines_the_images(data: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    invoke("demo-data", again, "--count", "70", "--seed", "4", "-q")
    assert files_below(again) == files_below(data)
    invoke("demo-data", other, "--count", "70", "--seed", "5", "-q")
    same = {name for name, content in files_below(other).items() if files_below(data)[name] == content}
    assert same == set()


def test_images_are_kept_or_replaced_as_asked(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    command = ["demo-data", folder, "--count", "3"]
    invoke(*command)
    before = files_below(folder)
    assert "there already" in invoke(*command).stderr
    assert "--overwrite" in invoke(*command, "--seed", "1", code=2).stderr
    assert files_below(folder) == before
    invoke("demo-data", folder, "--count", "2", "--size", "18x30", "--overwrite")
    assert read(folder / "synthetic", LabelFormat()).pixels.shape == (2, 18, 30)
    (folder / "run").mkdir()
    refused = invoke("demo-data", folder, "--count", "3", "--overwrite", code=2).stderr
    assert "--overwrite would delete run; move that elsewhere first" in refused
    assert (folder / "run").is_dir()


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for place in (tmp_path, tmp_path / "thesis.tex"):
        assert "did not write" in invoke("demo-data", place, "--count", "3", "--overwrite", code=2).stderr
    assert files_below(tmp_path) == {"thesis.tex": b"years of work"}


@pytest.mark.slow
def test_a_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [SIMGAN, "demo-data", str(tmp_path / "data"), "--count", "99999"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("drawing"):
                process.send_signal(signal.SIGTERM)
                break
        assert "nothing written" in process.stderr.read()
    assert process.returncode == 75
    assert list(tmp_path.iterdir()) == []
