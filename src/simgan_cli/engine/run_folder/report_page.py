"""report.html of a run: one page that stands alone, for a screen or a phone."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan_cli.engine.run_folder.health import conclude, exported_line
from simgan_cli.engine.run_folder.layout import RunFolder, by_step, settings_of, step_of
from simgan_cli.files import write_atomic
from simgan_cli.pictures.curves import Series, line_chart
from simgan_cli.pictures.grid import history_sheet
from simgan_cli.settings.train import TrainConfig

PICTURES = 12  # steps on the slider; a run's samples are thinned out to them
BY_AGE = 40  # images of the history buffer
CHARTS = {
    "Losses": ("loss_refiner", "loss_adversarial", "loss_discriminator"),
    "Right patches of the discriminator": ("accuracy_real", "accuracy_refined", "accuracy_history"),
    "Mean change of a pixel": ("change",),
    "Patch distance to real images": ("swd_synthetic", "swd_refined", "swd_real"),
    "Likeness and variety": ("correlation", "diversity"),
}
REALISM = (
    ("swd_synthetic", "patch distance, synthetic to real (before)", "{:.4f}"),
    ("swd_refined", "patch distance, refined to real", "{:.4f}"),
    ("swd_real", "patch distance, real to real (the floor)", "{:.4f}"),
    ("label_drift", "shift of labels, pixels", "{:.2f}"),
)
_TEMPLATE = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Excerpt:
    """What a page shows of a buffer: copies on the CPU, which training does not change any more."""

    capacity: int
    made_at: NDArray[np.int64]  # of all images
    images: NDArray[np.float32]  # of some, N x C x H x W in [-1, 1]
    images_made_at: NDArray[np.int64]


def write_page(
    run: RunFolder, config: TrainConfig, verdicts: Sequence[Mapping[str, Any]], history: Excerpt | None, step: int
) -> None:
    """Write what a run has come to by `step`: verdicts, realism, pictures by step, curves, history by age, settings.

    Raises OSError, leaving an older page as it was.
    """
    lines = run.read_metrics(step)
    exported = exported_line(lines, config.select)
    page = _TEMPLATE.substitute(
        title=escape(f"simgan: {run.root.resolve().name}"),
        progress=f"step {step:,} of {config.total_steps:,}",
        conclusion=_conclusion(lines, config.select),
        health=_health(verdicts),
        realism=_realism(exported),
        pictures=_pictures(by_step(run.samples, ".png"), exported["step"] if exported else step),
        charts="".join(line_chart(name, _series(lines, keys)) for name, keys in CHARTS.items()),
        history=_history(history, config.history_size, step),
        settings=_table((key, _plain(value)) for key, value in settings_of(config).items()),
    )
    write_atomic(run.report, page.encode("utf-8", "backslashreplace"))  # names may hold any bytes


def _conclusion(lines: Sequence[dict[str, Any]], select: str) -> str:
    conclusion = conclude(lines, select)
    if conclusion is None:
        return ""
    kind = "good" if conclusion.closer else "bad"
    return f'<p class="{kind}">{escape(conclusion.sentence)}; {escape(conclusion.advice)}.</p>'


def _health(verdicts: Sequence[Mapping[str, Any]]) -> str:
    if not verdicts:
        return '<p class="good">No rule of health has fired.</p>'
    items = []
    for verdict in verdicts:
        when = f"since step {verdict['step']:,}" if verdict["active"] else f"at step {verdict['step']:,}, not now"
        text = f"<strong>{escape(verdict['rule'])}</strong> ({when}): {escape(verdict['saw'])}."
        items.append(f'<li class="{"bad" if verdict["active"] else ""}">{text} {escape(verdict["advice"])}.</li>')
    return f"<ul>{''.join(items)}</ul>"


def _realism(measured: Mapping[str, Any] | None) -> str:
    if measured is None:
        return "<p>Not measured: --eval-every was 0, no step was due, or a domain has fewer than 80 images.</p>"
    rows = [(name, form.format(measured[key])) for key, name, form in REALISM if key in measured]
    if "two_sample" in measured:
        share, low, high = (measured[f"two_sample{end}"] for end in ("", "_low", "_high"))
        rows.append(
            ("a fresh classifier tells refined from real (50% is chance)", f"{share:.0%} ({low:.0%} to {high:.0%})")
        )
    return f"<p>On images held out of training, at step {measured['step']:,}.</p>" + _table(rows)


def _pictures(paths: Sequence[Path], exported: int) -> str:
    """Return a slider over pictures by step; the one nearest to the `exported` refiner's is there and shown first."""
    if not paths:
        return "<p>None: --sample-every was 0, or no step was due.</p>"
    steps = [step_of(path) for path in paths]
    nearest = min(range(len(steps)), key=lambda index: abs(steps[index] - exported))
    chosen = sorted({nearest} | {round(place) for place in np.linspace(0, len(paths) - 1, PICTURES)})
    images = []
    for index in chosen:
        hidden = "" if index == nearest else " hidden"
        images.append(f'<img alt="step {steps[index]:,}" src="{_inline(paths[index].read_bytes())}"{hidden}>')
    last, shown = len(chosen) - 1, chosen.index(nearest)
    slider = f'<input type="range" id="step" min="0" max="{last}" value="{shown}" aria-label="step">' if last else ""
    return f'{slider}<div id="pictures" class="wide">{"".join(images)}</div>'


def _history(history: Excerpt | None, of_all_ranks: int, step: int) -> str:
    if history is None or not len(history.made_at):
        return "<p>Empty.</p>" if history else "<p>Switched off (--history-size 0).</p>"
    title = "history, oldest first; the step that refined each image"
    picture = history_sheet(history.images, history.images_made_at, title)
    ages = step - history.made_at
    text = f"{len(ages):,} of {history.capacity:,} images; ages {ages.min():,} to {ages.max():,} steps."
    if history.capacity < of_all_ranks:
        text += f" It is the first rank's part of {of_all_ranks:,}; simgan inspect-buffer shows all."
    return f'<p>{text}</p><div class="wide"><img alt="history by age" src="{_inline(picture)}"></div>'


def _series(lines: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> Series:
    return {key: points for key in keys if (points := [(line["step"], line[key]) for line in lines if key in line])}


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<div class="wide"><table>{cells}</table></div>'


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
