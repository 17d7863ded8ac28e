"""Documents of `--json` match the types of the reference; tests of commands check others in passing."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from typing_extensions import is_typeddict

from simgan_cli import documents
from simgan_cli.documents import FILES, Document, NetworkConfig, RefinerConfig, StatusDocument
from tests.gaze.helpers import write_csv
from tests.helpers import TINY, invoke, parse_as, parse_document, write_images

STATUS: dict[str, Any] = {
    "schema": "simgan.status/1", "run": "run", "training": None, "step": 3, "total_steps": 9, "eta_seconds": 2,
    "checkpoint": {"path": "c", "step": 3, "age_seconds": 1.5}, "health": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Renders, photographs, labelled eyes, and the run and the document of a training."""
    folder = tmp_path_factory.mktemp("world")
    renders, photos = (write_images(folder / name, 12, seed) for seed, name in enumerate(("renders", "photos")))
    for seed, name in enumerate(("eyes", "more-eyes")):
        write_csv(folder / name, 12, seed, persons=2)
    result = invoke("train", "--synthetic", renders, "--real", photos, "--out", folder / "run", *TINY, "--json")
    (folder / "train.json").write_text(result.stdout)
    return folder


def test_a_training_is_documented(world: Path) -> None:
    document = parse_document((world / "train.json").read_text())
    assert (document["status"], document["step"]) == ("finished", 5)
    config = json.loads((world / "run" / "refiner" / "config.json").read_text())
    network = {name: config.pop(name) for name in NetworkConfig.__annotations__}
    parse_as(NetworkConfig, json.dumps(network))
    parse_as(RefinerConfig, json.dumps(config))


@pytest.mark.parametrize(
    ("line", "schema"),
    [
        ("train --synthetic renders --real photos --dry-run", "simgan.train.dry-run/1"),
        ("status run", "simgan.status/1"),
        ("inspect-buffer run --score", "simgan.inspect-buffer/1"),
        ("refine renders --model run --out refined --check-labels", "simgan.refine/1"),
        ("refine renders --model run --out planned --dry-run", "simgan.refine.dry-run/1"),
        ("turing-test run --out page.html --trials 2", "simgan.turing-test.page/1"),
        pytest.param("doctor", "simgan.doctor/1", marks=pytest.mark.slow),  # Python asks uname for the processor
        ("eval-gaze --train a=eyes --test more-eyes --out planned --dry-run", "simgan.eval-gaze.dry-run/1"),
        ("push run a//b", "simgan.error/1"),
    ],
)
def test_what_a_command_writes_is_of_its_type(
    world: Path, monkeypatch: pytest.MonkeyPatch, line: str, schema: str
) -> None:
    monkeypatch.chdir(world)
    document = parse_document(invoke(*line.split(), "--json", code=2 if "error" in schema else 0).stdout)
    assert document["schema"] == schema


def test_other_fields_and_types_are_found() -> None:
    parse_as(StatusDocument, json.dumps(STATUS))
    changes: list[dict[str, Any]] = [{"step": 3.5}, {"unknown": 1}, {"checkpoint": {"path": "c"}}, {"health": [{}]}]
    for changed in changes:
        with pytest.raises(ValidationError):
            parse_as(StatusDocument, json.dumps(STATUS | changed))
    with pytest.raises(ValidationError):
        parse_as(StatusDocument, json.dumps({name: STATUS[name] for name in STATUS if name != "training"}))


def test_no_document_with_a_schema_is_left_out_of_the_reference() -> None:
    declared = {kind for kind in vars(documents).values() if is_typeddict(kind) and "schema" in kind.__annotations__}
    assert declared == {*get_args(Document), NetworkConfig}
    assert NetworkConfig in FILES
