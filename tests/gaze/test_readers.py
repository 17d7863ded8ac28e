import csv
import json
import resource
import struct
import zipfile
import zlib
from collections.abc import Iterator
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
from simgan_cli.gaze.evaluation import prepare
from simgan_cli.gaze.geometry import angles_from_vectors
from simgan_cli.gaze.labels import Options, check_apart
from simgan_cli.gaze.readers import eye_window, parse_number, parse_vector, read, read_unlabelled
from simgan_cli.settings.eval_gaze import EvalGazeConfig
from tests.gaze.helpers import discs, write_csv, write_mpiigaze, write_unityeyes
from tests.helpers import SHARED, needs_shared_data, write_images


def test_csv_npz_and_unityeyes_of_the_same_eyes_agree(tmp_path: Path) -> None:
    images, gaze, centres = discs(6, 1)
    folder = write_csv(tmp_path / "csv", 6, 1)
    np.savez(tmp_path / "eyes.npz", x=images, gaze=angles_from_vectors(gaze, "mpiigaze"), pupil=centres)
    unity = write_unityeyes(tmp_path / "unity", images, gaze, centres)
    for target, wanted in (("gaze", gaze), ("pupil", centres)):
        for path in (folder, tmp_path / "eyes.npz", unity):
            found = read(path, Options(target=target))  # type: ignore[arg-type]
            assert np.array_equal(found.pixels, images), path
            assert np.allclose(found.targets, wanted, atol=1e-5), path


def test_mpiigaze_as_published(tmp_path: Path) -> None:
    root = tmp_path / "MPIIGaze"
    kept = write_mpiigaze(root, {"p00": 3, "p01": 1})["p00"]  # a day with one sample squeezes to scalars
    found = read(root, Options())
    assert (len(found), found.size, sorted(set(found.persons or []))) == (8, (36, 60), ["p00", "p01"])
    assert any("evaluation subset" in warning for warning in found.warnings)
    lists = root / "Evaluation Subset" / "sample list for eye image"
    lists.mkdir(parents=True)
    (lists / "p00.txt").write_text("day01/0001.jpg left\nday01/0002.jpg right\n")
    left, right = read(root, Options()).pixels
    assert np.array_equal(left, kept["left"][1])
    assert np.array_equal(right, kept["right"][2][:, ::-1])
    targets = read(root, Options()).targets
    assert np.allclose(targets[0] * (-1, 1, 1), targets[1])
    assert targets[0, 0] > 0
    (lists / "p00.txt").write_text("day09/0001.jpg left\n")
    with pytest.raises(DataError, match="1 eyes of the evaluation subset"):
        read(root, Options())


@pytest.mark.parametrize(
    ("inside", "path"),
    [("Data", "Normalized"), ("Data/Normalized", "."), ("Data/Normalized/p00", "..")],
)
def test_mpiigaze_s_lists_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str, path: str
) -> None:
    write_mpiigaze(tmp_path, {"p00": 3})
    lists = tmp_path / "Evaluation Subset" / "sample list for eye image"
    lists.mkdir(parents=True)
    (lists / "p00.txt").write_text("day01/0001.jpg left\n")
    monkeypatch.chdir(tmp_path / inside)
    assert len(read(Path(path), Options())) == 1


def test_hdf5_by_person_and_flat(tmp_path: Path) -> None:
    images, gaze, _ = discs(4, 2)
    angles = angles_from_vectors(gaze, "mpiigaze")
    with h5py.File(tmp_path / "faces.h5", "w") as file:
        for index in range(4):
            file[f"p{index % 2:02}/image/{index:04}"] = np.repeat(images[index][..., None], 3, axis=2)
            file[f"p{index % 2:02}/gaze/{index:04}"] = angles[index]
    found = read(tmp_path / "faces.h5", Options())
    assert found.persons == ["p00", "p00", "p01", "p01"]
    assert np.allclose(found.targets, gaze[[0, 2, 1, 3]])
    assert np.array_equal(found.pixels, images[[0, 2, 1, 3]])
    with h5py.File(tmp_path / "numbered.h5", "w") as file:
        file["gaze"] = np.repeat(angles, 3, axis=0)
        for index in range(12):  # 10 comes after 9, not after 1
            file[f"image/{index}"] = np.repeat(images, 3, axis=0)[index]
    assert np.array_equal(read(tmp_path / "numbered.h5", Options()).pixels, np.repeat(images, 3, axis=0))
    with h5py.File(tmp_path / "flat.h5", "w") as file:
        file["face_patch"], file["face_gaze"] = images, angles  # ETH-XGaze: the reversed vector's angles
    assert np.allclose(read(tmp_path / "flat.h5", Options(convention="xgaze")).targets, gaze)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("2.png", "22.png"), "1 of 4 labels have no image"),
        (lambda text: text.replace("2.png", "1.png"), "more than once"),
        (lambda text: text + text.splitlines()[1].replace("0.png", "./0.png") + "\n", "more than once"),
        (lambda _: "file,pitch,yaw,pitch,,\n0.png,0,0,1,,\n", "has the columns pitch more than once"),
        (lambda text: text.replace("gx", "hx"), "wanted file,gx,gy,gz or file,pitch,yaw"),
        (lambda _: "file,pitch,yaw\n0.png,12,-7\n", "degrees; say so with --degrees"),
        (lambda _: "file,pitch,yaw\n0.png,nan,0.1\n", "line 2: pitch is 'nan', wanted a number"),
        (lambda _: "file,gx,gy,gz\n0.png,0,0,0\n", "of length 0"),
        (lambda _: "file,pitch,yaw\n0.png,up,0\n", "line 2: pitch is 'up'"),
        (lambda _: "file,pitch,yaw\n", "no labelled image"),
        (lambda _: "file,pitch,yaw,person\n0.png,0,0,\n", "line 2 names no person"),
        (lambda _: "file,pitch,yaw\n../csv/0.png,0,0\n", "outside the folder"),
    ],
)
def test_bad_tables_say_what_is_wrong(tmp_path: Path, change: Any, says: str) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    table = folder / "labels.csv"
    table.write_text(change(table.read_text()))
    with pytest.raises(DataError, match=says):
        read(folder, Options())


def test_other_lengths_degrees_and_images_without_labels(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    (folder / "labels.csv").write_text("file,pitch,yaw\n0.png,30,0\n1.png,0,-45\n")
    found = read(folder, Options(degrees=True))
    assert np.allclose(np.degrees(angles_from_vectors(found.targets, "mpiigaze")), [(30, 0), (0, -45)])
    assert "2 images have no label" in found.warnings[0]
    (folder / "labels.csv").write_text("file,gx,gy,gz\n0.png,0,0,-2\n")
    found = read(folder, Options())
    assert np.allclose(found.targets, [(0, 0, -1)])
    assert any("not of length 1" in warning for warning in found.warnings)


def test_radians_said_to_be_degrees_are_told(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    (folder / "labels.csv").write_text("file,pitch,yaw\n0.png,-0.3,0.1\n1.png,0.1,0.4\n")
    said = "no angle is larger than 0.4 degrees: if its labels are radians, leave --degrees out"
    assert any(said in warning for warning in read(folder, Options(degrees=True)).warnings)
    assert not any("labels are radians" in warning for warning in read(folder, Options()).warnings)
    (folder / "labels.csv").write_text("file,pitch,yaw\n0.png,-0.3,0.1\n1.png,0.1,-2\n")
    assert not any("labels are radians" in warning for warning in read(folder, Options(degrees=True)).warnings)


def test_pickles_in_npz_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "eyes.npz", x=np.zeros((2, 9, 15), np.uint8), gaze=np.array([{}, {}], dtype=object))
    with pytest.raises(DataError, match="without pickles"):
        read(tmp_path / "eyes.npz", Options())


def test_labels_that_are_words_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "eyes.npz", x=np.zeros((2, 9, 15), np.uint8), gaze=np.array([["up", "left"]] * 2))
    with pytest.raises(DataError, match=r"eyes\.npz: labels are <U4, not numbers"):
        read(tmp_path / "eyes.npz", Options())


def test_an_npz_that_expands_to_memory_s_end_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((10_000, 90, 90), np.uint8), gaze=np.zeros((10_000, 2)))
    with pytest.raises(DataError, match="expands to 81,"):
        read(tmp_path / "bomb.npz", Options())
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    content = b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "liar.npz", "w") as file:
        file.writestr("x.npy", content)
        file.writestr("gaze.npy", content)
    with pytest.raises(DataError, match=r"liar\.npz: cannot be read"):
        read(tmp_path / "liar.npz", Options())


def test_an_hdf5_of_nothing_but_fill_values_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (10**6, 900, 900), "u1")
        file["gaze"] = np.zeros((3, 2))
    with pytest.raises(DataError, match="expands to 810,000,000,000 bytes"):
        read(tmp_path / "a.h5", Options())


def packed_zeros(megabytes: int, start: bytes = b"") -> bytes:
    packer = zlib.compressobj(9)
    return packer.compress(start) + b"".join(packer.compress(bytes(10**6)) for _ in range(megabytes)) + packer.flush()


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let this process have no more than 300 MB beside what it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.slow
def test_an_hdf5_whose_chunks_unpack_to_more_than_they_may_is_refused(tmp_path: Path, little_memory: None) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["gaze"] = np.zeros((2, 2))
        images = file.create_dataset("x", (2, 9, 15), "u1", chunks=(2, 9, 15), compression="gzip", fletcher32=True)
        images.id.write_direct_chunk((0, 0, 0), packed_zeros(600))
    with pytest.raises(DataError, match="a chunk of /x expands to more than its 274 bytes"):
        read(tmp_path / "a.h5", Options())


@pytest.mark.parametrize(
    "how", [{"compression": "gzip", "shuffle": True, "fletcher32": True}, {"compression": "lzf"}, {}]
)
def test_an_hdf5_may_be_packed_in_any_usual_way(tmp_path: Path, how: dict[str, Any]) -> None:
    images, gaze, _ = discs(9, 1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=images, chunks=(4, 35, 55), **how)
        file["gaze"] = gaze
        file["file"] = np.array([f"{number}.png" for number in range(9)], object)
        file["person"] = np.array([b"p00"] * 9)
    found = read(tmp_path / "a.h5", Options())
    assert np.array_equal(found.pixels, images)
    assert found.files == [f"{number}.png" for number in range(9)]
    assert found.persons == ["p00"] * 9


def test_an_hdf5_of_one_long_text_many_times_is_refused(tmp_path: Path, little_memory: None) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["gaze"] = np.zeros((20_000, 1, 1), np.uint8), np.zeros((20_000, 2))
        file["file"] = np.array(["x" * 60_000, *[""] * 19_999], object)
        place = file["file"].id.get_offset()
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[place : place + 16 * 20_000] = content[place : place + 16] * 20_000  # each refers to the first one's text
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(DataError, match="expands to"):
        read(tmp_path / "a.h5", Options())


def test_rows_of_an_hdf5_that_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["gaze"] = np.zeros((2, 2))
        file.create_dataset("x", (2, 9, 15), "u1", external=[("/dev/zero", 0, 270)])
    with pytest.raises(DataError, match="store it plainly"):
        read(tmp_path / "a.h5", Options())


@pytest.mark.slow
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_mat_that_unpacks_to_memory_s_end_is_refused(tmp_path: Path, little_memory: None, order: str) -> None:
    write_mpiigaze(tmp_path, {"p00": 3})
    day = tmp_path / "Data" / "Normalized" / "p00" / "day01.mat"
    size = 600 * 10**6
    array = struct.pack(order + "9I", 6, 8, 9, 0, 5, 8, size, 1, 1) + struct.pack(
        order + "I4s4xII", 4, b"data", 2, size
    )
    content = packed_zeros(600, struct.pack(order + "II", 14, len(array) + size) + array)
    sign = b"IM" if order == "<" else b"MI"
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(order + "H", 0x100) + sign
    day.write_bytes(header + struct.pack(order + "II", 15, len(content)) + content)
    with pytest.raises(DataError, match=r"day01\.mat: expands to .* more than 200 times its own"):
        read(tmp_path, Options())


@pytest.mark.parametrize("damage", [lambda c: c[:-20], lambda c: c[:300] + bytes(30) + c[330:], lambda c: b"x" * 200])
def test_a_damaged_day_of_mpiigaze_is_named(tmp_path: Path, damage: Any) -> None:
    write_mpiigaze(tmp_path, {"p00": 3})
    day = tmp_path / "Data" / "Normalized" / "p00" / "day01.mat"
    content = {name: value for name, value in scipy.io.loadmat(day).items() if name[0] != "_"}
    scipy.io.savemat(day, content, do_compression=True)
    day.write_bytes(damage(day.read_bytes()))
    with pytest.raises(DataError, match=r"day01\.mat: "):
        read(tmp_path, Options())


@pytest.mark.parametrize("text", ["[" * 100_000, '{"iris_2d": [], "interior_margin_2d": ["(1, 2)", "(3, 4)"]}'])
def test_json_that_no_render_has_is_named(tmp_path: Path, text: str) -> None:
    images, gaze, centres = discs(1, 1)
    folder = write_unityeyes(tmp_path / "unity", images, gaze, centres)
    (folder / "1.json").write_text(text)
    with pytest.raises(DataError, match=r"1\.json: not the JSON"):
        read(folder, Options(target="pupil"))


@pytest.mark.parametrize("text", ["", '{"iris_2d": ["(1, 2)",', "<html>"])
def test_json_that_is_cut_off_says_so(tmp_path: Path, text: str) -> None:
    folder = write_unityeyes(tmp_path / "unity", *discs(1, 1))
    (folder / "1.json").write_text(text)
    with pytest.raises(DataError, match=r"1\.json: cut off or damaged JSON \(line 1: .*; render or copy it again"):
        read(folder, Options())


def test_an_hdf5_that_is_cut_off_says_so(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros((2, 9, 9), np.uint8)
    (tmp_path / "a.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:900])
    with pytest.raises(DataError, match=r"damaged or cut off HDF5 .*; copy it again"):
        read(tmp_path / "a.h5", Options())


def test_a_label_of_two_images_is_an_error(tmp_path: Path) -> None:
    images, gaze, centres = discs(2, 1)
    folder = write_unityeyes(tmp_path / "unity", images, gaze, centres)
    Image.new("L", (60, 40)).save(folder / "1.tif")
    with pytest.raises(DataError, match=r"1 labels have more than one image \(1\.json: 1\.png, 1\.tif\)"):
        read(folder, Options())


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e30", "1e308"])
def test_landmarks_nowhere_near_the_image_are_an_error(tmp_path: Path, number: str) -> None:
    folder = write_unityeyes(tmp_path / "unity", *discs(1, 1))
    content = json.loads((folder / "1.json").read_text())
    content["interior_margin_2d"][0] = f"(3.0, {number}, 5.0)"
    (folder / "1.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"is not finite|far outside the image"):
        read(folder, Options(size=(9, 11)))


@pytest.mark.parametrize("text", ["__import__('os')", "(1, 2", "(1)", "(a, b, c)", "(nan, 1, 2)", "(1, 1e999)"])
def test_vectors_are_parsed_never_evaluated(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_vector(text)


def test_the_eye_window_has_the_aspect_and_the_centre() -> None:
    left, top, width, rows = eye_window(np.array([[100.0, 200.0], [200.0, 260.0]]), 480, (35, 55))
    assert np.allclose((left + width / 2, top + rows / 2), (150, 250))
    assert np.allclose((width, rows), (160, 160 * 35 / 55))


def test_other_sizes_take_the_pupil_along(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    small = read(folder, Options(target="pupil", size=(70, 110)))
    assert np.allclose(small.targets, 2 * read(folder, Options(target="pupil")).targets)


def test_pupils_outside_their_images_are_told_and_most_of_them_are_an_error(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    options = Options(target="pupil")
    assert not any("outside" in warning for warning in read(folder, options).warnings)
    for count, row in enumerate(rows[:3], start=1):
        row["pupil_x"] = "300"
        with (folder / "labels.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
        if count <= 2:
            assert f"{count} of 4 pupil centres lie outside their image (0.png)" in read(folder, options).warnings[-1]
    with pytest.raises(DataError, match="3 pupil centres lie outside"):
        read(folder, options)


def test_shared_images_are_leakage(tmp_path: Path) -> None:
    train = read(write_csv(tmp_path / "a", 4, 1), Options())
    check_apart(train, read(write_csv(tmp_path / "b", 4, 2), Options()))
    with pytest.raises(DataError, match="share 4 images"):
        check_apart(train, read(write_csv(tmp_path / "c", 4, 1), Options()))


@needs_shared_data
def test_rendered_irises_lie_where_the_gaze_goes() -> None:
    gaze = read(SHARED / "unityeyes_sample", Options())
    iris = read(SHARED / "unityeyes_sample", Options(target="pupil"))
    for axis in (0, 1):
        assert np.corrcoef(gaze.targets[:, axis], iris.targets[:, axis])[0, 1] > 0.5


def test_a_name_longer_than_any_file_s_is_a_label_without_an_image(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    (folder / "labels.csv").write_text(f"file,pitch,yaw\n{'9' * 5000},0,0\n")
    with pytest.raises(DataError, match="1 of 1 labels have no image"):
        read(folder, Options())


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
    told: str,
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
    text = f"sep={delimiter}{end}{text}" if told else text
    (folder / "labels.csv").write_bytes(ENCODINGS[encoding] + text.encode(encoding))
    found = read(folder, Options())
    assert found.files == ["0.png", "1.png", "2.png"]
    assert np.allclose(angles_from_vectors(found.targets, "mpiigaze"), angles, atol=1e-12)
    assert found.warnings == []


def test_quoted_decimal_commas_are_read(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "csv", 2, 1)
    (folder / "labels.csv").write_text('file, pitch, yaw\n0.png, "0,125", "-0,25"\n"1.png","\u22120,5",\u22120.0625\n')
    angles = angles_from_vectors(read(folder, Options()).targets, "mpiigaze")
    assert np.allclose(angles, [(0.125, -0.25), (-0.5, -0.0625)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"file,pitch,yaw\n0.png,0,125,-0,25\n", "line 2 has 5 cells below 3 columns; where commas are decimal ones"),
        (b"file,pitch,yaw\n\n0.png,0,1\n1.png,up,1\n", "line 4: pitch is 'up', wanted a number"),
        (b"file;pitch;yaw\n0.png;1.234,5;0\n", "line 2: pitch is '1.234,5', wanted a number"),
        (b"file,pitch,yaw\n0.png,0\n", "line 2: yaw is '', wanted a number"),
        (
            b"file,pitch,yaw\ncaf\xe9.png,0,0\n",
            r"labels\.csv: cannot be read as a table \(not text in UTF-8.*save it as",
        ),
        (b"image,pitch,yaw\n0.png,0,0\n", "has the columns image, pitch, yaw; wanted"),
        (b"file,pitch,yaw\nC:\\renders\\0.png,0,0\n", "lies outside the folder"),
        (b"file,pitch,yaw\n..\\0.png,0,0\n", "lies outside the folder"),
        (b"file,pitch,yaw\n/0.png,0,0\n", "lies outside the folder"),
        (b"file,pitch,yaw\nsub/../0.png,0,0\n", "lies outside the folder"),
        (b"file,pitch,yaw\n0,0,0\n.\\0.png,0,0\n", r"0\.png stand there more than once"),
        (b"file,pitch,yaw\n7,0,0\n", r"1 of 1 labels have no image \(7\); images there: 0\.png, 1\.png, 2\.jpg; "),
        (b"file,pitch,yaw\n,0,0\n", r"1 of 1 labels have no image \(an empty name\)"),
        (b"version https://git-lfs.github.com/spec/v1\n", r"no table but a Git LFS pointer; .*git lfs pull"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html>", "no table but HTML or XML"),
        ("<html>".encode("utf-16"), "no table but HTML or XML"),
        (b"PK\3\4\x14\0\6\0", "no table but an Excel workbook or another zip archive; save it as CSV"),
        (b"file,pitch,yaw\n2,0,0\n", r"1 labels fit more than one image \(2: 2\.jpg, 2\.png\); add the suffix"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(tmp_path: Path, text: bytes, says: str) -> None:
    folder = write_images(tmp_path / "csv", 3, 1)
    Image.open(folder / "2.png").save(folder / "2.jpg")
    (folder / "labels.csv").write_bytes(text)
    with pytest.raises(DataError, match=says):
        read(folder, Options())


def test_of_columns_that_differ_in_case_the_one_spelled_as_wanted_counts(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "csv", 2, 1)
    (folder / "labels.csv").write_text("File,file,pitch,yaw\n0.png,1.png,0,0\n")
    assert read(folder, Options()).files == ["1.png"]


def test_a_suffix_may_lack_where_one_picture_fits(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "csv", 2, 1)
    write_images(folder / "a.b", 1, 2)
    Image.open(folder / "1.png").save(folder / "1.jpg")
    (folder / "labels.csv").write_text("file,pitch,yaw\n0,0,0\na.b\\0,0,0\n1,0,0\n")
    assert read(folder, Options(patterns=Patterns(exclude=("*.jpg",)))).files == ["0.png", "a.b/0.png", "1.png"]
    (folder / "0").write_bytes((folder / "0.png").read_bytes())  # the name of a file as it stands comes first
    assert read(folder, Options(patterns=Patterns(exclude=("*.jpg",)))).files == ["0", "a.b/0.png", "1.png"]


def test_a_name_may_hold_a_backslash(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "csv", 1, 1)
    (folder / "0.png").rename(folder / "a\\0.png")
    (folder / "labels.csv").write_text("file,pitch,yaw\na\\0.png,0,0\n")
    assert read(folder, Options()).files == ["a\\0.png"]


def test_patterns_leave_labelled_images_out(tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv", 4, 1)
    write_images(folder / "masks", 3, 2)
    assert "3 images have no label" in read(folder, Options()).warnings[0]
    found = read(folder, Options(patterns=Patterns(exclude=("masks", "2.png"))))
    assert (found.files, found.warnings) == (["0.png", "1.png", "3.png"], [])
    assert read(folder, Options(patterns=Patterns(include=("[13].png",), exclude=("masks",)))).files == [
        "1.png",
        "3.png",
    ]
    with pytest.raises(DataError, match="--include and --exclude leave none of its labelled images"):
        read(folder, Options(patterns=Patterns(include=("*.jpg",))))


def test_patterns_tell_renders_of_unityeyes_from_their_masks(tmp_path: Path) -> None:
    images, gaze, centres = discs(3, 1)
    folder = write_unityeyes(tmp_path / "unity", images, gaze, centres)
    for number in range(1, 4):
        Image.new("L", (640, 480)).save(folder / f"{number}.bmp")
    for patterns in (Patterns(exclude=("*.bmp",)), Patterns(include=("*.png",))):
        found = read(folder, Options(patterns=patterns))
        assert (found.files, found.warnings) == (["1.png", "2.png", "3.png"], [])
        assert np.array_equal(found.pixels, images)
    found = read(folder, Options(patterns=Patterns(include=("[12].png",))))
    assert found.files == ["1.png", "2.png"]
    with pytest.raises(DataError, match="leave none of its labelled images"):
        read(folder, Options(patterns=Patterns(include=("masks",))))


def test_patterns_hold_for_unlabelled_images(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "real", 4, 1, (9, 15))
    write_images(folder / "masks", 3, 2, (9, 15))
    images, told = read_unlabelled(folder, (9, 15), Options(patterns=Patterns(exclude=("masks",))))
    assert np.array_equal(images, [np.asarray(Image.open(folder / f"{number}.png")) for number in range(4)])
    assert told == []


def in_locale(numbers: list[str], comma: str, between: str, minus: str) -> str:
    """Spell a vector as a program of that locale does."""
    return f"({between.join(numbers)})".replace(".", comma).replace("-", minus)


@given(
    st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=4),
    st.integers(1, 7),
    st.sampled_from([(".", ", "), (".", ","), (",", ", "), (",", ","), (",", ",  ")]),
    st.sampled_from(["-", "\N{MINUS SIGN}"]),
)
def test_vectors_of_every_locale_are_read(vector: list[float], digits: int, marks: tuple[str, str], minus: str) -> None:
    texts = [f"{number:.{digits}f}" for number in vector]
    point, between = marks
    assert parse_vector(in_locale(texts, point, between, minus)) == [float(text) for text in texts]


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
    "text", ["(1, 2, 3, 4, 5)", "(1, 2, 3, 4, 5, 6)", "(1.5,2,3.5,4,5.5,6)", "(1,2,3,4,5)", "(0,1,2)x"]
)
def test_a_vector_of_more_numbers_than_a_render_s_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_vector(text)


@given(st.text())
def test_a_number_is_read_or_a_value_error(text: str) -> None:
    for parse in (parse_number, parse_vector):
        try:
            parse(text)
        except ValueError:
            continue


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_renders_of_another_locale_and_encoding_are_the_same(tmp_path: Path, encoding: str) -> None:
    folder = write_unityeyes(tmp_path / "unity", *discs(3, 1))
    wanted = {target: read(folder, Options(target=target)) for target in ("gaze", "pupil")}
    for path in folder.glob("*.json"):
        content = json.loads(path.read_text())

        def localized(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: localized(item) for key, item in value.items()}
            return [*map(localized, value)] if isinstance(value, list) else value.replace(".", ",")

        path.write_bytes(json.dumps(localized(content)).encode(encoding))
    for target, before in wanted.items():
        found = read(folder, Options(target=target))  # type: ignore[arg-type]
        assert np.array_equal(found.pixels, before.pixels)
        assert np.array_equal(found.targets, before.targets)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"iris": [], "lid": 3}, r"found the names iris, lid; wanted interior_margin_2d"),
        ([1, 2], r"found a list; wanted interior_margin_2d"),
        (
            {"interior_margin_2d": ["(1, 2)", "(3, 4)"], "eye_details": {"gaze": ""}},
            "names gaze; wanted eye_details.look_vec",
        ),
        ({"interior_margin_2d": ["(1, 2, 3, 4, 5)"]}, r"'\(1, 2, 3, 4, 5\)' has 5 numbers; wanted \(x, y, z\)"),
        ({str(number): 0 for number in range(99)}, r"found the names 0, 1, .*11, \.\.\.; wanted"),
    ],
)
def test_json_without_a_name_says_which_are_there(tmp_path: Path, content: Any, says: str) -> None:
    folder = write_unityeyes(tmp_path / "unity", *discs(1, 1))
    (folder / "1.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=says):
        read(folder, Options())


def test_a_folder_without_labels_says_what_it_holds(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "eyes", 3, 1)
    for number in range(2):
        (folder / f"eye_{number}.json").write_text("{}")
    with pytest.raises(DataError, match=r"eyes: no labels found, but 3 \.png, 2 \.json; wanted"):
        read(folder, Options())
    with pytest.raises(DataError, match=r"eyes: no N\.json of UnityEyes among 3 \.png, 2 \.json"):
        read(folder, Options(), "unityeyes")
    (folder / "1.png").rename(folder / "one.png")
    (folder / "1.json").write_text("{}")
    with pytest.raises(DataError, match=r"1 labels have no image \(1\.json\) among 3 \.png, 3 \.json"):
        read(folder, Options())


def test_arrays_under_other_names_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "eyes.npz", eyes=np.zeros((2, 9, 15), np.uint8), directions=np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"eyes\.npz: holds eyes, directions; wanted x and gaze"):
        read(tmp_path / "eyes.npz", Options())
    with h5py.File(tmp_path / "eyes.h5", "w") as file:
        file["p00/eyes"], file["p00/gaze"], file["info"] = np.zeros((2, 9, 15), np.uint8), np.zeros((2, 2)), 3
        file.create_group("empty")
    with pytest.raises(DataError, match=r"eyes\.h5: holds empty, info, p00/eyes, p00/gaze; wanted images \(x, image"):
        read(tmp_path / "eyes.h5", Options())
    with h5py.File(tmp_path / "gaze.h5", "w") as file:
        file["x"], file["gaze"] = np.zeros((2, 9, 15), np.uint8), np.zeros((2, 2))
    with pytest.raises(DataError, match=r"gaze\.h5: holds gaze, x; wanted x and pupil"):
        read(tmp_path / "gaze.h5", Options(target="pupil"))


def test_a_mat_of_other_fields_names_them(tmp_path: Path) -> None:
    day = tmp_path / "p00" / "day01.mat"
    day.parent.mkdir()
    scipy.io.savemat(day, {"data": {"left": {"pixels": np.zeros((2, 36, 60))}, "right": 3}, "names": 4})
    with pytest.raises(
        DataError, match=r"day01\.mat: not a day of MPIIGaze .*; found data\.left\.pixels, data\.right, names; "
    ):
        read(tmp_path, Options())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_of_mpiigaze_are_read_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    write_mpiigaze(tmp_path, {"p00": 3})
    lists = tmp_path / "Evaluation Subset" / "sample list for eye image"
    lists.mkdir(parents=True)
    (lists / "p00.txt").write_bytes("day01/0001.jpg left\r\nday01/0002.jpg right\r\n".encode(encoding))
    assert read(tmp_path, Options()).files == ["p00/day01/0001.jpg left", "p00/day01/0002.jpg right"]
    (lists / "p00.txt").write_bytes(b"day01/\xff.jpg left\n")
    with pytest.raises(DataError, match=r"p00\.txt: cannot be read as a list \(not text in UTF-8"):
        read(tmp_path, Options())


def test_an_evaluation_reads_the_pictures_that_patterns_say(tmp_path: Path) -> None:
    folders = {
        "train": write_unityeyes(tmp_path / "train", *discs(3, 1)),
        "test": write_csv(tmp_path / "test", 4, 2),
        "real_train": write_csv(tmp_path / "real", 5, 3),
        "reweight_to": write_images(tmp_path / "unlabelled", 6, 4, (35, 55)),
    }
    for folder in folders.values():
        for number in range(4):
            Image.new("L", (640, 480), number).save(folder / f"{number}.bmp")
    settings = {name: folder for name, folder in folders.items() if name != "train"}
    config = EvalGazeConfig(train=(f"eyes={folders['train']}",), out=tmp_path / "out", exclude="*.bmp", **settings)
    evaluation = prepare(config)
    assert {name: len(images) for name, images in evaluation.sets.items()} == {"eyes": 3, "oracle": 5}
    assert (len(evaluation.tested), evaluation.unlabelled is not None and len(evaluation.unlabelled)) == (4, 6)
    assert not any("left out" in warning for warning in evaluation.warnings)
