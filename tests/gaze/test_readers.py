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
from PIL import Image

from simgan_cli.errors import DataError
from simgan_cli.gaze.geometry import angles_from_vectors
from simgan_cli.gaze.labels import Options, check_apart
from simgan_cli.gaze.readers import eye_window, parse_vector, read
from tests.gaze.helpers import discs, write_csv, write_mpiigaze, write_unityeyes
from tests.helpers import SHARED, needs_shared_data


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


def test_a_label_of_two_images_is_an_error(tmp_path: Path) -> None:
    images, gaze, centres = discs(2, 1)
    folder = write_unityeyes(tmp_path / "unity", images, gaze, centres)
    Image.new("L", (60, 40)).save(folder / "1.tif")
    with pytest.raises(DataError, match=r"1 labels have more than one image \(1\.json\)"):
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
