"""Draw the pictures of an evaluation: curves of errors and labels, the error over directions, the worst images."""

import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from simgan_cli.documents import Row
from simgan_cli.gaze.labels import UNIT, LabelledImages, as_points, coordinates_of
from simgan_cli.gaze.scores import PAPERS_LIMIT, WITHIN, Result
from simgan_cli.pictures.grid import sheet
from simgan_cli.settings.base import Target

N_WORST, ENLARGEMENT, MAX_SIDE = 10, 4, 256  # images larger than MAX_SIDE pixels are not enlarged
N_BINS, MIN_IN_A_BIN = 14, 3  # cells along an axis of the map; images in a cell that is shown
MAX_ACROSS = 4  # maps in a row
N_LABEL_BINS = 40
LabelSet = tuple[NDArray[np.float64], NDArray[np.float64] | None]  # targets, and their weights if any
TRUE, PREDICTED = (0, 200, 0), (230, 30, 30)
ARM = 6  # pixels of a cross on either side of its centre


def plots_available() -> bool:
    """Return whether Matplotlib is installed."""
    return find_spec("matplotlib") is not None


def curve(rows: Sequence[Result], target: Target, suffix: str) -> bytes:
    """Return a PNG or SVG of the share of test images, or of points, below each error, as in the paper's Fig. 7."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    limit = WITHIN[target][-1] * (1.25 if target == "gaze" else 2)
    for row in rows:
        pooled = np.sort(row.pooled)
        shares = 100 * np.arange(1, len(pooled) + 1) / len(pooled)
        style = ":" if row.estimator == "mean" else "-"
        label = f"{row.name}, {row.estimator}: {row.errors.mean():.2f} {UNIT[target]}"
        if target == "points":
            label += f", {(pooled <= PAPERS_LIMIT).mean():.0%} within {PAPERS_LIMIT}"
        axes.plot(pooled, shares, style, label=label)
    what, of = {
        "gaze": ("angular error (degrees)", "test images"),
        "pupil": ("error of the pupil's centre (pixels)", "test images"),
        "points": ("error of a point (pixels)", "points"),
    }[target]
    axes.set(xlim=(0, limit), ylim=(0, 100), xlabel=what, ylabel=f"{of} below (%)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    return _saved(figure, suffix)


def error_map(rows: Sequence[Result], test: LabelledImages) -> bytes:
    """Return a PNG of the mean error over yaw and pitch (or the mean point), a panel for each row on one scale."""
    from matplotlib.figure import Figure

    named = test.coordinates()
    across, down = (named["yaw"], named["pitch"]) if test.target == "gaze" else (named["x"], named["y"])
    width = min(len(rows), MAX_ACROSS)
    height = -(-len(rows) // width)
    figure = Figure(figsize=(3.4 * width + 0.8, 3.2 * height), layout="constrained")
    panels = np.atleast_1d(figure.subplots(height, width, sharex=True, sharey=True)).ravel()
    edges = [_edges(across), _edges(down)]
    maps = [_binned(across, down, row.errors.mean(axis=0), edges) for row in rows]
    top = max(float(np.nanmax(values)) for values in maps) if any(np.isfinite(m).any() for m in maps) else 1.0
    for panel in panels[len(rows) :]:
        panel.set_axis_off()
    for panel, row, values in zip(panels, rows, maps, strict=False):
        mesh = panel.pcolormesh(edges[0], edges[1], values.T, vmin=0, vmax=top, cmap="viridis")
        panel.set_title(f"{row.name}, {row.estimator}", fontsize=9)
        panel.set_xlabel("yaw (degrees)" if test.target == "gaze" else "x (pixels)")
    panels[0].set_ylabel("pitch (degrees)" if test.target == "gaze" else "y (pixels)")
    if test.target != "gaze":
        panels[0].invert_yaxis()
    figure.colorbar(mesh, ax=list(panels), label=f"mean error ({UNIT[test.target]})")
    return _saved(figure, "png")


def learning_curve(curve: Sequence[Row], rows: Sequence[Row], unit: str) -> bytes:
    """Return an SVG of the error over the number of labelled photographs, with `rows` as horizontal lines.

    Both are rows of results.json: `curve` those of photographs only, `rows` those whose worth is shown.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    means = np.array([point["mean"] for point in curve])
    ends = np.abs(np.array([point["ci95"] for point in curve]).T - means)
    axes.errorbar([point["images"] for point in curve], means, ends, fmt="o-", color="black", capsize=3)
    for number, row in enumerate(rows):
        axes.axhline(row["mean"], color=f"C{number}", label=f"{row['name']}: {row['mean']:.2f} {unit}")
    axes.set(xscale="log", xlabel="labelled photographs", ylabel=f"mean error ({unit})")
    axes.set_xticks([point["images"] for point in curve], [f"{point['images']:,}" for point in curve])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return _saved(figure, "svg")


def label_histograms(labels: Mapping[str, LabelSet], target: Target) -> bytes:
    """Return an SVG of the label distributions of named sets."""
    from matplotlib.figure import Figure

    sets = {name: (coordinates_of(targets, target), weights) for name, (targets, weights) in labels.items()}
    figure = Figure(figsize=(8, 3.0), layout="constrained")
    names = list(next(iter(sets.values()))[0])
    for panel, name in zip(figure.subplots(1, len(names)), names, strict=True):
        values = [coordinates[name] for coordinates, _ in sets.values()]
        low, high = np.percentile(np.concatenate(values), [0.1, 99.9])
        edges = np.linspace(low, high, N_LABEL_BINS)
        for (label, (_, weights)), value in zip(sets.items(), values, strict=True):
            panel.hist(value, edges, weights=weights, density=True, histtype="step", label=label)
        panel.set_xlabel(f"{name} ({UNIT[target]})")
        panel.set_yticks([])
    figure.axes[-1].legend(fontsize=8)
    return _saved(figure, "svg")


def worst_images(rows: Sequence[Result], test: LabelledImages) -> bytes:
    """Return a PNG of the test images with the largest errors of each row: truth green, prediction red."""
    columns = [f"{row.name}, {row.estimator}" for row in rows]
    order = [np.argsort(-row.errors.mean(axis=0))[:N_WORST] for row in rows]
    pictures = [
        [_marked(test, int(worst[rank]), row.predictions[0]) for row, worst in zip(rows, order, strict=True)]
        for rank in range(min(N_WORST, len(test)))
    ]
    return sheet(columns, pictures, "largest errors first; green: true, red: predicted (first seed)")


def _marked(test: LabelledImages, index: int, predictions: NDArray[np.float64]) -> NDArray[np.uint8]:
    height, width = test.size
    scale = max(1, min(ENLARGEMENT, MAX_SIDE // max(height, width)))
    picture = Image.fromarray(test.pixels[index]).convert("RGB").resize((width * scale, height * scale))
    draw = ImageDraw.Draw(picture)
    for target, colour in ((test.targets[index], TRUE), (predictions[index], PREDICTED)):
        if test.target == "gaze":
            x, y, length = picture.width / 2, picture.height / 2, picture.height
            draw.line((x, y, x + length * target[0], y + length * target[1]), colour, 2)
            continue
        for x, y in as_points(target[None] * scale)[0]:
            if not np.isnan(x):
                draw.line((x - ARM, y, x + ARM, y), colour, 2)
                draw.line((x, y - ARM, x, y + ARM), colour, 2)
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
