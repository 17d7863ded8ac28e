"""The verdict and its sentence, on errors made by hand."""

import numpy as np
import pytest

from simgan_cli.gaze.scores import Result
from simgan_cli.gaze.verdict import decide

NOISE = np.random.default_rng(0).uniform(-1, 1, (2, 200))
GUESS = Result("renders", "mean", 10, [], np.full((1, 200), 9.0))


def row(name: str, error: float, spread: float = 0.0) -> Result:
    """Return a row of that mean error, with noise of mean 0 and standard deviation `spread`."""
    own = np.random.default_rng(len(name)).uniform(-1, 1, NOISE.shape)
    own -= own.mean(axis=1, keepdims=True)
    return Result(name, "cnn", 10, [], error + NOISE - NOISE.mean(axis=1, keepdims=True) + spread * own)


def verdict(free: list[Result], refined: list[Result], along: Result | None = None) -> tuple[object, object, str]:
    document = decide(free, refined, GUESS, "px", None, 500, along)
    assert document["estimator"] == "cnn"
    return document["train_on"], document["refining_helps"], document["sentence"]


def test_refining_that_beats_the_best_free_set_helps() -> None:
    free = [row("renders", 3.5), row("histogram", 2.5)]
    assert verdict(free, [row("refined-weighted", 2.75), row("refined", 2.0)]) == (
        "refined",
        True,
        "Train on refined: 2.00 px, 0.50 less than histogram, the best set made without a refiner "
        "(95%: -0.50 to -0.50): refining helps.",
    )
    assert verdict(free, [row("refined", 2.25), row("refined-weighted", 2.0)])[0] == "refined-weighted"


def test_refining_that_is_worse_than_a_free_set_is_not_advised() -> None:
    assert verdict([row("renders", 3.5), row("histogram", 2.0)], [row("refined", 2.5)]) == (
        "histogram",
        False,
        "Train on histogram: 2.00 px; refining is worse (refined +0.50 px, 95%: +0.50 to +0.50).",
    )


@pytest.mark.parametrize(("error", "shown"), [(1.95, "refined -0.05 px"), (2.05, "refined +0.05 px")])
def test_without_a_significant_difference_the_simpler_set_is_chosen(error: float, shown: str) -> None:
    train_on, helps, sentence = verdict([row("renders", 3.5), row("fda", 2.0)], [row("refined", error, 3)])
    assert (train_on, helps) == ("fda", False)
    assert sentence.startswith(f"Train on fda: 2.00 px; refining makes no significant difference ({shown}, 95%: -0.")
    assert sentence.endswith("), so choose the simpler set.")


def test_without_a_refiner_the_other_sets_must_beat_the_renders() -> None:
    renders = row("renders", 3.0)
    assert verdict([renders, row("fda", 2.75), row("renders-weighted", 2.5)], []) == (
        "renders-weighted",
        None,
        "Train on renders-weighted: 2.50 px, 0.50 less than renders (95%: -0.50 to -0.50).",
    )
    assert verdict([renders, row("fda", 3.25)], [])[2] == (
        "Train on renders: 3.00 px; fda is worse (+0.25 px, 95%: +0.25 to +0.25)."
    )
    assert verdict([renders, row("fda", 2.99, 3)], [])[2].startswith(
        "Train on renders: 3.00 px; fda makes no significant difference (-0.01 px"
    )
    assert verdict([renders], [])[2] == "Train on renders: 3.00 px; no other set was compared."


def test_a_set_no_better_than_the_mean_label_is_not_advised() -> None:
    train_on, helps, sentence = verdict([row("renders", 9.75)], [row("refined", 9.5)])
    assert (train_on, helps) == (None, False)
    assert sentence.startswith("refined is not significantly better than guessing the mean label (+0.50 px, 95%: ")
    assert sentence.endswith("): check labels, crops and warnings first.")
    # Another set may be better than guessing, so the sentence names one.
    train_on, _, sentence = verdict([row("renders", 8.9, 3)], [row("refined", 8.8)])
    assert train_on is None
    assert sentence.startswith("renders is not significantly better than guessing the mean label (-0.10 px, 95%: -")


@pytest.mark.parametrize(
    ("error", "spread", "says"),
    [
        (1.5, 0, "The run's estimator is better: take it (1.50 px, -0.50 px, 95%: -0.50 to -0.50)."),
        (2.5, 0, "The run's estimator is worse (2.50 px, +0.50 px, 95%: +0.50 to +0.50)."),
        (2.0, 3, "The run's estimator is as good, and trained already (2.00 px, "),
    ],
)
def test_the_estimator_of_the_run_is_compared_with_the_best_set(error: float, spread: float, says: str) -> None:
    free, refined, along = [row("renders", 3.5)], [row("refined", 2.0)], row("run-estimator", error, spread)
    train_on, helps, sentence = verdict(free, refined, along)
    assert (train_on, helps) == ("refined", True)
    assert f"refining helps. {says}" in sentence


def test_the_estimator_of_the_run_is_named_where_it_alone_beats_guessing() -> None:
    sets = [row("renders", 9.75)], [row("refined", 9.5)]
    assert verdict(*sets, row("run-estimator", 9.25))[2] == verdict(*sets)[2]
    train_on, _, sentence = verdict(*sets, row("run-estimator", 8.0))
    assert train_on is None
    assert sentence.endswith("The run's estimator is better: take it (8.00 px, -1.50 px, 95%: -1.50 to -1.50).")
