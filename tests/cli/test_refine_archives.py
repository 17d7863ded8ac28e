"""`simgan refine` and `simgan train` with tar and zip files in the place of folders."""

import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from simgan_cli.engine.refining.record import RECORD
from tests.conftest import Domains
from tests.helpers import TINY, files_below, invoke, members, pack, write_images, write_refiner, write_renders

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_refiner(tmp_path_factory.mktemp("model"))


@pytest.fixture
def renders(tmp_path: Path) -> Path:
    folder = write_renders(tmp_path / "renders")
    (folder / "deep er" / "1.json").unlink()  # an image without a file of its name beside it
    return folder


@pytest.fixture
def refine(model: Path, tmp_path: Path) -> Run:
    """Run `simgan refine` in this process into `out`."""

    def run(*arguments: str | Path, model: Path = model, out: str = "out", code: int = 0) -> Result:
        return invoke("refine", *arguments, "--model", model, "--out", tmp_path / out, code=code)

    return run


def below(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder but for the record of what refined them."""
    return {name: content for name, content in files_below(folder).items() if name != RECORD}


@pytest.mark.parametrize("name", ["r.tar", "r.tar.gz", "r.tgz", "r.zip"])
def test_the_members_are_the_files_that_the_folder_gives(refine: Run, renders: Path, tmp_path: Path, name: str) -> None:
    refine(renders, out="folder")
    refine(pack(renders, tmp_path / name))
    assert below(tmp_path / "out").keys() == {name}
    assert members(tmp_path / "out" / name) == below(tmp_path / "folder")


def test_a_folder_of_shards_keeps_its_names_beside_loose_files(refine: Run, renders: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    for number in range(12):
        single = write_images(tmp_path / f"s{number}", 1 + number % 3, number)
        pack(single, shards / "a" / f"{number:06}.tar")
    pack(renders, shards / "b.zip")
    write_images(shards, 2, 99)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "x.json").write_text("{}")
    labels = pack(tmp_path / "labels", shards / "labels.tgz")
    result = refine(shards, "--json", "--manifest", tmp_path / "m.jsonl", "--compare", tmp_path / "c.png")
    document = json.loads(result.stdout)
    assert (document["images"], document["refined"], document["labels"]) == (33, 33, 2 + 1)
    files = below(tmp_path / "out")
    assert files.keys() == below(shards).keys()
    assert files["labels.tgz"] == labels.read_bytes()
    refine(tmp_path / "s5", out="single")
    assert members(tmp_path / "out/a/000005.tar") == below(tmp_path / "single")
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert len({line["source"] for line in lines}) == 33
    assert f"{shards}/b.zip/deep er/0.png" in [line["source"] for line in lines]
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_archives_are_refined_beside_folders_and_in_parts(refine: Run, renders: Path, tmp_path: Path) -> None:
    inputs = [renders, *(pack(renders, tmp_path / f"{n}.tar", n) for n in range(3))]
    refine(*inputs, out="complete")
    assert {name.split("/")[0] for name in below(tmp_path / "complete")} == {"renders", "0.tar", "1.tar", "2.tar"}
    images = [json.loads(refine(*inputs, "--json", "--shard", f"{part}/3").stdout)["images"] for part in (1, 2, 3)]
    assert sum(images) == 4 * 7
    assert files_below(tmp_path / "out") == files_below(tmp_path / "complete")


def test_archives_take_formats_labels_and_dry_runs(refine: Run, renders: Path, tmp_path: Path) -> None:
    archive = pack(renders, tmp_path / "r.tar")
    listed = refine(archive, "--dry-run").stdout
    assert f"refine {archive}/deep er/0.png -> {tmp_path}/out/r.tar/deep er/0.png" in listed
    assert f"copy {archive}/labels.csv -> {tmp_path}/out/r.tar/labels.csv" in listed
    assert not (tmp_path / "out").exists()
    refine(archive, "--format", "tiff", "--no-copy-others")
    names = {f"{n}.tif" for n in range(5)} | {"deep er/0.tif", "deep er/1.tif"}
    assert members(tmp_path / "out" / "r.tar").keys() == names


def test_existing_archives_are_an_error_or_skipped_as_one(refine: Run, renders: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    for name in ("1.tar", "2.tar", "3.zip"):
        pack(renders, shards / name)
    refine(shards)
    expected = files_below(tmp_path / "out")
    assert "3 results there already" in refine(shards, code=2).stderr
    (tmp_path / "out" / "2.tar").write_bytes(expected["2.tar"][:3000])  # as if cut by another program
    kept = (tmp_path / "out" / "1.tar").stat()
    document = json.loads(refine(shards, "--skip-existing", "--json", "--manifest", tmp_path / "m.jsonl").stdout)
    assert (document["refined"], document["skipped"]) == (7, 14)
    assert files_below(tmp_path / "out") == expected
    assert (tmp_path / "out" / "1.tar").stat() == kept
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    hashes = [{line["output_sha256"] for line in lines if f"/{name}/" in line["source"]} for name in ("1.tar", "2.tar")]
    assert hashes[0] == hashes[1]
    refine(shards, "--overwrite")
    assert files_below(tmp_path / "out") == expected


@pytest.mark.parametrize("name", ["r.tar", "r.zip"])
def test_an_archive_that_lacks_an_image_or_a_label_is_rewritten(
    refine: Run, renders: Path, tmp_path: Path, name: str
) -> None:
    broken = renders / "deep er" / "1.png"
    good = broken.read_bytes()
    broken.write_bytes(b"this is no image")
    archive, output = pack(renders, tmp_path / name), tmp_path / "out" / name
    for flags in ([], ["--skip-existing"]):
        document = json.loads(refine(archive, "--json", *flags, code=3).stdout)
        assert [failed["path"] for failed in document["failed"]] == [f"{archive}/deep er/1.png"]
        assert (document["images"], document["refined"], document["skipped"]) == (7, 6, 0)
        assert members(output).keys() == members(archive).keys() - {"deep er/1.png"}
    broken.write_bytes(good)
    pack(renders, archive)
    refine(archive, "--skip-existing", "--no-copy-others")
    assert members(output).keys() == {path for path in members(archive) if path.endswith(".png")}
    refine(renders, out="folder")
    for refined in (7, 0):
        assert json.loads(refine(archive, "--skip-existing", "--json").stdout)["refined"] == refined
        assert members(output) == below(tmp_path / "folder")


def test_hostile_archives_are_reported_and_write_nothing_outside(refine: Run, renders: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    pack(renders, shards / "good.tar")
    with tarfile.open(shards / "above.tar", "w") as tar:
        for name in ("1.png", "../../escaped.png"):
            tar.add(renders / "1.png", name)
    with zipfile.ZipFile(shards / "absolute.zip", "w") as zipped:
        zipped.write(renders / "1.png")
        zipped.writestr(zipfile.ZipInfo(str(tmp_path / "escaped.png")), b"x")
    with zipfile.ZipFile(shards / "damaged.zip", "w") as zipped:
        zipped.write(renders / "1.png", "1.png")
        zipped.writestr("1.json", "label")
    (shards / "damaged.zip").write_bytes((shards / "damaged.zip").read_bytes().replace(b"label", b"lable"))
    before = {path for path in tmp_path.rglob("*") if tmp_path / "out" not in path.parents}
    document = json.loads(refine(shards, "--json", code=3).stdout)
    reasons = {Path(failed["path"]).relative_to(shards).as_posix(): failed["reason"] for failed in document["failed"]}
    assert reasons.keys() == {"above.tar", "absolute.zip", "damaged.zip/1.png"}
    assert "leads outside" in reasons["above.tar"]
    assert (document["images"], document["refined"]) == (7 + 1 + 2, 7)
    assert below(tmp_path / "out").keys() == {"good.tar"}
    assert {path for path in tmp_path.rglob("*") if tmp_path / "out" not in path.parents} == before | {tmp_path / "out"}


def test_out_that_is_an_archive_is_refused(refine: Run, renders: Path, tmp_path: Path) -> None:
    archive = pack(renders, tmp_path / "out" / "r.tar")
    content = archive.read_bytes()
    assert "one lies inside the other" in refine(archive, "--overwrite", code=2).stderr
    assert archive.read_bytes() == content
    (tmp_path / "broken.zip").write_bytes(content)
    assert "broken.zip: damaged" in refine(tmp_path / "broken.zip", out="x", code=4).stderr
    assert "a file, not a folder or an archive (.tar" in refine(renders / "labels.csv", out="x", code=2).stderr


def test_training_resumes_from_folders_to_their_archives(domains: Domains, tmp_path: Path) -> None:
    """Images may move, but must be the same: the run's fingerprints are those of the archives, too."""
    tar, zipped = pack(domains.synthetic, tmp_path / "synthetic.tar"), pack(domains.real, tmp_path / "in" / "real.zip")
    places = [(domains.synthetic, domains.real, "3"), (tar, zipped.parent, "4")]
    for synthetic, real, steps in places:
        domain = ("--synthetic", synthetic, "--real", real, "--out", domains.out)
        result = invoke("train", "--resume", "auto", *domain, *TINY, "--eval-every", "0", "--steps", steps)
    assert "resumed" in result.stderr


def test_a_dry_run_counts_what_archives_hold_and_names_broken_ones(domains: Domains, tmp_path: Path) -> None:
    pack(domains.synthetic, tmp_path / "in" / "1.tar")
    (tmp_path / "in" / "2.tar").write_bytes(b"x")
    domain = ("--synthetic", tmp_path / "in", "--real", domains.real, "--out", tmp_path / "run")
    result = invoke("train", *domain, "--dry-run")
    assert "synthetic: 12 files" in result.stdout
    assert f"unusable: {tmp_path}/in/2.tar: damaged" in result.stdout
    invoke("train", *domain, "--strict", *TINY, code=4)
