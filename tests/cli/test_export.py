"""`simgan export`, and `simgan refine` with its files."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Domains
from tests.helpers import TINY, files_below, invoke, parse_document, write_images, write_refiner

needs_onnx = pytest.mark.usefixtures("_onnx")


@pytest.fixture
def _onnx() -> None:
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="needs simgan-cli[onnx]")


@pytest.mark.slow
@needs_onnx
def test_a_run_is_exported_checked_on_its_renders_and_refines(domains: Domains, tmp_path: Path) -> None:
    invoke("train", *domains.flags, *TINY, "--refiner-lr", "0.05", "--ema", "0", "--select", "last", "--quiet")
    file = tmp_path / "refiner.onnx"
    document = parse_document(invoke("export", domains.out, "--out", file, "--json").stdout)
    assert (document["format"], document["opset"], document["step"]) == ("onnx", 18, 5)
    assert document["check"]["source"] == f"images of {domains.synthetic}"
    assert document["check"]["images"] == 12
    assert 0 <= document["check"]["largest_difference"] < 0.001
    results = []
    for name, flags in (("torch", [domains.out]), ("onnx", [file, "--backend", "onnxruntime"])):
        out = tmp_path / name
        invoke("refine", domains.synthetic, "--model", *flags, "--out", out, "--match", "mean-std", "--quiet")
        results.append(np.stack([np.asarray(Image.open(out / f"{number}.png"), int) for number in range(12)]))
    assert np.abs(results[0] - results[1]).max() <= 1
    before = np.stack([np.asarray(Image.open(domains.synthetic / f"{number}.png"), int) for number in range(12)])
    assert np.abs(results[1] - before).mean() > 1
    document = json.loads((tmp_path / "onnx" / ".simgan-refine.json").read_text())
    assert document["model_sha256"] == json.loads(invoke("export", domains.out, "-o", file, "--json").stdout)["sha256"]


@pytest.mark.slow
def test_a_pt2_file_is_checked_on_a_folder_or_on_test_patterns(tmp_path: Path) -> None:
    refiner, renders = write_refiner(tmp_path / "refiner", noise=True), write_images(tmp_path / "renders", 2, 1)
    file = tmp_path / "made" / "refiner.pt2"
    stderr = invoke("export", refiner, "--format", "pt2", "--out", file, "--check", renders).stderr
    assert "noise: float32, N x 3 x H x W, standard normal" in stderr
    assert f"(2 images of {renders})" in stderr
    assert file.is_file()
    stderr = invoke("export", refiner, "--format", "pt2", "--out", file).stderr
    assert "(3 synthetic patterns, since no renders are at hand: give some with --check)" in stderr


def test_an_impossible_export_gives_the_reason_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refiner, out = write_refiner(tmp_path / "refiner"), tmp_path / "refiner.onnx"
    assert "give the name of a .onnx file" in invoke("export", refiner, "--out", tmp_path / "x.pt2", code=2).stderr
    (tmp_path / "empty").mkdir()
    stderr = invoke("export", refiner, "--out", out, "--check", tmp_path / "empty", code=4).stderr
    assert f"{tmp_path / 'empty'}: no image" in stderr
    stderr = invoke("export", tmp_path / "nowhere", "--out", out, code=2).stderr
    assert f"error: {tmp_path / 'nowhere'}: no such folder" in stderr  # and no --model, which export lacks
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert "pip install 'simgan-cli[onnx]'" in invoke("export", refiner, "--out", out, code=2).stderr
    out.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    stderr = invoke("refine", tmp_path / "empty", "--model", out, "--out", tmp_path / "o", code=2).stderr
    assert f"{out}: running it needs onnxruntime; pip install 'simgan-cli[onnx]'" in stderr
    assert set(files_below(tmp_path)) == {"refiner/config.json", "refiner/model.safetensors", "refiner.onnx"}


def test_a_backend_that_does_not_fit_the_model_is_refused(tmp_path: Path) -> None:
    refiner, renders = write_refiner(tmp_path / "refiner"), write_images(tmp_path / "renders", 1, 1)
    flags = ("--model", refiner, "--out", tmp_path / "out", "--backend", "onnxruntime")
    assert "runs with torch" in invoke("refine", renders, *flags, code=2).stderr
