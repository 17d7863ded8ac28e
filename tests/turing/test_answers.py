"""Answers are scored as in the paper."""

import json
from itertools import product
from math import comb, sqrt
from pathlib import Path
from typing import Any

import pytest

from simgan_cli.documents import Trial
from simgan_cli.errors import DataError
from simgan_cli.turing.answers import figures, score

PAGES = "0" * 32, "1" * 32


def trial(number: int, answer: str = "real", correct: bool = True) -> dict[str, Any]:
    return {"images": [number], "answer": answer, "correct": correct, "milliseconds": 900}


def document(*trials: dict[str, Any], **fields: Any) -> dict[str, Any]:
    start = {"schema": "simgan.turing-test/1", "page": PAGES[0], "pairs": False, "subject": None}
    return start | {"trials": list(trials)} | fields


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_papers_table_1_gives_its_figures() -> None:
    counts = {("real", True): 224, ("refined", False): 276, ("real", False): 207, ("refined", True): 293}
    trials = [Trial(**trial(0, *key)) for key, count in counts.items() for _ in range(count)]
    scores = figures(False, trials)
    assert (scores["correct"], scores["trials"], round(scores["p"], 3)) == (517, 1000, 0.148)
    assert scores["table"] == {"real": {"real": 224, "refined": 276}, "refined": {"real": 207, "refined": 293}}
    z, share = 1.959964, 0.517  # Wilson's interval, by hand
    middle, half = (share + z**2 / 2000) / (1 + z**2 / 1000), z * sqrt(share * 0.483 / 1000 + z**2 / 4e6)
    assert scores["ci95"] == pytest.approx([middle - half / (1 + z**2 / 1000), middle + half / (1 + z**2 / 1000)])


@pytest.mark.parametrize("correct", [0, 1, 9, 12])
def test_the_p_value_counts_outcomes_as_good_or_better(correct: int) -> None:
    scores = figures(False, [Trial(**trial(n, correct=n < correct)) for n in range(12)])
    assert scores["p"] == pytest.approx(sum(comb(12, k) for k in range(correct, 13)) / 2**12)


def test_answers_add_up_by_person_and_by_page(tmp_path: Path) -> None:
    anna = document(trial(0), trial(1, "refined", False), subject="Anna")
    ben = document(trial(0, "refined", False), trial(1, "refined"))
    pair = {"images": [3, 1], "answer": "left", "correct": False, "milliseconds": 5}
    carla = document(pair, page=PAGES[1], pairs=True, subject="Carla")
    files = [write(tmp_path / f"{n}.json", content) for n, content in enumerate((anna, carla, ben))]
    first, second = score(files)["pages"]
    assert (first["page"], second["page"]) == PAGES
    assert [(person["subject"], person["correct"]) for person in first["persons"]] == [("Anna", 1), (None, 1)]
    assert first["all"]["trials"] == 4
    assert first["all"]["table"] == {"real": {"real": 1, "refined": 2}, "refined": {"real": 0, "refined": 1}}
    assert second["all"]["table"] == {"left": {"left": 0, "right": 0}, "right": {"left": 1, "right": 0}}


GOOD = document(trial(0), trial(1))
BAD = {
    "cut": (json.dumps(GOOD)[:60], "Invalid JSON"),
    "no JSON": ("refined", "Invalid JSON"),
    "a list": ([GOOD], "an object"),
    "foreign": ({"schema": "simgan.refine/1"}, "schema"),
    "no trials": (document(), "trials"),
    "no page": (GOOD | {"page": "<b>"}, "page"),
    "a wrong type": (document({**trial(0), "correct": "yes"}), "trials.0.correct"),
    "an unknown field": (GOOD | {"score": 100}, "score"),
    "an answer of pairs": (document(trial(0, "left")), "an answer is neither real nor refined"),
    "an image twice": (document(trial(0), trial(0)), "answered twice"),
    "half a pair": (document(trial(0, "left"), pairs=True), "a pair is incomplete"),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_or_foreign_answers_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    content, words = BAD[name]
    path = write(tmp_path / "answers.json", content)
    with pytest.raises(DataError) as caught:
        score([write(tmp_path / "good.json", GOOD), path])
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "wanted the JSON from a page of simgan turing-test" in str(caught.value)


def test_the_same_answers_twice_are_refused(tmp_path: Path) -> None:
    first, again = (write(tmp_path / name, GOOD) for name in ("first.json", "again.json"))
    with pytest.raises(DataError, match=r"again.json: the same answers as .*first.json; leave one of them out"):
        score([first, again])
    other = write(tmp_path / "other.json", GOOD | {"subject": "Ben"})
    assert score([first, other])["pages"][0]["all"]["trials"] == 4


def test_all_combinations_of_truth_and_answer_are_counted() -> None:
    trials = [Trial(**trial(n, *case)) for n, case in enumerate(product(("real", "refined"), (True, False)))]
    assert figures(False, trials)["table"] == {kind: {"real": 1, "refined": 1} for kind in ("real", "refined")}
