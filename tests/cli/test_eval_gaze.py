"""`simgan eval-gaze`: its documents, tables, exit codes, and how it resumes."""

import csv
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.gaze.helpers import write_csv, write_estimator
from tests.helpers import SIMGAN, TINY, parse_document, simgan, write_images, write_refiner

pytestmark = pytest.mark.slow  # complete commands
QUICK = ["--estimator", "resnet", "--size", "18x28", "--steps", "4", "--batch-size", "16", "--bootstrap", "100"]


def sets(folder: Path) -> list[str]:
    train, test = write_csv(folder / "train", 60, 1), write_csv(folder / "test", 20, 2, persons=5)
    return ["--train", f"synthetic={train}", "--test", str(test), "--out", str(folder / "out")]


def eval_gaze(*flags: str | Path) -> dict[str, Any]:
    """Run the command and return its document."""
    result = simgan("eval-gaze", *flags, "--json")
    assert result.returncode == 0, result.stderr
    return parse_document(result.stdout)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation of a model."""

    folder: Path
    flags: list[str]
    document: dict[str, Any]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    folder = tmp_path_factory.mktemp("evaluated")
    model, oracle = write_refiner(folder / "model"), write_csv(folder / "oracle", 40, 3)
    unlabelled = write_images(folder / "unlabelled", 12, 4, (40, 60))
    flags = [*sets(folder), "--model", str(model), "--real-train", str(oracle), *QUICK, "--seeds", "2"]
    flags += ["--reweight-to", str(unlabelled)]
    return Evaluated(folder, flags, eval_gaze(*flags))


def test_a_model_is_compared_with_its_input(evaluated: Evaluated) -> None:
    document, out = evaluated.document, evaluated.folder / "out"
    assert document == json.loads((out / "results.json").read_text())
    assert document["schema"] == "simgan.eval-gaze/1"
    assert document["test"] == {"images": 20, "persons": 5, "source": str(evaluated.folder / "test")}
    names = [(row["name"], row["estimator"]) for row in document["rows"]]
    assert [name for name, estimator in names if estimator == "resnet"] == [
        "synthetic", "refined", "oracle", "synthetic-weighted", "refined-weighted",
    ]  # fmt: skip
    assert ("synthetic", "mean") in names
    assert document["comparison"]["pair"] == ["synthetic", "refined"]
    assert document["comparison"]["verdict"] in ("helps", "no significant difference", "hurts")
    assert document["preservation"]["estimate_shift"]["mean"] > 0
    by_name = {row["name"]: row for row in document["rows"]}
    rows = read_csv(out / "predictions.csv")
    assert list(rows[0]) == ["row", "seed", "file", "person", "gx", "gy", "gz", "px", "py", "pz", "error_deg"]
    refined = [float(row["error_deg"]) for row in rows if row["row"] == "refined/resnet"]
    assert len(refined) == 2 * 20
    assert np.isclose(np.mean(refined), by_name["refined"]["mean"], atol=1e-5)
    weights = {row["file"]: float(row["weight"]) for row in read_csv(out / "weights" / "refined-weighted-resnet.csv")}
    assert weights.keys() == {f"{index}.png" for index in range(60)}
    assert np.isclose(np.mean(list(weights.values())), 1, atol=1e-3)
    assert 1 <= by_name["refined-weighted"]["effective_images"] <= 60
    assert by_name["refined"]["effective_images"] is None
    for name in ("curve.png", "error-map.png", "worst.png"):
        with Image.open(out / name) as picture:
            assert picture.width > 100
    assert "<svg" in (out / "curve.svg").read_text()


def test_skip_existing_reuses_trained_estimators(evaluated: Evaluated) -> None:
    networks = list((evaluated.folder / "out" / "estimators").glob("*/model.safetensors"))
    inodes = [path.stat().st_ino for path in networks]
    assert len(networks) == 5 * 2
    assert eval_gaze(*evaluated.flags, "--skip-existing")["rows"] == evaluated.document["rows"]
    assert [path.stat().st_ino for path in networks] == inodes


def test_a_trained_estimator_is_tested_again_and_serves_as_psi(evaluated: Evaluated, tmp_path: Path) -> None:
    folder = evaluated.folder / "out" / "estimators" / "synthetic-resnet-seed0"
    flags = ["--load", f"mine={folder}", "--test", str(evaluated.folder / "test"), "--size", "18x28"]
    loaded = eval_gaze(*flags, "--out", tmp_path / "out")["rows"][0]
    assert loaded["name"] == "mine"
    rows = evaluated.document["rows"]
    raw = next(row for row in rows if (row["name"], row["estimator"]) == ("synthetic", "resnet"))
    assert np.isclose(loaded["mean"], raw["seed_means"][0])

    synthetic, real = write_images(tmp_path / "s", 8, 1, (18, 28)), write_images(tmp_path / "r", 8, 2, (18, 28))
    trained = simgan(
        "train", "--synthetic", synthetic, "--real", real, "--out", tmp_path / "run", *TINY, "--psi", f"{folder}=1"
    )
    assert trained.returncode == 0, trained.stderr


def test_a_dry_run_is_a_document(tmp_path: Path) -> None:
    result = simgan("eval-gaze", *sets(tmp_path), "--dry-run", "--quiet", "--json")
    assert result.returncode == 0, result.stderr
    document = parse_document(result.stdout)
    assert result.stderr == f"warning: {document['warnings'][0]}\n"
    assert document["schema"] == "simgan.eval-gaze.dry-run/1"
    assert document["test"] == {"images": 20, "persons": 5, "source": str(tmp_path / "test")}
    assert not (tmp_path / "out").exists()


def test_a_table_shows_trained_and_loaded_estimators_of_pupils(tmp_path: Path) -> None:
    loaded = write_estimator(tmp_path / "a", size=(18, 28), target="pupil")
    flags = ["--target", "pupil", *QUICK, "--estimator", "knn", "--load", f"a={loaded}"]
    result = simgan("eval-gaze", *sets(tmp_path), *flags)
    assert result.returncode == 0, result.stderr
    for text in ("pupil error on 20 test images, px", "synthetic, knn", "a, resnet", "mean of"):
        assert text in result.stdout
    assert max(map(len, result.stdout.splitlines()[:-1])) <= 80
    assert result.stdout.splitlines()[-1].startswith(("Train on synthetic: ", "synthetic is not significantly better"))
    assert f"results: {tmp_path / 'out' / 'report.html'}\n" in result.stderr
    assert f"reading {tmp_path / 'train'}\n" in result.stderr


def test_wrong_settings_and_bad_data_have_their_exit_codes(tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train", 6, 1)
    for name, code, text in (("train", 2, "is not NAME=PATH"), (f"a={train}", 4, "test images must not be trained on")):
        result = simgan("eval-gaze", "--train", name, "--test", train, "--out", tmp_path / "out")
        assert (result.returncode, "Traceback" in result.stderr) == (code, False), result.stderr
        assert text in result.stderr


def test_an_evaluation_stopped_by_each_signal_resumes(tmp_path: Path) -> None:
    """Estimators trained before a signal are reused; the results equal those of an uninterrupted evaluation."""
    flags = [
        *sets(tmp_path), "--estimator", "resnet", "--size", "18x28", "--steps", "20", "--batch-size", "16",
        "--bootstrap", "100", "--seeds", "9", "--skip-existing",
    ]  # fmt: skip
    uninterrupted = eval_gaze(*flags, "--out", tmp_path / "uninterrupted")["rows"]
    estimators = tmp_path / "out" / "estimators"

    def inodes() -> dict[Path, int]:
        return {path: path.stat().st_ino for path in estimators.glob("*seed[0-9]/model.safetensors")}

    before: dict[Path, int] = {}
    two_at_once = os.environ | {"OMP_NUM_THREADS": "2"}
    for sent, code in ((signal.SIGTERM, 75), (signal.SIGINT, 130), (signal.SIGKILL, -9)):
        process = subprocess.Popen(
            [SIMGAN, "eval-gaze", *flags], env=two_at_once, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        while len(inodes()) <= len(before) + 1 and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(sent)
        _, errors = process.communicate()
        assert process.returncode == code, errors
        assert b"Traceback" not in errors
        assert code < 0 or b"--skip-existing to resume" in errors
        assert not (tmp_path / "out" / "results.json").exists()
        after = inodes()
        assert len(before) + 2 <= len(after) < 9
        assert before.items() <= after.items()
        before = after
    assert eval_gaze(*flags)["rows"] == uninterrupted
    assert before.items() <= inodes().items()
