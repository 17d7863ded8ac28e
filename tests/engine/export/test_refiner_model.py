"""Finding a refiner, and loading all of its weights."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from simgan_cli.engine.export.network_folder import load_network, save_network
from simgan_cli.engine.export.refiner_model import open_model
from simgan_cli.engine.method.networks import EYES, Discriminator, Refiner
from simgan_cli.errors import CheckpointError, SettingsError
from tests.conftest import Domains
from tests.helpers import TINY, simgan, write_refiner


def test_an_exported_folder_is_loaded_with_defaults_for_missing_settings(tmp_path: Path) -> None:
    model = open_model(write_refiner(tmp_path / "refiner", channels=3))
    assert (model.step, model.channels, model.trained_size, model.preprocess) == (7, 3, (16, 20), "none")
    assert (model.include, model.exclude, model.conclusion) == ((), (), None)
    assert (model.pixels, model.background, model.tone_curve) == ("plain", "#000000", "srgb")
    content = (tmp_path / "refiner" / "model.safetensors").read_bytes()
    assert model.sha256 == hashlib.sha256(content).hexdigest()
    stored = safetensors.torch.load(content)
    assert all(torch.equal(stored[name], tensor) for name, tensor in model.network.state_dict().items())


@pytest.mark.slow
def test_a_run_gives_its_export_or_the_same_weights_of_a_checkpoint(domains: Domains, tmp_path: Path) -> None:
    run = [*domains.flags, *TINY, "--save-every", "2", "--keep", "0", "--ema", "0.5"]
    assert simgan("train", *run).returncode == 0
    newest, same, earlier = open_model(domains.out), open_model(domains.out, 5), open_model(domains.out, 4)
    assert (newest.step, same.step, earlier.step) == (5, 5, 4)
    x = torch.rand(1, newest.network.inputs, 16, 20)
    assert torch.equal(newest.network(x), same.network(x))
    assert same.tones is not None
    assert newest.tones is not None
    assert np.array_equal(same.tones, newest.tones)
    assert not torch.equal(newest.network(x), earlier.network(x))
    by_path = open_model(domains.out / "checkpoints" / "step-00000004")
    assert by_path.sha256 == earlier.sha256
    assert by_path.tones is not None
    assert np.array_equal(by_path.tones, newest.tones)
    with pytest.raises(CheckpointError, match="no checkpoint at step 3; it has 2, 4, 5"):
        open_model(domains.out, 3)
    alone = tmp_path / "elsewhere"
    shutil.copytree(domains.out / "refiner", alone)
    shutil.rmtree(domains.out / "refiner")
    assert open_model(alone).sha256 == newest.sha256
    with pytest.raises(SettingsError, match="not a run"):
        open_model(alone, 5)
    with pytest.raises(CheckpointError, match="exported no refiner yet"):
        open_model(domains.out)


def test_weights_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    folder = write_refiner(tmp_path / "refiner")
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    tensors["extra"] = tensors.pop("first.bias")
    tensors["last.bias"] = torch.zeros(2)
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(CheckpointError) as caught:
        open_model(folder)
    for words in ("missing first.bias", "unexpected extra", "last.bias is (2,), wanted (1,)", str(path)):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "spoiled"),
    [
        ("model.safetensors", lambda content: content[:-5]),
        ("model.safetensors", lambda content: b""),
        ("model.safetensors", lambda content: b"\xff" * 16 + content),
        ("config.json", lambda content: content[:-5]),
        ("config.json", lambda content: content.replace(b'"refiner"', b'"generator"')),
        ("config.json", lambda content: content.replace(b'"width"', b'"breadth"')),
        ("config.json", lambda content: b"[]"),
        ("config.json", lambda content: b"[" * 100_000),
        ("config.json", lambda content: content.replace(b'"blocks": 1', b'"blocks": 1000000000')),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, spoiled: Callable[[bytes], bytes]) -> None:
    folder = write_refiner(tmp_path / "refiner")
    (folder / name).write_bytes(spoiled((folder / name).read_bytes()))
    with pytest.raises(CheckpointError, match=name):
        open_model(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("include", 7), ("exclude", {"*.png": 1}), ("pixels", "packed8"), ("background", "real")),
        *(("tone_curve", "gamma"), ("conclusion", ["good"]), ("preprocess", "magic"), ("size", [1])),
    ],
)
def test_a_wrong_value_of_the_config_is_named(tmp_path: Path, name: str, value: object) -> None:
    folder = write_refiner(tmp_path / "refiner")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {name: value}))
    with pytest.raises(CheckpointError, match=rf"config\.json: {name}"):
        open_model(folder)


def test_a_folder_without_a_refiner_is_refused(tmp_path: Path) -> None:
    save_network(tmp_path / "d", Discriminator(EYES), {}, {})
    with pytest.raises(CheckpointError, match="holds a discriminator, wanted a refiner"):
        open_model(tmp_path / "d")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty: found no config\.json"):
        open_model(tmp_path / "empty")
    with pytest.raises(SettingsError, match="nowhere: no such folder"):
        open_model(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match="a file, not a folder"):
        open_model(tmp_path / "d" / "config.json")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = write_refiner(tmp_path / "refiner")
    network = load_network(folder)
    assert isinstance(network, Refiner)
    with torch.no_grad():
        network.last.weight[0, 0] = float("nan")
    config = json.loads((folder / "config.json").read_text())
    save_network(folder, network, {"preprocess": config["preprocess"]}, {})
    with pytest.raises(CheckpointError, match=r"NaN or infinite weights in last\.weight"):
        open_model(folder)
