"""Each rule of health is told from the lines of a real, tiny training; a healthy one provokes none.

Rules read nothing but lines of metrics. Those of all trainings are recorded, and some trainings are run again.

    python -m tests.engine.run_folder.test_health    # records them
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from simgan_cli.cli.resolve import resolve
from simgan_cli.engine.metrics import realism
from simgan_cli.engine.run_folder.health import RULES, Finding, Health, conclude, exported_line, why_unmeasured
from simgan_cli.engine.runtime.stop import StopRequest
from simgan_cli.engine.training.build import train
from simgan_cli.settings.train import TrainConfig
from tests.engine.training.test_training import Quiet

RNG = np.random.default_rng(0)
SHAPE = (24, 16, 16)
Images = NDArray[np.float64]  # N x H x W in grey levels


def blobs(seed: int, count: int = 24) -> Images:
    """Return images with a light each; measurements on held-out ones take 80."""
    y, x = np.mgrid[:16, :16]
    places = np.random.default_rng(seed).uniform(3, 13, (count, 2, 1, 1))
    images: Images = 60 + 140 * np.exp(-((y - places[:, 0]) ** 2 + (x - places[:, 1]) ** 2) / 8)
    return images


def write(folder: Path, images: Images) -> Path:
    folder.mkdir()
    for index, image in enumerate(np.clip(images, 0, 255).astype(np.uint8)):
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder


def provoked(folder: Path, synthetic: Images, real: Images, settings: dict[str, Any]) -> Quiet:
    """Train; return who listened. What was said is what metrics.jsonl tells on a second reading."""
    folders = {"synthetic": write(folder / "synthetic", synthetic), "real": write(folder / "real", real)}
    config = resolve(SMALL | settings | folders | {"out": folder / "run"})
    listener = Quiet()
    train(config, None, listener, StopRequest())
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    again = Health(config, lines)
    assert [verdict["rule"] for verdict in again.verdicts()] == [finding.rule for finding in listener.findings]
    assert lines[-1].get("health", []) == again.active
    return listener


SMALL = {
    "cache": "off", "refiner_width": 8, "refiner_blocks": 1, "batch_size": 4, "history_size": 80,
    "pretrain_discriminator": 10, "steps": 230, "log_every": 10, "sample_every": 0, "save_every": 0, "device": "cpu",
}  # fmt: skip
GRAINY = blobs(2) + RNG.normal(0, 12, SHAPE)
RIPPLES = 120 + 80 * np.sin(np.arange(16)) + RNG.normal(0, 6, SHAPE)
FREE = {"lambda": 0, "refiner_lr": 5e-3}
PROVOCATIONS: dict[str, tuple[Images, Images, dict[str, Any]]] = {
    "history not in use": (blobs(1), GRAINY, {"history_size": 0}),
    "self-regularization dominates": (blobs(1), 255 - GRAINY, {"lambda": 1000}),
    "refiner is the identity": (blobs(1), GRAINY, {"refiner_lr": 1e-9}),
    "tone alone": (blobs(1), 0.5 * blobs(2), {"lambda": 3, "steps": 420, "noise": False}),
    "discriminator has won": (blobs(1), np.where(GRAINY > 100, 255.0, 0.0), {"refiner_lr": 1e-7}),
    "discriminator is blind": (blobs(1), GRAINY, {"discriminator_lr": 1e-9, "steps": 330}),
    "mode collapse": (blobs(1), 200 + RNG.normal(0, 2, SHAPE), FREE | {"steps": 280}),
    "saturated pixels": (blobs(1), np.where(GRAINY > 100, 250.0, 4.0), FREE | {"refiner_output": "tanh"}),
    "same change everywhere": (
        60 + 0.2 * blobs(1), RIPPLES,
        FREE | {"refiner_lr": 1e-3, "refiner_padding": "zeros", "refiner_blocks": 3, "noise": False},
    ),
    "labels move": (  # a refiner that hardly learns paints what its first weights happen to make of an image
        blobs(1, 80), blobs(2, 80),
        {"refiner_lr": 1e-9, "refiner_output": "tanh", "refiner_blocks": 4, "noise": False, "eval_every": 50,
         "steps": 120, "seed": 6},
    ),
    "diverging": (blobs(1), GRAINY, {"discriminator_lr": 0.5}),
}  # fmt: skip


HEALTHY: tuple[Images, Images, dict[str, Any]] = (blobs(1), GRAINY, {"batch_size": 8})
WHITE: tuple[Images, Images, dict[str, Any]] = (blobs(1), np.full(SHAPE, 255.0), FREE | {"refiner_output": "tanh"})
RECORDED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("health_lines.json").read_text())


def judged(case: str) -> list[Finding]:
    """Return what the rules find in the recorded lines of a training."""
    settings, lines = RECORDED[case]["settings"], RECORDED[case]["lines"]
    health = Health(resolve(SMALL | settings | {"synthetic": "tests", "real": "docs"}), [])
    findings = [finding for line in lines for finding in health.judge(line)]
    assert [verdict["rule"] for verdict in health.verdicts()] == [finding.rule for finding in findings]
    assert lines[-1].get("health", []) == health.active
    return findings


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_each_rule_is_told_from_the_lines_of_a_training(rule: str) -> None:
    (finding,) = [finding for finding in judged(rule) if finding.rule == rule]
    assert finding.advice in finding.sentence()
    assert "{" not in finding.saw


def test_the_lines_of_a_healthy_training_accuse_nobody() -> None:
    assert judged("healthy") == []


def test_white_pixels_are_no_fault_where_real_images_are_white() -> None:
    assert "saturated pixels" not in [finding.rule for finding in judged("white")]


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["discriminator is blind", "mode collapse", "labels move", "diverging"])
def test_a_real_training_provokes_what_its_lines_say(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realism, "STEPS", 1)  # of the classifier at the end, of which no rule knows
    listener = provoked(tmp_path, *PROVOCATIONS[rule])
    assert rule in [finding.rule for finding in listener.findings]


@pytest.mark.slow
def test_a_healthy_training_is_not_accused(tmp_path: Path) -> None:
    assert provoked(tmp_path, *HEALTHY).findings == []


def test_a_resumed_run_judges_as_an_undisturbed_one() -> None:
    line = {"phase": "adversarial", "loss_adversarial": 1.0, "loss_discriminator": 1.0, "change": 0.1}
    settings = TrainConfig(synthetic=Path("s"), real=Path("r"), pretrain_discriminator=0)
    lines = [line | {"step": step, "accuracy_real": 0.6, "accuracy_refined": 0.6} for step in range(25, 400, 25)]
    whole = Health(settings, lines)
    parts = Health(settings, lines[:6])
    for rest in lines[6:]:
        parts.judge(rest)
    assert parts.verdicts() == whole.verdicts()
    assert [verdict["step"] for verdict in whole.verdicts()] == [175]  # 50 steps after the first line that counts


def test_a_line_stands_for_all_steps_since_the_last_one() -> None:
    settings = TrainConfig(synthetic=Path("s"), real=Path("r"), pretrain_discriminator=0)
    line = {"phase": "adversarial", "diversity": 0.1, "change": 0.1}
    assert Health(settings, [line | {"step": 125}]).verdicts() == []
    (verdict,) = Health(settings, [line | {"step": 2000}]).verdicts()
    assert (verdict["rule"], verdict["step"]) == ("mode collapse", 2000)


def test_what_a_line_does_not_measure_is_as_it_was() -> None:
    settings = TrainConfig(synthetic=Path("s"), real=Path("r"), pretrain_discriminator=0)
    health = Health(settings, [{"step": 250, "label_drift": 1.2}, {"step": 275}])
    assert health.active == ["labels move"]
    health.judge({"step": 500, "label_drift": 0.9})
    assert health.active == []
    assert [verdict["rule"] for verdict in health.verdicts()] == ["labels move"]


def test_a_line_of_measurements_alone_is_no_training() -> None:
    settings = TrainConfig(synthetic=Path("s"), real=Path("r"), pretrain_discriminator=0)
    line = {"phase": "adversarial", "loss_adversarial": 0.7, "correlation": 0.999, "change": 0.1, "common_change": 0.1}
    health = Health(settings, [line | {"step": step} for step in (250, 500)])
    assert health.active == ["history not in use", "tone alone"]
    assert (
        health.judge({"step": 500, "phase": "adversarial", "correlation": 0.5, "common_change": 0.9, "label_drift": 0})
        == []
    )
    assert health.active == ["history not in use", "tone alone"]


@pytest.mark.parametrize(
    ("before", "after", "floor", "drift", "closer", "word"),
    [
        (0.20, 0.10, 0.05, 0.1, True, "closer"),
        (0.20, 0.10, 0.05, 1.2, False, "moves"),  # looks real, and its labels are wrong
        (0.20, 0.21, 0.05, 0.1, False, "no closer"),
        (0.20, 0.195, 0.05, 0.0, False, "no closer"),  # within what two draws differ by
        (0.05, 0.05, 0.05, 0.0, False, "nothing to refine"),
    ],
)
def test_the_conclusion_says_whether_refining_brought_domains_closer(
    before: float, after: float, floor: float, drift: float, closer: bool, word: str
) -> None:
    line = {"step": 2, "swd_synthetic": before, "swd_refined": after, "swd_real": floor, "label_drift": drift}
    found = conclude([{"step": 1, "swd_synthetic": 9, "swd_refined": 1, "swd_real": 1}, line, {"step": 3}], "last")
    assert found is not None
    assert found.closer is closer
    assert word in found.sentence


def test_further_away_is_not_called_within_a_tenth() -> None:
    found = conclude(
        [{"step": 9, "swd_synthetic": 1.0, "swd_refined": 3.0, "swd_real": 0.1, "label_drift": 0.1}], "best"
    )
    assert found is not None and not found.closer
    assert "further from real ones (3.000)" in found.sentence
    assert "within a tenth" not in found.sentence


def test_a_blank_that_is_close_to_real_images_is_neither_exported_nor_called_closer() -> None:
    known = {"swd_synthetic": 1.0, "swd_real": 0.1, "label_drift": 0.1}
    lines = [
        known | {"step": step, "swd_refined": refined, "diversity_held_out": diversity}
        for step, refined, diversity in ((1, 0.5, 0.9), (2, 0.2, 0.05))
    ]
    assert exported_line(lines, "best") == lines[0]
    of_last = conclude(lines, "last")
    assert of_last is not None and not of_last.closer
    assert "mode collapse" in of_last.sentence and "--select best" in of_last.advice


def test_the_conclusion_claims_nothing_of_labels_that_were_not_measured() -> None:
    found = conclude([{"step": 9, "swd_synthetic": 1.0, "swd_refined": 0.3, "swd_real": 0.1}], "best")
    assert found is not None and "in place" not in found.sentence and "too small to tell" in found.sentence


def test_the_conclusion_names_what_came_later() -> None:
    known = {"swd_synthetic": 1.0, "swd_real": 0.1}
    moved = [
        known | {"step": step, "swd_refined": refined, "label_drift": drift}
        for step, refined, drift in ((1, 0.5, 0.1), (2, 0.3, 1.2), (3, 0.2, 1.3))
    ]
    found = conclude(moved, "best")
    assert found is not None and "step 1, and those of the second half that came closer moved labels" in found.sentence
    earlier = conclude(
        [moved[1] | {"step": 1}, moved[0] | {"step": 2}, moved[0] | {"step": 5, "swd_refined": 0.9}], "best"
    )
    assert earlier is not None and "step 2, and none of the second half came closer" in earlier.sentence
    last = conclude([*moved[:1], {"step": 3}], "last")
    assert last is not None and "step 1, the last that was measured" in last.sentence


def test_a_refiner_from_before_its_first_update_is_not_concluded_about() -> None:
    known = {"swd_synthetic": 1.0, "swd_real": 0.1, "label_drift": 0.0}
    phases = ("pretrain-refiner", "pretrain-discriminator", "adversarial", "adversarial")
    lines = [
        known | {"step": step, "phase": phase, "swd_refined": refined}
        for step, (phase, refined) in enumerate(zip(phases, (0.9, 1.0, 1.6, 1.4), strict=True), start=1)
    ]
    assert exported_line(lines, "best") == lines[3]
    assert exported_line(lines[:2], "best") == lines[1], "where there is no other, the newest is exported"
    found = conclude(lines, "best")
    assert found is not None and "further from real ones (1.400)" in found.sentence


def test_without_measurements_there_is_a_reason_instead_of_a_conclusion() -> None:
    assert conclude([{"step": 1}], "best") is None
    config = TrainConfig(synthetic=Path("s"), real=Path("r"))
    few = why_unmeasured(config, {"synthetic": 500, "real": 79})
    assert few.endswith("fewer than 80 images in a domain leave none to hold out (synthetic 500, real 79)")
    enough = {"synthetic": 80, "real": 80}
    assert "measured yet: it is due every 250 steps" in why_unmeasured(config, enough)
    assert why_unmeasured(config.model_copy(update={"eval_every": 0}), enough).endswith("--eval-every is 0")


def test_the_conclusion_is_about_the_refiner_that_is_exported() -> None:
    def line(step: int, refined: float, drift: float) -> dict[str, float]:
        return {"step": step, "swd_synthetic": 0.2, "swd_refined": refined, "swd_real": 0.05, "label_drift": drift}

    lines = [line(1, 0.12, 0.1), line(2, 0.1, 0.4), line(3, 0.06, 1.3), line(4, 0.3, 0.1) | {"two_sample": 0.9}]
    best, last = exported_line(lines, "best"), exported_line(lines, "last")
    assert best == lines[1] | {"two_sample": 0.9}  # the closest of those in place; the test is of what is exported
    assert last == lines[3]
    verdict, other = conclude(lines, "best"), conclude(lines, "last")
    assert verdict is not None and other is not None
    assert verdict.closer and "step 2" in verdict.sentence and "second half" not in verdict.sentence
    longer = conclude([*lines[:2], line(4, 0.3, 0.1), line(5, 0.3, 0.1)], "best")
    assert longer is not None and "step 2, and none of the second half came closer" in longer.sentence
    assert not other.closer
    moved = exported_line(lines[2:3], "best")
    assert moved == lines[2], "where labels moved at every step, the last is exported"


def record() -> None:
    """Write the lines of all provoked trainings, as they are read from metrics.jsonl."""
    recorded = {}
    realism.STEPS = 1
    for case, (synthetic, real, settings) in (PROVOCATIONS | {"healthy": HEALTHY, "white": WHITE}).items():
        with tempfile.TemporaryDirectory() as place:
            provoked(Path(place), synthetic, real, settings)
            lines = (Path(place) / "run" / "metrics.jsonl").read_text().splitlines()
        recorded[case] = {"settings": settings, "lines": list(map(json.loads, lines))}
    text = json.dumps(recorded, indent=None).replace('{"step"', '\n{"step"')
    Path(__file__).with_name("health_lines.json").write_text(text + "\n")


if __name__ == "__main__":
    record()
