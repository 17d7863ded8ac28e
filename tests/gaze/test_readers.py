"""Labels as published and as programs save them; what cannot be read is named."""

import csv
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simgan_cli.data.patterns import Patterns
from simgan_cli.errors import DataError
from simgan_cli.gaze.geometry import angles_from_vectors
from simgan_cli.gaze.labels import LabelFormat
from simgan_cli.gaze.layouts.common import parse_number
from simgan_cli.gaze.layouts.mpiigaze import MAX_MAT_BYTES
from simgan_cli.gaze.layouts.unityeyes import eye_window, parse_vector
from simgan_cli.gaze.readers import read
from tests.gaze.helpers import discs, write_csv, write_mpiigaze, write_table, write_unityeyes
from tests.helpers import SHARED, needs_shared_data, write_images

GAZE, PUPIL = LabelFormat(), LabelFormat(target="pupil")
EYES = np.zeros((2, 9, 15), np.uint8)


def write_subset(root: Path, content: bytes) -> None:
    """List the eyes of p00 that MPIIGaze's authors evaluate on."""
    lists = root / "Evaluation Subset" / "sample list for eye image"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "p00.txt").write_bytes(content)


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


# MPIIGaze


def test_mpiigaze_as_published(tmp_path: Path) -> None:
    root = tmp_path / "MPIIGaze"
    p00 = write_mpiigaze(root, {"p00": 3, "p01": 1})["p00"]  # a day with one sample squeezes to scalars
    eyes = read(root, GAZE)
    assert (len(eyes), eyes.size, sorted(set(eyes.persons or []))) == (8, (36, 60), ["p00", "p01"])
    assert any("evaluation subset" in warning for warning in eyes.warnings)
    write_subset(root, b"day01/0001.jpg left\nday01/0002.jpg right\n")
    eyes = read(root, GAZE)
    assert np.array_equal(eyes.pixels, [p00["left"][1], p00["right"][2][:, ::-1]])
    assert np.allclose(eyes.targets[0] * (-1, 1, 1), eyes.targets[1])
    assert eyes.targets[0, 0] > 0
    write_subset(root, b"day09/0001.jpg left\n")
    with pytest.raises(DataError, match="1 eyes of the evaluation subset"):
        read(root, GAZE)


@pytest.mark.parametrize(
    ("inside", "path", "encoding"),
    [
        ("Data", "Normalized", "utf-8-sig"),
        ("Data/Normalized", ".", "utf-16"),
        ("Data/Normalized/p00", "..", "ascii"),
    ],
)
def test_mpiigaze_s_lists_are_found_from_anywhere_in_any_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str, path: str, encoding: str
) -> None:
    write_mpiigaze(tmp_path, {"p00": 3})
    write_subset(tmp_path, "day01/0001.jpg left\r\nday01/0002.jpg right\r\n".encode(encoding))
    monkeypatch.chdir(tmp_path / inside)
    assert read(Path(path), GAZE).files == ["p00/day01/0001.jpg left", "p00/day01/0002.jpg right"]


def test_a_list_of_mpiigaze_that_is_no_text_is_named(tmp_path: Path) -> None:
    write_mpiigaze(tmp_path, {"p00": 3})
    write_subset(tmp_path, b"day01/\xff.jpg left\n")
    with pytest.raises(DataError, match=r"p00\.txt: cannot be read as a list \(not text in UTF-8"):
        read(tmp_path, GAZE)


def cut(day: Path, start: int, stop: int, filling: bytes = b"") -> None:
    """Replace bytes of a file."""
    content = day.read_bytes()
    day.write_bytes(content[:start] + filling + content[stop:])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda day: cut(day, -20, 10**6), "cannot be read as .mat .*; copy it again"),
        (lambda day: cut(day, 300, 330, bytes(30)), ""),
        (lambda day: day.write_bytes(b"x" * 200), ""),
        (lambda day: os.truncate(day, MAX_MAT_BYTES + 1), "64,000,001 bytes; at most 64,000,000 are read"),
        (
            lambda day: scipy.io.savemat(
                day, {"data": {"left": {"pixels": np.zeros((2, 36, 60))}, "right": 3}, "names": 4}
            ),
            r"not a day of MPIIGaze .*; found data\.left\.pixels, data\.right, names; ",
        ),
    ],
)
def test_a_day_of_mpiigaze_that_cannot_be_read_is_named(
    tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    write_mpiigaze(tmp_path, {"p00": 3})
    day = tmp_path / "Data" / "Normalized" / "p00" / "day01.mat"
    content = {name: value for name, value in scipy.io.loadmat(day).items() if name[0] != "_"}
    scipy.io.savemat(day, content, do_compression=True)
    damage(day)
    with pytest.raises(DataError, match=rf"day01\.mat: {says}"):
        read(tmp_path, GAZE)


# npz and HDF5


def test_hdf5_by_person_and_flat(tmp_path: Path) -> None:
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
        file["file"] = np.array([f"{number}.png" for number in range(4)], object)
        file["person"] = np.array([b"p00"] * 4)
    eyes = read(tmp_path / "flat.h5", LabelFormat(convention="xgaze"))
    assert np.allclose(eyes.targets, gaze)
    assert np.array_equal(eyes.pixels, images)
    assert (eyes.files, eyes.persons) == ([f"{number}.png" for number in range(4)], ["p00"] * 4)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": EYES, "gaze": np.array([{}, {}])}, r"cannot be read as \.npz without pickles"),
        ({"x": EYES, "gaze": np.array([["up", "left"]] * 2)}, "labels are <U4, not numbers"),
        ({"eyes": EYES, "directions": np.zeros((2, 2))}, "holds eyes, directions; wanted x and gaze"),
        ({"x": EYES[..., None, None], "gaze": np.zeros((2, 2))}, r"images of shape \(2, 9, 15, 1, 1\)"),
    ],
)
def test_an_npz_that_cannot_be_read_says_why(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    np.savez(tmp_path / "eyes.npz", **arrays)
    with pytest.raises(DataError, match=rf"eyes\.npz: {says}"):
        read(tmp_path / "eyes.npz", GAZE)


def test_an_npz_that_declares_more_than_is_read_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "eyes.npz", "w") as file:
        file.writestr("x.npy", b"")
        file.infolist()[0].file_size = 17_000_000_000
    with pytest.raises(DataError, match=r"eyes\.npz: 17,000,000,000 bytes; at most 16,000,000,000 are read"):
        read(tmp_path / "eyes.npz", GAZE)


def fill_other_names(file: h5py.File) -> None:
    file["p00/eyes"], file["p00/gaze"], file["info"] = EYES, np.zeros((2, 2)), 3
    file.create_group("empty")


def fill_cut_off(file: h5py.File) -> None:
    file["x"] = EYES
    file.flush()
    os.truncate(file.filename, 900)


@pytest.mark.parametrize(
    ("fill", "says"),
    [
        (fill_other_names, r"holds empty, info, p00, p00/eyes, p00/gaze; wanted images \(x, image"),
        (lambda file: file.update({"x": EYES, "gaze": np.zeros((2, 2))}), "holds gaze, x; wanted x and pupil"),
        (fill_cut_off, "damaged or cut off HDF5 .*; copy it again"),
        (
            lambda file: (file.create_dataset("x", (10**6, 900, 900), "u1"), file.update({"pupil": np.zeros((3, 2))})),
            "810,000,000,048 bytes; at most 16,000,000,000 are read",
        ),
        (
            lambda file: (
                file.create_dataset("x", (2, 9, 15), "u1", external=[("/dev/zero", 0, 270)]),
                file.update({"pupil": np.zeros((2, 2))}),
            ),
            "/x lies in other files; store it plainly",
        ),
    ],
)
def test_an_hdf5_that_cannot_be_read_says_why(tmp_path: Path, fill: Callable[[h5py.File], None], says: str) -> None:
    with h5py.File(tmp_path / "eyes.h5", "w") as file:
        fill(file)
    with pytest.raises(DataError, match=rf"eyes\.h5: {says}"):
        read(tmp_path / "eyes.h5", PUPIL)


# labels.csv

ENCODINGS = {"utf-8": b"", "utf-8-sig": b"", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff", "utf-32": b""}


@given(
    st.sampled_from(list(ENCODINGS)),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ",")]),
    st.sampled_from(["{}.png", "{}", "./{}.png", ".\\{}.png", ".\\{}", " {}.png "]),
    st.sampled_from([["file", "pitch", "yaw"], ["File", "PITCH", "Yaw"], ["", "file", "pitch", "yaw", "", ""]]),
    st.sampled_from(["", "sep="]),
    st.booleans(),
)
def test_a_table_is_read_however_a_program_saved_it(
    tmp_path_factory: pytest.TempPathFactory,
    encoding: str,
    end: str,
    marks: tuple[str, str],
    name: str,
    header: list[str],
    first: str,
    spaced: bool,
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    write_images(folder, 3, 1)
    delimiter, point = marks
    angles = np.array([(0.125, -0.25), (-0.5, 0.0625), (0.0, 1e-3)])
    rows = [[f"{number:+.4f}".replace(".", point) for number in row] for row in angles]
    lines = [header]
    for number, row in enumerate(rows):
        cells = {"file": name.format(number), "pitch": row[0], "yaw": row[1]}
        lines.append([cells.get(column.lower(), "") for column in header])
    lines.append([""] * len(header))  # spreadsheets keep rows that were emptied
    text = end.join((delimiter + " " * spaced).join(line) for line in lines) + end
    text = f"sep={delimiter}{end}{text}" if first else text
    (folder / "labels.csv").write_bytes(ENCODINGS[encoding] + text.encode(encoding))
    eyes = read(folder, GAZE)
    assert eyes.files == ["0.png", "1.png", "2.png"]
    assert np.allclose(angles_from_vectors(eyes.targets, "mpiigaze"), angles, atol=1e-12)
    assert eyes.warnings == []


def test_quoted_decimal_commas_are_read(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "csv", 2, 1)
    (folder / "labels.csv").write_text('file, pitch, yaw\n0.png, "0,125", "-0,25"\n"1.png","\u22120,5",\u22120.0625\n')
    angles = angles_from_vectors(read(folder, GAZE).targets, "mpiigaze")
    assert np.allclose(angles, [(0.125, -0.25), (-0.5, -0.0625)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"file,pitch,yaw\n0.png,0,125,-0,25\n", "line 2 has 5 cells below 3 columns; where commas are decimal ones"),
        (b"file,pitch,yaw\n\n0.png,0,1\n1.png,up,1\n", "line 4: pitch is 'up', wanted a number"),
        (b"file;pitch;yaw\n0.png;1.234,5;0\n", "line 2: pitch is '1.234,5', wanted a number"),
        (b"file,pitch,yaw\n0.png,nan,0.1\n", "line 2: pitch is 'nan', wanted a number"),
        (b"file,pitch,yaw\n0.png,0\n", "line 2: yaw is '', wanted a number"),
        (b"file,pitch,yaw\n0.png,12,-7\n", "degrees; say so with --degrees"),
        (b"file,gx,gy,gz\n0.png,0,0,0\n", "of length 0"),
        (b"file,pitch,yaw\n", "no labelled image"),
        (
            b"file,pitch,yaw\ncaf\xe9.png,0,0\n",
            r"labels\.csv: cannot be read as a table \(not text in UTF-8.*save it as",
        ),
        (b"image,pitch,yaw\n0.png,0,0\n", "columns image, pitch, yaw; wanted file,gx,gy,gz or file,pitch,yaw"),
        (b"file,pitch,yaw,pitch,,\n0.png,0,0,1,,\n", "has the columns pitch more than once"),
        (b"file,pitch,yaw,person\n0.png,0,0,p1\n1.png,0,0,\n", "line 3 names no person"),
        (b"file,pitch,yaw\nC:\\renders\\0.png,0,0\n", "lies outside the folder"),
        (b"file,pitch,yaw\n..\\0.png,0,0\n", "lies outside the folder"),
        (b"file,pitch,yaw\n/0.png,0,0\n", "lies outside the folder"),
        (b"file,pitch,yaw\nsub/../0.png,0,0\n", "lies outside the folder"),
        (b"file,pitch,yaw\n0,0,0\n.\\0.png,0,0\n", r"0\.png stand there more than once"),
        (
            b"file,pitch,yaw\n7,0,0\n",
            r"1 of 1 labels have no image \(7\); images there: 0\.png, 1\.png, 2\.jpg, 2\.png",
        ),
        (b"file,pitch,yaw\n,0,0\n", r"1 of 1 labels have no image \(an empty name\)"),
        (b"file,pitch,yaw\n" + b"9" * 5000 + b",0,0\n", "1 of 1 labels have no image"),
        (b"file,pitch,yaw\n2,0,0\n", r"1 labels fit more than one image \(2: 2\.jpg, 2\.png\); name the suffix"),
        (b"version https://git-lfs.github.com/spec/v1\n", r"no table but a Git LFS pointer; .*git lfs pull"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html>", "no table but HTML or XML"),
        ("<html>".encode("utf-16"), "no table but HTML or XML"),
        (b"PK\3\4\x14\0\6\0", "no table but an Excel workbook or another zip archive; save it as CSV"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(tmp_path: Path, text: bytes, says: str) -> None:
    folder = write_images(tmp_path / "csv", 3, 1)
    Image.open(folder / "2.png").save(folder / "2.jpg")
    (folder / "labels.csv").write_bytes(text)
    with pytest.raises(DataError, match=says):
        read(folder, GAZE)


def test_a_person_column_that_is_empty_names_no_persons(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "csv", 2, 1)
    (folder / "labels.csv").write_text("file,pitch,yaw,person\n0.png,0,0,\n1.png,0,0.1, \n")
    eyes = read(folder, GAZE)
    assert (eyes.files, eyes.persons, eyes.warnings) == (["0.png", "1.png"], None, [])


def test_other_lengths_degrees_and_images_without_labels(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    (folder / "labels.csv").write_text("file,pitch,yaw\n0.png,30,0\n1.png,0,-45\n")
    eyes = read(folder, LabelFormat(degrees=True))
    assert np.allclose(np.degrees(angles_from_vectors(eyes.targets, "mpiigaze")), [(30, 0), (0, -45)])
    assert "2 images have no label" in eyes.warnings[0]
    (folder / "labels.csv").write_text("file,gx,gy,gz\n0.png,0,0,-2\n")
    eyes = read(folder, GAZE)
    assert np.allclose(eyes.targets, [(0, 0, -1)])
    assert any("not of length 1" in warning for warning in eyes.warnings)


@pytest.mark.parametrize(
    ("yaw", "degrees", "warned"), [("0.4", True, True), ("0.4", False, False), ("-2", True, False)]
)
def test_a_warning_says_where_degrees_look_like_radians(tmp_path: Path, yaw: str, degrees: bool, warned: bool) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    (folder / "labels.csv").write_text(f"file,pitch,yaw\n0.png,-0.3,0.1\n1.png,0.1,{yaw}\n")
    warning = "no angle is larger than 0.4 degrees: if its labels are radians, leave --degrees out"
    assert any(warning in text for text in read(folder, LabelFormat(degrees=degrees)).warnings) is warned


def test_other_sizes_take_the_pupil_along(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    large = read(folder, LabelFormat(target="pupil", size=(70, 110)))
    assert np.allclose(large.targets, 2 * read(folder, PUPIL).targets)


@pytest.mark.parametrize("count", range(4))
def test_pupils_outside_their_images_are_a_warning_and_most_of_them_an_error(tmp_path: Path, count: int) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    write_table(folder / "labels.csv", [row | ({"pupil_x": "300"} if n < count else {}) for n, row in enumerate(rows)])
    if count == 3:
        with pytest.raises(DataError, match="3 pupil centres lie outside"):
            read(folder, PUPIL)
    else:
        warnings = [warning for warning in read(folder, PUPIL).warnings if "outside" in warning]
        assert len(warnings) == bool(count)
        assert all(f"{count} of 4 pupil centres lie outside their image (0.png)" in text for text in warnings)


@pytest.mark.parametrize(
    ("file", "text", "wanted"),
    [
        # Of columns that differ in case, the one spelled as wanted counts.
        ("0.png", "File,file,pitch,yaw\n1.png,0.png,0,0\n", ["0.png"]),
        ("a\\0.png", "file,pitch,yaw\na\\0.png,0,0\n", ["a\\0.png"]),
        ("a.b/0.png", "file,pitch,yaw\n1,0,0\na.b\\0,0,0\n", ["1.png", "a.b/0.png"]),
        # The name of a file as it stands comes first.
        ("1", "file,pitch,yaw\n1,0,0\n", ["1"]),
    ],
)
def test_a_name_in_a_table_is_found_as_it_is_meant(tmp_path: Path, file: str, text: str, wanted: list[str]) -> None:
    folder = write_images(tmp_path / "csv", 2, 1)
    Image.open(folder / "1.png").save(folder / "1.jpg")  # left out by the patterns
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes((folder / "0.png").read_bytes())
    (folder / "labels.csv").write_text(text)
    assert read(folder, LabelFormat(patterns=Patterns(exclude=("*.jpg",)))).files == wanted


# Patterns


def test_patterns_leave_labelled_images_out(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    write_images(folder / "masks", 3, 2)
    assert "3 images have no label" in read(folder, GAZE).warnings[0]
    eyes = read(folder, LabelFormat(patterns=Patterns(exclude=("masks", "2.png"))))
    assert (eyes.files, eyes.warnings) == (["0.png", "1.png", "3.png"], [])
    eyes = read(folder, LabelFormat(patterns=Patterns(include=("[13].png",), exclude=("masks",))))
    assert eyes.files == ["1.png", "3.png"]
    with pytest.raises(DataError, match="--include and --exclude leave none of its labelled images"):
        read(folder, LabelFormat(patterns=Patterns(include=("*.jpg",))))


def test_patterns_tell_renders_of_unityeyes_from_their_masks(tmp_path: Path) -> None:
    images, gaze, centres = discs(3, 1)
    folder = write_unityeyes(tmp_path / "unity", images, gaze, centres)
    for number in range(1, 4):
        Image.new("L", (640, 480)).save(folder / f"{number}.bmp")
    for patterns in (Patterns(exclude=("*.bmp",)), Patterns(include=("*.png",))):
        eyes = read(folder, LabelFormat(patterns=patterns))
        assert (eyes.files, eyes.warnings) == (["1.png", "2.png", "3.png"], [])
        assert np.array_equal(eyes.pixels, images)
    assert read(folder, LabelFormat(patterns=Patterns(include=("[12].png",)))).files == ["1.png", "2.png"]
    with pytest.raises(DataError, match="leave none of its labelled images"):
        read(folder, LabelFormat(patterns=Patterns(include=("masks",))))
    with pytest.raises(
        DataError, match=r"3 labels fit more than one image \(1: 1\.bmp, 1\.png, 2: .*; name the suffix"
    ):
        read(folder, GAZE)


def test_a_folder_without_labels_says_what_it_holds(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "eyes", 3, 1)
    for number in range(2):
        (folder / f"eye_{number}.json").write_text("{}")
    with pytest.raises(DataError, match=r"eyes: no labels found, but 3 \.png, 2 \.json; wanted"):
        read(folder, GAZE)
    with pytest.raises(DataError, match=r"eyes: no N\.json of UnityEyes among 3 \.png, 2 \.json"):
        read(folder, GAZE, "unityeyes")
    (folder / "1.png").rename(folder / "one.png")
    (folder / "1.json").write_text("{}")
    with pytest.raises(DataError, match=r"1 of 1 labels have no image \(1\); images there: 0\.png, 2\.png, one\.png; "):
        read(folder, GAZE)


# UnityEyes


@given(
    st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=4),
    st.integers(1, 7),
    st.sampled_from([(".", ", "), (".", ","), (",", ", "), (",", ","), (",", ",  ")]),
    st.sampled_from(["-", "\N{MINUS SIGN}"]),
)
def test_vectors_of_every_locale_are_read(vector: list[float], digits: int, marks: tuple[str, str], minus: str) -> None:
    texts = [f"{number:.{digits}f}" for number in vector]
    point, between = marks
    localized = f"({between.join(texts)})".replace(".", point).replace("-", minus)
    assert parse_vector(localized) == [float(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "vector"),
    [
        ("(0,0100, 0,2000, -0,9800)", [0.01, 0.2, -0.98]),
        ("(230,0000, 120,0000)", [230, 120]),
        ("(0,5, 1, -0,98)", [0.5, 1, -0.98]),  # as C#'s general format leaves zeros out
        ("(9,5E-07, 0, 1)", [9.5e-7, 0, 1]),
        ("(1,2)", [1, 2]),
        ("(1,2,3,4)", [1, 2, 3, 4]),
    ],
)
def test_commas_are_decimal_ones_where_blanks_or_their_number_show_it(text: str, vector: list[float]) -> None:
    assert parse_vector(text) == vector


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')", "(1, 2", "(1)", "(a, b, c)", "(nan, 1, 2)", "(1, 1e999)", "(0,1,2)x",
        "(1, 2, 3, 4, 5)", "(1, 2, 3, 4, 5, 6)", "(1.5,2,3.5,4,5.5,6)", "(1,2,3,4,5)",
    ],
)  # fmt: skip
def test_vectors_are_parsed_never_evaluated(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_vector(text)


@given(st.text())
def test_a_number_is_read_or_a_value_error(text: str) -> None:
    for parse in (parse_number, parse_vector):
        try:
            parse(text)
        except ValueError:
            continue


def test_renders_of_another_locale_and_encoding_are_the_same(tmp_path: Path) -> None:
    folder = write_unityeyes(tmp_path / "unity", *discs(3, 1))
    before = [read(folder, label_format) for label_format in (GAZE, PUPIL)]
    for path in folder.glob("*.json"):
        text = re.sub(r"(\d)\.(\d)", r"\1,\2", path.read_text())
        path.write_bytes(text.encode("utf-16"))
    for eyes in before:
        again = read(folder, LabelFormat(target=eyes.target))
        assert np.array_equal(again.pixels, eyes.pixels)
        assert np.array_equal(again.targets, eyes.targets)


def margin(number: str) -> str:
    """Return the JSON of a render whose lid margin has a point at y = `number`."""
    points = [f"(3.0, {number}, 5.0)", "(300, 200, 5)"]
    return json.dumps({"interior_margin_2d": points, "eye_details": {"look_vec": "(0, 0, -1)"}})


NO_RENDER, CUT_OFF = "not the JSON of a UnityEyes render .*", r"cut off or damaged JSON \(line 1: .*; render or copy it"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", CUT_OFF),
        ('{"iris_2d": ["(1, 2)",', CUT_OFF),
        ("<html>", CUT_OFF),
        ("[" * 100_000, NO_RENDER),
        ('{"iris": [], "lid": 3}', f"{NO_RENDER}found the names iris, lid; wanted interior_margin_2d"),
        ("[1, 2]", f"{NO_RENDER}found a list; wanted interior_margin_2d"),
        (
            '{"interior_margin_2d": ["(1, 2)", "(3, 4)"], "eye_details": {"gaze": ""}}',
            f"{NO_RENDER}names gaze; wanted eye_details.look_vec",
        ),
        (
            '{"interior_margin_2d": ["(1, 2, 3, 4, 5)"]}',
            rf"{NO_RENDER}'\(1, 2, 3, 4, 5\)' has 5 numbers; wanted \(x, y, z\)",
        ),
        (
            json.dumps({str(number): 0 for number in range(99)}),
            rf"{NO_RENDER}found the names 0, 1, .*11, \.\.\.; wanted",
        ),
        *[(margin(number), "is not finite|far outside the image") for number in ("nan", "-inf", "1e30", "1e308")],
    ],
)
def test_json_that_no_render_has_says_why(tmp_path: Path, text: str, says: str) -> None:
    folder = write_unityeyes(tmp_path / "unity", *discs(1, 1))
    (folder / "1.json").write_text(text)
    with pytest.raises(DataError, match=says):
        read(folder, LabelFormat(size=(9, 11)))


def test_a_render_without_an_iris_has_no_pupil(tmp_path: Path) -> None:
    folder = write_unityeyes(tmp_path / "unity", *discs(1, 1))
    (folder / "1.json").write_text('{"iris_2d": [], "interior_margin_2d": ["(1, 2)", "(3, 4)"]}')
    with pytest.raises(DataError, match=rf"1\.json: {NO_RENDER}iris_2d has no points"):
        read(folder, PUPIL)


def test_the_eye_window_has_the_aspect_and_the_centre() -> None:
    left, top, width, rows = eye_window(np.array([[100.0, 200.0], [200.0, 260.0]]), 480, (35, 55))
    assert np.allclose((left + width / 2, top + rows / 2), (150, 250))
    assert np.allclose((width, rows), (160, 160 * 35 / 55))


@needs_shared_data
def test_rendered_irises_lie_where_the_gaze_goes() -> None:
    gaze, iris = (read(SHARED / "unityeyes_sample", label_format) for label_format in (GAZE, PUPIL))
    for axis in (0, 1):
        assert np.corrcoef(gaze.targets[:, axis], iris.targets[:, axis])[0, 1] > 0.5
