"""report.html of a run: one page that stands alone, for a screen or a phone."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from simgan_cli.engine.run_folder.health import conclude, exported_line, why_unmeasured
from simgan_cli.engine.run_folder.layout import RunFolder, by_step, settings_of, step_of
from simgan_cli.errors import plural
from simgan_cli.files import write_atomic
from simgan_cli.pictures.curves import Series, line_chart
from simgan_cli.pictures.grid import history_sheet
from simgan_cli.settings.train import TrainConfig

MAX_PICTURES = 12  # on the slider; a run's samples are thinned out to them
N_HISTORY_IMAGES = 40
HISTORY_TITLE = "history, oldest first; the step that refined each image"
CHARTS = {
    "Losses": ("loss_refiner", "loss_adversarial", "loss_discriminator"),
    "Accuracy of the discriminator": ("accuracy_real", "accuracy_refined", "accuracy_history"),
    "Mean change of a pixel": ("change",),
    "Patch distance to real images": ("swd_synthetic", "swd_refined", "swd_real"),
    "Likeness and variety": ("correlation", "diversity"),
}


@dataclass(frozen=True)
class Excerpt:
    """The part of a buffer that a page shows: copies on the CPU, which training does not change."""

    capacity: int
    made_at: NDArray[np.int64]  # of all images
    images: NDArray[np.float32]  # of some, N x C x H x W in [-1, 1]
    images_made_at: NDArray[np.int64]


def write_page(
    run: RunFolder,
    config: TrainConfig,
    images: Mapping[str, int],
    verdicts: Sequence[Mapping[str, Any]],
    history: Excerpt | None,
    step: int,
) -> None:
    """Write the report of a run as of `step`; `images` are its counts by domain.

    Raises OSError; an older page then stays.
    """
    lines = run.read_metrics(step)
    measured = exported_line(lines, config.select)
    samples, shown = thin_out(by_step(run.samples, ".png"), measured["step"] if measured else step)
    charts = {title: _series(lines, keys) for title, keys in CHARTS.items()}
    if history is None or not len(history.made_at):
        history = None
    page = _TEMPLATE.render(
        name=run.root.resolve().name,
        step=step,
        config=config,
        conclusion=conclude(lines, config.select),
        verdicts=verdicts,
        measured=measured,
        unmeasured=why_unmeasured(config, images),
        pictures=[(step_of(path), path.read_bytes()) for path in samples],
        shown=shown,
        charts={title: series for title, series in charts.items() if series},
        history=history,
        history_picture=history and history_sheet(history.images, history.images_made_at, HISTORY_TITLE),
        settings=settings_of(config),
    )
    write_atomic(run.report, page.encode("utf-8", "backslashreplace"))  # names may hold any bytes


def thin_out(paths: Sequence[Path], exported: int) -> tuple[list[Path], int]:
    """Return pictures by step, evenly spread, with the one nearest to step `exported`, and that one's index."""
    if not paths:
        return [], 0
    nearest = min(range(len(paths)), key=lambda index: abs(step_of(paths[index]) - exported))
    chosen = sorted({nearest} | {round(place) for place in np.linspace(0, len(paths) - 1, MAX_PICTURES)})
    return [paths[index] for index in chosen], chosen.index(nearest)


def _series(lines: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Series:
    return {key: points for key in keys if (points := [(line["step"], line[key]) for line in lines if key in line])}


def inline(picture: bytes, kind: str = "png") -> str:
    """Return a picture as a URL that a page holds."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, undefined=StrictUndefined
)
PAGES.filters |= {"inline": inline, "thousands": "{:,}".format, "plural": plural, "percent": "{:.0%}".format}
PAGES.globals |= {"line_chart": line_chart, "json": json.dumps}
_TEMPLATE = PAGES.get_template("page.html")
