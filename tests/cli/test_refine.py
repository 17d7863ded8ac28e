"""`simgan refine` from folders to folders."""

import hashlib
import json
import os
import resource
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from typer.testing import Result

import simgan_cli
from simgan_cli.data.matching import quantiles_of
from simgan_cli.documents import ManifestLine
from simgan_cli.engine.export.refiner_model import save_tones
from simgan_cli.engine.refining.outcome import Report
from simgan_cli.engine.refining.record import RECORD
from tests.helpers import (
    files_below,
    invoke,
    pack,
    parse_as,
    parse_document,
    write_images,
    write_refiner,
    write_renders,
)
from tests.simgan_server import ENVIRONMENT, warm_simgan

Refine = Callable[..., Result]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_refiner(tmp_path_factory.mktemp("model"))


@pytest.fixture
def renders(tmp_path: Path) -> Path:
    return write_renders(tmp_path / "renders")


@pytest.fixture
def refine(model: Path, renders: Path, tmp_path: Path) -> Refine:
    """Run `simgan refine` in this process, by default on `renders` into `out`."""

    def run(*arguments: str | Path, inputs: tuple[Path, ...] = (renders,), out: str = "out", code: int = 0) -> Result:
        return invoke("refine", *inputs, "--model", model, "--out", tmp_path / out, *arguments, code=code)

    return run


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.array(image)


def test_every_file_has_its_counterpart(refine: Refine, renders: Path, model: Path, tmp_path: Path) -> None:
    before = files_below(renders)
    result = refine()
    after = files_below(tmp_path / "out")
    assert set(after) == set(before) | {RECORD}
    assert files_below(renders) == before
    expected = simgan_cli.load_refiner(model, device="cpu")
    for name, content in before.items():
        if name.endswith(".png"):
            assert np.array_equal(pixels(tmp_path / "out" / name), expected(pixels(renders / name)))
        else:
            assert after[name] == content
    sha256 = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    for words in (sha256, "step 7", "width 8", "refined 7 of 7", "carried 3 other files"):
        assert words in result.stderr
    assert result.stdout == ""


def test_images_of_few_bits_that_come_out_the_same_count_as_unchanged(refine: Refine, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (24, 32), np.uint8)).quantize(4).convert("L").save(few / f"{number}.png")
        with (few / f"{number}.pgm").open("wb") as file:
            file.write(b"P5 32 24 3\n" + rng.integers(0, 4, (24, 32), np.uint8).tobytes())
    document = json.loads(refine("--json", "--strength", "0.1", inputs=(few,)).stdout)
    same = [path.name for path in few.iterdir() if path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()]
    assert document["unchanged"] == len(same) == 3
    assert document["refined"] == 3


def test_a_refiner_that_does_nothing_is_reported_though_tones_are_matched(renders: Path, tmp_path: Path) -> None:
    model = write_refiner(tmp_path / "idle")
    weights = safetensors.torch.load_file(model / "model.safetensors")
    safetensors.torch.save_file({name: tensor * 0 for name, tensor in weights.items()}, model / "model.safetensors")
    save_tones(model, quantiles_of(np.random.default_rng(1).integers(0, 90, (3, 1, 20, 30), np.uint8)))

    def refine(out: str, *arguments: str) -> str:
        return invoke("refine", renders, "--model", model, "--out", tmp_path / out, *arguments).stderr

    assert "7 of 7 images came out as without the refiner: this refiner does nothing" in refine("matched")
    assert "7 of 7 images came out unchanged: this refiner does nothing" in refine("same", "--match", "off")
    assert "does nothing" not in refine("baseline", "--strength", "0", "--match", "histogram")


def test_mixed_folders_are_refined_in_one_call(refine: Refine, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    write_images(mixed / "grey", 2, 1, shape=(48, 64))
    write_images(mixed / "colour", 2, 2, shape=(24, 32, 3))
    write_images(mixed / "alpha", 1, 3, shape=(24, 32, 4))
    write_images(mixed / "deep" / "deeper", 2, 4, shape=(24, 32), dtype=np.uint16)
    (mixed / "deep" / "0.json").write_text("{}")
    refine("--channels", "1", inputs=(mixed,))
    for path in mixed.rglob("*.png"):
        before, after = pixels(path), pixels(tmp_path / "out" / path.relative_to(mixed))
        assert (before.shape, before.dtype) == (after.shape, after.dtype)
        assert not np.array_equal(before[..., :3], after[..., :3])
        if before.shape[-1] == 4:
            assert np.array_equal(before[..., 3], after[..., 3])
    assert (tmp_path / "out" / "deep" / "0.json").read_text() == "{}"


def test_other_channels_than_the_models_are_an_error_with_advice(refine: Refine, tmp_path: Path) -> None:
    colour = write_images(tmp_path / "colour", 2, 1, shape=(16, 20, 3))
    assert "--channels 1" in refine(inputs=(colour,), code=4).stderr
    assert not (tmp_path / "out").exists()
    write_images(colour / "0", 1, 1)  # now a later image differs
    (colour / "0" / "0.png").rename(colour / "-.png")
    result = refine("--json", inputs=(colour,), code=3)
    assert {Path(item["path"]).name for item in json.loads(result.stdout)["failed"]} == {"0.png", "1.png"}
    assert "the model has 1" in refine("--channels", "3", out="out2", code=2).stderr


def test_failing_images_are_reported_and_the_rest_are_done(refine: Refine, renders: Path, tmp_path: Path) -> None:
    (renders / "2.png").write_bytes((renders / "2.png").read_bytes()[:60])
    (renders / "empty.png").touch()
    (renders / "gone.png").symlink_to(tmp_path / "nothing")
    result = refine("--json", "--manifest", tmp_path / "m.jsonl", code=3)
    document = parse_document(result.stdout)
    assert {Path(item["path"]).name for item in document["failed"]} == {"2.png", "empty.png", "gone.png"}
    assert (document["images"], document["refined"], document["skipped"]) == (9, 6, 0)
    assert "empty file" in result.stderr
    assert "leads nowhere" in result.stderr
    assert not (tmp_path / "out" / "2.png").exists()
    manifest = [parse_as(ManifestLine, line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    lines = {line["source"]: line for line in manifest}
    gone = lines[str(renders / "gone.png")]
    assert (gone["output"], gone["status"], "leads nowhere" in gone["reason"]) == (None, "failed", True)
    assert {name for name, line in lines.items() if line["status"] == "failed"} == {
        item["path"] for item in document["failed"]
    }
    assert len(lines) == 9


def test_a_full_disk_leaves_nothing_half_written(refine: Refine, renders: Path, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 3, 1)
    write_images(images / "large", 3, 1, shape=(90, 110))
    pack(renders, images / "shard.tar")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))  # a file of at most 9 kB
    try:
        result = refine(inputs=(images,), code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert "--skip-existing" in result.stderr
    refine(inputs=(images,), out="complete")
    complete = files_below(tmp_path / "complete")
    assert all(complete[name] == content for name, content in files_below(tmp_path / "out").items())
    refine("--skip-existing", inputs=(images,))
    assert files_below(tmp_path / "out") == complete


def test_existing_results_are_kept_replaced_or_an_error(refine: Refine, renders: Path, tmp_path: Path) -> None:
    refine()
    before = files_below(tmp_path / "out")
    stderr = refine(code=2).stderr
    assert all(words in stderr for words in ("10 results there already", "--skip-existing", "--overwrite"))
    (tmp_path / "out" / "3.png").unlink()
    (tmp_path / "out" / "labels.csv").unlink()
    (tmp_path / "out" / "1.png").write_bytes(b"mine")
    document = json.loads(refine("--skip-existing", "--json").stdout)
    assert (document["refined"], document["skipped"]) == (1, 6)
    assert (tmp_path / "out" / "1.png").read_bytes() == b"mine"
    refine("--overwrite")
    assert files_below(tmp_path / "out") == before
    assert "contradict" in refine("--overwrite", "--skip-existing", code=2).stderr


def test_results_of_two_settings_are_not_mixed(refine: Refine, tmp_path: Path) -> None:
    refine()
    (tmp_path / "out" / "3.png").unlink()
    for dry_run in ((), ("--dry-run",)):
        assert "strength 1.0, now 0.5" in refine("--skip-existing", "--strength", "0.5", *dry_run, code=2).stderr
    refine("--skip-existing", "--seed", "7")  # no effect without noise
    noisy = write_refiner(tmp_path / "noisy", noise=True)
    assert "model_sha256" in refine("--skip-existing", "--model", noisy, code=2).stderr
    refine("--overwrite", "--model", noisy)
    refine("--skip-existing", "--model", noisy)
    assert "seed 0, now 7" in refine("--skip-existing", "--seed", "7", "--model", noisy, code=2).stderr


def test_a_damaged_record_is_not_taken_for_none(refine: Refine, tmp_path: Path) -> None:
    refine()
    (tmp_path / "out" / RECORD).write_text("{")
    assert f"{RECORD} is damaged" in refine("--skip-existing", code=2).stderr
    refine("--overwrite")
    refine("--skip-existing")


def test_an_overwrite_of_one_part_does_not_count_for_all(refine: Refine, model: Path, tmp_path: Path) -> None:
    refine()
    other = write_refiner(tmp_path / "other", width=4)
    refine("--overwrite", "--model", other, "--shard", "1/2")
    for resumed in (other, model):
        assert "results of two settings" in refine("--skip-existing", "--model", resumed, code=2).stderr
    refine("--overwrite", "--model", other)
    refine("--skip-existing", "--model", other)


def test_what_failed_in_an_overwrite_is_not_skipped_by_the_advice(refine: Refine, renders: Path) -> None:
    refine()
    (renders / "0.png").write_bytes(b"no image")
    assert (
        "1 file failed; fix what the warnings name, and rerun the same command\n"
        in refine("--overwrite", code=3).stderr
    )
    assert "rerun the same command, with --skip-existing" in refine("--skip-existing", out="other", code=3).stderr


@pytest.mark.parametrize("flag", ["--manifest", "--compare"])
@pytest.mark.parametrize("place", ["renders/labels.csv", "renders/0.png", "out/deep er/1.png", "out/labels.csv"])
def test_manifest_and_sheet_never_replace_a_file_of_the_job(
    refine: Refine, tmp_path: Path, flag: str, place: str
) -> None:
    before = files_below(tmp_path)
    assert (
        f"{flag} {tmp_path / place}: this job reads or writes that file"
        in refine(flag, tmp_path / place, code=2).stderr
    )
    assert files_below(tmp_path) == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file of /proc that nobody can read")
def test_an_unreadable_label_does_not_stop_the_others(refine: Refine, renders: Path, tmp_path: Path) -> None:
    (renders / "labels.csv").unlink()
    (renders / "labels.csv").symlink_to("/proc/self/mem")  # reading its first page fails
    result = refine("--json", code=3)
    document = json.loads(result.stdout)
    assert [failed["path"] for failed in document["failed"]] == [str(renders / "labels.csv")]
    assert (document["refined"], document["labels"]) == (7, 2)
    assert "labels.csv: Input/output error; not carried along" in result.stderr
    assert (tmp_path / "out" / "deep er" / "1.json").exists()


def test_labels_keep_their_times_or_are_left_out(refine: Refine, renders: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels.csv").touch()
    assert "1 result there already" in refine(code=2).stderr
    refine("--no-copy-others")
    (tmp_path / "out" / "labels.csv").unlink()
    assert set(files_below(tmp_path / "out")) == {RECORD, *(n for n in files_below(renders) if n.endswith("png"))}
    os.utime(renders / "labels.csv", (1e9, 1e9))
    refine(out="copied")
    assert (tmp_path / "copied" / "labels.csv").stat().st_mtime == 1e9


def test_strength_0_copies_every_byte_even_of_lossy_images(refine: Refine, renders: Path, tmp_path: Path) -> None:
    Image.linear_gradient("L").save(renders / "9.jpg", quality=70)
    refine("--strength", "0")
    after = files_below(tmp_path / "out")
    assert {name: after[name] for name in files_below(renders)} == files_below(renders)


def test_lossy_results_are_reported(refine: Refine, renders: Path, tmp_path: Path) -> None:
    Image.linear_gradient("L").save(renders / "9.jpg", quality=70)
    assert "1 lossy result (quality" in refine().stderr
    assert pixels(tmp_path / "out" / "9.jpg").shape == (256, 256)
    result = refine("--format", "png", out="png")
    assert "are lossy" not in result.stderr
    assert "label files that name images do not follow" in result.stderr
    assert (tmp_path / "png" / "9.png").exists()
    assert "8 lossy results (quality" in refine("--format", "jpeg", out="jpeg").stderr
    assert (tmp_path / "jpeg" / "deep er" / "0.jpg").exists()


def test_manifest_and_json_list_every_image(refine: Refine, renders: Path, model: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "logs" / "m.jsonl"
    document = parse_document(refine("--json", "--manifest", manifest, "--check-labels").stdout)
    sha256 = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    assert document["schema"] == "simgan.refine/1"
    assert (document["images"], document["refined"], document["failed"]) == (7, 7, [])
    assert document["model_sha256"] == sha256
    assert document["drift_pixels"]["images"] == 7
    assert document["time"].keys() == {"network", "decoding", "encoding", "files", "other"}
    assert sum(document["time"].values()) == pytest.approx(1, abs=0.003)
    assert document["limit"] in {*document["time"], "waiting"}
    assert 0 <= document["drift_pixels"]["mean"] <= document["drift_pixels"]["p95"]
    lines = [parse_as(ManifestLine, line) for line in manifest.read_text().splitlines()]
    assert len(lines) == 7
    for line in lines:
        assert line["source_sha256"] == hashlib.sha256(Path(line["source"]).read_bytes()).hexdigest()
        assert line["output_sha256"] == hashlib.sha256(Path(line["output"]).read_bytes()).hexdigest()
        assert (line["status"], line["model_sha256"]) == ("refined", sha256)
    refine("--manifest", manifest, "--skip-existing")
    again = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert {line["source"]: line for line in again} == {line["source"]: line | {"status": "skipped"} for line in lines}


def test_the_report_names_the_limit() -> None:
    one = Report(counts=Counter(refined=30), cpu={"files": 6.0, "network": 1.0, "noise": 1.0}, seconds=10.0)
    other = Report(counts=Counter(refined=10), cpu={"files": 2.0, "network": 9.0, "noise": 1.0}, seconds=8.0)
    assert (one.limit, other.limit) == ("files", "network")
    both = Report.total([one, other])
    assert (both.limit, both.images_per_second) == ("network", 4.0)
    assert both.shares == pytest.approx({"files": 0.4, "network": 0.5, "noise": 0.1})
    assert both.busy == 1.0  # 20 seconds of two cores for 10
    assert Report(counts=Counter(refined=30), cpu={"files": 3.0}, seconds=10.0).limit == "waiting"
    assert Report().limit is None


def test_a_dry_run_lists_and_writes_nothing(refine: Refine, renders: Path, tmp_path: Path) -> None:
    lines = refine("--dry-run").stdout.splitlines()
    assert len(lines) == 10
    assert f"refine {renders / '0.png'} -> {tmp_path / 'out' / '0.png'}" in lines
    assert f"copy {renders / 'labels.csv'} -> {tmp_path / 'out' / 'labels.csv'}" in lines
    document = json.loads(refine("-n", "--json").stdout)
    assert (document["images"], document["labels"]) == (7, 3)
    assert not (tmp_path / "out").exists()
    refine()
    (tmp_path / "out" / "3.png").unlink()
    (tmp_path / "out" / "labels.csv").unlink()
    planned = json.loads(refine("--skip-existing", "--dry-run", "--json").stdout)
    listed = [Path(output).name for _, output in planned["refine"] + planned["carry"]]
    assert (planned["images"], listed) == (1, ["3.png", "labels.csv"])
    Image.linear_gradient("L").save(renders / "0.jpg")
    assert "collide" in refine("-n", "--format", "png", code=2).stderr


def test_the_first_of_several_ranks_lists_everything(
    refine: Refine, renders: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        as_text, as_json = refine("--dry-run").stdout, refine("--dry-run", "--json").stdout
        if rank == "0":
            assert len(as_text.splitlines()) == 10
            document = parse_document(as_json)
            assert (document["images"], document["labels"]) == (7, 3)
        else:
            assert as_text == as_json == ""


def test_parts_make_up_the_job_with_a_manifest_and_a_sheet_each(refine: Refine, tmp_path: Path) -> None:
    refine()
    files = ("--manifest", tmp_path / "m.jsonl", "--compare", tmp_path / "c.png")
    for part in (1, 2, 3):
        refine("--shard", f"{part}/3", *files, out="parts")
        assert (tmp_path / f"c-part-{part}-of-3.png").exists()
    assert files_below(tmp_path / "parts") == files_below(tmp_path / "out")
    manifests = [tmp_path / f"m-part-{part}-of-3.jsonl" for part in (1, 2, 3)]
    assert [len(manifest.read_text().splitlines()) for manifest in manifests] == [3, 2, 2]
    assert not (tmp_path / "m.jsonl").exists()
    assert "0/3" in refine("--shard", "0/3", out="x", code=2).stderr
    (tmp_path / "job.toml").write_text("[refine]\nshard = [3, 2]\n")
    assert "[3, 2] is not I/N" in refine("--config", tmp_path / "job.toml", out="x", code=2).stderr


@pytest.mark.slow
def test_ranks_share_the_work_and_the_first_one_prints(
    refine: Refine, renders: Path, model: Path, tmp_path: Path
) -> None:
    refine()
    (renders / "bad.png").write_bytes(b"bad")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [warm_simgan(), "refine", renders, "--model", model, "--out", tmp_path / "ranks", "--json"]
    environment = os.environ | ENVIRONMENT | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            list(map(str, command)), env=environment | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in "01"
    ]  # fmt: skip
    (first, talk), (other, others_talk) = (process.communicate() for process in processes)
    document = json.loads(first)
    assert (document["images"], document["refined"], len(document["failed"])) == (8, 7, 1)
    assert [process.returncode for process in processes] == [3, 3]
    assert talk.count("model:") == 1
    assert (other, others_talk.count("model:")) == ("", 0)
    assert files_below(tmp_path / "ranks") == files_below(tmp_path / "out")


def test_several_folders_are_refined_also_from_a_list(refine: Refine, renders: Path, tmp_path: Path) -> None:
    more = write_images(tmp_path / "more", 1, 5)
    (tmp_path / "list").write_text(f"{renders}\n{more}\n")
    refine(inputs=(renders, more))
    refine("--from-file", tmp_path / "list", inputs=(), out="listed")
    assert (tmp_path / "out" / "more" / "0.png").exists()
    assert (tmp_path / "out" / "renders" / "deep er" / "0.json").exists()
    assert files_below(tmp_path / "out") == files_below(tmp_path / "listed")


def test_a_sheet_compares_before_and_after(refine: Refine, tmp_path: Path) -> None:
    refine("--compare", tmp_path / "sheets" / "sheet.png")
    sheet = pixels(tmp_path / "sheets" / "sheet.png")
    assert sheet.shape[1] > 3 * 150
    assert sheet.std() > 30


@pytest.mark.parametrize("flag", ["--manifest", "--compare"])
def test_manifest_and_sheet_replace_files_only_with_overwrite(refine: Refine, tmp_path: Path, flag: str) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    assert f"{flag} {mine}: exists" in refine(flag, mine, code=2).stderr
    assert f"{flag} {tmp_path}: a folder" in refine(flag, tmp_path, code=2).stderr
    assert not (tmp_path / "out").exists()
    assert mine.read_text() == "mine"
    refine(flag, mine, "--overwrite")
    assert mine.read_bytes() != b"mine"
    assert "--skip-existing resumes after an interruption" in refine(flag, mine, code=2).stderr


def test_unread_image_formats_give_a_warning(refine: Refine, renders: Path) -> None:
    (renders / "a.exr").write_bytes(b"v/1\x01")
    assert "carried along unrefined: 1 .exr" in refine().stderr
    quiet = refine("--quiet", out="quiet").stderr
    assert quiet.startswith("warning: carried along unrefined: 1 .exr")
    assert quiet.count("\n") == 1


@pytest.mark.parametrize(("size", "warns"), [((16, 20), False), ((20, 26), False), ((40, 30), True), ((9, 12), True)])
def test_images_of_another_scale_than_in_training_give_a_warning(
    refine: Refine, tmp_path: Path, size: tuple[int, int], warns: bool
) -> None:
    images = write_images(tmp_path / "images", 2, 1, size)
    stderr = refine("--dry-run", inputs=(images,)).stderr
    assert (f"the first image is {size[0]}x{size[1]}, and the refiner was trained at 16x20" in stderr) == warns


def test_a_drift_of_more_than_a_pixel_is_a_warning(renders: Path, tmp_path: Path, refine: Refine) -> None:
    """A refiner whose first layer looks to the left moves content to the right."""

    from simgan_cli.engine.export.network_folder import save_network
    from simgan_cli.engine.method.networks import Refiner

    network = Refiner(1, width=1, blocks=0, kernel=5, output="tanh")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.first.weight[0, 0, 2, 0] = 0.5
        network.state_dict()["first.bias"] += 0.5  # so that ReLU cuts nothing
        network.state_dict()["last.weight"] += 1
        network.state_dict()["last.bias"] -= 0.5
    save_network(tmp_path / "shift", network, {"preprocess": "none"}, {})
    result = refine("--model", tmp_path / "shift", "--check-labels", "--json", "--quiet")
    assert json.loads(result.stdout)["drift_pixels"]["mean"] == pytest.approx(2, abs=0.1)
    assert "moved by more than 1 px" in result.stderr


def test_settings_come_from_file_environment_and_flags(model: Path, renders: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        f'[train]\nsteps = 3\n[refine]\ninputs = ["{renders}"]\nmodel = "{model}"\nstrength = 0.1\nbatch-size = 3\n'
    )
    environment = {"SIMGAN_REFINE_STRENGTH": "0.2", "SIMGAN_REFINE_BATCH_SIZE": "5", "SIMGAN_TRAIN_STEPS": "9"}
    flags = ("--config", file, "--out", tmp_path / "out")
    result = invoke("refine", *flags, "--dry-run", "--strength", "0.3", env=environment)
    shown = dict(line.split(maxsplit=1) for line in result.stderr.splitlines()[:6])
    assert (shown["strength"], shown["batch-size"]) == ("0.3", "5")
    for bad, words in (
        ({"SIMGAN_STRENGHT": "1"}, "did you mean SIMGAN_REFINE_STRENGTH"),
        ({"SIMGAN_REFINE_MODEL": ""}, "SIMGAN_REFINE_MODEL: it is empty"),
        ({"SIMGAN_REFINE_SHARD": "3/2"}, "SIMGAN_REFINE_SHARD:"),
    ):
        result = invoke(
            "refine", renders, "--out", tmp_path / "out", code=2, env={"SIMGAN_REFINE_MODEL": str(model)} | bad
        )
        assert words in result.stderr
