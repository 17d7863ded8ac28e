"""Refiners as single files: against the network in float64, and through the same pre- and postprocessing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import simgan_cli
from simgan_cli.data.matching import quantiles_of
from simgan_cli.documents import EXPORT_METADATA
from simgan_cli.engine.export.portable import export_model, largest_difference, patterns_for, renders_in
from simgan_cli.engine.export.refiner_model import open_model, save_tones
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.errors import CheckpointError, DataError, SettingsError, SimganError
from tests.helpers import write_images, write_refiner

REASON = "needs simgan-cli[onnx]"
RNG = np.random.default_rng(0)
CASES: dict[str, dict[str, Any]] = {
    "noise": {"noise": True},
    "colour": {"channels": 3, "padding": "zeros", "output": "tanh"},
    "colour-noise": {"channels": 3, "noise": True, "kernel": 5, "blocks": 2},
}


def write_onnx(folder: Path, **settings: Any) -> tuple[Path, Path]:
    """Return the folder of a refiner, with tones, and the ONNX file made of it."""
    pytest.importorskip("onnxruntime", reason=REASON)
    pytest.importorskip("onnxscript", reason=REASON)
    refiner = write_refiner(folder / "refiner", **settings)
    (refiner / "README.md").write_text("# A card\n")
    save_tones(refiner, quantiles_of(RNG.integers(0, 256, (3, settings.get("channels", 1), 9, 9), np.uint8)))
    content, _ = export_model(open_model(refiner), "onnx")
    (folder / "refiner.onnx").write_bytes(content)
    return refiner, folder / "refiner.onnx"


def in_float64(refiner: Path, x: Tensor) -> Tensor:
    with torch.no_grad():
        refined: Tensor = open_model(refiner).network.double()(x.double()).clamp(-1, 1)
    return refined


def images(count: int, channels: int, *size: int) -> Any:
    return RNG.integers(0, 256, (count, channels, *size), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_onnx_runtime_computes_what_the_network_does_at_any_size(case: str, tmp_path: Path) -> None:
    refiner, file = write_onnx(tmp_path, **CASES[case])
    network = open_model(file).network
    channels = CASES[case].get("channels", 1)
    for count, height, width in ((1, 1, 1), (1, 35, 55), (5, 7, 90)):
        x = torch.rand(count, channels + 3 * ("noise" in case), height, width) * 2 - 1
        refined = network(x)
        assert refined.shape == (count, channels, height, width)
        assert (refined - in_float64(refiner, x)).abs().max() < 1e-5
        assert (refined - x[:, :channels]).abs().mean() > 0.01  # the refiner changes images


@pytest.mark.slow
def test_an_onnx_file_describes_itself_and_holds_no_path(tmp_path: Path) -> None:
    refiner, file = write_onnx(tmp_path, noise=True)
    onnx = pytest.importorskip("onnx", reason=REASON)
    proto = onnx.load(file)
    onnx.checker.check_model(proto, full_check=True)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 18)]
    axes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert axes == {"image": ["N", 1, "H", "W"], "noise": ["N", 3, "H", "W"], "refined": ["N", 1, "H", "W"]}
    descriptions = {value.name: value.doc_string for value in (*proto.graph.input, *proto.graph.output)}
    assert descriptions["image"] == "float32, N x 1 x H x W, grey in [-1, 1]: level / 127.5 - 1 of 8 bits"
    assert "standard normal" in descriptions["noise"]
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    stored = json.loads((refiner / "config.json").read_text())
    assert metadata.keys() == EXPORT_METADATA.keys()
    assert json.loads(metadata["simgan.config"])["settings"] == stored["settings"]
    assert (metadata["simgan.step"], metadata["model_card"]) == ("7", "# A card\n")
    assert metadata["simgan.weights_sha256"] == open_model(refiner).sha256
    content = file.read_bytes()
    assert str(tmp_path).encode() not in content
    assert str(Path(torch.__file__).parent).encode() not in content


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_an_onnx_file_refines_as_its_folder_does(case: str, tmp_path: Path) -> None:
    refiner, file = write_onnx(tmp_path, **CASES[case])
    channels = CASES[case].get("channels", 1)
    models = open_model(refiner), open_model(file)
    assert [model.backend for model in models] == ["torch", "onnxruntime"]
    assert (models[1].step, models[1].trained_size, models[1].weights) == (7, (16, 20), file)
    assert models[0].receptive_field == models[1].receptive_field
    for size, options in (((16, 20), {}), ((150, 90), {"tile": 64}), ((16, 20), {"match": "histogram", "seed": 3})):
        pixels = images(3, channels, *size)
        by_torch, by_onnx = (ImageRefiner(model, torch.device("cpu"), precision="fp32", **options) for model in models)
        expected, refined = by_torch.refine(pixels), by_onnx.refine(pixels)
        difference = np.abs(refined.astype(int) - expected)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.001  # only by rounding
        assert np.abs(refined.astype(int) - pixels).mean() > 2
        assert np.array_equal(by_onnx.refine(pixels[1:2]), refined[1:2])  # the same in any batch


@pytest.mark.slow
def test_an_onnx_file_of_a_refiner_that_equalizes_does_so(tmp_path: Path) -> None:
    refiner, file = write_onnx(tmp_path, preprocess="equalize")
    pixels = images(2, 1, 16, 20) // 4
    by_torch, by_onnx = (
        simgan_cli.load_refiner(path, device="cpu", precision="fp32").refine(pixels) for path in (refiner, file)
    )
    assert np.abs(by_onnx.astype(int) - by_torch).max() <= 1
    assert np.ptp(by_onnx) > 200


@pytest.mark.slow
def test_a_file_of_other_origin_or_use_is_refused(tmp_path: Path) -> None:
    refiner, file = write_onnx(tmp_path)
    onnx = pytest.importorskip("onnx", reason=REASON)
    spoiled = tmp_path / "spoiled.onnx"

    def refused(match: str, kind: type[SimganError] = CheckpointError) -> None:
        with pytest.raises(kind, match=match):
            open_model(spoiled)

    spoiled.write_bytes(file.read_bytes()[:-100])
    refused("ONNX Runtime cannot load it")
    proto = onnx.load(file)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    for changed, match in (
        ({"simgan.config": None}, r"its metadata has no simgan\.config"),
        ({"simgan.config": "{"}, r"its simgan\.config is damaged"),
        ({"simgan.config": "[]"}, "not a JSON object"),
        ({"simgan.config": '{"network": "discriminator", "settings": {"layers": []}}'}, "holds a discriminator"),
        ({"simgan.config": metadata["simgan.config"].replace('"noise": false', '"noise": true')}, "inputs do not fit"),
        ({"simgan.config": metadata["simgan.config"].replace('"plain"', '"magic"')}, "pixels 'magic'"),
        ({"simgan.tones": "Aa-"}, r"its simgan\.tones is damaged"),
        ({"simgan.tones": "QUFB"}, "is damaged"),
    ):
        del proto.metadata_props[:]
        onnx.helper.set_model_props(proto, {k: v for k, v in (metadata | changed).items() if v is not None})
        onnx.save(proto, spoiled)
        refused(match)
    model = open_model(file)
    with pytest.raises(SettingsError, match="ONNX Runtime runs it in fp32 on the CPU"):
        ImageRefiner(model, torch.device("cpu"), precision="bf16")
    with pytest.raises(SettingsError, match="an exported file already"):
        export_model(model, "onnx")
    with pytest.raises(SettingsError, match="--step 3"):
        open_model(file, 3)
    (refiner / "tones.safetensors").unlink()
    file.write_bytes(export_model(open_model(refiner), "onnx")[0])
    with pytest.raises(SettingsError, match=r"refiner\.onnx has no tones"):
        ImageRefiner(open_model(file), torch.device("cpu"), match="histogram")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_pt2_file_computes_what_the_network_does_at_any_size(case: str, tmp_path: Path) -> None:
    refiner = write_refiner(tmp_path / "refiner", **CASES[case])
    content, run = export_model(open_model(refiner), "pt2")
    (tmp_path / "refiner.pt2").write_bytes(content)
    files = {"simgan.json": ""}
    program = torch.export.load(tmp_path / "refiner.pt2", extra_files=files).module()
    channels = CASES[case].get("channels", 1)
    x = torch.rand(3, channels + 3 * ("noise" in case), 9, 31) * 2 - 1
    parts = (x[:, :channels], x[:, channels:]) if "noise" in case else (x,)
    assert (program(*parts) - in_float64(refiner, x)).abs().max() < 1e-5
    assert torch.equal(run(x), program(*parts))
    described = json.loads(files["simgan.json"])
    assert described["simgan.weights_sha256"] == open_model(refiner).sha256
    assert list(described["interface"]) == ["image", *(["noise"] if "noise" in case else []), "refined"]
    assert described["simgan.config"]["preprocess"] == "none"


def test_a_file_that_differs_from_its_refiner_is_refused(tmp_path: Path) -> None:
    model = open_model(write_refiner(tmp_path, noise=True))
    pictures = patterns_for(model)
    assert [picture.shape for picture in pictures] == [(1, 16, 20)] * 3
    assert largest_difference(model, lambda x: model.network(x).clamp(-1, 1), pictures) == 0
    slightly = largest_difference(model, lambda x: model.network(x).clamp(-1, 1) + 0.0005, pictures)
    assert slightly == pytest.approx(0.0005 * 127.5, rel=1e-3)
    for wrong in (0.01, float("nan")):
        with pytest.raises(SimganError, match="differs from the refiner"):
            largest_difference(model, lambda x, wrong=wrong: model.network(x) + wrong, pictures)  # type: ignore[misc]


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("case", CASES)
def test_a_refiner_can_be_traced(case: str, tmp_path: Path) -> None:
    refiner = simgan_cli.load_refiner(write_refiner(tmp_path, **CASES[case]), device="cpu")
    maps = CASES[case].get("channels", 1) + 3 * ("noise" in case)
    traced = torch.jit.trace(refiner.network, torch.rand(1, maps, 9, 9))  # type: ignore[no-untyped-call]
    x = torch.rand(2, maps, 13, 17)
    assert torch.allclose(traced(x), refiner.network(x), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_renders_are_prepared_as_for_the_refiner(channels: int, tmp_path: Path) -> None:
    model = open_model(write_refiner(tmp_path / "refiner", channels=channels))
    folder = write_images(tmp_path / "renders", 3, 1, (16, 20, 3))
    (folder / "3.png").write_bytes(b"no image")
    assert [render.shape for render in renders_in(folder, model)] == [(channels, 16, 20)] * 3
    for name in "012":
        (folder / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="none of its first 4 images can be read"):
        renders_in(folder, model)
