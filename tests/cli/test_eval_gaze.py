import csv
import json
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from simgan_cli.data.decoding import equalize
from simgan_cli.engine.export.network_folder import load_network, read_json, save_network
from simgan_cli.engine.export.refiner_model import open_model
from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.errors import CheckpointError, SettingsError
from simgan_cli.gaze.estimator_training import held_out, predict
from simgan_cli.gaze.evaluation import prepare, run
from simgan_cli.gaze.geometry import angles_from_vectors
from simgan_cli.gaze.labels import LabelFormat
from simgan_cli.gaze.readers import read
from simgan_cli.gaze.reweighting import effective_number, weights_like
from simgan_cli.settings.eval_gaze import EvalGazeConfig
from tests.gaze.helpers import discs, write_csv
from tests.helpers import SIMGAN, TINY, simgan, write_images, write_refiner

QUICK = ["--estimator", "resnet", "--steps", "4", "--batch-size", "16", "--bootstrap", "100"]


def sets(folder: Path) -> list[str]:
    train, test = write_csv(folder / "train", 60, 1), write_csv(folder / "test", 20, 2, persons=5)
    return ["--train", f"synthetic={train}", "--test", str(test), "--out", str(folder / "out")]


def documented(heading: str) -> set[str]:
    """Return what the tables below a heading of the reference have in their first column."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "json.md").read_text()
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def write_estimator(folder: Path, preprocess: str = "none", size: tuple[int, int] = (35, 55)) -> Path:
    """Write an estimator of random weights as an evaluation does."""
    save_network(folder, Estimator("resnet", *size), {"made_of": {"preprocess": preprocess}}, {})
    return folder


@pytest.mark.slow
def test_a_model_is_compared_with_what_it_refines(tmp_path: Path) -> None:
    model, oracle = write_refiner(tmp_path / "model"), write_csv(tmp_path / "oracle", 40, 3)
    unlabelled = write_images(tmp_path / "unlabelled", 12, 4, (40, 60))
    flags = [*sets(tmp_path), "--model", str(model), "--real-train", str(oracle), *QUICK, "--seeds", "2"]
    flags += ["--reweight-to", str(unlabelled)]
    result = simgan("eval-gaze", *flags, "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document == json.loads((tmp_path / "out" / "results.json").read_text())
    assert document["schema"] == "simgan.eval-gaze/1"
    assert document["test"]["images"] == 20
    assert document["test"]["persons"] == 5
    names = [(row["name"], row["estimator"]) for row in document["rows"]]
    assert [name for name, estimator in names if estimator == "resnet"] == [
        "synthetic", "synthetic-reweighted", "refined", "refined-reweighted", "oracle",
    ]  # fmt: skip
    assert ("synthetic", "mean") in names
    assert document["comparison"]["pair"] == ["synthetic", "refined"]
    assert [pair["pair"] for pair in document["comparisons"]] == [
        ["synthetic", "synthetic-reweighted"], ["synthetic", "refined"], ["synthetic", "refined-reweighted"],
        ["synthetic", "oracle"], ["synthetic-reweighted", "refined-reweighted"],
    ]  # fmt: skip
    assert document["comparison"]["verdict"] in ("helps", "no difference shown", "hurts")
    assert set(document["preservation"]) == {"images", "content_shift_px", "pupil_shift_px", "estimate_shift_deg"}
    assert set(document["preservation"]) | {"estimate_shift_px"} == documented("What refining moved")
    assert set(document["rows"][0]) == documented("Rows of errors")
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) | {"x", "y", "error_px"} == documented("predictions.csv")
    refined = [float(row["error_deg"]) for row in rows if row["row"] == "refined/resnet"]
    assert len(refined) == 2 * 20
    assert np.isclose(np.mean(refined), document["rows"][-3]["mean"], atol=1e-5)
    with (tmp_path / "out" / "weights" / "refined-reweighted-resnet.csv").open() as file:
        weights = {row["file"]: float(row["weight"]) for row in csv.DictReader(file)}
    assert weights.keys() == {f"{index}.png" for index in range(60)}
    assert np.isclose(np.mean(list(weights.values())), 1, atol=1e-3)
    assert 1 <= document["rows"][-2]["effective_images"] <= 60
    assert document["rows"][-3]["effective_images"] is None
    for name in ("curve.png", "error-map.png", "worst.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.width > 100
    assert "<svg" in (tmp_path / "out" / "curve.svg").read_text()

    # What has been trained is taken as it is; nothing else differs.
    folder = tmp_path / "out" / "estimators" / "synthetic-resnet-seed0"
    kept = {path: path.stat().st_ino for path in folder.parent.glob("*/model.safetensors")}
    assert len(kept) == 5 * 2
    again = simgan("eval-gaze", *flags, "--json", "--skip-existing")
    assert json.loads(again.stdout)["rows"] == document["rows"]
    assert {path: path.stat().st_ino for path in kept} == kept

    loaded = simgan(
        "eval-gaze", "--load", f"mine={folder}", "--test", tmp_path / "test", "--out", tmp_path / "loaded", "--json"
    )
    row = json.loads(loaded.stdout)["rows"][0]
    assert row["name"] == "mine"
    synthetic = next(row for row in document["rows"] if (row["name"], row["estimator"]) == ("synthetic", "resnet"))
    assert np.isclose(row["mean"], synthetic["seed_means"][0])

    # An estimator is a feature transform of training, too.
    synthetic, real = write_images(tmp_path / "s", 8, 1, (35, 55)), write_images(tmp_path / "r", 8, 2, (35, 55))
    trained = simgan(
        "train", "--synthetic", synthetic, "--real", real, "--out", tmp_path / "run", *TINY, "--psi", f"{folder}=1"
    )
    assert trained.returncode == 0, trained.stderr


def test_a_loaded_estimator_is_checked_before_anything_is_trained(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path / "train", 6, 1), write_csv(tmp_path / "test", 4, 2)
    equalized = write_estimator(tmp_path / "equalized", "equalize")
    small = write_estimator(tmp_path / "small", size=(20, 31))
    settings = {"train": f"synthetic={train}", "test": test, "out": tmp_path / "out", "estimator": "resnet"}

    def prepared(*load: str, **more: str) -> None:
        prepare(EvalGazeConfig.model_validate(settings | {"load": load} | more))

    with pytest.raises(CheckpointError, match=r"nowhere.config\.json: no such file"):
        prepared(f"mine={tmp_path / 'nowhere'}")
    with pytest.raises(CheckpointError, match="not an estimator of --target pupil"):
        prepared(f"mine={equalized}", target="pupil")
    with pytest.raises(SettingsError) as error:
        prepared(f"mine={equalized}", f"yours={small}")
    assert error.value.problems == (
        f"--load {equalized}: trained with preprocess equalize, not none as here; give --preprocess equalize",
        f"--load {small}: trained with size 20x31, not 35x55 as here; give --size 20x31",
    )
    prepared(f"mine={equalized}", preprocess="equalize")
    prepared(f"yours={small}", size="20x31")


@pytest.mark.slow
def test_each_estimator_gets_its_verdicts(tmp_path: Path) -> None:
    other, loaded = write_csv(tmp_path / "other", 12, 3), [write_estimator(tmp_path / name) for name in ("a", "b")]
    networks = ["--load", f"a={loaded[0]}", "--load", f"b={loaded[1]}"]
    flags = [*sets(tmp_path), "--train", f"other={other}", *QUICK]
    result = simgan("eval-gaze", *flags, "--estimator", "knn", *networks, "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert [(found["estimator"], found["pair"]) for found in document["comparisons"]] == [
        ("resnet", ["synthetic", "other"]), ("resnet", ["synthetic", "a"]), ("resnet", ["synthetic", "b"]),
        ("knn", ["synthetic", "other"]),
    ]  # fmt: skip
    assert document["comparison"] == document["comparisons"][0]

    alone = simgan("eval-gaze", *networks, "--test", tmp_path / "test", "--out", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    assert "b - a, resnet: " in alone.stdout


@pytest.mark.slow
def test_a_dry_run_tells_what_it_found_as_a_document(tmp_path: Path) -> None:
    result = simgan("eval-gaze", *sets(tmp_path), "--dry-run", "--quiet", "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert result.stderr == f"warning: {document['warnings'][0]}\n"
    assert document["schema"] == "simgan.eval-gaze.dry-run/1"
    assert set(document) == documented("simgan.eval-gaze.dry-run/1")
    assert document["test"] == {"images": 20, "persons": 5, "source": str(tmp_path / "test")}
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_table_and_the_pupil(tmp_path: Path) -> None:
    result = simgan("eval-gaze", *sets(tmp_path), "--target", "pupil", *QUICK, "--estimator", "knn")
    assert result.returncode == 0, result.stderr
    for text in ("pupil error on 20 test images, px", "synthetic", "knn", "mean"):
        assert text in result.stdout
    assert f"reading {tmp_path / 'train'}\n" in result.stderr


@pytest.mark.slow
def test_names_stay_whole_where_the_terminal_is_narrow(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path / "train", 12, 1), write_csv(tmp_path / "test", 6, 2)
    flags = ["--train", f"renders-indoor-lit={train}", "--train", f"my-reweighted-set={train}", "--estimator", "knn"]
    result = simgan("eval-gaze", *flags, "--test", test, "--out", tmp_path / "out", env={"COLUMNS": "80"})
    assert result.returncode == 0, result.stderr
    names = "".join(line.strip().split("  ")[0] for line in result.stdout.splitlines())
    assert "renders-indoor-lit" in names
    assert "my-reweighted-set" in names


@pytest.mark.slow
def test_weights_are_by_what_each_estimator_predicts_of_the_unlabelled_images(tmp_path: Path) -> None:
    train, other, test = (write_csv(tmp_path / name, n, n) for name, n in (("train", 200), ("other", 40), ("test", 10)))
    images, gaze, _ = discs(150, 4)
    right = images[gaze[:, 0] < 0]  # whoever looks to the right of the image has a disc left of its middle
    (tmp_path / "unlabelled").mkdir()
    for index, image in enumerate(right):
        Image.fromarray(image).save(tmp_path / "unlabelled" / f"{index}.png")
    settings = {
        "train": [f"synthetic={train}", f"other={other}"], "test": test, "out": tmp_path / "out", "device": "cpu",
        "estimator": ["knn", "resnet"], "seeds": 2, "steps": 40, "batch_size": 32, "lr": 2e-3,
        "precision": "fp32",
    }  # fmt: skip
    config = EvalGazeConfig.model_validate(settings | {"reweight_to": tmp_path / "unlabelled"})
    evaluation = prepare(config)
    document = run(evaluation, lambda *_: None)

    pairs = [tuple(pair["pair"]) for pair in document["comparisons"]]
    assert pairs[:3] == [("synthetic", "other"), ("synthetic", "synthetic-reweighted"), ("synthetic", "other")]
    assert document["comparison"] == document["comparisons"][0]
    assert [pair["estimator"] for pair in document["comparisons"]][:2] == ["knn", "resnet"]

    renders, found, unmatched = evaluation.sets["synthetic"], list[NDArray[np.float64]](), list[float]()
    for seed in (0, 1):
        network = load_network(tmp_path / "out" / "estimators" / f"synthetic-resnet-seed{seed}")
        assert isinstance(network, Estimator)
        weights, share = weights_like(renders.targets, predict(network, right, torch.device("cpu"), "fp32"))
        made_of = read_json(
            tmp_path / "out" / "estimators" / f"synthetic-reweighted-resnet-seed{seed}" / "config.json"
        )["made_of"]
        assert made_of["data"] == replace(renders, weights=weights).fingerprint
        found.append(weights)
        unmatched.append(share)
    assert not np.allclose(found[0], found[1])
    with (tmp_path / "out" / "weights" / "synthetic-reweighted-resnet.csv").open() as file:
        written = {row["file"]: float(row["weight"]) for row in csv.DictReader(file)}
    assert np.allclose([written[file] for file in renders.files], np.mean(found, axis=0), atol=1e-4)
    assert np.mean(found, axis=0)[renders.targets[:, 0] < -0.1].mean() > 1.5
    assert np.mean(found, axis=0)[renders.targets[:, 0] > 0.1].mean() < 0.5
    row = next(row for row in document["rows"] if row["name"] == "synthetic-reweighted")
    assert row["effective_images"] == pytest.approx(np.mean([effective_number(weights) for weights in found]))
    assert row["unmatched"] == pytest.approx(np.mean(unmatched))

    # Weights of what is no longer there would be taken for today's.
    (tmp_path / "out" / "weights" / "mine.csv").touch()
    again = EvalGazeConfig.model_validate(settings | {"estimator": "knn", "seeds": 1, "overwrite": True})
    run(prepare(again), lambda *_: None)
    assert [path.name for path in (tmp_path / "out" / "weights").iterdir()] == ["mine.csv"]


@pytest.mark.slow
def test_where_no_label_lies_near_what_is_predicted_a_warning_says_so_and_the_other_rows_stand(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path / "train", 360, 1), write_csv(tmp_path / "test", 20, 2)
    real = write_images(tmp_path / "real", 100, 4, (35, 55))
    lines = list(csv.DictReader((train / "labels.csv").read_text().splitlines()))

    def look(line: dict[str, str], x: float, y: float) -> None:
        gaze = np.array([x, y, -0.5])
        line |= dict(zip(("gx", "gy", "gz"), map(str, gaze / np.linalg.norm(gaze)), strict=True))

    def evaluated(*more: str) -> dict[str, Any]:
        with (train / "labels.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, lines[0])
            table.writeheader()
            table.writerows(lines)
        flags = ["--train", f"synthetic={train}", "--test", str(test), "--out", str(tmp_path / "out")]
        flags += ["--lr", "1e-9"]  # where it looks is up to its first weights
        result = simgan("eval-gaze", *flags, *QUICK, "--reweight-to", real, "--json", *more)
        assert result.returncode == 0, result.stderr
        return dict(json.loads(result.stdout))

    for index, line in enumerate(lines):  # far in four corners, and the estimator looks elsewhere
        look(line, 0.6 * (-1) ** (index // 2), 0.6 * (-1) ** index)
    document = evaluated()
    (row,) = [row for row in document["rows"] if row["name"] == "synthetic-reweighted"]
    assert row["unmatched"] > 0.5
    warning = f"{row['unmatched']:.0%} of {real} are predicted to have labels where synthetic has none"
    assert any(warning in text for text in document["warnings"])

    # The one label where all are predicted to be is of an image held out of training, and all others are opposite.
    predictions = csv.DictReader((tmp_path / "out" / "predictions.csv").read_text().splitlines())
    x, y = np.mean([(float(p["px"]), float(p["py"])) for p in predictions if p["row"] == "synthetic/resnet"], axis=0)
    _, held_out_of_it = held_out(read(train, LabelFormat()), 0)
    for index, line in enumerate(lines):
        look(line, x, y) if index == held_out_of_it[0] else look(line, -x, -y)
    document = evaluated("--overwrite")
    assert "synthetic-reweighted" not in [row["name"] for row in document["rows"]]
    assert "synthetic" in [row["name"] for row in document["rows"]]
    assert any("synthetic-reweighted, resnet: left out: " in text for text in document["warnings"])


@pytest.mark.slow
def test_leaving_persons_out(tmp_path: Path) -> None:
    real = write_csv(tmp_path / "real", 30, 1, persons=3)
    labels = real / "labels.csv"
    labels.write_text(labels.read_text().replace("p01", "/../../../p01"))  # names are not to be believed
    flags = ["--protocol", "leave-one-person-out", "--train", f"real={real}", "--out", str(tmp_path / "out"), *QUICK]
    result = simgan("eval-gaze", *flags, "--json")
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert sorted(row["persons"]) == ["/../../../p01", "p00", "p02"]
    assert {path.name for path in (tmp_path / "out" / "estimators").iterdir()} == {
        f"real-without-0{person}-resnet-seed0" for person in (1, 2, 3)
    }
    assert {path.name for path in tmp_path.iterdir()} == {"real", "out"}
    # Whom an estimator has seen is part of what it was made of.
    labels.write_text(labels.read_text().replace(",p02", ",p00"))
    again = simgan("eval-gaze", *flags, "--skip-existing", "--json")
    assert again.returncode == 0, again.stderr
    assert sorted(json.loads(again.stdout)["rows"][0]["persons"]) == ["/../../../p01", "p00"]


@pytest.mark.slow
def test_what_cannot_be_evaluated(tmp_path: Path) -> None:
    flags = sets(tmp_path)
    train, test = tmp_path / "train", tmp_path / "test"
    out = ["--out", str(tmp_path / "out")]
    alone = ["--train", f"a={train}", "--protocol", "leave-one-person-out", *out]
    cases: list[tuple[list[str], int, str]] = [
        (["--train", f"a={train}", "--test", str(train), *out], 4, "must not be trained on what it is tested on"),
        ([*flags, "--train", f"synthetic={test}"], 2, "must differ"),
        ([*flags, "--train", f"a\udcff={train}"], 2, "needs letters that can be shown"),
        (["--test", str(test), *out], 2, "--train NAME=DIR is required"),
        (["--train", str(train), "--test", str(test), *out], 2, "is not NAME=PATH"),
        (["--train", "a=nowhere", "--test", str(test), *out], 2, "no such file or folder"),
        (["--train", f"a={tmp_path}", "--test", str(test), *out], 4, "no labels found"),
        ([*flags, "--reweight-to", "nowhere"], 2, "no such file or folder"),
        ([*flags, "--reweight-to", str(test / "labels.csv")], 2, "labels.csv: a file; give a folder of images"),
        ([*flags, "--reweight-to", str(test), "--estimator", "knn"], 2, "--reweight-to weighs what an estimator"),
        ([*flags, "--reweight-to", str(test), "--train", f"synthetic-reweighted={test}"], 2, "made by another option"),
        (
            [*flags, "--reweight-to", str(test), "--model", "any", "--train", f"refined-reweighted={test}"],
            2,
            "made by another option",
        ),
        ([*flags, "--size", "4x4"], 2, "images of 4x4 are too small for --estimator cnn; give a larger --size"),
        ([*flags, "--step", "5"], 2, "--step 5 names a checkpoint of --model"),
        ([*flags, "--model", "any", "--load", f"refined={test}"], 2, "--load refined=...: that row is made"),
        ([*flags, "--protocol", "leave-one-person-out"], 2, "--test: not with"),
        ([*alone, "--train", f"b={test}"], 2, "--train: one of them with --protocol"),
        ([*alone, "--estimator", "knn", "--estimator", "resnet"], 2, "--estimator: one of them with --protocol"),
    ]
    for arguments, code, says in cases:
        result = simgan("eval-gaze", *arguments)
        assert (result.returncode, "Traceback" in result.stderr) == (code, False), result.stderr
        assert says in result.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    result = simgan("eval-gaze", *flags)
    assert result.returncode == 2
    assert "not empty" in result.stderr


@pytest.mark.parametrize("preprocess", ["none", "equalize"])
def test_unlabelled_images_of_any_kind_are_seen_as_labelled_ones_are(tmp_path: Path, preprocess: str) -> None:
    flags = dict(zip(("train", "test", "out"), sets(tmp_path)[1::2], strict=True))
    flags |= {"estimator": "resnet", "size": "20x31", "preprocess": preprocess}
    deep = np.random.default_rng(0).integers(20_000, 60_000, (40, 50), np.uint16)
    for name in ("0.png", "1.png"):
        Image.fromarray(deep).save(tmp_path / "test" / name)
        deep = deep[::-1]
    (tmp_path / "test" / "torn.png").write_bytes(b"not an image")
    (tmp_path / "test" / "gone.png").symlink_to("nowhere.png")
    evaluation = prepare(EvalGazeConfig.model_validate(flags | {"reweight_to": flags["test"]}))
    assert evaluation.unlabelled is not None
    assert evaluation.test is not None
    assert np.array_equal(np.sort(evaluation.unlabelled, axis=0), np.sort(evaluation.test.pixels, axis=0))
    for text in ("2 unreadable images left out, such as", "gone.png", "share 20 images: rows -reweighted have seen"):
        assert any(text in warning for warning in evaluation.warnings)


def test_degrees_beside_radians_are_told_and_can_be_said(tmp_path: Path) -> None:
    flags: dict[str, Any] = {"estimator": "resnet", "out": tmp_path / "out", "degrees": True}
    for name, unit in (("train", 180 / np.pi), ("test", 1)):
        images, gaze, _ = discs(40, 1 if unit == 1 else 2)
        np.savez(tmp_path / f"{name}.npz", x=images, gaze=unit * angles_from_vectors(gaze, "mpiigaze"))
    flags |= {"train": f"a={tmp_path / 'train.npz'}", "test": tmp_path / "test.npz"}
    mixed = prepare(EvalGazeConfig.model_validate(flags)).warnings
    assert any("one is not in degrees and the other in radians (--degrees, --test-degrees)" in text for text in mixed)
    said = prepare(EvalGazeConfig.model_validate(flags | {"test_degrees": False}))
    assert not any("radians" in text for text in said.warnings)
    assert said.test is not None
    assert np.degrees(np.abs(angles_from_vectors(said.test.targets, "mpiigaze"))).max() > 10


def test_a_name_in_a_file_of_settings_leads_nowhere_else(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="is not NAME=PATH"):
        EvalGazeConfig.model_validate({"train": [["../../elsewhere", "renders"]], "out": tmp_path / "out"})


def test_equalization_comes_after_refining(tmp_path: Path) -> None:
    """The refiner knows images as they were rendered; equalized ones would be another domain."""
    model = write_refiner(tmp_path / "model")
    train, test = write_csv(tmp_path / "train", 5, 1), write_csv(tmp_path / "test", 5, 2)
    flags = {"train": [f"synthetic={train}"], "test": test, "model": model, "out": tmp_path / "out", "device": "cpu"}
    sets = {name: prepare(EvalGazeConfig(**flags, preprocess=name)).sets for name in ("none", "equalize")}
    raw = sets["none"]["synthetic"].pixels
    refined = ImageRefiner(open_model(model, None), prepare(EvalGazeConfig(**flags)).device).refine(raw[:, None])[:, 0]
    assert (refined != raw).mean() > 0.5
    assert np.array_equal(sets["equalize"]["refined"].pixels, np.stack([equalize(image) for image in refined]))
    assert np.array_equal(sets["equalize"]["synthetic"].pixels, np.stack([equalize(image) for image in raw]))


NINE_SEEDS = [
    "--estimator", "resnet", "--steps", "20", "--batch-size", "16", "--bootstrap", "100", "--seeds", "9",
    "--skip-existing", "--json",
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The rows of an evaluation that nothing stops."""
    result = simgan("eval-gaze", *sets(tmp_path_factory.mktemp("undisturbed")), *NINE_SEEDS)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["rows"]


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stopped_evaluation_goes_on(tmp_path: Path, undisturbed: object, sent: signal.Signals, code: int) -> None:
    """Estimators trained before the signal are taken as they are; the results are those of an undisturbed one."""
    flags = [*sets(tmp_path), *NINE_SEEDS]
    process = subprocess.Popen([SIMGAN, "eval-gaze", *flags], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    estimators = tmp_path / "out" / "estimators"
    while len(list(estimators.glob("*seed[0-9]/model.safetensors"))) < 2 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(sent)
    _, errors = process.communicate()
    assert process.returncode == code, errors
    assert b"Traceback" not in errors
    if code > 0:
        assert b"--skip-existing goes on" in errors
    assert not (tmp_path / "out" / "results.json").exists()
    kept = {path: path.stat().st_ino for path in estimators.glob("*seed[0-9]/model.safetensors")}
    assert 2 <= len(kept) < 9

    resumed = simgan("eval-gaze", *flags)
    assert resumed.returncode == 0, resumed.stderr
    assert {path: path.stat().st_ino for path in kept} == kept
    assert json.loads(resumed.stdout)["rows"] == undisturbed
