"""report.html of a real run needs no other file, shows the results, and escapes names."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.engine.run_folder.report_page import Excerpt, thin_out, write_page
from simgan_cli.pictures.curves import line_chart
from simgan_cli.settings.train import TrainConfig
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
    """The page of a run with names that look like markup, and a health rule that fired."""
    folder = tmp_path_factory.mktemp("page")
    synthetic = write_images(folder / "<img src=x onerror=alert(1)>", 12, 1)
    real = write_images(folder / "r&d", 9, 2)
    out = folder / "<b>run\udcff"
    flags: list[str | Path] = ["--synthetic", synthetic, "--real", real, "--out", out, "--cache", "off"]
    often = ["--steps", "6", "--sample-every", "2", "--discriminator-lr", "0.9", "--save-every", "2"]
    result = simgan("train", *flags, *TINY, *often)
    assert result.returncode == 0, result.stderr
    reader = Reader()
    reader.feed((out / "report.html").read_text())
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
def test_the_page_shows_steps_verdicts_and_samples(page: Reader) -> None:
    for text in ("step 8 of 8", "diverging", "accuracy_history", "8 of 8 images", "fewer than 80 images"):
        assert text in page.text
    assert ("input", "max", "3") in page.attributes  # four steps on the slider
    assert len([1 for tag, name, _ in page.attributes if (tag, name) == ("img", "hidden")]) == 3


def test_the_page_shows_measurements_and_history(tmp_path: Path) -> None:
    run, config = RunFolder(tmp_path), TrainConfig(synthetic=Path("s"), real=Path("r"), history_size=64)
    distances = {"swd_synthetic": 0.5, "swd_refined": 0.25, "swd_real": 0.125, "label_drift": 0.25}
    run.append_metrics({"step": 9} | distances | {"two_sample": 0.75, "two_sample_low": 0.5, "two_sample_high": 1.0})
    verdict = {"rule": "tone alone", "step": 1500, "active": False, "saw": "a < b", "advice": "train longer"}
    history = Excerpt(32, np.array([1, 7]), np.zeros((1, 1, 8, 8), np.float32), np.array([7]))
    write_page(run, config, {"synthetic": 500, "real": 500}, [verdict], history, 9)
    text = " ".join(run.report.read_text().split())
    for shown in (
        "refined images are closer to real ones", "at step 1,500, not now): a &lt; b. train longer.", "at step 9.",
        "<td>0.5000</td>", "<td>0.2500</td>", "<td>0.1250</td>", "<td>0.25</td>", "<td>75% (50% to 100%)</td>",
        "2 of 32 images; ages 2 to 8 steps. It is the first rank's part of 64;", "<td>stable</td>",
    ):  # fmt: skip
        assert shown in text
    empty = Excerpt(64, np.zeros(0, np.int64), np.zeros((0, 1, 8, 8), np.float32), np.zeros(0, np.int64))
    write_page(run, config, {"synthetic": 500, "real": 500}, [], empty, 5)
    assert "<p>Empty.</p>" in run.report.read_text()
    assert "nothing was measured yet: it is due every 250 steps" in run.report.read_text()
    write_page(run, config.model_copy(update={"history_size": 0}), {"synthetic": 500, "real": 500}, [], None, 9)
    assert "Switched off (--history-size 0)" in run.report.read_text()


def test_the_picture_of_the_exported_refiner_is_there_and_shown_first() -> None:
    paths = [Path(f"step-{step:08}.png") for step in range(250, 5001, 250)]
    chosen, shown = thin_out(paths, 500)
    assert (chosen[shown].stem, shown) == ("step-00000500", 1)
    assert len(chosen) == 13  # one more than without the exported step
    chosen, shown = thin_out(paths, 5000)
    assert (len(chosen), shown) == (12, 11)
    assert thin_out([], 5000) == ([], 0)


def test_a_chart_places_points_where_they_belong() -> None:
    chart = line_chart("loss", {"a": [(0, 1.0), (10, 3.0)], "b": [(5, 2.0)]})
    points = chart.split('points="')[1].split('"')[0]
    (x0, y0), (x1, y1) = (tuple(map(float, point.split(","))) for point in points.split())
    assert (x0, x1) == (40, 316)
    assert y0 > y1  # larger is higher
    assert 'cx="178.0" cy="85.0"' in chart  # the middle of both axes
    assert "1e+0" not in line_chart("flat", {"a": [(0, 1.0), (1, 1.0)]})
