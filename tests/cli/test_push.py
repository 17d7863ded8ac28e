"""`simgan push` to a local Hub, and refiners loaded by their address there."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import simgan_cli
from simgan_cli.errors import SettingsError, SimganError
from tests.conftest import Domains
from tests.helpers import TINY, files_below, invoke, parse_document, write_images, write_refiner
from tests.hub_server import Hub, serve_hub

constants = pytest.importorskip("huggingface_hub.constants", reason="needs simgan-cli[hub]")
FACTS = {
    "training_images": {"synthetic": 1200, "real": 80},
    "training_settings": {"steps": 7},
    "conclusion": "refined images are closer",
}
RESULTS = {
    "schema": "simgan.eval-gaze/1",
    "target": "gaze",
    "unit": "deg",
    "test": {"images": 1500, "persons": 5, "source": "/home/me/eyes"},
    "rows": [
        {"name": "synthetic", "estimator": "cnn", "images": 1200, "mean": 7.434, "ci95": [7.16, 7.71]},
        {"name": "refined", "estimator": "cnn", "images": 1200, "mean": 5.42, "ci95": [5.23, 5.61]},
    ],
    "comparison": {"pair": ["synthetic", "refined"], "verdict": "helps"},
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A local Hub with a cache of its own; the library reads its variable once, at import."""
    with serve_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        yield server


def write_export(folder: Path) -> Path:
    """Write a refiner with what a training records."""
    write_refiner(folder, noise=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | FACTS))
    return folder


def test_a_pushed_refiner_gives_the_same_bits_by_its_address(tmp_path: Path, hub: Hub) -> None:
    refiner, renders = write_export(tmp_path / "refiner"), write_images(tmp_path / "renders", 3, 1)
    document = parse_document(invoke("push", refiner, "me/eyes", "--json").stdout)
    assert document["address"] == f"hf://me/eyes@{hub.repositories['me/eyes'][-1][0]}"
    assert set(document["files"]) == {"config.json", "model.safetensors", "README.md"}
    hub.commit("me/eyes", {"model.safetensors": b"newer, and no refiner", "train.py": b"print()"})
    for place, out in ((refiner, "here"), (document["address"], "fetched")):
        stderr = invoke("refine", renders, "--model", place, "--out", tmp_path / out).stderr
        assert f"sha256 {document['files']['model.safetensors']}" in stderr
    assert files_below(tmp_path / "here") == files_below(tmp_path / "fetched")
    assert set(hub.fetched) == {"config.json", "model.safetensors"}
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 20), np.uint8)
    assert np.array_equal(
        simgan_cli.load_refiner(document["address"], device="cpu")(images[..., None]),
        simgan_cli.load_refiner(refiner, device="cpu")(images[..., None]),
    )
    with pytest.raises(SimganError, match="is damaged"):
        simgan_cli.load_refiner("hf://me/eyes")  # the newest


def test_the_model_card_has_what_the_hub_shows_and_the_evaluation(tmp_path: Path, hub: Hub) -> None:
    refiner = write_export(tmp_path / "refiner")
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    invoke("push", refiner, "me/eyes", "--license", "mit", "--evaluation", tmp_path / "results.json")
    card = hub.repositories["me/eyes"][-1][1]["README.md"].decode()
    for line in (
        "license: mit",
        "library_name: simgan",
        "pipeline_tag: image-to-image",
        "Conclusion of the training: refined images are closer.",
        "Measured with `simgan eval-gaze` on 1,500 labelled real images of 5 persons",
        "| refined | cnn | 1,200 | 5.42 (5.23 to 5.61) |",
        "`refined` against `synthetic`: helps.",
        "simgan refine renders/ --model hf://me/eyes --out refined/",
    ):
        assert line in card.splitlines(), line
    assert "/home/me" not in card
    assert str(tmp_path) not in card


@pytest.mark.slow
def test_a_pushed_run_shows_its_renders_but_no_photograph(domains: Domains, hub: Hub) -> None:
    invoke("train", *domains.flags, *TINY, "--quiet")
    assert "grid.png" in invoke("push", domains.out, "me/eyes").stderr
    files = hub.repositories["me/eyes"][-1][1]
    assert set(files) == {"README.md", "config.json", "grid.png", "model.safetensors", "tones.safetensors"}
    assert files["model.safetensors"] == (domains.out / "refiner" / "model.safetensors").read_bytes()
    assert "](grid.png)" in files["README.md"].decode()
    assert "| `change` |" in files["README.md"].decode()
    for photograph in domains.real.iterdir():
        photograph.unlink()
    invoke("push", domains.out, "me/again")
    assert hub.repositories["me/again"][-1][1] == {
        **files, "README.md": files["README.md"].replace(b"hf://me/eyes", b"hf://me/again")
    }  # fmt: skip
    invoke("push", domains.out, "me/bare", "--no-grid")
    assert "grid.png" not in hub.repositories["me/bare"][-1][1]


def test_fetching_draws_no_bar(tmp_path: Path, hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    refiner = write_export(tmp_path / "refiner")
    hub.commit("me/eyes", {path.name: path.read_bytes() for path in refiner.iterdir()})
    assert simgan_cli.load_refiner("hf://me/eyes", device="cpu").model.step == 7
    assert capfd.readouterr().err == ""


def test_a_missing_repository_or_file_of_the_hub_is_named(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit("me/eyes", {"config.json": b"{}"})
    for address, match in (
        ("hf://me/eyes@v9", "hf://me/eyes@v9: the repository has no such revision"),
        ("hf://me/nothing", "hf://me/nothing: found no such repository"),
        ("hf://eyes", "wanted hf://USER/NAME"),
        ("hf://me/eyes/tree/main", "wanted hf://USER/NAME"),
    ):
        with pytest.raises(SettingsError, match=match):
            simgan_cli.load_refiner(address)
    with pytest.raises(SettingsError, match="--step 3"):
        simgan_cli.load_refiner("hf://me/eyes", step=3)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SimganError, match="cannot be reached"):
        simgan_cli.load_refiner("hf://me/other")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", None)
    with pytest.raises(SettingsError, match=r"pip install 'simgan-cli\[hub\]'"):
        simgan_cli.load_refiner("hf://me/eyes")
    assert not (tmp_path / "hub-cache" / "models--me--eyes" / "snapshots").exists()


def test_an_impossible_push_gives_the_reason(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    refiner = write_refiner(tmp_path / "refiner")
    assert "lacks training_images" in invoke("push", refiner, "me/eyes", code=4).stderr
    write_export(tmp_path / "refiner")
    assert "a//b" in invoke("push", refiner, "a//b", code=2).stderr
    assert "error: eyes: wanted USER/NAME" in invoke("push", refiner, "eyes", code=2).stderr
    (tmp_path / "other.json").write_text("{}")
    stderr = invoke("push", refiner, "me/eyes", "--evaluation", tmp_path / "other.json", code=2).stderr
    assert "wanted the results.json of simgan eval-gaze" in stderr
    assert "cannot be read" in invoke("push", refiner, "me/eyes", "--evaluation", tmp_path / "none", code=2).stderr
    assert not hub.repositories
    stderr = invoke("push", refiner, "me/eyes", "--license", "MIT", code=2).stderr
    assert '"license" must be one of [mit]' in stderr
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    stderr = invoke("push", refiner, "me/eyes", code=2).stderr
    assert "Invalid username or password" in stderr
    assert "run `hf auth login`, or set HF_TOKEN" in stderr
