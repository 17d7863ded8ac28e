"""The labels that `simgan train` finds beside renders."""

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest
from PIL import Image

from simgan_cli.data.cache import Source, open_pixels
from simgan_cli.data.decoding import Preparation
from simgan_cli.errors import DataError
from simgan_cli.gaze.task_labels import read_task_labels
from simgan_cli.settings.train import TrainConfig
from tests.gaze.helpers import HEIGHT, WIDTH, discs, write_csv, write_table, write_unityeyes

Fit = Literal["resize", "crop", "pad"]


def config_of(folder: Path, **settings: Any) -> TrainConfig:
    return TrainConfig.model_validate({"synthetic": folder, "real": "photographs"} | settings)


def read(folder: Path, **settings: Any) -> tuple[Any, list[str]]:
    """Return the labels, and what is reported about them; warnings start with an exclamation mark."""
    lines: list[str] = []
    return read_task_labels(config_of(folder, **settings), lines.append, lambda line: lines.append(f"! {line}")), lines


def test_gaze_of_a_table_is_read_as_unit_vectors(tmp_path: Path) -> None:
    labels, lines = read(write_csv(tmp_path / "eyes", 6, 1))
    _, gaze, _ = discs(6, 1)
    assert labels.target == "gaze"
    np.testing.assert_allclose(labels.of([f"{n}.png" for n in range(6)]), gaze, atol=1e-6)
    assert lines == ["labels: 6 of gaze (csv); the run trains an estimator on them"]


def test_radians_that_are_read_as_degrees_are_warned_of(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "eyes", 2, 1)
    rows: list[dict[str, Any]] = [
        {"file": "0.png", "pitch": 0.3, "yaw": -0.2},
        {"file": "1.png", "pitch": "nan", "yaw": "nan"},
    ]
    write_table(folder / "labels.csv", rows)
    _, lines = read(folder, degrees=True)
    assert lines[0].startswith(f"! {folder}: no angle is larger than 0.3 degrees; if its labels are radians")
    assert read(folder)[1] == [
        "labels: 1 of gaze (csv), 1 left out as missing or invalid; the run trains an estimator on them"
    ]


def test_pupils_of_a_table_are_fractions_of_the_image(tmp_path: Path) -> None:
    labels, _ = read(write_csv(tmp_path / "eyes", 6, 1), target="pupil")
    _, _, centres = discs(6, 1)
    np.testing.assert_allclose(labels.of(["3.png"])[0], centres[3] / (WIDTH, HEIGHT), atol=1e-6)


def test_pupils_of_arrays_are_fractions_of_the_image(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", np.zeros((20, 40), np.uint8))
    write_table(tmp_path / "labels.csv", [{"file": "0.npy", "pupil_x": 10, "pupil_y": 15}])
    labels, _ = read(tmp_path, target="pupil", include=["*.npy"])
    np.testing.assert_allclose(labels.of(["0.npy"]), [[0.25, 0.75]])


def test_points_are_fractions_of_the_image_and_may_be_missing(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "hands", 2, 1)
    rows = [
        {"file": "0.png", "tip_x": 5.5, "tip_y": 7, "root_x": "", "root_y": 3},
        {"file": "1.png", "tip_x": 11, "tip_y": 14, "root_x": 22, "root_y": 35},
    ]
    write_table(folder / "labels.csv", rows)
    labels, _ = read(folder, target="points")
    assert labels.points == ("tip", "root")
    expected = [[0.1, 0.2, np.nan, np.nan], [0.2, 0.4, 0.4, 1.0]]
    np.testing.assert_allclose(labels.of(["0.png", "1.png"]), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("target", "columns", "bad"),
    [
        ("gaze", ("gx", "gy", "gz"), [(0, 0, 0), ("inf", 0.1, -0.9), (0.1, "nan", -0.9)]),
        ("pupil", ("pupil_x", "pupil_y"), [("inf", 3), (5, "nan"), ("nan", "nan")]),
    ],
)
def test_labels_that_are_no_direction_or_point_are_left_out(
    tmp_path: Path, target: str, columns: tuple[str, ...], bad: list[tuple[Any, ...]]
) -> None:
    folder = write_csv(tmp_path / "eyes", 4, 1)
    numbers = [tuple(range(1, 1 + len(columns))), *bad]
    rows = [{"file": f"{n}.png", **dict(zip(columns, row, strict=True))} for n, row in enumerate(numbers)]
    write_table(folder / "labels.csv", rows)
    labels, lines = read(folder, target=target)
    assert np.isnan(labels.of([f"{n}.png" for n in range(4)])).tolist() == [
        [is_bad] * len(columns) for is_bad in (False, True, True, True)
    ]
    assert lines[-1:] == [
        f"labels: 1 of {target} (csv), 3 left out as missing or invalid; the run trains an estimator on them"
    ]
    write_table(folder / "labels.csv", rows[1:])
    with pytest.raises(DataError, match=f"no label of {target} is a finite number"):
        read(folder, target=target, labels="csv")


def test_points_of_larger_images_are_left_out(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "eyes", 3, 1)
    places = [(WIDTH + 5, 9), (9, HEIGHT + 5), (9, 9)]
    write_table(
        folder / "labels.csv", [{"file": f"{n}.png", "pupil_x": x, "pupil_y": y} for n, (x, y) in enumerate(places)]
    )
    labels, lines = read(folder, target="pupil")
    assert labels is None
    assert lines[0].startswith(f"! labels: not used ({folder}: 2 points outside the image (0.png); wanted pixels of")


def test_unityeyes_gives_gaze_and_no_pupils(tmp_path: Path) -> None:
    images, gaze, centres = discs(3, 2)
    folder = write_unityeyes(tmp_path / "unity", images, gaze, centres)
    labels, _ = read(folder)
    np.testing.assert_allclose(labels.of(["2.png"])[0], gaze[1], atol=1e-6)
    with pytest.raises(DataError, match="UnityEyes' points are read only from crops"):
        read(folder, labels="unityeyes", target="pupil")


@pytest.mark.parametrize("fit", get_args(Fit))
@pytest.mark.parametrize("size", [(30, 80), (60, 40)])
def test_pupil_labels_follow_size_and_fit(tmp_path: Path, fit: Fit, size: tuple[int, int]) -> None:
    folder, (x, y) = tmp_path / "eyes", (70, 44)
    folder.mkdir()
    image = np.zeros((90, 120), np.uint8)
    image[y - 4 : y + 4, x - 4 : x + 4] = 255
    Image.fromarray(image).save(folder / "a.png")
    write_table(folder / "labels.csv", [{"file": "a.png", "pupil_x": x, "pupil_y": y}])
    labels, _ = read(folder, target="pupil", size=size, fit=fit)
    pixels = open_pixels(Source(folder), Preparation(size, fit), "off", 1, lambda *_: None).pixels[0, 0].astype(float)
    rows, columns = np.indices(pixels.shape) + 0.5
    centre = np.array([(columns * pixels).sum(), (rows * pixels).sum()]) / pixels.sum()
    np.testing.assert_allclose(labels.of(["a.png"])[0] * size[::-1], centre, atol=0.6)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"labels": "off"}, []),
        (
            {"flip": True},
            ["! labels: not used, since --flip mirrors images but not labels; leave --flip out to use them"],
        ),
    ],
    ids=str,
)
def test_labels_that_training_cannot_use_are_left_out(tmp_path: Path, settings: Any, says: list[str]) -> None:
    assert read(write_csv(tmp_path / "eyes", 2, 1), **settings) == (None, says)


def test_a_folder_without_labels_has_none(tmp_path: Path) -> None:
    tmp_path.joinpath("eyes").mkdir()
    assert read(tmp_path / "eyes") == (None, [])


def test_labels_that_cannot_be_used_are_reported_or_refused(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "eyes", 2, 1)
    (folder / "labels.csv").write_text("file,skin\n0.png,f01\n")
    labels, lines = read(folder)
    assert labels is None
    assert lines[0].startswith(f"! labels: not used ({folder / 'labels.csv'}: has the columns file, skin; wanted")
    with pytest.raises(DataError, match="has the columns file, skin"):
        read(folder, labels="csv")
