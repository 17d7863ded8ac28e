"""Labels in published layouts and as programs save them; unreadable ones are named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from simgan_cli.data.patterns import Patterns
from simgan_cli.errors import DataError
from simgan_cli.gaze.geometry import angles_from_vectors
from simgan_cli.gaze.labels import LabelFormat, check_points
from simgan_cli.gaze.layouts.unityeyes import eye_window, parse_vector
from simgan_cli.gaze.readers import read
from tests.gaze.helpers import discs, write_csv, write_mpiigaze, write_unityeyes
from tests.helpers import SHARED, needs_shared_data, write_images

GAZE, PUPIL, POINTS = LabelFormat(), LabelFormat(target="pupil"), LabelFormat(target="points")
EYES = np.zeros((2, 9, 15), np.uint8)


def write_subset(root: Path, content: str) -> None:
    """List the eyes of p00 that MPIIGaze's authors evaluate on."""
    lists = root / "Evaluation Subset" / "sample list for eye image"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "p00.txt").write_text(content)


def test_csv_npz_and_unityeyes_of_the_same_eyes_agree(tmp_path: Path) -> None:
    images, gaze, centres = discs(6, 1)
    folder = write_csv(tmp_path / "csv", 6, 1)
    np.savez(tmp_path / "eyes.npz", x=images, gaze=angles_from_vectors(gaze, "mpiigaze"), pupil=centres)
    unity = write_unityeyes(tmp_path / "unity", images, gaze, centres)
    for label_format, wanted in ((GAZE, gaze), (PUPIL, centres)):
        for path in (folder, tmp_path / "eyes.npz", unity):
            eyes = read(path, label_format)
            assert np.array_equal(eyes.pixels, images), path
            assert np.allclose(eyes.targets, wanted, atol=1e-5), path


# Points


def write_hands(folder: Path) -> Path:
    """Write three images of 20x30."""
    folder.mkdir()
    for name in "abc":
        Image.fromarray(np.full((20, 30), ord(name), np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("x0,y0,x1,y1", ("0", "1")),
        ("tip_x,tip_y,root_x,root_y", ("tip", "root")),
        ("x0,y0,root_x,root_y", ("0", "root")),
    ],
)
def test_points_of_a_table_are_named_by_its_header_and_may_be_missing(
    tmp_path: Path, header: str, names: tuple[str, ...]
) -> None:
    folder = write_hands(tmp_path / "hands")
    (folder / "labels.csv").write_text(f"file,{header},skin\na,1,2,3.5,4,x\nb,5,6,,nan,x\nc,nan,,,,x\n")
    hands = read(folder, POINTS)
    assert (hands.points, hands.files) == (names, ["a.png", "b.png"])
    np.testing.assert_array_equal(hands.targets, [[1, 2, 3.5, 4], [5, 6, np.nan, np.nan]])
    assert hands.warnings == [f"{folder}: left out 1 image without a point"]
    half = read(folder, LabelFormat(target="points", size=(10, 15)))
    np.testing.assert_array_equal(half.targets, hands.targets / 2)


def test_a_table_without_points_and_points_that_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"wanted file, and x0,y0,x1,y1,\.\.\. or NAME_x,NAME_y"):
        read(table_of(write_hands(tmp_path / "none"), "file,pitch,yaw\na,1,2\n"), POINTS)
    one = read(table_of(write_hands(tmp_path / "one"), "file,tip_x,tip_y\na,1,2\n"), POINTS)
    other = read(table_of(write_hands(tmp_path / "other"), "file,root_x,root_y\na,1,2\n"), POINTS)
    with pytest.raises(DataError, match=r"other has the 1 point root, but .*one the 1 point tip; give the same"):
        check_points(other, one)


def table_of(folder: Path, content: str) -> Path:
    """Write labels.csv into a folder and return the folder."""
    (folder / "labels.csv").write_text(content)
    return folder


COCO: dict[str, Any] = {
    "images": [{"id": number, "file_name": f"{name}.png"} for number, name in enumerate("abc")],
    "categories": [{"id": 1, "name": "hand", "keypoints": ["tip", "root"]}],
    "annotations": [
        {"image_id": 0, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 1]},
        {"image_id": 2, "category_id": 1, "keypoints": [0, 0, 0, 7, 8, 2]},
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 3, 3]},
    ],
}


@pytest.mark.parametrize("name", ["hand_keypoints.json", "_annotations.coco.json", "annotations/person_keypoints.json"])
def test_coco_keypoints_are_centres_of_pixels_and_v_0_is_missing(tmp_path: Path, name: str) -> None:
    folder = write_hands(tmp_path / "hands")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(COCO))
    hands = read(folder, POINTS)
    assert (hands.reader, hands.points, hands.files) == ("coco", ("tip", "root"), ["a.png", "c.png"])
    np.testing.assert_array_equal(hands.targets, [[1.5, 2.5, 3.5, 4.5], [np.nan, np.nan, 7.5, 8.5]])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": None}, "not COCO keypoints"),
        ({"annotations": [COCO["annotations"][0]] * 2}, "more than one label for a.png"),
        ({"annotations": [{"image_id": 0, "category_id": 1, "keypoints": [1, 2]}]}, "not COCO keypoints"),
        ({"categories": [{"id": 1, "keypoints": ["tip"]}]}, "2 keypoints in an annotation, but 1 name;"),
    ],
    ids=str,
)
def test_other_json_than_coco_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    folder = write_hands(tmp_path / "hands")
    (folder / "keypoints.json").write_text(json.dumps(COCO | change))
    with pytest.raises(DataError, match=says):
        read(folder, POINTS)


def test_unityeyes_landmarks_lie_where_the_crop_shows_them(tmp_path: Path) -> None:
    images, gaze, centres = discs(2, 1)
    folder = write_unityeyes(tmp_path / "unity", images, gaze, centres)
    for path in folder.glob("*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"caruncle_2d": ["(300.0, 280.0, 9.0)"]}))  # the crop's upper left corner
    eyes = read(folder, POINTS)
    names = ("interior_margin_0", "interior_margin_1", "caruncle_0", "iris_0", "iris_1")
    assert eyes.points == names
    np.testing.assert_allclose(eyes.targets[:, 4:6], 0, atol=1e-5)
    np.testing.assert_allclose(eyes.targets[:, 6:8], centres - (3, 0), atol=1e-5)


def test_points_of_an_npz_are_rows_of_pairs(tmp_path: Path) -> None:
    points = np.arange(12.0).reshape(2, 3, 2)
    points[1, 0, 0] = np.nan
    np.savez(tmp_path / "hands.npz", x=np.zeros((2, 20, 30), np.uint8), points=points)
    hands = read(tmp_path / "hands.npz", POINTS)
    assert hands.points == ("0", "1", "2")
    np.testing.assert_array_equal(hands.targets, [[0, 1, 2, 3, 4, 5], [np.nan, np.nan, 8, 9, 10, 11]])
    np.savez(tmp_path / "hands.npz", x=np.zeros((2, 20, 30), np.uint8), points=np.ones((2, 5)))
    with pytest.raises(DataError, match=r"hands\.npz: 5 numbers for each image; wanted x and y of each point"):
        read(tmp_path / "hands.npz", POINTS)


# MPIIGaze


def test_mpiigaze_is_read_as_published(tmp_path: Path) -> None:
    root = tmp_path / "MPIIGaze"
    p00 = write_mpiigaze(root, {"p00": 3, "p01": 1})["p00"]  # a day with one sample squeezes to scalars
    eyes = read(root, GAZE)
    assert (len(eyes), eyes.size, sorted(set(eyes.persons or []))) == (8, (36, 60), ["p00", "p01"])
    assert any("evaluation subset" in warning for warning in eyes.warnings)
    write_subset(root, "day01/0001.jpg left\nday01/0002.jpg right\n")
    eyes = read(root, GAZE)
    assert np.array_equal(eyes.pixels, [p00["left"][1], p00["right"][2][:, ::-1]])
    assert np.allclose(eyes.targets[0] * (-1, 1, 1), eyes.targets[1])
    assert eyes.targets[0, 0] > 0
    write_subset(root, "day09/0001.jpg left\n")
    with pytest.raises(DataError, match="missing 1 eye of the evaluation subset"):
        read(root, GAZE)


@pytest.mark.parametrize(
    ("inside", "path"), [("Data", "Normalized"), ("Data/Normalized", "."), ("Data/Normalized", "..")]
)
def test_mpiigaze_s_lists_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str, path: str
) -> None:
    write_mpiigaze(tmp_path, {"p00": 3})
    write_subset(tmp_path, "day01/0001.jpg left\n")
    monkeypatch.chdir(tmp_path / inside)
    assert read(Path(path), GAZE).files == ["p00/day01/0001.jpg left"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda day: day.write_bytes(day.read_bytes()[:-20]), ""),
        (lambda day: day.write_bytes(b"x" * 200), ""),
        (lambda day: scipy.io.savemat(day, {"data": {"right": 3}, "filenames": 4}), "AttributeError: .*left"),
    ],
)
def test_a_day_of_mpiigaze_that_cannot_be_read_is_named(
    tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    write_mpiigaze(tmp_path, {"p00": 3})
    damage(tmp_path / "Data" / "Normalized" / "p00" / "day01.mat")
    with pytest.raises(DataError, match=rf"day01\.mat: not a readable day of MPIIGaze \(.*{says}.*; copy it again"):
        read(tmp_path, GAZE)


# npz and HDF5


def test_hdf5_is_read_by_person_and_flat(tmp_path: Path) -> None:
    images, gaze, _ = discs(4, 2)
    angles = angles_from_vectors(gaze, "mpiigaze")
    with h5py.File(tmp_path / "faces.h5", "w") as file:
        for index in range(4):
            file[f"p{index % 2:02}/image/{index:04}"] = np.repeat(images[index][..., None], 3, axis=2)
            file[f"p{index % 2:02}/gaze/{index:04}"] = angles[index]
    eyes = read(tmp_path / "faces.h5", GAZE)
    assert eyes.persons == ["p00", "p00", "p01", "p01"]
    assert np.allclose(eyes.targets, gaze[[0, 2, 1, 3]])
    assert np.array_equal(eyes.pixels, images[[0, 2, 1, 3]])
    with h5py.File(tmp_path / "numbered.h5", "w") as file:
        file["gaze"] = np.repeat(angles, 3, axis=0)
        for index in range(12):  # 10 comes after 9, not after 1
            file[f"image/{index}"] = np.repeat(images, 3, axis=0)[index]
    assert np.array_equal(read(tmp_path / "numbered.h5", GAZE).pixels, np.repeat(images, 3, axis=0))
    with h5py.File(tmp_path / "flat.h5", "w") as file:
        file.create_dataset("face_patch", data=images, chunks=(3, 35, 55), compression="gzip", fletcher32=True)
        file["face_gaze"] = angles  # ETH-XGaze: the reversed vector's angles
        file["person"] = np.array([b"p00"] * 4)
    eyes = read(tmp_path / "flat.h5", LabelFormat(convention="xgaze"))
    assert np.allclose(eyes.targets, gaze)
    assert np.array_equal(eyes.pixels, images)
    assert eyes.persons == ["p00"] * 4


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": EYES, "gaze": np.array([{}, {}])}, r"not a readable \.npz without pickles"),
        ({"x": EYES, "gaze": np.array([["up", "left"]] * 2)}, r"2 images, but labels of shape \(2, 2\) and type <U4"),
        ({"x": EYES, "gaze": np.zeros((3, 2))}, r"2 images, but labels of shape \(3, 2\)"),
        ({"eyes": EYES, "directions": np.zeros((2, 2))}, "holds eyes, directions; wanted x and gaze"),
        ({"x": EYES[..., None, None], "gaze": np.zeros((2, 2))}, r"images of shape \(2, 9, 15, 1, 1\)"),
        ({"x": EYES / 255, "gaze": np.zeros((2, 2))}, "images of type float64; wanted uint8"),
    ],
)
def test_an_unreadable_npz_is_refused_with_the_reason(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    np.savez(tmp_path / "eyes.npz", **arrays)
    with pytest.raises(DataError, match=rf"eyes\.npz: {says}"):
        read(tmp_path / "eyes.npz", GAZE)


def test_an_unreadable_hdf5_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "eyes.h5"
    with h5py.File(path, "w") as file:
        file["p00/eyes"], file["p00/gaze"] = EYES, np.zeros((2, 2))
    with pytest.raises(DataError, match=r"eyes\.h5: holds p00, p00/eyes, p00/gaze; wanted images \(x, image"):
        read(path, GAZE)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"eyes\.h5: damaged or cut off HDF5 .*; copy it again"):
        read(path, GAZE)


# labels.csv


@pytest.mark.parametrize(
    "text",
    [
        "file,pitch,yaw\n0.png,0.125,-0.25\n1.png,-0.5,0.0625\n",
        "\N{BYTE ORDER MARK}file;pitch;yaw;;\r\n0.png;0,125;-0,25;;\r\n1.png;-0,5;0,0625;;\r\n;;;;\r\n",
        "yaw\tfile\tpitch\n-0.25\t0\t0.125\n0.0625\t1\t-0.5\n",
        "file ,pitch ,yaw \n0.png ,0.125 ,-0.25 \n1.png , -0.5, 0.0625\n",
        'file, pitch, yaw\n"0.png", "0,125", -0.25\n1.png, -5e-1, "0.0625"\n',
    ],
)
def test_a_table_is_read_as_spreadsheets_save_it(tmp_path: Path, text: str) -> None:
    folder = write_images(tmp_path / "csv", 2, 1)
    (folder / "labels.csv").write_bytes(text.encode())
    eyes = read(folder, GAZE)
    assert eyes.files == ["0.png", "1.png"]
    assert np.allclose(angles_from_vectors(eyes.targets, "mpiigaze"), [(0.125, -0.25), (-0.5, 0.0625)])
    assert eyes.warnings == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,pitch,yaw\n0.png,0,125,-0,25\n", "line 2 has more cells than the 3 columns"),
        ("file,pitch,yaw\n\n0.png,0,1\n1.png,up,1\n", "line 4: pitch is 'up'; wanted a number"),
        ('file,pitch,yaw\n0.png,"1,230",0\n', "line 2: pitch is '1,230', with a decimal comma or thousands; write"),
        ("file,pitch,yaw\n0.png,0\n", "line 2: yaw is ''; wanted a number"),
        ("file,pitch,yaw,pitch\n0.png,0,0,1\n", "labels.csv: has the column pitch more than once; keep one"),
        ("file,pitch,yaw\n0.png,nan,0.1\n", r"1 label with NaN, .*\(0\.png\)"),
        ("file,gx,gy,gz\n0.png,0,0,0\n", "or length 0"),
        ("file,pitch,yaw\n0.png,12,-7\n", "are degrees; pass --degrees"),
        ("file,pitch,yaw\n", "no labelled image"),
        ("", r"has the columns \(none\)"),
        ("image,pitch,yaw\n0.png,0,0\n", "columns image, pitch, yaw; wanted file,gx,gy,gz or file,pitch,yaw"),
        ("file,pitch,yaw,person\n0.png,0,0,p1\n1.png,0,0,\n", "line 3 has no person"),
        ("file,pitch,yaw\n0,0,0\n0.png,0,0\n", r"more than one label for 0\.png"),
        (
            "file,pitch,yaw\n7,0,0\n",
            r"1 of 1 label without an image \(7\); found the images 0\.png, 1\.png, 2\.jpg, 2\.png",
        ),
        ("file,pitch,yaw\n2,0,0\n", r"more than one image for 1 label \(2\.jpg, 2\.png\); add the suffix"),
        ("caf\udce9", r"labels\.csv: not a readable table: not text in UTF-8.*\); save it as UTF-8$"),
    ],
)
def test_an_unreadable_table_is_refused_with_the_reason(tmp_path: Path, text: str, says: str) -> None:
    folder = write_images(tmp_path / "csv", 3, 1)
    Image.open(folder / "2.png").save(folder / "2.jpg")
    (folder / "labels.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=says):
        read(folder, GAZE)


def test_degrees_are_converted_and_empty_persons_are_unknown(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    (folder / "labels.csv").write_text("file,pitch,yaw,person\n0.png,30,0,\n1.png,0,-45,\n")
    eyes = read(folder, LabelFormat(degrees=True))
    assert np.allclose(np.degrees(angles_from_vectors(eyes.targets, "mpiigaze")), [(30, 0), (0, -45)])
    assert (eyes.persons, eyes.warnings) == (None, [f"{folder}: left out 2 images without a label"])


@pytest.mark.parametrize(
    ("text", "degrees", "says"),
    [
        ("pitch,yaw\n0.png,-0.3,0.1\n1.png,0.1,0.4\n", True, "no angle is larger than 0.4 degrees; if its labels are"),
        ("gx,gy,gz\n0.png,0,0,2\n1.png,0,1,2\n", False, "most gaze vectors point away from the camera"),
    ],
)
def test_labels_that_look_like_another_convention_are_a_warning(
    tmp_path: Path, text: str, degrees: bool, says: str
) -> None:
    folder = write_images(tmp_path / "csv", 2, 1)
    (folder / "labels.csv").write_text(f"file,{text}")
    (warning,) = read(folder, LabelFormat(degrees=degrees)).warnings
    assert says in warning


def test_resizing_scales_the_pupil(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    large = read(folder, LabelFormat(target="pupil", size=(70, 110)))
    assert np.allclose(large.targets, 2 * read(folder, PUPIL).targets)


def test_most_pupils_outside_their_images_are_refused(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "csv", 3, 1)
    (folder / "labels.csv").write_text("file,pupil_x,pupil_y\n0.png,1,1\n1.png,1,900\n2.png,-1,1\n")
    with pytest.raises(DataError, match=r"2 points outside the image \(1\.png\); wanted pixels"):
        read(folder, PUPIL)


# Patterns


def test_patterns_leave_labelled_images_out(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    write_images(folder / "masks", 3, 2)
    assert "left out 3 images without a label" in read(folder, GAZE).warnings[0]
    eyes = read(folder, LabelFormat(patterns=Patterns(exclude=("masks", "2.png"))))
    assert (eyes.files, eyes.warnings) == (["0.png", "1.png", "3.png"], [])
    eyes = read(folder, LabelFormat(patterns=Patterns(include=("[13].png",), exclude=("masks",))))
    assert eyes.files == ["1.png", "3.png"]
    with pytest.raises(DataError, match="--include and --exclude take none of its labelled images"):
        read(folder, LabelFormat(patterns=Patterns(include=("*.jpg",))))


def test_patterns_separate_renders_of_unityeyes_from_their_masks(tmp_path: Path) -> None:
    images, gaze, centres = discs(3, 1)
    folder = write_unityeyes(tmp_path / "unity", images, gaze, centres)
    for number in range(1, 4):
        Image.new("L", (640, 480)).save(folder / f"{number}.bmp")
    for patterns in (Patterns(exclude=("*.bmp",)), Patterns(include=("*.png",))):
        eyes = read(folder, LabelFormat(patterns=patterns))
        assert (eyes.files, eyes.warnings) == (["1.png", "2.png", "3.png"], [])
        assert np.array_equal(eyes.pixels, images)
    with pytest.raises(
        DataError, match=r"more than one image for 3 labels \(1\.bmp, 1\.png, 2\.bmp, .*; add the suffix"
    ):
        read(folder, GAZE)


def test_a_folder_without_labels_is_refused_with_its_content(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "eyes", 3, 1)
    (folder / "eye.json").write_text("{}")
    with pytest.raises(DataError, match=r"eyes: no labels; found 3 \.png, 1 \.json; wanted"):
        read(folder, GAZE)
    with pytest.raises(DataError, match=r"eyes: found 3 \.png, 1 \.json; wanted N\.json"):
        read(folder, GAZE, "unityeyes")


# UnityEyes


@pytest.mark.parametrize(
    ("text", "vector"),
    [
        ("(0.0100, 0.2000, -0.9800, 0.0000)", [0.01, 0.2, -0.98, 0]),
        ("(0,0100, 0,2000, -0,9800)", [0.01, 0.2, -0.98]),  # as in Germany or France
        ("(9,5E-07, 0, 1)", [9.5e-7, 0, 1]),
    ],
)
def test_vectors_of_every_locale_are_read(text: str, vector: list[float]) -> None:
    assert parse_vector(text) == vector


@pytest.mark.parametrize("text", ["__import__('os')", "", "(1, 2)", "(a, b, c)", "(1, 2, 3, 4, 5)"])
def test_vectors_are_parsed_never_evaluated(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_vector(text)


def render(y: str) -> str:
    """Return the JSON of a render whose lid margin has a point at this y."""
    return f'{{"interior_margin_2d": ["(3, {y}, 5)", "(30, 20, 5)"], "eye_details": {{"look_vec": "(0, 0, -1)"}}}}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"iris_2d": ["(1, 2)",', "not the JSON of a UnityEyes render .*; render or copy it again"),
        ("[1, 2]", "not the JSON of a UnityEyes render"),
        ('{"interior_margin_2d": []}', r"KeyError: 'eye_details'"),
        ('{"interior_margin_2d": ["(1, 2)"]}', r"'\(1, 2\)' is not \(x, y, z\)"),
        ('{"interior_margin_2d": [], "eye_details": {"look_vec": "(0, 0, -1)"}}', "spans no box"),
        (render("nan"), "spans no box"),
        (render("1e30"), "far outside the image"),
    ],
)
def test_json_that_is_not_unityeyes_is_refused_with_the_reason(tmp_path: Path, text: str, says: str) -> None:
    folder = write_unityeyes(tmp_path / "unity", *discs(1, 1))
    (folder / "1.json").write_text(text)
    with pytest.raises(DataError, match=says):
        read(folder, LabelFormat(size=(9, 11)))


def test_the_eye_window_has_the_aspect_and_the_centre() -> None:
    left, top, width, rows = eye_window(np.array([[100.0, 200.0], [200.0, 260.0]]), 480, (35, 55))
    assert np.allclose((left + width / 2, top + rows / 2), (150, 250))
    assert np.allclose((width, rows), (160, 160 * 35 / 55))


@needs_shared_data
def test_rendered_irises_lie_in_the_direction_of_gaze() -> None:
    gaze, iris = (read(SHARED / "unityeyes_sample", label_format) for label_format in (GAZE, PUPIL))
    for axis in (0, 1):
        assert np.corrcoef(gaze.targets[:, axis], iris.targets[:, axis])[0, 1] > 0.5


def test_named_angles_mean_the_same_in_conventions_of_either_order(tmp_path: Path) -> None:
    write_csv(tmp_path / "eyes", 1, 0)
    (tmp_path / "eyes" / "labels.csv").write_text("file,pitch,yaw\n0,0.2,-0.1\n")
    by_name = [read(tmp_path / "eyes", LabelFormat(convention=name)).targets for name in ("mpiigaze", "gazehub")]
    expected = [[np.cos(0.2) * np.sin(0.1), -np.sin(0.2), -np.cos(0.2) * np.cos(0.1)]]
    np.testing.assert_allclose(by_name, [expected] * 2, atol=1e-12)
