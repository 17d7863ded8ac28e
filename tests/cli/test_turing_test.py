"""`simgan turing-test`: a page, its key, and the score."""

import json
from pathlib import Path

from simgan_cli.turing.page import hash_of
from tests.helpers import invoke, parse_document
from tests.turing.helpers import write_run
from tests.turing.test_answers import PAGES, document, trial, write


def test_a_page_is_written_once_and_its_key_goes_to_stdout(tmp_path: Path) -> None:
    run, page = write_run(tmp_path), tmp_path / "new" / "page.html"
    command = ("turing-test", run, "--out", page, "--trials", "2")
    written = parse_document(invoke(*command, "--json").stdout)
    assert (written["schema"], written["out"]) == ("simgan.turing-test.page/1", str(page))
    assert sorted(image["kind"] for image in written["images"]) == ["real", "real", "refined", "refined"]
    hashes = [hash_of(written["page"], number, image["kind"]) for number, image in enumerate(written["images"])]
    assert json.dumps(hashes) in page.read_text()
    content = page.read_bytes()
    output = invoke(*command, "--pairs", code=2).output
    assert f"--out {page}: exists; give --overwrite" in output
    assert page.read_bytes() == content
    invoke(*command, "--pairs", "--overwrite")
    assert page.read_bytes() != content


def test_contradictory_arguments_are_errors_with_advice(tmp_path: Path) -> None:
    output = invoke("turing-test", "a.json", "b.json", "--out", tmp_path, code=2).output
    assert "wanted one run, got a.json, b.json; give --score for files of answers" in output
    assert f"--out {tmp_path}: a folder" in output
    assert "no file of answers given" in invoke("turing-test", "--score", code=2).output
    assert "missing.json: No such file" in invoke("turing-test", "--score", tmp_path / "missing.json", code=4).output


def test_a_score_shows_each_person_all_persons_and_table_1(tmp_path: Path) -> None:
    anna = write(tmp_path / "a.json", document(*map(trial, range(10)), subject="An\x1bna[/]"))
    ben = write(tmp_path / "b.json", document(*(trial(n, "refined", n < 4) for n in range(10))))
    other = write(tmp_path / "c.json", document(trial(0), page=PAGES[1]))
    shown = invoke("turing-test", "--score", anna, ben, other).output
    lines = [line.split() for line in shown.splitlines()]
    assert ["An\\x1bna[/]", "10", "of", "10", "100.0%", "72.2%", "to", "100.0%", "<", "0.001"] in lines
    assert ["b.json", "4", "of", "10", "40.0%", "16.8%", "to", "68.7%", "0.828"] in lines
    assert ["all", "2", "14", "of", "20", "70.0%", "48.1%", "to", "85.5%", "0.058"] in lines
    assert ["real", "10", "6"] in lines
    assert ["refined", "0", "4"] in lines
    assert "answers to different pages are not added up" in shown
    scored = parse_document(invoke("turing-test", "--score", anna, ben, other, "--json").stdout)
    assert [page["page"] for page in scored["pages"]] == list(PAGES)
    assert scored["pages"][0]["all"]["correct"] == 14
