"""Failures of adversarial training, found in the metrics of a run by one table of rules.

Rules read the lines of metrics.jsonl alone, so that a resumed run is judged like an uninterrupted one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simgan_cli.documents import HealthVerdict
from simgan_cli.settings.train import TrainConfig

Line = dict[str, Any]
HELD_OUT_FRACTION = 0.1  # of a domain, which training leaves to measurements
MIN_HELD_OUT = 8  # images that a measurement needs
MIN_MEASURED_IMAGES = round(MIN_HELD_OUT / HELD_OUT_FRACTION)  # in a domain, to hold out any
WARM_UP_STEPS = 100  # of Algorithm 1 before networks are judged: until then a refiner may well be the identity
MIN_DIVERSITY = 0.3  # of refined images, as a share of that of their originals
MAX_DRIFT_PIXELS = 1.0  # that labels may move; the paper's annotators saw 1.1 (Sec. 3.1)
MAX_LABEL_ERROR_RATIO = 2.0  # of the estimator's error after refining to before; healthy runs had 1.0 to 1.4
# A gain below a tenth does not count: eyes under lambda 1000, where only tone can change, gained 6%.
MAX_DISTANCE_RATIO = 0.9  # of the patch distance after refining to that before


@dataclass(frozen=True)
class Rule:
    """A way to fail: a finding once `holds` is true on all lines of `steps` steps."""

    name: str
    steps: int
    needs: tuple[str, ...]  # fields without which a line is not judged
    holds: Callable[[Line], bool]
    when: str  # `holds` in words, for the documentation
    saw: str  # the finding in words, formatted with the line
    advice: str
    from_start: bool = False  # else only after the warm-up


@dataclass(frozen=True)
class Finding:
    """A rule that fired: its step, its numbers in words, and what to change."""

    rule: str
    step: int
    saw: str
    advice: str

    def sentence(self) -> str:
        """Return it as a line for people."""
        return f"{self.rule}: {self.saw}; {self.advice}"


def _correlates(line: Line) -> bool:
    return bool(line["correlation"] >= 0.99)


def _changes_little(line: Line) -> bool:
    return bool(line["change"] < 0.012)


def _discriminator_is_blind(line: Line) -> bool:
    mean = (line["accuracy_real"] + line["accuracy_refined"]) / 2
    return bool(abs(mean - 0.5) < 0.02)


def _regularization_dominates(line: Line) -> bool:
    return line.get("gradient_ratio", 0) > 2 and _correlates(line) and not _discriminator_is_blind(line)


def _refiner_is_identity(line: Line) -> bool:
    learns = not _regularization_dominates(line) and not _discriminator_is_blind(line)
    return _correlates(line) and _changes_little(line) and learns


COLLAPSED = "refined images differ from each other by {diversity:.2f} of their originals' difference"
FADES = (
    "refining hides labelled content: the error of the run's estimator is {label_error_refined:.2f} on refined "
    "renders, {label_error_synthetic:.2f} before refining"
)
MOVES = "refining moves image content by {label_drift:.1f} px: labels that name places are no longer true"

# Thresholds come from runs on eyes of 9x15 to 64x64. In healthy ones the discriminator was right on 0.55 to 0.85 of the
# patches, changes were 0.02 to 0.25, losses below 3, gradient ratios 0.05 to 0.3; with lambda 1000 these were 8 to 15.
RULES = (
    Rule(
        "diverging", 0, ("loss_discriminator",), lambda line: line["loss_discriminator"] > 5,
        "the discriminator's loss is above 5 (guessing has 1.4)",
        "the discriminator's loss is {loss_discriminator:.1f}, where guessing has 1.4",
        "lower --discriminator-lr, or clip with --clip-gradient 1",
        from_start=True,
    ),
    Rule(
        "history not in use", 50, ("loss_adversarial",), lambda line: "accuracy_history" not in line,
        "the discriminator sees no image from history",
        "the discriminator sees the current refiner alone and forgets earlier artefacts",
        "set --history-size to 100 batches (the paper: 7.8 degrees with history, 12.2 without)",
    ),
    Rule(
        "discriminator has won", 100, ("loss_adversarial", "accuracy_real", "accuracy_refined"),
        lambda line: min(line["accuracy_real"], line["accuracy_refined"]) >= 0.97,
        "it is right on 97% or more of real and of refined patches",
        "it is right on {accuracy_real:.0%} of real and {accuracy_refined:.0%} of refined patches",
        "lower --discriminator-lr, raise --refiner-updates or lower --lambda, so that the refiner can follow",
    ),
    Rule(
        "discriminator is blind", 200, ("accuracy_real", "accuracy_refined"), _discriminator_is_blind,
        "it is right on 48 to 52%, in the mean of real and refined patches",
        "it is right on {accuracy_real:.0%} of real and {accuracy_refined:.0%} of refined patches, as by chance",
        "change --discriminator-lr (lower if its loss jumps, higher if it never learned); if both domains look alike, "
        "there is nothing to refine",
    ),
    Rule(
        "self-regularization dominates", 100,
        ("gradient_ratio", "correlation", "accuracy_real", "accuracy_refined"), _regularization_dominates,
        "its gradient is above twice the adversarial one, R(x) correlates with x by 0.99 or more, and the "
        "discriminator is not blind",
        "the gradient of self-regularization is {gradient_ratio:.0f} times the adversarial one; refined images "
        "correlate with their originals by {correlation:.3f}",
        "lower --lambda",
    ),
    Rule(
        "refiner is the identity", 100,
        ("correlation", "change", "accuracy_real", "accuracy_refined"), _refiner_is_identity,
        "R(x) correlates with x by 0.99 or more, the change is below 0.012, the discriminator is not blind, and "
        "self-regularization does not dominate",
        "refined images correlate with their originals by {correlation:.3f}; pixels change by {change:.4f}",
        "train longer (--steps), lower --lambda, or choose a --psi that leaves the difference of the domains free",
    ),
    Rule(
        "tone alone", 200, ("correlation", "change"), lambda line: _correlates(line) and not _changes_little(line),
        "R(x) correlates with x by 0.99 or more, and the change is 0.012 or more: brightness and contrast alone",
        "refined images correlate with their originals by {correlation:.3f}, and pixels change by {change:.3f}: by "
        "brightness and contrast alone",
        "where the domains differ in more, lower --lambda if gradient_ratio is above 1, train longer (--steps), or "
        "train again with another --seed",
    ),
    Rule(
        "mode collapse", 50, ("diversity",), lambda line: line["diversity"] < MIN_DIVERSITY,
        "refined images differ by less than 0.3 of their originals' difference",
        COLLAPSED,
        "raise --lambda, lower --refiner-lr, and take an earlier checkpoint",
    ),
    Rule(
        "same change everywhere", 100, ("common_change", "change"),
        lambda line: line["common_change"] > 0.85 and line["change"] > 0.02,
        "more than 85% of the change is the same on every image, and the change is above 0.02",
        "{common_change:.0%} of the change is the same on every image",
        "raise --lambda, lower --refiner-lr, or train longer",
    ),
    Rule(
        "saturated pixels", 100, ("saturated",), lambda line: line["saturated"] > 0.2,
        "more than 20% more of the pixels are black or white than in synthetic and in real images",
        "{saturated:.0%} more of the pixels are black or white than in synthetic and in real images",
        "raise --lambda or lower --refiner-lr",
    ),
    Rule(
        "labels move", 0, ("label_drift",), lambda line: not is_in_place(line),
        "refining moves image content by a pixel or more, as measured every `--eval-every` steps",
        MOVES,
        "raise --lambda, or leave it to --lambda auto",
    ),
    Rule(
        "labels fade", 0, ("label_error_refined", "label_error_synthetic"), lambda line: not is_readable(line),
        "refining more than doubles the error of the run's estimator",
        FADES,
        "raise --task-weight or --lambda",
    ),
)  # fmt: skip


class Health:
    """Judges a run line by line; lines of an earlier part of it come first."""

    def __init__(self, config: TrainConfig, lines: Iterable[Line] = ()) -> None:
        self._warm_from = config.pretraining_steps + WARM_UP_STEPS
        self._since: dict[str, int] = {}  # by rule that holds, its first step
        self._findings: dict[str, Finding] = {}
        self._last_step = self._warm_from  # of the last line, from the warm-up on
        for line in lines:
            self.judge(line)

    def judge(self, line: Line) -> list[Finding]:
        """Take one more line of metrics.jsonl; return the rules that fire for the first time.

        A line stands for the steps since the last one: one line is enough where these are as many as a rule needs.
        """
        warm = line["step"] > self._warm_from
        new = []
        for rule in RULES:
            if not (warm or rule.from_start) or not line.keys() >= set(rule.needs):
                continue
            if not rule.holds(line):
                self._since.pop(rule.name, None)
                continue
            lasted = line["step"] - self._since.setdefault(rule.name, line["step"])
            if max(lasted, line["step"] - self._last_step) >= rule.steps and rule.name not in self._findings:
                finding = Finding(rule.name, line["step"], rule.saw.format(**line), rule.advice)
                self._findings[rule.name] = finding
                new.append(finding)
        self._last_step = max(self._last_step, line["step"])
        return new

    @property
    def active(self) -> list[str]:
        """The rules that have fired and still hold."""
        return [name for name in self._findings if name in self._since]

    def verdicts(self) -> list[HealthVerdict]:
        """Return all findings as JSON values, in the order in which they came; `active` ones still hold."""
        return [
            {
                "rule": finding.rule,
                "step": finding.step,
                "saw": finding.saw,
                "advice": finding.advice,
                "active": finding.rule in self._since,
            }
            for finding in self._findings.values()
        ]


@dataclass(frozen=True)
class Conclusion:
    """Whether refining brought the domains closer with labels in place, in words, and what to do if not."""

    closer: bool
    sentence: str
    advice: str

    def in_one_line(self) -> str:
        """Return it as a line for people."""
        return f"{self.sentence}; {self.advice}"


def is_in_place(measures: Mapping[str, Any]) -> bool:
    """Return whether labels moved by less than MAX_DRIFT_PIXELS, or images are too small to measure."""
    return float(measures.get("label_drift", 0)) < MAX_DRIFT_PIXELS


def is_readable(measures: Mapping[str, Any]) -> bool:
    """Return whether an estimator can still read labels off refined images, or renders have none."""
    if "label_error_refined" not in measures:
        return True
    refined, synthetic = float(measures["label_error_refined"]), float(measures["label_error_synthetic"])
    return refined <= MAX_LABEL_ERROR_RATIO * synthetic


def is_diverse(measures: Mapping[str, Any]) -> bool:
    """Return whether refined held-out images still differ from each other."""
    return float(measures.get("diversity_held_out", 1)) >= MIN_DIVERSITY


def is_exportable(measures: Mapping[str, Any]) -> bool:
    """Return whether `--select best` may export the refiner of these measures: trained, and true to its labels."""
    is_trained = measures.get("phase", "adversarial") == "adversarial"  # before, it is at its start, or the identity
    return is_trained and is_in_place(measures) and is_readable(measures) and is_diverse(measures)


def exported_line(lines: Sequence[Line], select: str) -> Line | None:
    """Return the measures of the refiner that `select` exports, on held-out images; None where there are none."""
    measured = [line for line in lines if "swd_refined" in line]
    if not measured:
        return None
    good = [line for line in measured if is_exportable(line)]
    line = min(good, key=lambda line: line["swd_refined"]) if select == "best" and good else measured[-1]
    at_the_end = {key: value for key, value in measured[-1].items() if key.startswith("two_sample")}
    return {**line, **at_the_end}  # measured on the exported refiner, once a run is finished


def conclude(lines: Sequence[Line], select: str) -> Conclusion | None:
    """Return the conclusion about the refiner that a run exports; None where nothing was measured."""
    line = exported_line(lines, select)
    if line is None:
        return None
    before, after, floor = line["swd_synthetic"], line["swd_refined"], line["swd_real"]
    earlier = ", or take an earlier refiner with --select best" if select == "last" else ""
    if not is_diverse(line):
        saw = COLLAPSED.format(diversity=line["diversity_held_out"])
        return Conclusion(False, f"mode collapse: {saw}", f"raise --lambda, lower --refiner-lr{earlier}")
    if not is_in_place(line):
        return Conclusion(False, MOVES.format(**line), f"raise --lambda{earlier}")
    if not is_readable(line):
        return Conclusion(False, FADES.format(**line), f"raise --task-weight or --lambda{earlier}")
    if after > MAX_DISTANCE_RATIO * before:
        return _no_closer(before, after, floor)
    if line.get("window") == 1:
        return Conclusion(
            False,
            f"refined images are closer to real ones ({before:.3f} before, {after:.3f} after), but each refined pixel "
            "depends on the complete image: the refiner can repaint labelled content",
            "do not train on them unless simgan eval-gaze shows that they help; lower --refiner-blocks",
        )
    labels = (
        "with labels in place" if "label_drift" in line else "(images are too small to measure whether labels moved)"
    )
    labels += " and readable" if "label_error_refined" in line else ""
    return Conclusion(
        True,
        f"refined images are closer to real ones ({before:.3f} before, {after:.3f} after, {floor:.3f} between real "
        f"ones) {labels}, by the refiner of step {line['step']:,}",
        "only labelled real images can show whether a model trained on them is better: simgan eval-gaze",
    )


def why_unmeasured(config: TrainConfig, counts: Mapping[str, int]) -> str:
    """Return in one line why a run has no conclusion; `counts` are its images by domain."""
    if not config.eval_every:
        return "nothing was measured: --eval-every is 0"
    if min(counts.values()) < MIN_MEASURED_IMAGES:
        images = ", ".join(f"{name} {count}" for name, count in counts.items())
        return (
            f"nothing was measured: fewer than {MIN_MEASURED_IMAGES} images in a domain leave none to hold out "
            f"({images})"
        )
    return f"nothing was measured yet: it is due every {config.eval_every} steps (--eval-every) and at the end"


def _no_closer(before: float, after: float, floor: float) -> Conclusion:
    if before * MAX_DISTANCE_RATIO <= floor:
        return Conclusion(
            False,
            "synthetic images are as close to real ones as other real ones are: there is nothing to refine",
            "use the synthetic images as they are",
        )
    if before < MAX_DISTANCE_RATIO * after:
        return Conclusion(
            False,
            f"refined images are further from real ones ({after:.3f}) than the synthetic ones are ({before:.3f})",
            "do not train on them; lower --refiner-lr or raise --lambda, and look at the verdicts of health and at the "
            "pictures in report.html",
        )
    return Conclusion(
        False,
        f"refined images are no closer to real ones ({after:.3f}) than the synthetic ones are ({before:.3f}), "
        "within a tenth",
        "do not train on them; give it more --steps, look at the verdicts of health and at the pictures in "
        "report.html, and lower --lambda if little changed",
    )
