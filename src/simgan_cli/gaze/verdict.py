"""The verdict of an evaluation: which set to train on, and whether refining helped."""

from collections.abc import Sequence

from simgan_cli.documents import Comparison, EvaluationVerdict
from simgan_cli.gaze.scores import Result, compare


def mean_error(row: Result) -> float:
    """Return the mean error over seeds and test images."""
    return float(row.errors.mean())


def decide(
    free: Sequence[Result],
    refined: Sequence[Result],
    guess: Result,
    unit: str,
    persons: Sequence[str] | None,
    resamples: int,
    along: Result | None = None,
) -> EvaluationVerdict:
    """Return the set to `train_on`, whether `refining_helps`, and both in one `sentence`.

    `free` are an estimator's rows without a refiner or labels of the target, the plain renders first. `refined` are its
    refined rows, and `guess` predicts the mean label. The best refined row is compared with the best free one; without
    refined rows, the best free one with the renders. The simpler set is chosen unless the other is significantly
    better. `along` is the run's estimator, compared with the chosen row if either is better than guessing.
    """
    base = min(free, key=mean_error) if refined else free[0]
    rival = min(refined or free[1:], key=mean_error, default=None)
    difference = compare(base, rival, persons, resamples) if rival is not None else None
    wins = difference is not None and difference["verdict"] == "helps"
    chosen = rival if rival is not None and wins else base
    guessing = compare(guess, chosen, persons, resamples)
    if guessing["verdict"] != "helps":
        train_on, wins = None, False
        sentence = (
            f"{chosen.name} is not significantly better than guessing the mean label ({_signed(guessing, unit)}): "
            "check labels, crops and warnings first."
        )
    else:
        train_on = chosen.name
        sentence = (
            f"Train on {train_on}: {mean_error(chosen):.2f} {unit}{_reason(base, difference, unit, bool(refined))}."
        )
    if along is not None and (train_on or compare(guess, along, persons, resamples)["verdict"] == "helps"):
        sentence += f" {_of_estimator(along, chosen, unit, persons, resamples)}"
    return {
        "train_on": train_on,
        "estimator": base.estimator,
        "refining_helps": wins if refined else None,
        "sentence": sentence,
    }


def _of_estimator(along: Result, chosen: Result, unit: str, persons: Sequence[str] | None, resamples: int) -> str:
    difference = compare(chosen, along, persons, resamples)
    shown = f"{mean_error(along):.2f} {unit}, {_signed(difference, unit)}"
    if difference["verdict"] == "helps":
        return f"The run's estimator is better: take it ({shown})."
    if difference["verdict"] == "hurts":
        return f"The run's estimator is worse ({shown})."
    return f"The run's estimator is as good, and trained already ({shown})."


def _reason(base: Result, difference: Comparison | None, unit: str, refining: bool) -> str:
    if difference is None:
        return "; no other set was compared"
    if difference["verdict"] == "helps":
        less = f"{-difference['difference']:.2f} less than {base.name}"
        free, place = (", the best set made without a refiner", ": refining helps") if refining else ("", "")
        return f", {less}{free} ({_interval(difference)}){place}"
    name, shown = difference["pair"][1], _signed(difference, unit)
    subject, shown = ("refining", f"{name} {shown}") if refining else (name, shown)
    if difference["verdict"] == "hurts":
        return f"; {subject} is worse ({shown})"
    return f"; {subject} makes no significant difference ({shown}), so choose the simpler set"


def _signed(difference: Comparison, unit: str) -> str:
    return f"{difference['difference']:+.2f} {unit}, {_interval(difference)}"


def _interval(difference: Comparison) -> str:
    return "95%: {:+.2f} to {:+.2f}".format(*difference["ci95"])
