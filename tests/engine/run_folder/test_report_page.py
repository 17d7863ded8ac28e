"""report.html of a real run: it stands alone, shows what the run found, and lets no name become markup."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from simgan_cli.engine.run_folder.layout import by_step, step_of
from simgan_cli.engine.run_folder.report_page import thin_out
from simgan_cli.pictures.curves import line_chart
from tests.helpers import TINY, simgan, write_images

VOID = {"meta", "img", "input", "line", "circle", "polyline"}


class Reader(HTMLParser):
    """Collects text and attributes; raises AssertionError where tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """The page of a run whose names try to be markup, and which a rule of health accuses."""
    folder = tmp_path_factory.mktemp("page")
    synthetic = write_images(folder / "<img src=x onerror=alert(1)>", 12, 1)
    real = write_images(folder / "r&d", 9, 2)
    flags: list[str | Path] = [
        "--synthetic",
        synthetic,
        "--real",
        real,
        "--out",
        folder / "<b>run\udcff",
        "--cache",
        "off",
    ]
    often = ["--steps", "6", "--sample-every", "2", "--discriminator-lr", "0.9", "--save-every", "2"]
    result = simgan("train", *flags, *TINY, *often)
    assert result.returncode == 0, result.stderr
    reader = Reader()
    reader.feed((folder / "<b>run\udcff" / "report.html").read_text())
    assert reader.open == []
    return reader


@pytest.mark.slow
def test_the_page_needs_nothing_from_elsewhere(page: Reader) -> None:
    sources = [value for _, name, value in page.attributes if name in ("src", "href", "srcset", "action")]
    assert len(sources) == 4 + 1  # pictures of steps 2, 4, 6, 8, and the history
    assert all(source.startswith("data:image/png;base64,") for source in sources)


@pytest.mark.slow
def test_names_stay_text(page: Reader) -> None:
    assert not [attribute for attribute in page.attributes if attribute[1].startswith("on")]
    assert not [tag for tag, _, _ in page.attributes if tag == "b"]
    for text in ("simgan: <b>run\\udcff", "<img src=x onerror=alert(1)>", "r&d"):
        assert text in page.text


@pytest.mark.slow
def test_it_tells_what_the_run_found(page: Reader) -> None:
    for text in ("step 8 of 8", "diverging", "accuracy_history", "8 of 8 images", "fewer than 80 images"):
        assert text in page.text
    assert ("input", "max", "3") in page.attributes  # four steps on the slider
    assert len([1 for tag, name, _ in page.attributes if (tag, name) == ("img", "hidden")]) == 3


def test_the_picture_of_the_exported_refiner_is_there_and_shown_first() -> None:
    paths = [Path(f"step-{step:08}.png") for step in range(250, 5001, 250)]
    chosen, shown = thin_out(paths, 500)
    assert (chosen[shown].stem, shown) == ("step-00000500", 1)
    assert len(chosen) == 13  # one more than would be there without it
    chosen, shown = thin_out(paths, 5000)
    assert (len(chosen), shown) == (12, 11)
    assert thin_out([], 5000) == ([], 0)


def test_a_picture_that_somebody_put_there_is_not_one_of_ours(tmp_path: Path) -> None:
    for name in ("step-00000002.png", "step-00000010.png", "step-best.png", "step-00000003-good.png"):
        (tmp_path / name).write_bytes(b"")
    assert [step_of(path) for path in by_step(tmp_path, ".png")] == [2, 10]


def test_a_chart_places_points_where_they_belong() -> None:
    chart = line_chart("loss", {"a": [(0, 1.0), (10, 3.0)], "b": [(5, 2.0)]})
    points = chart.split('points="')[1].split('"')[0]
    (x0, y0), (x1, y1) = (tuple(map(float, point.split(","))) for point in points.split())
    assert (x0, x1) == (40, 316)
    assert y0 > y1  # larger is higher
    assert 'cx="178.0" cy="85.0"' in chart  # the middle of both axes
    assert "1e+0" not in line_chart("flat", {"a": [(0, 1.0), (1, 1.0)]})


@pytest.mark.slow
def test_the_page_is_written_where_training_stops(tmp_path: Path) -> None:
    synthetic, real = write_images(tmp_path / "s", 12, 1), write_images(tmp_path / "r", 9, 2)
    flags: list[str | Path] = ["--synthetic", synthetic, "--real", real, "--out", tmp_path / "run", "--cache", "off"]
    result = simgan("train", *flags, *TINY, "--steps", "100000", "--max-time", "1s", "--log-every", "10", "--json")
    assert result.returncode == 75, result.stderr
    step = json.loads(result.stdout)["step"]
    assert f"step {step:,} of 100,002" in (tmp_path / "run" / "report.html").read_text()
