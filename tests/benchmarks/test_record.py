"""Records name machine, torch and commit, and equal figures are recorded once."""

from pathlib import Path

import pytest

from benchmarks._record import append, machine, read_lines
from benchmarks.speed._table import print_head

WHERE = "Some CPU, 2 cores, torch 2.14.1+cu130, commit 0123abc"


def test_a_record_names_machine_torch_and_commit_and_is_added_once(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for share in (0.25, 0.25, 0.5):
        append(path, {"job": "camera", "share": share}, WHERE)
    where = {"machine": "Some CPU, 2 cores", "torch": "2.14.1+cu130", "commit": "0123abc"}
    assert read_lines(path) == [{"job": "camera", "share": share} | where for share in (0.25, 0.5)]


@pytest.mark.slow
def test_a_row_of_a_table_is_printed_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "speed.jsonl"
    add_row = print_head(("width", "images/s"), "device cpu", path)
    add_row((16, "99.8"))
    (record,) = read_lines(path)
    assert (record["conditions"], record["width"], record["images/s"]) == ("device cpu", 16, "99.8")
    assert machine() == f"{record['machine']}, torch {record['torch']}, commit {record['commit']}"
    assert capsys.readouterr().out.endswith("| width | images/s |\n| --- | --- |\n| 16 | 99.8 |\n")
