"""`simgan refine --copies`: several refined copies of each render, with their labels."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from simgan_cli.data.matching import quantiles_of
from simgan_cli.engine.export.refiner_model import open_model, save_tones
from simgan_cli.engine.refining.record import RECORD
from simgan_cli.engine.runtime.device import resolve_device
from simgan_cli.gaze.labels import LabelFormat
from simgan_cli.gaze.preparation import refined_by
from simgan_cli.gaze.readers import read
from tests.helpers import files_below, invoke, members, pack, write_images, write_refiner, write_renders

Refine = Callable[..., Result]
TONED = ("--match", "histogram", "--augment")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_refiner(tmp_path_factory.mktemp("model"), noise=True)
    photographs = np.random.default_rng(3).integers(0, 120, (5, 1, 16, 20)).astype(np.uint8)
    save_tones(folder, quantiles_of(photographs))
    return folder


@pytest.fixture
def renders(tmp_path: Path) -> Path:
    folder = write_renders(tmp_path / "renders")
    rows = [f"{n}.png;{n},5" for n in range(5)] + ["deep er/0.png;7,5", "deep er\\1;8,5"]
    (folder / "labels.csv").write_bytes("\r\n".join(["file;pitch", *rows]).encode())
    return folder


@pytest.fixture
def refine(model: Path, renders: Path, tmp_path: Path) -> Refine:
    """Run `simgan refine` in this process, by default on `renders` into `out`."""

    def run(*arguments: str | Path, source: Path = renders, out: str = "out", code: int = 0) -> Result:
        return invoke("refine", source, "--model", model, "--out", tmp_path / out, *arguments, code=code)

    return run


def below(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder but for the record of what refined them."""
    return {name: content for name, content in files_below(folder).items() if name != RECORD}


@pytest.mark.parametrize("flags", [(), TONED])
def test_each_look_is_that_of_a_seed_and_has_its_labels(
    refine: Refine, renders: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    before = files_below(renders)
    refine("--copies", "3", "--seed", "4", *flags)
    looks = below(tmp_path / "out")
    for copy in range(3):
        refine("--seed", str(4 + copy), *flags, out=str(copy))
        for name, content in below(tmp_path / str(copy)).items():
            stem, _, suffix = name.rpartition(".")
            if name != "labels.csv":
                assert looks.pop(f"{stem}_{copy}.{suffix}") == content
    rows = [f"{n}_{copy}.png;{n},5" for n in range(5) for copy in range(3)]
    rows += [f"deep er/0_{copy}.png;7,5" for copy in range(3)] + [f"deep er\\1_{copy};8,5" for copy in range(3)]
    assert looks == {"labels.csv": "\r\n".join(["file;pitch", *rows]).encode()}
    assert files_below(renders) == before


@pytest.mark.parametrize("name", ["r.tar", "r.tar.gz", "r.zip"])
def test_archives_hold_what_folders_do(refine: Refine, renders: Path, tmp_path: Path, name: str) -> None:
    refine("--copies", "2", out="folder")
    (renders / "broken.png").write_bytes(b"this is no image")
    archive = pack(renders, tmp_path / name)
    flags = ("--copies", "2", "--json", "--skip-existing")
    document = json.loads(refine(*flags, source=archive, code=3).stdout)
    assert (document["images"], document["refined"], len(document["failed"])) == (15, 14, 1)
    assert members(tmp_path / "out" / name) == below(tmp_path / "folder")
    (renders / "broken.png").unlink()
    pack(renders, archive)
    assert json.loads(refine(*flags, source=archive).stdout)["skipped"] == 14
    dry_run = json.loads(refine(*flags, "-n", source=archive, out="new").stdout)
    assert {Path(output).name for _, output in dry_run["carry"]} == {
        "labels.csv", "0_0.json", "0_1.json", "1_0.json", "1_1.json",
    }  # fmt: skip
    refine(*flags[:2], "--no-copy-others", source=archive, out="images")
    assert all(member.endswith(".png") for member in members(tmp_path / "images" / name))


def test_a_job_resumes_look_by_look_with_the_same_settings_alone(refine: Refine, renders: Path, tmp_path: Path) -> None:
    refine("--copies", "2", *TONED)
    complete = files_below(tmp_path / "out")
    assert "19 results there already" in refine("--copies", "2", *TONED, code=2).stderr
    refine("--copies", "2", *TONED, "--overwrite")
    assert files_below(tmp_path / "out") == complete
    for name in ("3_1.png", "deep er/0_1.json"):
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / "1_0.png").write_bytes(b"mine")
    listed = json.loads(refine("--copies", "2", *TONED, "--skip-existing", "-n", "--json").stdout)
    assert [Path(output).name for _, output in listed["refine"] + listed["carry"]] == ["3_1.png", "0_1.json"]
    document = json.loads(refine("--copies", "2", *TONED, "--skip-existing", "--json").stdout)
    assert (document["images"], document["refined"], document["skipped"]) == (14, 1, 13)
    assert files_below(tmp_path / "out") == complete | {"1_0.png": b"mine"}
    for flags, change in (
        (("--copies", "3", *TONED), "copies 2, now 3"),
        (("--copies", "2", "--match", "histogram"), "augment True, now False"),
    ):
        assert change in refine(*flags, "--skip-existing", code=2).stderr


def test_parts_make_up_the_job(refine: Refine, tmp_path: Path) -> None:
    refine("--copies", "2")
    for part in (1, 2, 3):
        refine("--copies", "2", "--shard", f"{part}/3", "--manifest", tmp_path / "m.jsonl", out="parts")
    assert below(tmp_path / "parts") == below(tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "m-part-2-of-3.jsonl").read_text().splitlines()]
    assert sorted(Path(line["output"]).name for line in lines) == ["1_0.png", "1_1.png", "4_0.png", "4_1.png"]


def test_augmentation_does_not_count_as_label_drift(refine: Refine, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "large", 6, 1, shape=(64, 64))
    drifts = [
        json.loads(refine("--check-labels", "--json", *flags, source=folder, out=str(n)).stdout)["drift_pixels"]
        for n, flags in enumerate(((), ("--augment",)))
    ]
    assert drifts[0] == drifts[1]


def test_unreadable_and_label_images_count_once(refine: Refine, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "mixed", 30, 5)
    for number in range(6):
        ids = np.zeros((16, 20), np.uint8)
        ids[4:8] = number % 3 + 1
        Image.fromarray(ids).save(folder / f"{number}_mask.png")
    (folder / "7.png").write_bytes(b"this is no image")
    result = refine("--copies", "2", "--json", "--exclude", "*_mask.png", source=folder, code=3)
    document = json.loads(result.stdout)
    assert (document["images"], document["refined"], len(document["failed"])) == (59, 58, 1)
    assert result.stderr.count("7.png") == 1
    assert (tmp_path / "out" / "3_mask.png").read_bytes() == (folder / "3_mask.png").read_bytes()


def test_label_files_with_image_names_are_reported(refine: Refine, renders: Path) -> None:
    (renders / "coco.json").write_text('{"images": [{"file_name": "3.png"}]}')
    (renders / "deep er" / "1.json").write_text('{"imagePath": "1.png"}')
    result = refine("--copies", "2", "--json")
    assert json.loads(result.stdout)["outdated"] == [str(renders / "coco.json"), str(renders / "deep er" / "1.json")]
    assert f"copied as they are (2, such as {renders / 'coco.json'})" in result.stderr
    assert json.loads(refine("--json", out="one").stdout)["outdated"] == []


def test_names_that_would_collide_are_an_error(refine: Refine, renders: Path, tmp_path: Path) -> None:
    (renders / "0_1.json").write_text("{}")
    (renders / "0.json").write_text("{}")
    assert "results would collide (--copies 2)" in refine("--copies", "2", code=2).stderr
    assert not (tmp_path / "out").exists()


def test_equal_copies_are_refused(refine: Refine, tmp_path: Path) -> None:
    assert "all would be the same" in refine("--copies", "2", "--strength", "0", code=2).stderr
    quiet = write_refiner(tmp_path / "quiet")
    assert "all would be the same" in refine("--copies", "2", "--model", quiet, code=2).stderr
    assert "no tones of photographs" in refine("--augment", "--model", quiet, code=2).stderr
    assert "packed numbers have no tones" in refine("--augment", "--pixels", "packed16", code=2).stderr
    refine("--copies", "2", "--strength", "0", "--augment")


def test_refined_unityeyes_keep_their_json_and_are_readable(refine: Refine, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "eyes", 2, 1, shape=(48, 64))
    margin = ["(20.0, 18.0, 1.0)", "(44.0, 30.0, 1.0)"]
    for number in range(2):
        labels = {"interior_margin_2d": margin, "eye_details": {"look_vec": f"(0.0, 0.{number}, -1.0, 0.0)"}}
        (folder / f"{number}.json").write_text(json.dumps(labels))
    refine("--copies", "2", source=folder)
    images = read(tmp_path / "out", LabelFormat(), "auto")
    assert images.reader == "unityeyes"
    assert images.files == ["0_0.png", "0_1.png", "1_0.png", "1_1.png"]
    assert np.allclose(images.targets[0], images.targets[1])


def test_refined_sets_of_eval_gaze_equal_the_files_of_refine(
    refine: Refine, renders: Path, model: Path, tmp_path: Path
) -> None:
    for path in (renders / "deep er").iterdir():
        path.unlink()
    (renders / "labels.csv").write_text("file,pitch,yaw\n" + "".join(f"{n}.png,0.{n},0\n" for n in range(5)))
    rendered = read(renders, LabelFormat(), "csv")
    for copies in (1, 2):
        refine("--copies", str(copies), *TONED, out=str(copies))
        written = read(tmp_path / str(copies), LabelFormat(), "csv")
        made = refined_by(
            open_model(model), rendered, resolve_device("cpu"), match="histogram", augment=True, copies=copies
        )
        assert np.array_equal(made.pixels, written.pixels)
        assert np.array_equal(made.targets, written.targets)
        assert made.files == written.files
