"""The verdict of an evaluation: which set to train on, and whether refining earned its place."""

from collections.abc import Sequence
from typing import Any

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
) -> dict[str, Any]:
    """Return the set to `train_on`, whether `refining_helps`, and both in one `sentence`.

    `free` are one estimator's rows made without a refiner and without labels of the target, the plain renders first;
    `refined` those of a refiner; `guess` always guesses the mean label. The best refined row has to be better than the
    best free one, and without refined rows the best free one than the renders: else the simpler set is chosen.
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
            f"No set is better than guessing the mean label ({chosen.name} {_signed(guessing, unit)}): check labels, "
            "crops and warnings first."
        )
    else:
        train_on = chosen.name
        sentence = (
            f"Train on {train_on}: {mean_error(chosen):.2f} {unit}{_reason(base, difference, unit, bool(refined))}."
        )
    return {
        "train_on": train_on,
        "estimator": base.estimator,
        "refining_helps": wins if refined else None,
        "sentence": sentence,
    }


def _reason(base: Result, difference: dict[str, Any] | None, unit: str, refining: bool) -> str:
    if difference is None:
        return "; no other set was compared"
    if difference["verdict"] == "helps":
        less = f"{-difference['difference']:.2f} less than {base.name}"
        free, place = (", the best set made without a refiner", ": refining earned its place") if refining else ("", "")
        return f", {less}{free} ({_interval(difference)}){place}"
    name, shown = difference["pair"][1], _signed(difference, unit)
    subject, shown = ("refining", f"{name} {shown}") if refining else (name, shown)
    if difference["verdict"] == "hurts":
        return f"; {subject} is worse ({shown})"
    return f"; {subject} makes no significant difference ({shown}), so choose the simpler set"


def _signed(difference: dict[str, Any], unit: str) -> str:
    return f"{difference['difference']:+.2f} {unit}, {_interval(difference)}"


def _interval(difference: dict[str, Any]) -> str:
    return "95%: {:+.2f} to {:+.2f}".format(*difference["ci95"])
