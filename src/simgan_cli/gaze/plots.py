"""Pictures of an evaluation: the cumulative curve, the error over directions, the worst images."""

import io
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from simgan_cli.gaze.labels import UNIT, LabelledImages, Target
from simgan_cli.gaze.scores import WITHIN, Result
from simgan_cli.pictures.grid import sheet

N_WORST, ENLARGEMENT = 10, 4
N_BINS, MIN_IN_A_BIN = 14, 3  # cells along an axis of the map; images that make a cell worth showing
TRUE, PREDICTED = (0, 200, 0), (230, 30, 30)


def plots_available() -> bool:
    """Return whether Matplotlib is installed."""
    return find_spec("matplotlib") is not None


def curve(rows: Sequence[Result], target: Target, suffix: str) -> bytes:
    """Return a plot of the share of test images below each error, as the paper's figure, as PNG or SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    limit = WITHIN[target][-1] * (1.25 if target == "gaze" else 2)
    for row in rows:
        pooled = np.sort(row.errors.ravel())
        shares = 100 * np.arange(1, len(pooled) + 1) / len(pooled)
        style = ":" if row.estimator == "mean" else "-"
        axes.plot(pooled, shares, style, label=f"{row.name}, {row.estimator}: {pooled.mean():.2f} {UNIT[target]}")
    what = "angular error (degrees)" if target == "gaze" else "error of the pupil's centre (pixels)"
    axes.set(xlim=(0, limit), ylim=(0, 100), xlabel=what, ylabel="test images below (%)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    return _saved(figure, suffix)


def error_map(rows: Sequence[Result], test: LabelledImages) -> bytes:
    """Return a PNG of the mean error over yaw and pitch (or x and y), a panel for each row on one scale."""
    from matplotlib.figure import Figure

    named = test.coordinates()
    across, down = (named["yaw"], named["pitch"]) if test.target == "gaze" else (named["x"], named["y"])
    figure = Figure(figsize=(3.4 * len(rows) + 0.8, 3.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(rows), sharex=True, sharey=True))
    edges = [_edges(across), _edges(down)]
    maps = [_binned(across, down, row.errors.mean(axis=0), edges) for row in rows]
    top = max(float(np.nanmax(values)) for values in maps) if any(np.isfinite(m).any() for m in maps) else 1.0
    for panel, row, values in zip(panels, rows, maps, strict=True):
        mesh = panel.pcolormesh(edges[0], edges[1], values.T, vmin=0, vmax=top, cmap="viridis")
        panel.set_title(f"{row.name}, {row.estimator}", fontsize=9)
        panel.set_xlabel("yaw (degrees)" if test.target == "gaze" else "x (pixels)")
    panels[0].set_ylabel("pitch (degrees)" if test.target == "gaze" else "y (pixels)")
    if test.target == "pupil":
        panels[0].invert_yaxis()
    figure.colorbar(mesh, ax=list(panels), label=f"mean error ({UNIT[test.target]})")
    return _saved(figure, "png")


def worst_images(rows: Sequence[Result], test: LabelledImages) -> bytes:
    """Return a PNG of the test images each row errs most on: truth green, prediction red."""
    columns = [f"{row.name}, {row.estimator}" for row in rows]
    order = [np.argsort(-row.errors.mean(axis=0))[:N_WORST] for row in rows]
    pictures = [
        [_marked(test, int(worst[rank]), row.predictions[0]) for row, worst in zip(rows, order, strict=True)]
        for rank in range(min(N_WORST, len(test)))
    ]
    return sheet(columns, pictures, "largest errors first; green: true, red: predicted (first seed)")


def _marked(test: LabelledImages, index: int, predictions: NDArray[np.float64]) -> NDArray[np.uint8]:
    height, width = test.size
    picture = Image.fromarray(test.pixels[index]).convert("RGB").resize((width * ENLARGEMENT, height * ENLARGEMENT))
    draw = ImageDraw.Draw(picture)
    for target, colour in ((test.targets[index], TRUE), (predictions[index], PREDICTED)):
        if test.target == "gaze":
            x, y, length = picture.width / 2, picture.height / 2, picture.height
            draw.line((x, y, x + length * target[0], y + length * target[1]), colour, 2)
        else:
            x, y, arm = target[0] * ENLARGEMENT, target[1] * ENLARGEMENT, 6
            draw.line((x - arm, y, x + arm, y), colour, 2)
            draw.line((x, y - arm, x, y + arm), colour, 2)
    return np.asarray(picture)


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    return np.linspace(low, high if high > low else low + 1, N_BINS + 1)


def _binned(
    x: NDArray[np.float64], y: NDArray[np.float64], errors: NDArray[np.float64], edges: list[NDArray[np.float64]]
) -> NDArray[np.float64]:
    counts = np.histogram2d(x, y, bins=edges)[0]
    sums = np.histogram2d(x, y, bins=edges, weights=errors)[0]
    return np.where(counts >= MIN_IN_A_BIN, sums / np.maximum(counts, 1), np.nan)


def _saved(figure: Any, suffix: str) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=suffix, dpi=130)
    return file.getvalue()
