"""The efficacy benchmark: its numbers by hand, and the whole of it on a tiny world."""

import itertools
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.efficacy import ablations, efficacy, limits
from simgan_cli.cli.resolve import resolve
from simgan_cli.engine.run_folder.layout import settings_of
from simgan_cli.gaze.labels import LabelFormat
from simgan_cli.gaze.readers import read
from tests.gaze.helpers import discs, write_csv
from tests.simgan_server import warm_simgan


def test_gap_closure_by_hand() -> None:
    synthetic, oracle = np.array([[8.0, 6.0], [10.0, 8.0]]), np.array([[4.0, 4.0], [4.0, 4.0]])
    assert efficacy.closure(synthetic, oracle, oracle) == 1
    assert efficacy.closure(synthetic, synthetic, oracle) == 0
    assert efficacy.closure(synthetic, np.full((2, 2), 6.0), oracle) == pytest.approx((8 - 6) / (8 - 4))
    assert efficacy.closure(synthetic, synthetic + 1, oracle) == pytest.approx(-0.25)


def test_the_interval_covers_the_closure_and_narrows_with_images() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (50, 5000):
        synthetic = rng.gamma(4, 2, (1, count))
        refined, oracle = synthetic * 0.8 + rng.normal(0, 1, (1, count)), synthetic * 0.5
        low, high = efficacy.closure_interval(synthetic, refined, oracle, None)
        assert low < efficacy.closure(synthetic, refined, oracle) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_the_interval_is_students_over_seeds() -> None:
    errors = np.repeat([[8.0], [8.0], [8.0]], 50, axis=1)
    low, high = efficacy.closure_interval(errors, errors - [[1.0], [2.0], [3.0]], errors - 4, None)
    # by hand: 0.25, 0.5 and 0.75, so a deviation of 0.25, and 4.303 of its error
    assert (low, high) == pytest.approx((0.5 - 4.303 * 0.25 / 3**0.5, 0.5 + 4.303 * 0.25 / 3**0.5), abs=1e-3)


def test_the_interval_is_over_persons_where_five_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficacy, "RESAMPLES", 20_000)
    persons = np.repeat(["a", "b", "c", "d", "e"], [1, 2, 3, 4, 5])
    synthetic, refined, oracle = np.random.default_rng(0).uniform([[8], [5], [2]], [[12], [9], [6]], (3, 15))
    closures = []
    for draw in itertools.product("abcde", repeat=5):  # all that could be drawn
        images = np.concatenate([np.flatnonzero(persons == person) for person in draw])
        s, r, o = (errors[images].mean() for errors in (synthetic, refined, oracle))
        closures.append((s - r) / (s - o))
    centre = (synthetic.mean() - refined.mean()) / (synthetic.mean() - oracle.mean())
    few = 2.776 / 1.960 * (5 / 4) ** 0.5  # Student's of 4, and the variance that a bootstrap of five misses
    expected = centre + (np.percentile(closures, [2.5, 97.5]) - centre) * few
    errors = synthetic[None], refined[None], oracle[None]
    assert efficacy.closure_interval(*errors, list(persons)) == pytest.approx(list(expected), abs=0.01)
    four = ["a" if person == "e" else person for person in persons]
    assert efficacy.closure_interval(*errors, four) == efficacy.closure_interval(*errors, None)


def test_shares_of_the_gap_by_hand() -> None:
    levels = {
        "renders": [8, 8], "renders, augmented": [7, 7], "renders, refined": [6, 5],
        "all labelled target images": [4, 4],
    }  # fmt: skip
    errors = {name: np.repeat(np.array(by_seed, float)[:, None], 3, axis=1) for name, by_seed in levels.items()}
    # by hand: two seeds that differ by a quarter have an error of an eighth, 12.706 of which are 1.588
    assert list(limits.shares(errors, "renders", None))[1:] == [
        "| renders, augmented | 0.25 (0.25 to 0.25) | 0.25, 0.25 |",
        "| renders, refined | 0.62 (-0.96 to 2.21) | 0.50, 0.75 |",
    ]
    assert list(limits.shares(errors, "renders, augmented", None))[1:] == [
        "| renders, refined | 0.38 (-1.21 to 1.96) | 0.25, 0.50 |"
    ]


def test_augmentation_changes_looks_and_not_places() -> None:
    image = discs(1, 0)[0][0]
    copies = np.stack([efficacy.augment(image, np.random.default_rng(seed)) for seed in range(20)])
    assert copies.dtype == np.uint8
    assert copies.std(axis=0).mean() > 10
    dark = image < 100
    assert all(copy[dark].mean() < copy[~dark].mean() - 10 for copy in copies)


@pytest.mark.slow
def test_a_tiny_world_from_folders_to_table_and_resumed(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(efficacy, "SIMGAN", str(warm_simgan()))
    data, work = tmp_path / "data" / "camera", tmp_path / "work"
    for seed, name in enumerate(("synthetic", "target", "test")):  # so few that none are held out to measure realism
        write_csv(data / name, 24, seed, persons=6 * (name == "test"))  # on, which takes long
    (data / "target" / "labels.csv").rename(data / "target_labels.csv")
    quick = ["--", "--refiner-width", "4", "--refiner-blocks", "1", "--batch-size", "4", "--history-size", "8"]
    quick += ["--pretrain-discriminator", "1", "--steps", "3", "--sample-every", "0", "--cache", "off"]
    quick += ["--save-every", "1", "--keep", "0"]
    common = ["--data", str(data.parent), "--work", str(work), "--job", "camera", "--train-steps", "1", "--seed", "0"]
    both = [*common, "--recipe", "default", "--recipe", "lambda=3"]

    def output_of(benchmark: ModuleType, *arguments: str) -> str:
        benchmark.main(arguments)
        return capsys.readouterr().out

    (data / "test").rename(tmp_path / "kept away")  # trainings need no labels, and so no test set
    output_of(efficacy, *both, "--train-only", *quick)
    (tmp_path / "kept away").rename(data / "test")
    (data / "target").rename(tmp_path / "kept away")  # and where they have ended nothing is trained again
    output_of(efficacy, *both, "--train-only", *quick)
    (tmp_path / "kept away").rename(data / "target")
    table = output_of(efficacy, *both, *quick)
    lines = [json.loads(line) for line in (work / "results.jsonl").read_text().splitlines()]
    assert [(line["recipe"], line["settings"]["lambda"], line["steps"]) for line in lines] == [
        ("default", 1.0, 4), ("lambda=3", 3.0, 4),
    ]  # fmt: skip
    errors = lines[0]["errors"]
    assert set(errors) == {
        "synthetic", "augmented", "oracle", "refined", "refined, augmented", "refined and synthetic",
    }  # fmt: skip
    expected = (errors["synthetic"] - errors["refined"]) / (errors["synthetic"] - errors["oracle"])
    assert lines[0]["closure"] == pytest.approx(expected)
    assert "| camera | lambda=3 | 1 |" in table
    ends = [np.load(work / lines[0]["kept"][name])[None] for name in ("synthetic", "refined", "oracle")]
    low, high = efficacy.closure_interval(ends[0], ends[1], ends[2], [f"p{index % 6:02}" for index in range(24)])
    assert f"| {expected:.2f} ({low:.2f} to {high:.2f}) |" in table

    known = {"phase": "adversarial", "swd_synthetic": 1.0, "swd_real": 0.1, "label_drift": 0.5}
    measured = [known | {"step": step, "swd_refined": step / 8} for step in (2, 4)]
    metrics = work / "runs" / "camera-default-0" / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(line) + "\n" for line in measured))
    rerun = output_of(efficacy, *common, "--seed", "0", "1", "--hindsight", *quick)
    assert (work / "results.jsonl").read_text().splitlines()[:2] == [json.dumps(line) for line in lines]
    assert "| camera | default | 2 |" in rerun
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rerun.splitlines()]
    rows = [row for row in cells if len(row) == 8 and row[:3] == ["camera", "default", "0"]]
    assert [row[3:6] for row in rows] == [["2", "0.250", "0.50"], ["4", "0.500", "0.50"]]
    assert rows[1][6] == f"{errors['refined']:.2f}"  # by the last refiner, which was exported
    assert [row for row in rows if "best" in row[7]] == [min(rows, key=lambda row: float(row[6]))]
    with pytest.raises(SystemExit, match="take another --work"):
        efficacy.main([*both, *quick, "--lambda", "9"])

    output_of(efficacy, *both, "--recipe", "not there", "--sheet", str(tmp_path / "sheet.png"))
    with Image.open(tmp_path / "sheet.png") as picture:
        # Renders, two recipes that were run, and targets; eight of each, three times their size, below two lines.
        assert picture.size == (4 * (3 * 55 + 4) + 4, 8 * (3 * 35 + 4) + 4 + 2 * 16)

    names = ["renders", "renders, refined by 4 checkpoints", "renders, labels as in the target, refined, augmented"]
    limits_table = output_of(limits, *common, "--row", *names, *quick)
    with pytest.raises(SystemExit):
        limits.main([*common, "--row", "renders", "--beyond", "renders, augmented", *quick])
    assert "--beyond: needs the rows" in capsys.readouterr().err
    assert f"| renders | {errors['synthetic']:.2f} |" in limits_table  # the same training
    assert all(f"| {name} | " in limits_table for name in names)
    assert len(list((work / "alike" / "camera-0").iterdir())) == 24
    given_table = output_of(
        limits, *common, "--run", str(work / "runs" / "camera-default-0"), "--row", "renders, refined"
    )
    assert f"| renders, refined | {errors['refined']:.2f} |" in given_table
    with pytest.raises(SystemExit, match="take another --work"):  # and the run of the table above is not trained on
        limits.main([*common, "--row", "renders, refined", *quick, "--steps", "9"])


def test_errors_by_refiners_are_kept_for_the_flags_of_their_training() -> None:
    rows = ("renders", "renders, refined")
    one, other = ([limits.kept_as(row, ["--steps", steps], None) for row in rows] for steps in ("3", "4"))
    assert one[0] == other[0] == "limits, renders"
    assert one[1] != other[1]


def test_fewer_checkpoints_than_wanted_end_the_command(tmp_path: Path) -> None:
    for step in range(1, limits.LOOKS + 2):
        if step == limits.LOOKS:
            with pytest.raises(SystemExit, match=r"keeps 3 checkpoints where 4 are wanted.*--keep 0 --save-every N"):
                limits.last_steps(tmp_path)
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
        (tmp_path / "checkpoints" / f"step-{step:08d}" / "manifest.json").touch()
    assert limits.last_steps(tmp_path) == [2, 3, 4, 5]


def test_eyes9x15_becomes_folders_with_persons_apart(tmp_path: Path) -> None:
    pixels, gaze = np.zeros((20, 9, 15), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None], np.full((20, 2), 0.1)
    np.savez(tmp_path / "synthetic.npz", x=pixels, gaze=gaze)
    np.savez(tmp_path / "real.npz", x=pixels, gaze=gaze, person=np.arange(20) % 10)
    folder = efficacy.as_images(tmp_path, tmp_path / "work")
    assert set(read(folder / "test", LabelFormat()).persons or []) == {"7", "8", "9"}
    assert read(folder / "synthetic", LabelFormat()).persons is None
    counts = {name: len(list((folder / name).glob("*.png"))) for name in ("synthetic", "target", "test")}
    assert counts == {"synthetic": 20, "target": 14, "test": 6}
    assert len((folder / "target_labels.csv").read_text().splitlines()) == 15
    assert not (folder / "target" / "labels.csv").exists()


def test_each_ablation_is_the_default_but_for_one_setting(tmp_path: Path) -> None:
    domains = {name: str(write_csv(tmp_path / name, 4, 1)) for name in ("synthetic", "real")}
    settings = {}
    for recipe in ablations.ABLATIONS:
        flags = iter(efficacy.program_and_flags(recipe)[1])
        explicit: dict[str, Any] = {}
        for flag in flags:
            off = flag.startswith("--no-")
            explicit[flag.removeprefix("--no-" if off else "--").replace("-", "_")] = False if off else next(flags)
        settings[recipe] = settings_of(resolve(domains | explicit))
    different = {
        recipe: [name for name, value in named_settings.items() if value != settings["default"][name]]
        for recipe, named_settings in settings.items()
        if recipe != "paper"
    }
    named = {recipe: [recipe.split("=")[0].replace("-", "_")] for recipe in different if recipe != "default"}
    assert different == {"default": []} | named
    assert settings["paper"]["recipe"] == "paper"


def test_ablations_have_the_table_of_the_same_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ablations.main(["--data", "data", "--work", str(tmp_path), "--table"])
    assert capsys.readouterr().out.startswith("| job | recipe |")


def test_hindsight_has_no_rows_where_nothing_was_kept_and_none_under_other_conditions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, work = tmp_path / "data" / "camera", tmp_path / "work"
    for seed, name in enumerate(("synthetic", "target", "test")):
        write_csv(data / name, 4, seed)
    (data / "target" / "labels.csv").rename(data / "target_labels.csv")
    names = ("synthetic", "augmented", "refined", "refined, augmented", "refined and synthetic", "oracle")
    errors = dict(zip(names, (3.0, 3.0, 2.0, 2.0, 2.0, 1.0), strict=True))
    work.mkdir()
    for name, error in errors.items():
        np.save(work / f"{name}.npy", np.full(4, error))
    line = {
        "job": "camera", "recipe": "default", "seed": 0, "metrics": {}, "health": [], "unit": "deg", "errors": errors,
        "kept": {name: f"{name}.npy" for name in errors}, "closure": 0.5, "cpu_minutes": 1.0, "steps": 3,
        "conditions": ["resnet", "3", "fp32"],
    }  # fmt: skip
    (work / "results.jsonl").write_text(json.dumps(line) + "\n")
    flags = ["--data", str(data.parent), "--work", str(work), "--job", "camera", "--precision", "fp32"]
    flags += ["--table", "--hindsight", "--train-steps"]
    efficacy.main([*flags, "3"])
    assert capsys.readouterr().out.endswith("| error | |\n|---|---|---:|---:|---:|---:|---:|---|\n")
    with pytest.raises(SystemExit, match="take another --work"):
        efficacy.main([*flags, "4"])


@pytest.mark.slow
def test_a_training_that_fails_ends_the_benchmark_and_counts_with_its_minutes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efficacy, "SIMGAN", str(warm_simgan()))
    write_csv(tmp_path / "camera" / "synthetic", 4, 0)
    command = ["--data", str(tmp_path), "--work", str(tmp_path / "work"), "--job", "camera", "--seed", "0"]
    for attempts in (1, 2):
        with pytest.raises(SystemExit, match="exit code 2"):
            efficacy.main(command)
        assert "no such folder" in capfd.readouterr().err
        written = (tmp_path / "work" / "runs" / "camera-default-0.minutes").read_text().splitlines()
        assert len(written) == attempts
        assert min(map(float, written)) > 0
    assert not (tmp_path / "work" / "results.jsonl").exists()
