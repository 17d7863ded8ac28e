"""Complete trainings in this process: options, the run folder, seeds, resuming."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.overrides import TorchFunctionMode

from simgan_cli.cli.resolve import resolve
from simgan_cli.data.cache import PixelSet
from simgan_cli.data.decoding import Preparation, read_pixels
from simgan_cli.data.sampler import to_network
from simgan_cli.engine.export.network_folder import load_network
from simgan_cli.engine.export.refiner_model import open_model
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.engine.method.noise import beside_their_own_noise
from simgan_cli.engine.metrics.patch_distance import PatchDistance
from simgan_cli.engine.run_folder.checkpoints import find_checkpoint, resumed_config
from simgan_cli.engine.run_folder.health import Finding, conclude, exported_line
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.engine.run_folder.metric_fields import METRICS
from simgan_cli.engine.runtime.stop import StopRequest
from simgan_cli.engine.training.background_writer import BackgroundWriter
from simgan_cli.engine.training.build import (
    TrainResult,
    build_networks,
    build_state,
    describe_rates,
    open_domains,
    train,
)
from simgan_cli.engine.training.evaluator import refine_in_batches
from simgan_cli.engine.training.loop import Loop
from simgan_cli.errors import CheckpointError, DataError, DivergedError, SettingsError
from simgan_cli.files import sha256_of
from tests.helpers import files_below, write_images

SIZE = (12, 14)


class Quiet:
    """A listener that does nothing."""

    def __init__(self, stop: StopRequest | None = None) -> None:
        self.lines: list[dict[str, Any]] = []
        self.findings: list[Finding] = []
        self.stop = stop or StopRequest()

    def decoding(self, domain: str, done: int, total: int) -> None: ...
    def message(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...
    def advanced(self, step: int, total_steps: int) -> None: ...

    def finding(self, finding: Finding) -> None:
        self.findings.append(finding)

    def log(self, line: dict[str, Any], total_steps: int, eta_seconds: float) -> None:
        self.lines.append(line)


class OneStep(Quiet):
    """Asks to stop as soon as a step is done."""

    def advanced(self, step: int, total_steps: int) -> None:
        self.stop.reason = "signal"


def run(settings: dict[str, Any], resume: str | None = None, listener: Quiet | None = None) -> TrainResult:
    checkpoint = find_checkpoint(RunFolder(Path(settings["out"])), resume)
    config = resumed_config(checkpoint, settings) if checkpoint else resolve(settings)
    listener = listener or Quiet()
    return train(config, checkpoint, listener, listener.stop)


def weights(settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(Path(settings["out"]) / "refiner" / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_run_folder_holds_exactly_these_files(folders: dict[str, Any]) -> None:
    result = run(folders | {"save_every": 2, "sample_every": 5, "keep": 2})
    assert (result.status, result.step) == ("finished", 5)
    files = {str(path.relative_to(folders["out"])) for path in folders["out"].rglob("*") if path.is_file()}
    parts = ("average", "discriminator", "history", "optimizers", "refiner")
    checkpoints = {
        f"checkpoints/step-0000000{step}/{name}"
        for step in (4, 5)
        for name in (*(f"{part}.safetensors" for part in parts), "manifest.json", "state.json")
    }
    refiner = {"refiner/README.md", "refiner/config.json", "refiner/model.safetensors", "refiner/tones.safetensors"}
    others = {".lock", "config.json", "metrics.jsonl", "report.html", "samples/step-00000005.png"}
    assert files == checkpoints | refiner | others


def test_metrics_lines_have_the_documented_fields(folders: dict[str, Any]) -> None:
    run(folders | {"pretrain_refiner": 2, "pretrain_discriminator": 2, "steps": 4})
    lines = [json.loads(line) for line in (folders["out"] / "metrics.jsonl").read_text().splitlines()]
    speed = {"images_per_second", "peak_memory_mb", "step", "phase"}
    refiner = {"loss_refiner", "loss_regularization", "change"}
    discriminator = {"loss_discriminator", "accuracy_real", "accuracy_refined"}
    assert [(line["step"], line["phase"]) for line in lines] == [
        (2, "pretrain-refiner"), (4, "pretrain-discriminator"), (6, "adversarial"), (8, "adversarial"),
    ]  # fmt: skip
    assert set(lines[0]) == speed | refiner
    assert set(lines[1]) == speed | discriminator
    probed = {"correlation", "diversity", "common_change", "saturated", "gradient_ratio", "lambda"}
    assert set(lines[3]) == speed | refiner | discriminator | {"loss_adversarial", "accuracy_history"} | probed


def test_the_seed_determines_everything(folders: dict[str, Any]) -> None:
    runs = [folders | {"out": folders["out"].with_name(name)} for name in "abc"]
    for settings, seed in zip(runs, (1, 1, 2), strict=True):
        run(settings | {"seed": seed})
    assert same(weights(runs[0]), weights(runs[1]))
    assert not same(weights(runs[0]), weights(runs[2]))


@pytest.mark.parametrize(
    "settings",
    [
        {"adversarial": "global"},
        {"discriminator_scales": "2", "size": "25x41"},
        {"history_size": 0},
        {"psi": "identity=1,derivatives=0.5"},
        {"psi": "blur"},
        {"optimizer": "sgd", "ema": 0.0, "clip_gradient": 1.0},
        {"refiner_output": "tanh", "pretrain_refiner": 2, "refiner_padding": "zeros"},
        {"preprocess": "equalize", "flip": True},
        {"size": "10x16", "fit": "crop", "channels": "3", "psi": "channel-mean"},
        {"precision": "bf16"},
        {"refiner_updates": 3, "discriminator_updates": 2, "batch_size": 5},
        {"batch_size": 20, "history_size": 10},
        {"tensorboard": True},
    ],
    ids=str,
)
def test_every_option_trains(folders: dict[str, Any], settings: dict[str, Any]) -> None:
    assert run(folders | settings).status == "finished"
    assert all(torch.isfinite(tensor).all() for tensor in weights(folders).values())


def test_tensorboard_shows_no_step_twice_after_a_kill(folders: dict[str, Any]) -> None:
    folders |= {"tensorboard": True, "log_every": 1, "save_every": 2}
    run(folders)
    shutil.rmtree(folders["out"] / "checkpoints/step-00000005")  # as after a kill before the save
    run(folders, resume="auto")
    events = EventAccumulator(str(folders["out"] / "tensorboard")).Reload()
    name = events.Tags()["scalars"][0]
    assert [event.step for event in events.Scalars(name)] == [1, 2, 3, 4, 5]


def test_tensorboard_shows_samples_the_history_by_age_and_the_settings(folders: dict[str, Any]) -> None:
    run(folders | {"tensorboard": True, "sample_every": 2, "steps": 5, "refiner_lr": 0.002})
    events = EventAccumulator(str(folders["out"] / "tensorboard"), {"images": 0, "histograms": 0}).Reload()
    samples = [Image.open(io.BytesIO(event.encoded_image_string)) for event in events.Images("samples")]
    assert [event.step for event in events.Images("samples")] == [2, 4, 6]
    for step, shown in zip((2, 4, 6), samples, strict=True):
        with Image.open(folders["out"] / "samples" / f"step-{step:08d}.png") as sheet:
            assert np.array_equal(np.asarray(shown), np.asarray(sheet.convert("RGB")))
    state = safetensors.torch.load_file(folders["out"] / "checkpoints/step-00000006/history.safetensors")
    ages = 6 - state["made_at"].numpy()
    shown_ages = events.Histograms("history_age")[-1].histogram_value
    assert (shown_ages.num, shown_ages.sum, shown_ages.min) == (len(ages), ages.sum(), ages.min())
    assert events.Images("history")[-1].step == 6
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["refiner_lr"].number_value == 0.002
    assert (hparams["max_time"].string_value, hparams["preset"].string_value) == ("none", "auto")


def test_deterministic_allows_no_other_kernels(folders: dict[str, Any]) -> None:
    torch.use_deterministic_algorithms(False)  # an earlier test may have changed the process
    try:
        run(folders | {"deterministic": True})
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("shape", "dtype", "channels"), [(SIZE, np.uint16, 1), ((*SIZE, 3), np.uint8, 3)])
def test_sixteen_bits_and_colour_train(
    folders: dict[str, Any], tmp_path: Path, shape: tuple[int, ...], dtype: Any, channels: int
) -> None:
    domains = {name: write_images(tmp_path / f"other-{name}", 5, 3, shape, dtype) for name in ("synthetic", "real")}
    run(folders | domains)
    assert weights(folders)["last.weight"].shape == (channels, 3, 1, 1)
    assert (open_model(folders["out"]).tones is None) == (dtype == np.uint16), "depth has no tones to match"


@pytest.mark.slow
def test_sixteen_bits_of_colour_are_trained_on_measured_and_drawn(spacious: dict[str, Any]) -> None:
    config = resolve(spacious | {"steps": 20, "sample_every": 10, "eval_every": 10, "flip": True})
    values = np.random.default_rng(0).integers(0, 65536, (2, 80, 3, *SIZE), dtype=np.uint16)
    values[1] //= 2  # real images are darker
    domains = {
        name: PixelSet(spacious[name], pixels, [], name)
        for name, pixels in zip(("synthetic", "real"), values, strict=True)
    }
    state, run_folder = build_state(config, domains, torch.device("cpu")), RunFolder(config.out)
    config.out.mkdir()
    run_folder.create(config)
    with BackgroundWriter(run_folder, config, domains) as writer:
        assert Loop(config, run_folder, state, domains, Quiet(), StopRequest(), None, writer, 0.0).run() is None
    last = lines_of(spacious)[-1]
    assert set(last) > MEASURED | {"two_sample"}
    # 255 and 65535 are the same white, so that 16 bits which are 257 times 8 bits lie as far apart.
    eight = [torch.from_numpy((pixels[:8] // 257).astype(np.uint8)) for pixels in values]
    deep = [torch.from_numpy(image.numpy().astype(np.uint16) * 257) for image in eight]
    distances = [float(PatchDistance(to_network(real))(to_network(synthetic))) for synthetic, real in (eight, deep)]
    assert distances[0] == pytest.approx(distances[1], rel=1e-4)
    for step in (10, 20):
        with Image.open(run_folder.samples / f"step-{step:08d}.png") as sheet:
            assert np.ptp(np.asarray(sheet), axis=2).any(), "colours are drawn"
    assert open_model(config.out).channels == 3


class SentToDevice(TorchFunctionMode):
    """Notes the types of tensors that are moved to a device or made on one."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and any(
            isinstance(a, torch.device) for a in (*args, *(kwargs or {}).values())
        ):
            self.types |= {result.dtype} | {a.dtype for a in args if isinstance(a, torch.Tensor)}
        return result


def test_no_tensor_on_the_device_has_a_type_that_mps_lacks(spacious: dict[str, Any]) -> None:
    for name in ("synthetic", "real"):
        write_images(spacious[name], 85, 1, SIZE, np.uint16)
    spacious |= {"lambda": "auto", "flip": True, "sample_every": 2}
    with SentToDevice() as sent:
        run(spacious)
        run(spacious | {"steps": 5}, resume="auto")
    assert {torch.int16, torch.float32} <= sent.types
    assert not sent.types & {torch.float64, torch.complex128, torch.uint16, torch.uint32, torch.uint64}


def test_the_exported_refiner_stands_alone_and_is_the_average(folders: dict[str, Any], tmp_path: Path) -> None:
    run(folders)
    folder = folders["out"] / "refiner"
    copied = tmp_path / "elsewhere"
    folder.rename(copied)
    refiner = load_network(copied)
    assert isinstance(refiner, Refiner)
    average = safetensors.torch.load_file(folders["out"] / "checkpoints/step-00000005/average.safetensors")
    assert same(dict(refiner.state_dict()), average)
    assert not same(
        average, safetensors.torch.load_file(folders["out"] / "checkpoints/step-00000005/refiner.safetensors")
    )
    pixels = read_pixels(folders["synthetic"] / "0.png", Preparation())
    refined = refiner(beside_their_own_noise(to_network(torch.from_numpy(pixels[None])), 0))
    assert refined.shape == (1, 1, *SIZE)


def test_the_model_records_how_training_read_images(folders: dict[str, Any]) -> None:
    reading = {"include": ("*.png",), "exclude": ("mask/", "*_id.png"), "background": "#12aB00"}
    run(folders | reading | {"preprocess": "equalize"})
    for model in (open_model(folders["out"]), open_model(folders["out"], step=5)):
        assert (model.include, model.exclude, model.background) == tuple(reading.values())
        assert (model.pixels, model.tone_curve, model.preprocess) == ("plain", "srgb", "equalize")
    config = json.loads((folders["out"] / "refiner" / "config.json").read_text())
    assert (config["network"], config["training_images"]) == ("refiner", {"synthetic": 9, "real": 3})


@pytest.mark.parametrize(("shape", "dtype"), [(SIZE, np.uint8), (SIZE, np.uint16), ((*SIZE, 3), np.uint8)])
def test_the_model_records_the_mean_colour_of_real_images(
    folders: dict[str, Any], tmp_path: Path, shape: tuple[int, ...], dtype: Any
) -> None:
    made, real = (
        write_images(tmp_path / name, 5, seed, shape, dtype) for seed, name in enumerate(("made", "photographs"))
    )
    run(folders | {"synthetic": made, "real": real, "background": "real"})
    photographs = [np.asarray(Image.open(path)) for path in real.iterdir()]
    mean = np.stack(photographs).mean(axis=(0, 1, 2)) / np.iinfo(dtype).max * 255
    levels = [round(level) for level in np.broadcast_to(mean, 3)]
    out = folders["out"]
    for model in (open_model(out), open_model(out, step=5), open_model(out / "checkpoints" / "step-00000005")):
        assert model.background == "#{:02x}{:02x}{:02x}".format(*levels)


@pytest.mark.parametrize(
    ("settings", "has_tones", "equalized"),
    [({}, True, False), ({"preprocess": "equalize"}, True, True), ({"preset": "hands"}, False, False)],
)
def test_the_model_records_tones_and_whether_photographs_are_equalized(
    folders: dict[str, Any], settings: dict[str, Any], has_tones: bool, equalized: bool
) -> None:
    for path in folders["real"].iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 3).save(path)
    run(folders | settings)
    model = open_model(folders["out"])
    assert (model.tones is not None, model.equalized) == (has_tones, equalized)


def test_a_trained_network_serves_as_psi(folders: dict[str, Any], tmp_path: Path) -> None:
    run(folders)
    learned = folders | {"out": tmp_path / "second", "psi": f"identity=0.5,{folders['out'] / 'refiner'}=2"}
    assert run(learned).status == "finished"
    (folders["out"] / "refiner" / "model.safetensors").write_bytes(b"edited")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        run(learned | {"steps": 6}, resume="latest")


def test_an_exported_refiner_names_files_without_their_folders(folders: dict[str, Any], tmp_path: Path) -> None:
    run(folders)
    table = tmp_path / "table.csv"
    table.write_text("file,weight\n" + "".join(f"{path.name},1\n" for path in folders["synthetic"].iterdir()))
    second = {"out": tmp_path / "second", "psi": f"identity=0.5,{folders['out'] / 'refiner'}=2", "weights": table}
    run(folders | second)
    config = (tmp_path / "second" / "refiner" / "config.json").read_text()
    settings = json.loads(config)["training_settings"]
    assert (settings["psi"], settings["weights"]) == ("identity=0.5,refiner=2", "table.csv")
    assert str(tmp_path) not in config


def test_more_steps_extend_a_finished_run_and_none_do_nothing(folders: dict[str, Any]) -> None:
    run(folders)
    before = sha256_of(folders["out"] / "checkpoints/step-00000005/manifest.json")
    assert run(folders, resume="auto").step == 5
    assert sha256_of(folders["out"] / "checkpoints/step-00000005/manifest.json") == before
    assert run(folders | {"steps": 6}, resume="auto").step == 7


def test_a_stop_saves_without_ending_the_metrics_line(folders: dict[str, Any]) -> None:
    stopped, uninterrupted = folders, folders | {"out": folders["out"].with_name("uninterrupted")}
    result = run(stopped, listener=Quiet(StopRequest("signal")))
    assert (result.status, result.step) == ("stopped", 0)
    assert "step 0 of 5" in (stopped["out"] / "report.html").read_text()
    run(stopped, resume="auto")
    run(uninterrupted)
    assert same(weights(stopped), weights(uninterrupted))


def test_divergence_names_the_last_good_checkpoint(folders: dict[str, Any]) -> None:
    run(folders | {"optimizer": "sgd", "ema": 0.0, "refiner_lr": 1e38, "steps": 0})
    hurried = folders | {"optimizer": "sgd", "ema": 0.0, "refiner_lr": 1e38, "log_every": 1}
    for precision, advised in (("fp32", False), ("bf16", True)):
        with pytest.raises(DivergedError, match=r"step-00000001.*again in another --out.*--clip-gradient") as raised:
            run(hurried | {"precision": precision}, resume="auto")
        assert ("--precision fp32" in str(raised.value)) is advised  # only if training diverged in a type of fewer bits
    with pytest.raises(DivergedError, match="none was saved yet") as raised:
        run(hurried | {"precision": "bf16", "out": folders["out"].with_name("new")})
    assert "resume with" not in str(raised.value)
    assert [path.name for path in RunFolder(folders["out"]).existing_checkpoints()] == ["step-00000001"]


def test_rates_of_summed_losses_are_converted_and_explicit_ones_are_not(folders: dict[str, Any]) -> None:
    paper = folders | {"recipe": "paper", "discriminator_lr": 0.5, "pretrain_refiner": 0, "save_every": 2}
    run(paper)
    resumed = resumed_config(folders["out"] / "checkpoints/step-00000004", {"out": folders["out"]})
    for config in (resolve(paper), resumed):
        assert (config.refiner_lr, config.discriminator_lr) == ("0.001xpatches", 0.5)
        gan = build_state(config, open_domains(config, Quiet()), torch.device("cpu")).gan
        rates = [each.param_groups[0]["lr"] for each in (gan.refiner_optimizer, gan.discriminator_optimizer)]
        assert rates == [0.001 * 12 * 14, 0.5]  # images of 12x14 are too small for strides
        line = describe_rates(config, gan.discriminator, (1, *SIZE))
        assert str(line).startswith(
            "learning rates: refiner 0.168, discriminator 0.5; the paper sums losses over 12x14"
        )
    assert describe_rates(resolve(folders), gan.discriminator, (1, *SIZE)) is None
    two_scales = resolve(paper | {"discriminator_scales": "2"})
    _, discriminator = build_networks(two_scales, 1, (35, 55))
    assert describe_rates(two_scales, discriminator, (1, 35, 55)) == (
        "learning rates: refiner 0.252, discriminator 0.5; "  # 0.001 x 2 x 9 x 14
        "the paper sums losses over 9x14 patches at each of two sizes, ours are means"
    )
    expected = weights(paper)
    shutil.rmtree(folders["out"] / "checkpoints/step-00000005")
    run({"out": folders["out"]}, resume="auto")
    assert same(weights(paper), expected)


@pytest.mark.parametrize("name", ["history.safetensors", "refiner.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "edited", "missing"])
def test_a_damaged_checkpoint_is_named(folders: dict[str, Any], name: str, damage: str) -> None:
    run(folders)
    path = folders["out"] / "checkpoints/step-00000005" / name
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-7])
    elif damage == "edited":
        path.write_bytes(content[:-7] + bytes([content[-7] ^ 1]) + content[-6:])
    else:
        path.unlink()
    with pytest.raises(CheckpointError, match=name):
        run(folders | {"steps": 6}, resume="auto")


def test_a_checkpoint_without_a_manifest_does_not_exist(folders: dict[str, Any]) -> None:
    run(folders | {"save_every": 3})
    (folders["out"] / "checkpoints/step-00000005/manifest.json").unlink()
    checkpoint = find_checkpoint(RunFolder(folders["out"]), "latest")
    assert checkpoint is not None
    assert checkpoint.name == "step-00000003"
    run(folders | {"save_every": 9, "keep": 0, "steps": 5}, resume="auto")  # which also removes the remains
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["step-00000003", "step-00000006"]


def test_a_copy_of_a_checkpoint_is_neither_resumed_nor_pruned(folders: dict[str, Any]) -> None:
    run(folders | {"save_every": 2, "keep": 2})
    checkpoints = RunFolder(folders["out"]).checkpoints
    for name in ("step-00000005-good", "step-00000004.bak"):
        shutil.copytree(checkpoints / "step-00000005", checkpoints / name)
    assert run(folders | {"save_every": 2, "keep": 2, "steps": 6}, resume="auto").step == 7
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        "step-00000004.bak", "step-00000005-good", "step-00000006", "step-00000007",
    ]  # fmt: skip


def test_other_settings_are_listed_all_at_once(folders: dict[str, Any]) -> None:
    run(folders)
    with pytest.raises(SettingsError) as caught:
        run(folders | {"lambda": 9.0, "batch_size": 6, "steps": 9}, resume="auto")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--lambda", "--batch-size"]


def test_other_images_are_refused_but_moved_ones_are_not(folders: dict[str, Any], tmp_path: Path) -> None:
    run(folders)
    moved = tmp_path / "scratch"
    folders["real"].rename(moved)
    assert run(folders | {"real": moved, "steps": 5}, resume="auto").step == 6
    (moved / "0.png").unlink()
    with pytest.raises(CheckpointError, match=r"other inputs: real"):
        run(folders | {"real": moved, "steps": 6}, resume="auto")


def test_an_existing_run_is_not_touched_without_resume(folders: dict[str, Any]) -> None:
    run(folders)
    with pytest.raises(SettingsError, match="holds a run at step 5; --resume auto"):
        run(folders)


def test_a_start_that_failed_on_the_images_does_not_block_the_next(folders: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="domains differ"):
        run(folders | {"real": write_images(tmp_path / "larger", 3, 3, (20, 20))})
    assert run(folders).status == "finished"


def test_another_run_is_not_overwritten_by_a_resume_from_elsewhere(folders: dict[str, Any], tmp_path: Path) -> None:
    other = folders | {"out": tmp_path / "other"}
    run(folders)
    run(other)
    with pytest.raises(SettingsError, match="holds another run"):
        run(folders, resume=str(other["out"]))
    branch = folders | {"out": tmp_path / "branch", "steps": 5}
    branch["out"].mkdir()
    (branch["out"] / "log.txt").write_text("error: no such folder\n")  # a start that failed at once
    assert run(branch, resume=str(other["out"])).step == 6


def test_a_branch_that_stops_at_once_is_saved_with_the_metrics_so_far(folders: dict[str, Any], tmp_path: Path) -> None:
    run(folders)
    branch = folders | {"out": tmp_path / "branch", "steps": 5}
    result = run(branch, resume=str(folders["out"]), listener=Quiet(StopRequest("signal")))
    assert (result.status, result.step) == ("stopped", 5)
    assert (branch["out"] / "checkpoints" / "step-00000005" / "manifest.json").is_file()
    assert files_below(branch["out"] / "refiner").keys() == files_below(folders["out"] / "refiner").keys()
    assert lines_of(branch) == lines_of(folders)
    assert run(branch, resume="auto").step == 6
    assert [line["step"] for line in lines_of(branch)] == [2, 4, 5, 6]


def test_a_folder_without_a_run_cannot_be_resumed(folders: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        run(folders, resume="latest")
    folders["out"].mkdir()
    (folders["out"] / "config.json").write_text('{"model_type": "other"}')
    with pytest.raises(SettingsError, match="holds something other"):
        run(folders, resume="auto")


def test_a_run_that_another_process_has_trained_meanwhile_is_not_touched(folders: dict[str, Any]) -> None:
    run(folders | {"steps": 3})
    newest = RunFolder(folders["out"]).existing_checkpoints()[-1]
    run(folders, resume="auto")  # the other process, while this one starts
    before = files_below(folders["out"])
    for checkpoint in (newest, newest.with_name("step-00000001"), None):  # the second one was deleted meanwhile
        with pytest.raises(SettingsError, match="another process has trained into it meanwhile"):
            train(resolve(folders), checkpoint, Quiet(), StopRequest())
        assert files_below(folders["out"]) == before


def test_a_path_resumes_the_checkpoint_it_names(folders: dict[str, Any]) -> None:
    run(folders | {"save_every": 3, "sample_every": 2})
    expected = weights(folders)
    named, newest = (folders["out"] / "checkpoints" / f"step-0000000{step}" for step in (3, 5))
    again = folders | {"out": folders["out"].with_name("again")}
    run(again, resume=str(named))
    shutil.rmtree(newest)
    RunFolder(folders["out"]).rewind_to(3, named)
    assert [path.name for path in (folders["out"] / "samples").iterdir()] == ["step-00000002.png"]
    run(folders, resume=str(named))
    for settings in (again, folders):
        assert same(weights(settings), expected)
        assert [line["step"] for line in lines_of(settings)] == [2, 4, 5]


def test_a_copy_of_a_checkpoint_resumes_once_later_ones_are_deleted(folders: dict[str, Any]) -> None:
    run(folders | {"save_every": 3})
    expected = weights(folders)
    third, newest = (folders["out"] / "checkpoints" / f"step-0000000{step}" for step in (3, 5))
    third.rename(third.with_name("step-00000003-good"))
    shutil.rmtree(newest)
    run(folders, resume=str(third.with_name("step-00000003-good")))
    assert same(weights(folders), expected)


def lines_of(settings: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (settings["out"] / "metrics.jsonl").read_text().splitlines()]


MEASURED = {"swd_refined", "swd_synthetic", "swd_real", "label_drift", "diversity_held_out"}


@pytest.mark.slow
def test_realism_is_measured_and_survives_a_stop(spacious: dict[str, Any]) -> None:
    run(spacious)
    lines = lines_of(spacious)
    assert [line["step"] for line in lines if set(line) >= MEASURED] == [2, 4]
    assert 0 <= lines[-1]["two_sample_low"] <= lines[-1]["two_sample"] <= lines[-1]["two_sample_high"] <= 1
    assert "two_sample" not in lines[0]
    of_labels = {
        name for name in METRICS if name.startswith(("loss_task", "label_error", "weights_"))
    }  # which these renders lack
    assert set().union(*lines) == set(METRICS) - {"health"} - of_labels
    conclusion, exported = conclude(lines, "best"), open_model(spacious["out"])
    assert conclusion is not None
    assert exported.conclusion == conclusion.in_one_line()
    assert f"Conclusion of the training: {exported.conclusion}." in (spacious["out"] / "refiner/README.md").read_text()

    rare = spacious | {"out": spacious["out"].with_name("rare"), "log_every": 3}
    run(rare)
    assert [line["step"] for line in lines_of(rare) if set(line) >= MEASURED] == [2, 4]  # their own lines
    assert [line["step"] for line in lines_of(rare)] == [2, 3, 4]

    stopped = spacious | {"out": spacious["out"].with_name("stopped"), "log_every": 3}
    uninterrupted = spacious | {"out": spacious["out"].with_name("uninterrupted"), "log_every": 3}
    for _ in range(5):
        run(stopped, "auto", OneStep())
    run(uninterrupted)
    varying = ("images_per_second", "peak_memory_mb")
    one, other = (
        [{name: line[name] for name in line if name not in varying} for line in lines_of(settings)]
        for settings in (stopped, uninterrupted)
    )
    assert one == other
    assert same(weights(stopped), weights(uninterrupted))


def test_images_refined_alike_have_one_noise_whatever_the_batches(folders: dict[str, Any]) -> None:
    """A refiner that shows only its noise makes all images the same."""
    config = resolve(folders | {"batch_size": 2})
    domains = open_domains(config, Quiet())
    state = build_state(config, domains, torch.device("cpu"))
    with torch.no_grad():
        state.gan.refiner.first.weight[:, 0] = 0
        torch.nn.init.normal_(state.gan.refiner.last.weight, std=0.3)
    refined = refine_in_batches(state.gan, state.gan.refiner, torch.zeros(6, 1, *SIZE), alike=True)
    assert torch.equal(refined, refined[:1].expand_as(refined))
    assert refined.std() > 0
    assert not torch.equal(*refine_in_batches(state.gan, state.gan.refiner, torch.zeros(2, 1, *SIZE)))


def test_a_refiner_that_makes_all_images_the_same_is_never_the_best(spacious: dict[str, Any]) -> None:
    state = build_state(resolve(spacious), open_domains(resolve(spacious), Quiet()), torch.device("cpu"))
    state.step = 2
    for distance, diversity in ((0.5, 0.9), (0.1, 0.05)):
        measures = {"swd_refined": distance, "label_drift": 0.1, "diversity_held_out": diversity}
        state.keep_best({name: torch.tensor(value) for name, value in measures.items()})
    assert state.best is not None
    assert state.best.distance == 0.5


@pytest.mark.slow
def test_a_refiner_from_before_its_first_update_is_never_the_best(spacious: dict[str, Any]) -> None:
    """Every update makes images worse here, so the untrained refiner is the closest to real images."""
    harmful = {"refiner_lr": 0.2, "ema": 0.0, "pretrain_discriminator": 2, "steps": 3, "log_every": 1, "eval_every": 1}
    run(spacious | harmful)
    lines = lines_of(spacious)
    untrained = [line for line in lines if line["phase"] == "pretrain-discriminator"]
    assert [line["step"] for line in untrained] == [1, 2]
    assert untrained[0]["swd_refined"] == untrained[1]["swd_refined"] < min(line["swd_refined"] for line in lines[2:])
    exported, line = open_model(spacious["out"]), exported_line(lines, "best")
    assert line is not None
    assert exported.step == line["step"] > 2


def test_the_export_reports_that_nothing_was_measured(folders: dict[str, Any]) -> None:
    result = run(folders)
    assert result.images == {"synthetic": 9, "real": 3}
    assert open_model(folders["out"]).conclusion == (
        "nothing was measured: fewer than 80 images in a domain leave none to hold out (synthetic 9, real 3)"
    )


@pytest.mark.slow
def test_the_best_refiner_is_that_of_the_smallest_distance(spacious: dict[str, Any]) -> None:
    every_step = {"log_every": 1, "eval_every": 1, "pretrain_discriminator": 0, "steps": 4}
    settings = spacious | {"refiner_lr": 0.05, "lambda": 0, "ema": 0.0} | every_step
    run(settings)
    measured = {line["step"]: line["swd_refined"] for line in lines_of(spacious) if line["label_drift"] < 1}
    best = min(measured, key=lambda step: measured[step])
    assert len(set(measured.values())) > 1
    at_best = safetensors.torch.load_file(spacious["out"] / "checkpoints" / f"step-{best:08d}" / "refiner.safetensors")
    assert same(weights(spacious), at_best)
    assert best < max(measured)
    card = (spacious["out"] / "refiner" / "README.md").read_text()
    assert f"| `swd_refined` | {measured[best]:.4g} |" in card and f"for {best} steps" in card
    two_sample = lines_of(spacious)[-1]["two_sample"]
    run(settings | {"steps": best, "select": "last", "out": spacious["out"].with_name("ends there")})
    ended = lines_of({"out": spacious["out"].with_name("ends there")})[-1]
    assert ended["step"] == best
    assert ended["two_sample"] == two_sample, "what is asked about is the refiner that is exported"
