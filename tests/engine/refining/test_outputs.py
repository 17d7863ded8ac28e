"""Written archives keep everything except images, with names byte for byte, and appear complete or not at all."""

import gzip
import io
import tarfile
import zipfile
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgan_cli.data.archives import Archive, open_archive
from simgan_cli.engine.refining.outcome import Outcome
from simgan_cli.engine.refining.outputs import Outputs, sidecar_kinds, write_archive
from simgan_cli.engine.refining.plan import Plan, check_inputs, make_plan
from simgan_cli.errors import UnreadableArchive, UnreadableImage
from tests.data.test_archives import GOOD_TAR, GOOD_ZIP, info, tar_of
from tests.helpers import members, pack, write_images

NAMES = ["./a/1.png", "a/" + "long" * 60 + ".png", "ä€.png", "latin-\udce4.png", "plain.png"]
RAW_NAMES = st.binary(min_size=1, max_size=30).filter(lambda name: not set(name) & set(b"\0/\\:") and name[:1] != b".")


@pytest.fixture
def renders(tmp_path: Path) -> Path:
    folder = write_images(tmp_path / "renders", 12, 1)
    write_images(folder / "b", 3, 2)
    (folder / "labels.csv").write_text("file\n")
    return folder


def written(archive: Archive, output: Path, results: dict[str, tuple[str, bytes]], *, others: bool = True) -> Path:
    """Write an archive with new names and contents of images, by their old names."""
    by_number = {entry.number: [results[entry.name]] if entry.name in results else [] for entry in archive.images}
    with output.open("wb") as file, closing(archive):
        write_archive(archive, file, by_number.get, others=others)
    return output


def plan_of(archive: Path, out: Path) -> Plan:
    return make_plan(check_inputs([archive], out), out, None, (0, 1))


@pytest.mark.parametrize("layout", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_rewritten_tar_keeps_everything_except_images(tmp_path: Path, layout: int, name: str) -> None:
    source, seconds = tmp_path / name, 1_500_000_000
    with tarfile.open(source, "w:gz" if name.endswith("gz") else "w", format=layout) as tar:
        for number, path in enumerate([*NAMES, "./a", "a/1.json", ".a.png", "b/labels.csv"]):
            item = info(
                path, tarfile.DIRTYPE if path == "./a" else tarfile.REGTYPE, 0 if path == "./a" else 700 + number
            )
            item.mtime, item.mode, item.uid, item.uname = seconds + number, 0o640, 3_000_000, "größe"
            tar.addfile(item, io.BytesIO(bytes([number]) * item.size))
    archive = open_archive(source)
    assert sorted(entry.name for entry in archive.images) == sorted(["a/1.png", *NAMES[1:]])
    results = {entry.name: (entry.name, b"new" * (entry.number + 1) * 300) for entry in archive.images}
    del results["plain.png"]
    before, after = members(source), members(written(archive, tmp_path / f"out-{name}", results))
    for path, content in before.items():
        plain = path.removeprefix("./")
        if plain == "plain.png":
            assert path not in after
        else:
            assert after[path] == (results[plain][1] if plain in results else content)
    with tarfile.open(source) as old, tarfile.open(tmp_path / f"out-{name}") as new:
        kept = [item for item in old if item.name != "plain.png"]
        for left, right in zip(kept, new, strict=True):  # in the same order
            for field in ("name", "mode", "mtime", "uid", "uname", "type"):
                assert getattr(left, field) == getattr(right, field)
    assert len(opened_bytes(tmp_path / f"out-{name}")) % tarfile.RECORDSIZE == 0


def opened_bytes(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def test_a_tar_whose_images_stay_is_the_same_file(renders: Path, tmp_path: Path) -> None:
    source = pack(renders, tmp_path / "a.tar")
    archive = open_archive(source)
    results = {member.entry.name: (member.entry.name, member.read_bytes()) for member in archive.members()}
    assert written(archive, tmp_path / "b.tar", results).read_bytes() == source.read_bytes()


def test_a_rewritten_zip_keeps_everything_except_images(renders: Path, tmp_path: Path) -> None:
    source = pack(renders, tmp_path / "a.zip")
    with zipfile.ZipFile(source, "a") as zipped:
        zipped.comment = b"a remark"
        stored = zipfile.ZipInfo("ä/stored.png", (1999, 12, 31, 23, 59, 58))
        stored.external_attr = 0o100640 << 16
        zipped.writestr(stored, b"x" * 10)
        zipped.mkdir("empty folder")
    archive = open_archive(source)
    results = {entry.name: (entry.name, b"new" * (entry.number + 1)) for entry in archive.images}
    output = written(archive, tmp_path / "b.zip", results)
    before, after = members(source), members(output)
    assert after == before | {name: content for name, (_, content) in results.items()}
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(output) as new:
        assert new.testzip() is None
        assert new.comment == b"a remark"
        for left, right in zip(old.infolist(), new.infolist(), strict=True):
            for field in ("filename", "date_time", "compress_type", "external_attr"):
                assert getattr(left, field) == getattr(right, field)


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_names_may_change_and_others_stay_behind(renders: Path, tmp_path: Path, name: str) -> None:
    archive = open_archive(pack(renders, tmp_path / name))
    results = {entry.name: (entry.name.replace(".png", ".jpg"), b"new") for entry in archive.images}
    output = written(archive, tmp_path / f"out-{name}", results, others=False)
    assert members(output) == {name: b"new" for name, _ in results.values()}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.zip"])
def test_the_same_results_in_another_order_give_the_same_bytes(renders: Path, tmp_path: Path, name: str) -> None:
    archive = pack(renders, tmp_path / name)
    for place, order in (("1", 1), ("2", -1)):
        plan = plan_of(archive, tmp_path / place)
        outputs = Outputs(plan, others=True, skip_existing=False)
        *early, last = list(plan.image_tasks())[::order]
        for task in early:
            assert outputs.keep([(Outcome(task, "refined"), task.name.encode())]) == []
            assert not (tmp_path / place / name).exists()
        certain = outputs.keep([(Outcome(last, "refined"), last.name.encode())])
        assert [outcome.task for outcome in certain] == [*early, last]
        assert [path.name for path in (tmp_path / place).iterdir()] == [name]
    assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@settings(max_examples=30)
@given(RAW_NAMES, RAW_NAMES, st.sampled_from([tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]))
def test_names_in_tars_stay_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, image: bytes, label: bytes, layout: int
) -> None:
    """Names in any encoding, as tools of other systems write them."""
    path = tmp_path_factory.mktemp("names") / "a.tar"
    image, label = image + b".png", label + b".txt"
    names = [name.decode("utf-8", "surrogateescape") for name in (image, label)]
    content = tar_of(*map(info, names), layout=layout)
    path.write_bytes(content)
    archive = open_archive(path)
    results = {entry.name: (entry.name, b"new") for entry in archive.images}
    after = written(archive, path.with_name("out.tar"), results).read_bytes()
    assert (after.count(image), after.count(label)) == (content.count(image), content.count(label))


def test_names_in_zips_stay_byte_for_byte(tmp_path: Path) -> None:
    """Japanese Windows packs names in Shift-JIS, without the flag of UTF-8."""
    old = {b"1" * 8: "日本.png".encode("shift-jis"), b"2" * 6: "目.csv".encode("shift-jis")}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for name in (*map(bytes.decode, old), "größe.png"):
            packed.writestr(name, b"\x89PNG\r\n\x1a\n")
    content = (tmp_path / "a.zip").read_bytes()
    for placeholder, raw in old.items():
        content = content.replace(placeholder, raw)
    (tmp_path / "a.zip").write_bytes(content)
    archive = open_archive(tmp_path / "a.zip")
    output = written(archive, tmp_path / "b.zip", {entry.name: (entry.name, b"new") for entry in archive.images})
    assert all(output.read_bytes().count(name) == content.count(name) == 2 for name in old.values())  # in both headers
    assert open_archive(output).by_name().keys() == archive.by_name().keys()


def test_a_damaged_other_file_leaves_nothing_half_written(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("a.png", b"x" * 600)
        zipped.writestr("a.json", b"label")
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes().replace(b"label", b"lable"))
    plan = plan_of(tmp_path / "a.zip", tmp_path / "out")
    [task] = plan.image_tasks()
    outputs = Outputs(plan, others=True, skip_existing=False)
    [outcome] = outputs.keep([(Outcome(task, "refined"), b"new")])
    assert outcome.status == "failed"
    assert "Bad CRC-32" in outcome.reason
    assert list((tmp_path / "out").iterdir()) == []


@given(data=st.data(), kind=st.sampled_from(["tar", "zip"]))
def test_damage_anywhere_raises_a_simgan_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: str
) -> None:
    content = bytearray(GOOD_TAR[:3072] if kind == "tar" else GOOD_ZIP)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / f"a.{kind}"
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        archive = open_archive(path)
    except UnreadableArchive as error:
        assert str(path) in str(error)
        return
    with closing(archive):
        for member in archive.members():
            try:
                member.read_bytes()
            except UnreadableImage as error:
                assert str(path) in str(error)
        with suppress(UnreadableArchive):
            write_archive(archive, io.BytesIO(), lambda number: [(f"new-{number}.png", b"new")], others=True)


def test_files_with_pixels_or_checksums_of_renders_are_named() -> None:
    names = ["a.npz", "a.TFRecord", "train.tfrecord-00000-of-00010", "b.tfrecords", "c.arrow", "d.record", "e.npy"]
    names += ["images.md5", "CHECKSUMS", "checksums.txt", "B2SUMS", "sha256sums", "labels.csv"]
    kinds = [".npz", ".tfrecord", ".tfrecord", ".tfrecords", ".arrow", ".record", *5 * ["file of checksums"]]
    assert list(sidecar_kinds((name, lambda: b"") for name in names)) == kinds
