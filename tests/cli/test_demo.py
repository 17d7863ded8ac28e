import html
import json
import shlex
from pathlib import Path

import pytest

from simgan_cli.cli.demo import SETTINGS, commands
from simgan_cli.settings.demo import DemoConfig
from tests.helpers import files_below, invoke, parse_document


@pytest.mark.slow
def test_the_demo_runs_and_a_rerun_repeats_no_step(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    result = invoke("demo", folder, "--quick", "--json", "--device", "cpu")
    document = parse_document(result.stdout)
    assert document["schema"] == "simgan.demo/1"
    assert document["simulated"] is True
    lines = commands(folder, DemoConfig(quick=True, device="cpu"))  # the tests' device
    assert document["commands"] == [shlex.join(["simgan", *line]) for line in lines]
    assert [line.split("] ")[1] for line in result.stderr.splitlines() if line.startswith("[")] == document["commands"]
    rows = {row["name"]: row for row in document["rows"] if row["estimator"] == "resnet"}
    assert {"synthetic", "refined", "reinhard", "oracle", "run-estimator"} <= set(rows)
    assert document["comparison"]["pair"][1] == "refined"
    assert document["files"][:2] == [str(folder / "gaze" / "report.html"), str(folder / "run" / "report.html")]
    page = (folder / "gaze" / "report.html").read_text()
    assert document["verdict"]["sentence"] in html.unescape(page)
    assert "srcdoc=" in page
    assert all(Path(file).is_file() for file in document["files"])
    assert (folder / "refined" / "labels.csv").read_bytes() == (folder / "data/synthetic/labels.csv").read_bytes()

    before = {name: content for name, content in files_below(folder).items() if name.endswith((".safetensors", ".png"))}
    again = invoke("demo", folder, "--quick")
    assert {name: files_below(folder)[name] for name in before} == before
    for row in rows.values():
        assert f"{row['mean']:.2f}" in again.stdout
    assert document["verdict"]["sentence"] in again.stdout
    assert str(folder / "run" / "report.html") in again.stderr
    assert "there already" in again.stderr
    assert "skipped 100" in again.stderr


def test_a_dry_run_prints_the_commands_of_the_demo(tmp_path: Path) -> None:
    result = invoke("demo", tmp_path / "demo", "--dry-run", "--seed", "3", "--device", "cpu")
    lines = [shlex.split(line.split("] ")[1]) for line in result.stderr.splitlines()]
    assert [line[:2] for line in lines] == [
        ["simgan", name] for name in ("demo-data", "train", "refine", "inspect-buffer", "eval-gaze")
    ]
    assert all("cpu" in line for line in lines if line[1] in ("train", "refine", "eval-gaze"))
    assert list(tmp_path.iterdir()) == []
    for command, settings in SETTINGS.items():
        (line,) = (line for line in lines if line[1] == command)
        for name, value in {**settings, "seed": 3}.items():
            assert line[line.index(f"--{name}") + 1] == str(value)


def test_a_failed_step_ends_the_demo_with_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").write_text("years of work")
    result = invoke("demo", tmp_path, "--quick", "--json", code=2)
    assert json.loads(result.stdout)["problems"] == [
        "simgan demo-data ended with exit code 2; rerun the demo to resume"
    ]
    assert "did not write" in result.stderr
    assert "[2/5]" not in result.stderr
    assert files_below(tmp_path) == {"data/thesis.tex": b"years of work"}
