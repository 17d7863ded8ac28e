"""The efficacy benchmark: its numbers by hand, and all of it on a tiny world."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks._record import read_lines
from benchmarks.efficacy import ablations, efficacy, limits
from simgan_cli.cli.resolve import resolve
from simgan_cli.data.augmentation import augment
from simgan_cli.engine.run_folder.layout import settings_of
from tests.gaze.helpers import discs, write_csv
from tests.helpers import TINY
from tests.simgan_server import warm_simgan


def test_gap_closure_equals_that_by_hand() -> None:
    synthetic, oracle = np.array([[8.0, 6.0], [10.0, 8.0]]), np.array([[4.0, 4.0], [4.0, 4.0]])
    assert efficacy.closure(synthetic, oracle, oracle) == 1
    assert efficacy.closure(synthetic, synthetic, oracle) == 0
    assert efficacy.closure(synthetic, np.full((2, 2), 6.0), oracle) == pytest.approx((8 - 6) / (8 - 4))
    assert efficacy.closure(synthetic, synthetic + 1, oracle) == pytest.approx(-0.25)


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
    for draw in itertools.product("abcde", repeat=5):  # all possible resamples
        images = np.concatenate([np.flatnonzero(persons == person) for person in draw])
        s, r, o = (errors[images].mean() for errors in (synthetic, refined, oracle))
        closures.append((s - r) / (s - o))
    centre = (synthetic.mean() - refined.mean()) / (synthetic.mean() - oracle.mean())
    few = 2.776 / 1.960 * (5 / 4) ** 0.5  # Student's t of 4 degrees of freedom, and the bias of the variance of five
    expected = centre + (np.percentile(closures, [2.5, 97.5]) - centre) * few
    errors = synthetic[None], refined[None], oracle[None]
    assert efficacy.closure_interval(*errors, list(persons)) == pytest.approx(list(expected), abs=0.01)
    four = ["a" if person == "e" else person for person in persons]
    assert efficacy.closure_interval(*errors, four) == efficacy.closure_interval(*errors, None)


def test_shares_of_the_gap_equal_those_by_hand() -> None:
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


def test_augmentation_changes_looks_and_keeps_labels() -> None:
    image = discs(1, 0)[0][0]
    copies = np.stack([augment(image, np.random.default_rng(seed)) for seed in range(20)])
    assert copies.dtype == np.uint8
    assert copies.std(axis=0).mean() > 10
    dark = image < 100
    assert all(copy[dark].mean() < copy[~dark].mean() - 10 for copy in copies)


@pytest.mark.slow
def test_the_benchmark_leads_from_folders_to_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efficacy, "SIMGAN", str(warm_simgan()))
    data, work = tmp_path / "data" / "camera", tmp_path / "work"
    for seed, name in enumerate(("synthetic", "target", "test")):
        write_csv(data / name, 24, seed, persons=6 * (name == "test"))  # too few to measure realism, which is slow
    (data / "target" / "labels.csv").rename(data / "target_labels.csv")
    quick = ["--", *TINY, "--cache", "off", "--save-every", "1", "--keep", "0"]
    common = ["--data", str(data.parent), "--work", str(work), "--job", "camera", "--train-steps", "1", "--seed", "0"]
    both = [*common, "--recipe", "default", "--recipe", "lambda=3"]

    (data / "test").rename(tmp_path / "kept away")  # training needs no test set
    efficacy.main([*both, "--train-only", *quick])
    (tmp_path / "kept away").rename(data / "test")
    capsys.readouterr()
    efficacy.main([*both, *quick])
    table = capsys.readouterr().out
    lines = [json.loads(line) for line in (work / "results.jsonl").read_text().splitlines()]
    assert [(line["recipe"], line["settings"]["lambda"], line["steps"]) for line in lines] == [
        ("default", 1.0, 5), ("lambda=3", 3.0, 5),
    ]  # fmt: skip
    errors = lines[0]["errors"]
    assert set(errors) == set(efficacy.ROWS)
    expected = (errors["synthetic"] - errors["refined"]) / (errors["synthetic"] - errors["oracle"])
    assert lines[0]["closure"]["refined"] == pytest.approx(expected)
    assert set(lines[0]["closure"]) == set(efficacy.ROWS) - {"synthetic", "oracle"}
    assert "| camera | lambda=3 | 1 |" in table
    assert f"| {expected:.2f} (" in table
    record = tmp_path / "records.jsonl"
    for _ in range(2):  # a rerun adds no record again
        efficacy.main([*common, "--table", "--record", str(record)])
    records = read_lines(record)
    assert [each["recipe"] for each in records] == ["default", "default", "lambda=3", "lambda=3"]
    assert records[0]["closure"]["refined"] == pytest.approx(expected, abs=1e-4)
    assert records[1]["seeds"] == [0]
    assert records[1]["interval"].keys() == records[0]["closure"].keys()
    assert str(tmp_path) not in record.read_text()
    with pytest.raises(SystemExit, match="take another --work"):
        efficacy.main([*both, *quick, "--lambda", "9"])

    names = ["renders", "renders, refined by 4 checkpoints", "renders, labels as in the target, refined, augmented"]
    capsys.readouterr()
    limits.main([*common, "--row", *names, *quick])
    table = capsys.readouterr().out
    assert f"| renders | {errors['synthetic']:.2f} |" in table  # the same training
    assert all(f"| {name} | " in table for name in names)


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
