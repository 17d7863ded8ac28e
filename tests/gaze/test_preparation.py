"""The inputs of an evaluation, and refusals before anything is trained."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from simgan_cli.data.decoding import equalize
from simgan_cli.data.matching import quantiles_of
from simgan_cli.engine.export.network_folder import save_network
from simgan_cli.engine.export.refiner_model import open_model, save_tones
from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.errors import CheckpointError, DataError, SettingsError
from simgan_cli.files import write_json
from simgan_cli.gaze.baselines import make_baseline
from simgan_cli.gaze.labels import LabelFormat, apart_warnings
from simgan_cli.gaze.preparation import Evaluation, prepare
from simgan_cli.gaze.preservation import measure_preservation
from simgan_cli.gaze.readers import read
from simgan_cli.settings.eval_gaze import EvalGazeConfig
from tests.gaze.helpers import HEIGHT, WIDTH, discs, write_csv, write_estimator, write_unityeyes
from tests.helpers import write_images, write_refiner


def prepared(**settings: Any) -> Evaluation:
    return prepare(EvalGazeConfig.model_validate({"device": "cpu", "estimator": "resnet"} | settings))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled eyes in `train` and `test`, an estimator of random weights, and `results` of something else."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_csv(folder / "train", 12, 1)
    write_csv(folder / "test", 8, 2, persons=2)
    write_estimator(folder / "network")
    (folder / "results").mkdir()
    (folder / "results" / "mine.txt").write_text("kept")
    return folder


OTHER_ROW, TWO = {"reweight_to": "test", "train": ["a=train", "a-weighted=test"]}, ["a=train", "b=test"]
BY_PERSON = {"protocol": "leave-one-person-out", "test": None}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"test": "train"},
            "share 12 images (0.png = 0.png, 1.png = 1.png, 10.png = 10.png); test images must not be trained on",
        ),
        ({"test": "test", "include": "/0.png"}, "test: 1 image; an interval, and so a verdict, needs 2 or more"),
        ({"train": ["a=train", "a=test"]}, "must differ"),
        ({"train": []}, "no --train; give --train NAME=DIR"),
        ({"test": None}, "no --test; give --test DIR"),
        ({"train": ["a=nowhere"]}, "no such file or folder"),
        ({"train": ["a=."]}, "no labels; found"),
        ({"out": "results"}, "--out results: not empty; use --overwrite, --skip-existing to resume"),
        ({"out": "test/0.png"}, "--out test/0.png: a file"),
        ({"skip_existing": True, "overwrite": True}, "contradict each other"),
        ({"reweight_to": "nowhere"}, "no such file or folder"),
        ({"reweight_to": "test", "estimator": "knn"}, "--reweight-to weights training images"),
        ({"baseline": "fda"}, "--baseline takes tones from unlabelled real images; give --photos"),
        ({"baseline": "fda", "photos": "test", "train": ["fda=train"]}, "fda=...: another option makes a row"),
        (OTHER_ROW, "a-weighted=...: another option makes a row of this name"),
        (OTHER_ROW | {"model": "any", "train": ["a=train", "refined-weighted=test"]}, "another option makes a row"),
        ({"size": "4x4", "estimator": "cnn"}, "4x4 are too small for --estimator cnn; give a larger --size"),
        ({"few": "5,7"}, "--few uses labelled photographs of --real-train"),
        ({"worth": True}, "--worth uses labelled photographs of --real-train"),
        ({"few": [5, 20], "real_train": "test"}, "--few 20: --real-train has 8 labelled photographs; give fewer"),
        ({"worth": True, "real_train": "test"}, "--worth: --real-train has 8 labelled photographs; give more than 50"),
        ({"few": "5", "real_train": "test", "train": ["real-5=train"]}, "real-5=...: another option makes a row"),
        *(
            ({flag: value}, f"--{flag} sets how --model refines; give --model, too")
            for flag, value in {"step": 0, "match": "histogram", "augment": True, "copies": 2}.items()
        ),
        ({"model": "any", "load": ["refined=network"]}, "refined=...: another option makes a row"),
        ({"protocol": "leave-one-person-out"}, "--test: leave it out, since --protocol"),
        (BY_PERSON | {"photos": "test"}, "--photos: leave it out, since --protocol"),
        (BY_PERSON | {"train": TWO}, "--train: given 2 times; --protocol"),
        (BY_PERSON | {"estimator": ["knn", "resnet"]}, "--estimator: given 2 times; --protocol"),
    ],
)
def test_contradictory_settings_and_bad_sets_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], says: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises((SettingsError, DataError), match=re.escape(says)):
        prepared(**{"train": ["a=train"], "test": "test", "out": "out"} | settings)
    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["renders", "=renders", "../up=renders", "_a=renders", "a\udcff=renders"])
def test_a_set_needs_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationError, match="is not NAME=PATH"):
        EvalGazeConfig.model_validate({"train": [name], "out": tmp_path / "out"})


def test_a_loaded_estimator_is_checked_before_anything_is_trained(folder: Path, tmp_path: Path) -> None:
    equalized = write_estimator(tmp_path / "equalized", "equalize")
    small = write_estimator(tmp_path / "small", size=(20, 31))
    settings: dict[str, Any] = {"test": folder / "test", "out": tmp_path / "out"}
    with pytest.raises(CheckpointError, match=r"nowhere.config\.json: no such file"):
        prepared(**settings, load=f"mine={tmp_path / 'nowhere'}")
    with pytest.raises(CheckpointError, match="not an estimator of --target pupil"):
        prepared(**settings, load=f"mine={equalized}", target="pupil")
    with pytest.raises(SettingsError) as error:
        prepared(**settings, train=f"a={folder / 'train'}", load=[f"mine={equalized}", f"yours={small}"])
    assert error.value.problems == (
        f"--load {equalized}: trained with preprocess equalize, not none as here; give --preprocess equalize",
        f"--load {small}: trained with size 20x31, not 35x55 as here; give --size 20x31",
    )
    prepared(**settings, load=f"mine={equalized}", preprocess="equalize")
    prepared(**settings, load=f"yours={small}", size="20x31")


@pytest.mark.parametrize("preprocess", ["none", "equalize"])
def test_unlabelled_images_are_prepared_like_labelled_ones(tmp_path: Path, preprocess: str) -> None:
    train, test = write_csv(tmp_path / "train", 6, 1), write_csv(tmp_path / "test", 8, 2)
    deep = np.random.default_rng(0).integers(20_000, 60_000, (40, 50), np.uint16)
    for name in ("0.png", "1.png"):
        Image.fromarray(deep).save(test / name)
        deep = deep[::-1]
    grey, alpha = np.random.default_rng(0).integers(0, 255, (2, 40, 50), np.uint8)
    Image.fromarray(np.dstack([grey, alpha])).save(test / "2.png")
    (test / "torn.png").write_bytes(b"not an image")
    (test / "gone.png").symlink_to("nowhere.png")
    evaluation = prepared(
        train=f"a={train}", test=test, reweight_to=test, out=tmp_path / "out", size="20x31", preprocess=preprocess
    )
    assert evaluation.unlabelled is not None
    assert np.array_equal(np.sort(evaluation.unlabelled, axis=0), np.sort(evaluation.tested.pixels, axis=0))
    for text in ("2 images left out, such as", "gone.png", "share 8 images, so rows made with them"):
        assert any(text in warning for warning in evaluation.warnings)


def test_equalization_comes_after_refining(folder: Path, tmp_path: Path) -> None:
    """The refiner was trained on plain renders; equalized ones would be another domain."""
    model = write_refiner(tmp_path / "model")
    settings = {"train": f"a={folder / 'train'}", "test": folder / "test", "model": model, "out": tmp_path / "out"}
    plain = prepared(**settings)
    sets = prepared(**settings, preprocess="equalize").sets
    raw = plain.sets["a"].pixels
    refined = ImageRefiner(open_model(model, None), plain.device).refine(raw[:, None])[:, 0]
    assert (refined != raw).mean() > 0.5
    assert np.array_equal(sets["refined"].pixels, np.stack([equalize(image) for image in refined]))
    assert np.array_equal(sets["a"].pixels, np.stack([equalize(image) for image in raw]))


def test_baselines_are_made_of_the_first_set_and_the_photographs(folder: Path, tmp_path: Path) -> None:
    settings = {"train": [f"a={folder / 'train'}"], "test": folder / "test", "out": tmp_path / "out"}
    sets = prepared(**settings, baseline=["histogram", "augment"], photos=folder / "test", seed=3).sets
    assert list(sets) == ["a", "histogram", "augment"]
    photographs = read(folder / "test", LabelFormat()).pixels
    assert np.array_equal(sets["histogram"].pixels, make_baseline("histogram", sets["a"], photographs, 3).pixels)
    by_reweighting = prepared(**settings, baseline="histogram", reweight_to=folder / "test", seed=3)
    assert np.array_equal(by_reweighting.sets["histogram"].pixels, sets["histogram"].pixels)


def test_the_patterns_apply_to_all_sets(tmp_path: Path) -> None:
    folders = {
        "train": write_unityeyes(tmp_path / "train", *discs(3, 1)),
        "test": write_csv(tmp_path / "test", 4, 2),
        "real_train": write_csv(tmp_path / "real", 5, 3),
        "reweight_to": write_images(tmp_path / "unlabelled", 6, 4, (35, 55)),
    }
    for folder in folders.values():
        for number in range(4):
            Image.new("L", (640, 480), number).save(folder / f"{number}.bmp")
    settings = folders | {"train": f"eyes={folders['train']}", "out": tmp_path / "out", "exclude": "*.bmp"}
    evaluation = prepared(**settings)
    assert {name: len(images) for name, images in evaluation.sets.items()} == {"eyes": 3, "oracle": 5}
    assert (len(evaluation.tested), evaluation.unlabelled is not None and len(evaluation.unlabelled)) == (4, 6)
    assert not any("left out" in warning for warning in evaluation.warnings)


def evaluated(folder: Path, tmp_path: Path) -> dict[str, Any]:
    return {"train": [f"raw={folder / 'train'}"], "test": folder / "test", "out": tmp_path / "out"}


def run_with_estimator(folder: Path, preprocess: str = "none", target: str = "gaze") -> Path:
    """Return a folder that looks like a finished run on the tests' eyes."""
    run = folder / "run"
    write_refiner(run / "refiner")
    write_json(run / "config.json", {"schema": "simgan.run/1"})
    estimator = Estimator("resnet", HEIGHT, WIDTH, target, ("tip",) if target == "points" else ())
    save_network(run / "estimator", estimator, {"made_of": {"preprocess": preprocess}}, {})
    return run


def test_the_estimator_of_a_run_has_a_row(folder: Path, tmp_path: Path) -> None:
    evaluation = prepared(**evaluated(folder, tmp_path), model=run_with_estimator(tmp_path))
    assert list(evaluation.loaded) == ["run-estimator"]


@pytest.mark.parametrize(
    ("settings", "of_run", "says"),
    [
        ({}, {"preprocess": "equalize"}, "trained with --preprocess equalize"),
        ({}, {"target": "pupil"}, "trained with --target pupil"),
        ({"size": "40x60"}, {}, "trained with --size 35x55"),
        ({"target": "points"}, {"target": "points"}, "trained with the points tip"),
    ],
    ids=str,
)
def test_an_estimator_of_other_images_gives_a_warning_and_no_row(
    folder: Path, tmp_path: Path, settings: dict[str, Any], of_run: dict[str, str], says: str
) -> None:
    evaluation = prepared(**evaluated(folder, tmp_path), model=run_with_estimator(tmp_path, **of_run), **settings)
    assert evaluation.loaded == {}
    assert any(warning.endswith(says) for warning in evaluation.warnings)


def test_persons_that_the_upper_limit_has_seen_give_a_warning(folder: Path, tmp_path: Path) -> None:
    for name, seed, persons in (("known", 3, 3), ("unknown", 4, 0)):
        write_csv(tmp_path / name, 9, seed, persons=persons)
        warnings = prepared(**evaluated(folder, tmp_path), real_train=tmp_path / name).warnings
        shared = [warning for warning in warnings if "share 2 persons" in warning]
        assert len(shared) == (persons > 0)


def test_a_gain_of_augmentation_is_not_credited_to_refining_without_a_warning(folder: Path, tmp_path: Path) -> None:
    model = write_refiner(tmp_path / "model")
    save_tones(model, quantiles_of(discs(3, 5)[0][:, None]))
    common = evaluated(folder, tmp_path) | {"model": model, "photos": folder / "train"}
    warned = [
        any("refining gets the credit" in warning for warning in prepared(**common, **settings).warnings)
        for settings in (
            {"match": "off"}, {}, {"augment": True}, {"match": "mean-std"}, {"augment": True, "baseline": "augment"},
        )
    ]  # fmt: skip
    assert warned == [False, True, True, True, False]


def test_sets_are_described_by_their_grey_values(folder: Path) -> None:
    images = read(folder / "train", LabelFormat())
    assert images.grey == pytest.approx((images.pixels.mean(), images.pixels.std()))
    assert images.describe().endswith(f"; grey {images.pixels.mean():.0f} +- {images.pixels.std():.0f}")
    assert apart_warnings(images, replace(images, pixels=images.pixels // 4))[0].startswith("grey values of ")


def test_the_refined_set_has_the_requested_copies(folder: Path, tmp_path: Path) -> None:
    common = evaluated(folder, tmp_path) | {"model": run_with_estimator(tmp_path), "estimator": "knn"}
    evaluations = [prepared(**common, copies=copies) for copies in (1, 3)]
    one, three = (evaluation.sets["refined"] for evaluation in evaluations)
    assert len(three) == 3 * len(one)
    assert np.array_equal(three.targets[::3], one.targets)
    assert measure_preservation(evaluations[1]) == measure_preservation(evaluations[0])  # of the first look
