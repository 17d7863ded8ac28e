"""Draw line charts as inline SVG, coloured by the style of their page."""

from collections.abc import Mapping, Sequence
from html import escape

Series = Mapping[str, Sequence[tuple[float, float]]]  # name -> (x, y), x rising
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 320, 180, 40, 18, 8  # pixels; the margins hold the axes' numbers
MAX_POINTS = 300


def line_chart(title: str, series: Series) -> str:
    """Return an SVG with one line for each of one to three series, of the CSS classes s0 to s2."""
    points = [point for line in series.values() for point in line]
    (x0, x1), (y0, y1) = (_range([point[axis] for point in points]) for axis in (0, 1))

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - 4)
        return across, HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP)

    parts = []
    for value in (y0, (y0 + y1) / 2, y1):
        _, y = place(x0, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{value:.3g}</text>')
    for value, anchor in ((x0, "start"), (x1, "end")):
        parts.append(f'<text x="{place(value, y0)[0]:.1f}" y="{HEIGHT - 4}" text-anchor="{anchor}">{value:,.0f}</text>')
    for index, line in enumerate(series.values()):
        thinned = line[:: max(1, -(-len(line) // MAX_POINTS))]
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in thinned)
        parts.append(f'<polyline class="s{index}" points="{path}"/>')
        if len(line) == 1:
            x, y = place(*line[0])
            parts.append(f'<circle class="s{index}" fill="currentColor" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
