import csv
import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from simgan_cli.data.images import equalize
from simgan_cli.engine.model import open_model
from simgan_cli.engine.refining import ImageRefiner
from simgan_cli.gaze.config import EvalGazeConfig
from simgan_cli.gaze.evaluation import prepare
from tests.gaze.helpers import write_csv
from tests.helpers import SIMGAN, TINY, simgan, write_images, write_refiner

QUICK = ["--estimator", "resnet", "--train-steps", "4", "--train-batch", "16", "--bootstrap", "100"]


def sets(folder: Path) -> list[str]:
    train, test = write_csv(folder / "train", 60, 1), write_csv(folder / "test", 20, 2, persons=5)
    return ["--train", f"synthetic={train}", "--test", str(test), "--out", str(folder / "out")]


def test_a_model_is_compared_with_what_it_refines(tmp_path: Path) -> None:
    model, oracle = write_refiner(tmp_path / "model"), write_csv(tmp_path / "oracle", 40, 3)
    unlabelled = write_images(tmp_path / "unlabelled", 12, 4, (40, 60))
    flags = [*sets(tmp_path), "--model", str(model), "--real-train", str(oracle), *QUICK, "--seeds", "2"]
    flags += ["--real", str(unlabelled)]
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
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
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
    before = (folder / "model.safetensors").stat().st_ino
    again = simgan("eval-gaze", *flags, "--json", "--skip-existing")
    assert json.loads(again.stdout)["rows"] == document["rows"]
    assert (folder / "model.safetensors").stat().st_ino == before

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


def test_the_table_and_the_pupil(tmp_path: Path) -> None:
    result = simgan("eval-gaze", *sets(tmp_path), "--target", "pupil", *QUICK, "--estimator", "knn")
    assert result.returncode == 0, result.stderr
    for text in ("pupil error on 20 test images, px", "synthetic", "knn", "mean"):
        assert text in result.stdout


def test_where_no_label_lies_near_what_is_predicted_the_other_rows_stand(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path / "train", 360, 1), write_csv(tmp_path / "test", 20, 2)
    lines = list(csv.DictReader((train / "labels.csv").read_text().splitlines()))
    for index, line in enumerate(lines):  # far in four corners, and the untrained estimator looks between them
        gaze = np.array([0.6 * (-1) ** (index // 2), 0.6 * (-1) ** index, -0.5])
        line |= dict(zip(("gx", "gy", "gz"), gaze / np.linalg.norm(gaze), strict=True))
    with (train / "labels.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, lines[0])
        table.writeheader()
        table.writerows(lines)
    flags = ["--train", f"synthetic={train}", "--test", str(test), "--out", str(tmp_path / "out")]
    result = simgan("eval-gaze", *flags, *QUICK, "--real", write_images(tmp_path / "real", 8, 4, (35, 55)), "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert "synthetic-reweighted" not in [row["name"] for row in document["rows"]]
    assert any("synthetic-reweighted, resnet: left out: no label" in text for text in document["warnings"])


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


def test_what_cannot_be_evaluated(tmp_path: Path) -> None:
    flags = sets(tmp_path)
    train, test = tmp_path / "train", tmp_path / "test"
    out = ["--out", str(tmp_path / "out")]
    alone = ["--train", f"a={train}", "--protocol", "leave-one-person-out", *out]
    cases: list[tuple[list[str], int, str]] = [
        (["--train", f"a={train}", "--test", str(train), *out], 4, "must not be trained on what it is tested on"),
        ([*flags, "--train", f"synthetic={test}"], 2, "must differ"),
        (["--test", str(test), *out], 2, "--train NAME=DIR is required"),
        (["--train", str(train), "--test", str(test), *out], 2, "is not NAME=PATH"),
        (["--train", "a=nowhere", "--test", str(test), *out], 2, "no such file or folder"),
        (["--train", f"a={tmp_path}", "--test", str(test), *out], 4, "no labels found"),
        ([*flags, "--real", "nowhere"], 2, "no such file or folder"),
        ([*flags, "--real", str(test), "--estimator", "knn"], 2, "--real weighs what an estimator"),
        ([*flags, "--real", str(test), "--train", f"synthetic-reweighted={test}"], 2, "made by another option"),
        (
            [*flags, "--real", str(test), "--model", "any", "--train", f"refined-reweighted={test}"],
            2,
            "made by another option",
        ),
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


def test_unlabelled_images_of_any_kind_are_read_and_known_again(tmp_path: Path) -> None:
    flags = dict(zip(("train", "test", "out"), sets(tmp_path)[1::2], strict=True))
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    deep = np.full((35, 55), 30_000, np.uint16)
    deep[:, 20:] = 60_000
    Image.fromarray(deep).save(mixed / "deep.png")
    (mixed / "torn.png").write_bytes(b"not an image")
    evaluation = prepare(EvalGazeConfig.model_validate(flags | {"real": mixed, "estimator": "resnet"}))
    assert evaluation.real is not None
    assert evaluation.real.shape == (1, 35, 55)
    assert np.unique(evaluation.real).tolist() == [117, 233]  # 30,000 and 60,000 of 65,535, of 255
    assert any("1 unreadable images left out, such as" in text and "torn.png" in text for text in evaluation.warnings)

    same = prepare(EvalGazeConfig.model_validate(flags | {"real": flags["test"], "estimator": "resnet"}))
    assert any("share 20 images: rows -reweighted have seen those" in warning for warning in same.warnings)


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
    "--estimator", "resnet", "--train-steps", "20", "--train-batch", "16", "--bootstrap", "100", "--seeds", "9",
    "--skip-existing", "--json",
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The rows of an evaluation that nothing stops."""
    result = simgan("eval-gaze", *sets(tmp_path_factory.mktemp("undisturbed")), *NINE_SEEDS)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["rows"]


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
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
