"""People's answers in a real browser, opened from a file."""

import json
import re
from pathlib import Path

import pytest
from scipy.stats import binom, binomtest

from simgan_cli.turing.answers import score
from tests.helpers import invoke, parse_document
from tests.turing.browser import Habit, downloaded, key_of, needs_chromium, run_page, subject
from tests.turing.helpers import write_run

pytestmark = [pytest.mark.slow, needs_chromium]  # a browser

TRIALS = 5


def make_page(folder: Path, *more: str) -> tuple[Path, dict[str, str]]:
    """Make a page, and return it with the kind of each picture by its data."""
    run, page = write_run(folder, 10 + TRIALS), folder / "page.html"
    document = invoke("turing-test", run, "--out", page, "--trials", TRIALS, "--json", *more).stdout
    return page, key_of(page, json.loads(document))


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("habit", ["right", "wrong", "guesses"])
def test_a_subject_gets_the_figures_that_the_score_has(tmp_path: Path, habit: Habit, pairs: bool) -> None:
    page, key = make_page(tmp_path, *["--pairs"] * pairs)
    dom = run_page(page, subject(key, habit))
    answers = tmp_path / "answers.json"
    answers.write_text(downloaded(dom))
    (scored,) = parse_document(json.dumps(score([answers])))["pages"]
    (person,) = scored["persons"]
    assert (person["subject"], scored["pairs"]) == ("Zoë <b>", pairs)
    assert person["trials"] == (TRIALS if pairs else 2 * TRIALS)
    if habit != "guesses":
        assert person["correct"] == (person["trials"] if habit == "right" else 0)
    urls = list(key)
    for trial in json.loads(answers.read_text())["trials"]:  # the page's numbers against the test's own
        kinds = [key[urls[image]] for image in trial["images"]]
        truth = ["left", "right"][kinds.index("refined")] if pairs else kinds[0]
        assert trial["correct"] == (trial["answer"] == truth)
    low, high = person["ci95"]
    assert f"You were right in {person['correct']} of {person['trials']}: " in dom
    shown = re.findall(r": ([\d.]+)% \(95% interval ([\d.]+)% to ([\d.]+)%\)", dom)[0]
    wanted = [100 * person["accuracy"], 100 * max(low, 0), 100 * high]
    assert list(map(float, shown)) == pytest.approx(wanted, abs=0.051)  # JavaScript rounds ties another way
    (p,) = re.findall(r"p (?:= ([\d.]+)|&lt; 0\.001) ", dom)
    assert float(p or 0) == pytest.approx(person["p"], abs=0.00051 if p else 0.001)
    table = re.findall(r"<td>(\d+)</td>", dom)
    columns = ("left", "right") if pairs else ("refined", "real")
    assert list(map(int, table)) == [person["table"][truth][answer] for truth in columns for answer in columns]


def test_interval_and_p_value_of_the_page_are_those_of_scipy(tmp_path: Path) -> None:
    page, _ = make_page(tmp_path)
    cases = [(k, n) for n in (1, 2, 7, 100, 1000, 5000) for k in sorted({0, 1, n // 3, n // 2, n - 1, n})]
    script = f"document.title = JSON.stringify({json.dumps(cases)}.map(([k, n]) => [...wilson(k, n), chance(k, n)]))"
    dom = run_page(page, script)
    answers = json.loads(re.findall("<title>(.*?)</title>", dom)[0])
    for (right, total), (low, high, p) in zip(cases, answers, strict=True):
        interval = binomtest(right, total).proportion_ci(0.95, "wilson")
        assert (low, high) == pytest.approx((interval.low, interval.high), abs=1e-12)
        assert p == pytest.approx(binom.sf(right - 1, total, 0.5), rel=1e-9, abs=1e-300)


def test_no_answer_is_shown_before_the_end_and_pixels_stay_square(tmp_path: Path) -> None:
    page, key = make_page(tmp_path)
    dom = run_page(page, subject(key, "wrong", stop_at=4), "--window-size=700,900")
    assert "5 of 10" in dom
    assert re.search('<p id="verdict"[^>]*></p>', dom)
    assert 'href="data:application' not in dom
    ((width,),) = [re.findall(r"width: (\d+)px", tag) for tag in re.findall("<img[^>]*>", dom) if 'alt=""' in tag]
    assert int(width) % 20 == 0
    assert int(width) > 200
