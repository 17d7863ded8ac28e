"""Each rule of health fires on the lines of a real, tiny training, and none on those of a healthy one.

Rules read only lines of metrics. Those of all trainings are recorded, and some trainings are rerun.

    python -m tests.engine.run_folder.test_health    # records them
"""

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from simgan_cli.cli.resolve import resolve
from simgan_cli.engine.metrics import realism
from simgan_cli.engine.run_folder import health as health_module
from simgan_cli.engine.run_folder.health import (
    RULES,
    Conclusion,
    Finding,
    Health,
    conclude,
    exported_line,
    why_unmeasured,
)
from simgan_cli.engine.runtime.stop import StopRequest
from simgan_cli.engine.training.build import train
from simgan_cli.gaze.task_labels import read_task_labels
from simgan_cli.settings.train import TrainConfig
from tests.engine.training.test_training import Quiet

RNG = np.random.default_rng(0)
SIDE = 10
SHAPE = (24, SIDE, SIDE)
Images = NDArray[np.float64]  # N x H x W in grey levels


def blobs(seed: int, count: int = 24) -> Images:
    """Return images with a light each; measurements on held-out ones take 80."""
    y, x = np.mgrid[:SIDE, :SIDE]
    rows, columns = places(seed, count).T[:, :, None, None]
    images: Images = 60 + 140 * np.exp(-((y - rows) ** 2 + (x - columns) ** 2) / 8)
    return images


def places(seed: int, count: int = 24) -> NDArray[np.float64]:
    """Return row and column of each light, the middle of the first pixel at 0."""
    return np.random.default_rng(seed).uniform(3, SIDE - 3, (count, 2))


def write(folder: Path, images: Images) -> Path:
    folder.mkdir()
    for index, image in enumerate(np.clip(images, 0, 255).astype(np.uint8)):
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder


def provoked(folder: Path, synthetic: Images, real: Images, settings: dict[str, Any]) -> Quiet:
    """Train and return the listener, whose rules must be those that metrics.jsonl gives."""
    folders = {"synthetic": write(folder / "synthetic", synthetic), "real": write(folder / "real", real)}
    if settings.get("target") == "pupil":
        rows = [f"{index}.png,{x + 0.5},{y + 0.5}" for index, (y, x) in enumerate(places(1, len(synthetic)))]
        (folder / "synthetic" / "labels.csv").write_text("\n".join(["file,pupil_x,pupil_y", *rows]))
    config = resolve(SMALL | settings | folders | {"out": folder / "run"})
    listener = Quiet()
    train(config, None, listener, StopRequest(), read_labels=partial(read_task_labels, config))
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    again = Health(config, lines)
    assert [verdict["rule"] for verdict in again.verdicts()] == [finding.rule for finding in listener.findings]
    assert lines[-1].get("health", []) == again.active
    return listener


SMALL = {
    "cache": "off", "refiner_width": 8, "refiner_blocks": 1, "batch_size": 4, "history_size": 80,
    "pretrain_discriminator": 10, "steps": 230, "log_every": 20, "sample_every": 0, "save_every": 0, "device": "cpu",
}  # fmt: skip
GRAINY = blobs(2) + RNG.normal(0, 12, SHAPE)
RIPPLES = 120 + 80 * np.sin(np.arange(SIDE)) + RNG.normal(0, 6, SHAPE)
FREE = {"lambda": 0, "refiner_lr": 5e-3}
PROVOCATIONS: dict[str, tuple[Images, Images, dict[str, Any]]] = {
    "history not in use": (blobs(1), GRAINY, {"history_size": 0}),
    "self-regularization dominates": (blobs(1), 255 - GRAINY, {"lambda": 1000}),
    "refiner is the identity": (blobs(1), GRAINY, {"refiner_lr": 1e-9}),
    "tone alone": (blobs(1), 0.5 * blobs(2), {"lambda": 3, "steps": 420, "noise": False}),
    "discriminator has won": (blobs(1), np.where(GRAINY > 100, 255.0, 0.0), {"refiner_lr": 1e-7}),
    "discriminator is blind": (blobs(1), GRAINY, {"discriminator_lr": 1e-9, "steps": 330}),
    "mode collapse": (blobs(1), 200 + RNG.normal(0, 2, SHAPE), FREE | {"refiner_lr": 1e-2, "steps": 300, "seed": 1}),
    "saturated pixels": (blobs(1), np.where(GRAINY > 100, 250.0, 4.0), FREE | {"refiner_output": "tanh"}),
    "same change everywhere": (
        60 + 0.2 * blobs(1), RIPPLES,
        FREE | {"refiner_lr": 1e-3, "refiner_padding": "zeros", "refiner_blocks": 3, "noise": False},
    ),
    "labels move": (  # a refiner that hardly learns keeps the images of its random weights
        blobs(1, 80), blobs(2, 80),
        {"refiner_lr": 1e-9, "refiner_output": "tanh", "refiner_blocks": 4, "noise": False, "eval_every": 20,
         "steps": 120, "seed": 6},
    ),
    "labels fade": (
        blobs(1, 80), 60 + RNG.normal(0, 12, (80, SIDE, SIDE)),
        FREE | {"target": "pupil", "task_weight": 0, "eval_every": 50, "steps": 300, "batch_size": 16},
    ),
    "diverging": (blobs(1), GRAINY, {"discriminator_lr": 0.5}),
}  # fmt: skip


HEALTHY: tuple[Images, Images, dict[str, Any]] = (blobs(1), GRAINY, {"batch_size": 8})
WHITE: tuple[Images, Images, dict[str, Any]] = (blobs(1), np.full(SHAPE, 255.0), FREE | {"refiner_output": "tanh"})
RECORDED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("health_lines.json").read_text())


def judged(case: str) -> list[Finding]:
    """Return the rules that fire on the recorded lines of a training."""
    settings, lines = RECORDED[case]["settings"], RECORDED[case]["lines"]
    health = Health(resolve(SMALL | settings | {"synthetic": "tests", "real": "docs"}), [])
    findings = [finding for line in lines for finding in health.judge(line)]
    assert [verdict["rule"] for verdict in health.verdicts()] == [finding.rule for finding in findings]
    assert lines[-1].get("health", []) == health.active
    return findings


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_each_rule_fires_on_the_lines_of_its_training(rule: str) -> None:
    (finding,) = [finding for finding in judged(rule) if finding.rule == rule]
    assert finding.advice in finding.sentence()
    assert "{" not in finding.saw


def test_no_rule_fires_on_the_lines_of_a_healthy_training() -> None:
    assert judged("healthy") == []


def test_no_rule_fires_on_white_pixels_where_real_images_are_white() -> None:
    assert "saturated pixels" not in [finding.rule for finding in judged("white")]


@pytest.fixture
def _short_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "WARM_UP_STEPS", 10)
    monkeypatch.setattr(realism, "STEPS", 1)  # of the final classifier, which no rule uses


@pytest.mark.slow
@pytest.mark.usefixtures("_short_trainings")
@pytest.mark.parametrize(
    ("rule", "steps"), [("history not in use", 90), ("mode collapse", 300), ("labels move", 40), ("diverging", 30)]
)
def test_a_real_training_fires_its_recorded_rules(rule: str, steps: int, tmp_path: Path) -> None:
    synthetic, real, settings = PROVOCATIONS[rule]
    listener = provoked(tmp_path, synthetic, real, settings | {"steps": steps})
    assert rule in [finding.rule for finding in listener.findings]


@pytest.mark.slow
@pytest.mark.usefixtures("_short_trainings")
def test_no_rule_fires_in_a_healthy_training(tmp_path: Path) -> None:
    synthetic, real, settings = HEALTHY
    assert provoked(tmp_path, synthetic, real, settings | {"steps": 130}).findings == []


def config(**settings: Any) -> TrainConfig:
    return TrainConfig(synthetic=Path("s"), real=Path("r"), pretrain_discriminator=0, **settings)


def test_a_resumed_run_fires_the_rules_of_an_uninterrupted_one() -> None:
    line = {"phase": "adversarial", "loss_adversarial": 1.0, "loss_discriminator": 1.0, "change": 0.1}
    lines = [line | {"step": step, "accuracy_real": 0.6, "accuracy_refined": 0.6} for step in range(25, 400, 25)]
    uninterrupted, resumed = Health(config(), lines), Health(config(), lines[:6])
    for later in lines[6:]:
        resumed.judge(later)
    assert resumed.verdicts() == uninterrupted.verdicts()
    assert [verdict["step"] for verdict in resumed.verdicts()] == [175]  # 50 steps after the first line that counts


def test_a_line_counts_for_all_steps_since_the_last_one() -> None:
    line = {"phase": "adversarial", "diversity": 0.1, "change": 0.1}
    assert Health(config(), [line | {"step": 125}]).verdicts() == []
    (verdict,) = Health(config(), [line | {"step": 2000}]).verdicts()
    assert (verdict["rule"], verdict["step"]) == ("mode collapse", 2000)


def test_a_value_missing_from_a_line_keeps_its_rule_unchanged() -> None:
    health = Health(config(), [{"step": 250, "label_drift": 1.2}, {"step": 275}])
    assert health.active == ["labels move"]
    health.judge({"step": 500, "label_drift": 0.9})
    assert health.active == []
    assert [verdict["rule"] for verdict in health.verdicts()] == ["labels move"]


def measured(step: int, refined: float, drift: float | None = 0.1, **more: Any) -> dict[str, Any]:
    """Return a line of a run whose domains are 1 apart, and two samples of real images 0.1."""
    drifts = {} if drift is None else {"label_drift": drift}
    return {"step": step, "swd_synthetic": 1.0, "swd_refined": refined, "swd_real": 0.1} | drifts | more


READING = {"label_error_synthetic": 1.0, "label_error_refined": 1.9}


def concluded(lines: list[dict[str, Any]], select: str) -> Conclusion:
    conclusion = conclude(lines, select)
    assert conclusion is not None
    return conclusion


@pytest.mark.parametrize(
    ("line", "closer", "sentence"),
    [
        (measured(2, 0.5), True, "refined images are closer to real ones"),
        (measured(2, 0.5, 1.2), False, "refining moves image content"),  # looks real, and its labels are wrong
        (measured(2, 0.5, **READING), True, "with labels in place and readable"),
        (measured(2, 0.5, **(READING | {"label_error_refined": 2.1})), False, "2.10 on refined renders, 1.00 before"),
        (measured(2, 0.5, window=1.0), False, "each refined pixel depends on the complete image"),
        (measured(2, 1.05), False, "(1.050) than the synthetic ones are (1.000), within a tenth"),
        (measured(2, 0.95), False, "(0.950) than the synthetic ones are (1.000), within a tenth"),
        (
            measured(2, 3),
            False,
            "refined images are further from real ones (3.000) than the synthetic ones are (1.000)",
        ),
        (measured(2, 1, swd_real=1), False, "synthetic images are as close to real ones as other real ones are"),
        (measured(2, 0.2, diversity_held_out=0.05), False, "mode collapse"),  # a blank that is close to real images
    ],
)
def test_the_conclusion_reports_whether_refining_brought_domains_closer(
    line: dict[str, Any], closer: bool, sentence: str
) -> None:
    conclusion = concluded([measured(1, 0.1), line, {"step": 3}], "last")
    assert conclusion.closer is closer
    assert sentence in conclusion.sentence
    assert ("within a tenth" in conclusion.sentence) is ("within a tenth" in sentence)


def test_the_conclusion_claims_nothing_of_labels_that_were_not_measured() -> None:
    sentence = concluded([measured(9, 0.3, None)], "best").sentence
    assert "in place" not in sentence and "too small to measure" in sentence


def test_a_blank_that_is_close_to_real_images_is_not_exported() -> None:
    lines = [measured(1, 0.5, diversity_held_out=0.9), measured(2, 0.2, diversity_held_out=0.05)]
    assert exported_line(lines, "best") == lines[0]
    assert "--select best" in concluded(lines, "last").advice


def test_an_untrained_refiner_gets_no_conclusion() -> None:
    lines = [
        measured(1, 0.9, phase="pretrain-refiner"), measured(2, 1.0, phase="pretrain-discriminator"),
        measured(3, 1.6, phase="adversarial"), measured(4, 1.4, phase="adversarial"),
    ]  # fmt: skip
    assert exported_line(lines, "best") == lines[3]
    assert exported_line(lines[:2], "best") == lines[1], "where there is no other, the newest is exported"


def test_without_measurements_there_is_a_reason_instead_of_a_conclusion() -> None:
    assert conclude([{"step": 1}], "best") is None
    few = why_unmeasured(config(), {"synthetic": 500, "real": 79})
    assert few.endswith("fewer than 80 images in a domain leave none to hold out (synthetic 500, real 79)")
    enough = {"synthetic": 80, "real": 80}
    assert "measured yet: it is due every 250 steps" in why_unmeasured(config(), enough)
    assert why_unmeasured(config(eval_every=0), enough).endswith("--eval-every is 0")


def test_the_conclusion_is_about_the_refiner_that_is_exported() -> None:
    lines = [measured(1, 0.6), measured(2, 0.5, 0.4), measured(3, 0.3, 1.3), measured(4, 1.5, two_sample=0.9)]
    # The closest one with labels in place; the two-sample test is of the exported refiner.
    assert exported_line(lines, "best") == lines[1] | {"two_sample": 0.9}
    assert exported_line(lines, "last") == lines[3]
    best = concluded(lines, "best")
    assert best.closer and "step 2" in best.sentence
    assert not concluded(lines, "last").closer
    assert exported_line(lines[2:3], "best") == lines[2], "where labels moved at every step, the last is exported"


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
