"""Bad input to the installed program: the right exit code, the path, the advice, no traceback."""

import json
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import simgan_cli.cli.train as command
from simgan_cli.cli.app import app
from simgan_cli.cli.resolve import COMMANDS, gather
from simgan_cli.engine.export.network_folder import save_network
from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.engine.metrics import realism
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.errors import SettingsError
from tests.conftest import Domains
from tests.helpers import TINY, UNPRIVILEGED, needs_permissions, simgan, write_images


def assert_fails(
    code: int, domains: Domains, *more: str, says: tuple[str, ...], env: dict[str, str] | None = None
) -> None:
    result = simgan("train", *domains.flags, *TINY, *more, env=env)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    for words in says:
        assert words in result.stderr


def billion_pixels(path: Path) -> None:
    """A PNG of 66 bytes that says it is 40000 x 30000."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 40_000, 30_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


@pytest.mark.slow
def test_a_missing_folder(domains: Domains) -> None:
    shutil.rmtree(domains.real)
    assert_fails(2, domains, says=(str(domains.real), "no such folder"))


@pytest.mark.slow
def test_a_file_where_a_folder_is_wanted(domains: Domains) -> None:
    shutil.rmtree(domains.real)
    domains.real.write_text("")
    assert_fails(2, domains, says=(str(domains.real), "a file, not a folder"))


@pytest.mark.slow
def test_an_empty_folder(domains: Domains) -> None:
    shutil.rmtree(domains.real)
    domains.real.mkdir()
    assert_fails(4, domains, says=(str(domains.real), "no image among its files", ".png"))


@pytest.mark.slow
def test_a_folder_without_images(domains: Domains) -> None:
    shutil.rmtree(domains.synthetic)
    domains.synthetic.mkdir()
    (domains.synthetic / "labels.csv").write_text("file\n")
    assert_fails(4, domains, says=(str(domains.synthetic), "no image among its files"))


@pytest.mark.slow
@needs_permissions
def test_an_unreadable_folder(domains: Domains) -> None:
    inner = write_images(domains.synthetic / "locked", 1, 3)
    inner.chmod(0)
    try:
        result = simgan("train", *domains.flags, *TINY, prefix=UNPRIVILEGED)
    finally:
        inner.chmod(0o755)
    assert result.returncode == 4, result.stderr
    assert f"{inner}: cannot be read (Permission denied)" in result.stderr
    assert "Traceback" not in result.stderr


def spoil(folder: Path) -> None:
    (folder / "zero.png").touch()
    (folder / "corrupt.png").write_bytes(b"this is no image")
    whole = (folder / "0.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    billion_pixels(folder / "billion.png")


@pytest.mark.slow
def test_unreadable_images_are_skipped_named_and_counted(domains: Domains) -> None:
    spoil(domains.synthetic)
    result = simgan("train", *domains.flags, *TINY)
    assert result.returncode == 0, result.stderr
    assert f"{domains.synthetic / 'zero.png'}: empty file" in result.stderr
    assert f"{domains.synthetic / 'corrupt.png'}: not an image" in result.stderr
    assert f"{domains.synthetic / 'truncated.png'}: " in result.stderr
    assert f"{domains.synthetic / 'billion.png'}: " in result.stderr
    assert "100,000,000" in result.stderr
    assert "skipped 4 unreadable images of 16" in result.stderr


@pytest.mark.slow
def test_strict_makes_an_unreadable_image_an_error(domains: Domains) -> None:
    spoil(domains.synthetic)
    assert_fails(4, domains, "--strict", says=(str(domains.synthetic / "billion.png"), "and 3 more", "--strict"))


@pytest.mark.slow
def test_nothing_but_unreadable_images(domains: Domains) -> None:
    for path in domains.real.iterdir():
        path.write_bytes(b"")
    assert_fails(4, domains, says=("none of 3 images can be read", str(domains.real / "0.png"), "empty file"))


@pytest.mark.slow
def test_mixed_sizes_need_size(domains: Domains) -> None:
    write_images(domains.synthetic / "larger", 1, 3, (32, 40))
    assert_fails(4, domains, says=("mixed sizes", "16x20", "32x40", "larger/0.png", "--size"))
    assert simgan("train", *domains.flags, *TINY, "--size", "16x20").returncode == 0


@pytest.mark.slow
def test_mixed_channels_need_channels(domains: Domains) -> None:
    write_images(domains.synthetic / "colour", 1, 3, (16, 20, 3))
    assert_fails(4, domains, says=("mixed channels", "colour/0.png", "--channels"))
    assert simgan("train", *domains.flags, *TINY, "--channels", "1").returncode == 0


@pytest.mark.slow
def test_domains_of_different_sizes(domains: Domains) -> None:
    shutil.rmtree(domains.real)
    write_images(domains.real, 3, 3, (20, 24))
    says = "the domains differ: synthetic images are 16x20 grey, 8 bits and real images are 20x24 grey, 8 bits; "
    for more in ([], ["--dry-run"]):
        assert_fails(4, domains, *more, says=(f"{says}pass --size HEIGHTxWIDTH",))


@pytest.mark.slow
def test_a_psi_that_cannot_read_the_images(domains: Domains, tmp_path: Path) -> None:
    save_network(tmp_path / "estimator", Estimator("cnn", 35, 55), {}, {})
    for more in ([], ["--dry-run"]):
        says = ("images of 16x20 are too small for its network", "a larger --size")
        assert_fails(2, domains, "--psi", str(tmp_path / "estimator"), *more, says=says)


@pytest.mark.slow
def test_the_same_folder_twice(domains: Domains) -> None:
    assert_fails(2, domains, "--real", f"{domains.synthetic}/../synthetic", says=("same folder",))


@pytest.mark.slow
def test_a_folder_inside_the_other(domains: Domains) -> None:
    inner = write_images(domains.synthetic / "photos", 1, 3)
    assert_fails(2, domains, "--real", str(inner), says=("one lies inside the other",))


@pytest.mark.slow
def test_out_inside_a_domain(domains: Domains) -> None:
    assert_fails(2, domains, "--out", str(domains.real / "run"), says=("--out", "inside --real"))


@pytest.mark.slow
def test_out_that_holds_something_else_stays_as_it_is(domains: Domains) -> None:
    domains.out.mkdir()
    (domains.out / "thesis.tex").write_text("years of work")
    assert_fails(2, domains, "--resume", "auto", says=(str(domains.out), "holds something else"))
    assert [path.name for path in domains.out.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_all_contradictions_are_reported_at_once(domains: Domains) -> None:
    more = ["--refiner-kernel", "4", "--fit", "crop", "--history-size", "1", "--psi", "dreams", "--batch-size", "8"]
    assert_fails(2, domains, *more, says=("--refiner-kernel 4", "--fit crop", "--history-size 1", "--psi dreams"))


@pytest.mark.slow
def test_all_values_out_of_bounds_are_reported_at_once(domains: Domains) -> None:
    more = ["--steps", "-1", "--size", "big", "--psi", "identity=x", "--ema", "1.5", "--max-time", "soon"]
    assert_fails(2, domains, *more, says=("--steps:", "--size:", "--psi:", "--ema:", "--max-time:", "HEIGHTxWIDTH"))


@pytest.mark.slow
def test_an_unknown_option_and_a_wrong_type(domains: Domains) -> None:
    assert_fails(2, domains, "--lamda", "3", says=("--lamda",))
    assert_fails(2, domains, "--steps", "many", says=("--steps",))


@pytest.mark.slow
def test_an_unknown_key_of_a_file_suggests_the_nearest(domains: Domains, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[train]\nbatchsize = 3\n")
    assert_fails(2, domains, "--config", str(file), says=("settings.toml", "'batchsize'", "did you mean batch_size?"))
    file.write_text("[train\n")
    assert_fails(2, domains, "--config", str(file), says=("settings.toml", "TOML"))


@pytest.mark.slow
def test_an_unknown_variable_suggests_the_nearest(domains: Domains) -> None:
    assert_fails(2, domains, env={"SIMGAN_STEPZ": "3"}, says=("SIMGAN_STEPZ", "did you mean SIMGAN_STEP"))


# What Kubernetes sets for Services named simgan and simgan-web, Docker for links of these names, and modules.
PLATFORM = {
    "SIMGAN_SERVICE_HOST": "10.0.0.7",
    "SIMGAN_SERVICE_PORT": "80",
    "SIMGAN_SERVICE_PORT_HTTP": "80",
    "SIMGAN_PORT": "tcp://10.0.0.7:80",
    "SIMGAN_PORT_80_TCP": "tcp://10.0.0.7:80",
    "SIMGAN_PORT_80_TCP_PROTO": "tcp",
    "SIMGAN_PORT_53_UDP_ADDR": "10.0.0.7",
    "SIMGAN_PORT_9_SCTP_PORT": "9",
    "SIMGAN_WEB_SERVICE_HOST": "10.0.0.8",
    "SIMGAN_WEB_SERVICE_PORT_METRICS": "9090",
    "SIMGAN_WEB_PORT": "tcp://10.0.0.8:80",
    "SIMGAN_WEB_PORT_80_TCP_ADDR": "10.0.0.8",
    "SIMGAN_NAME": "/trainer/simgan",
    "SIMGAN_WEB_NAME": "/trainer/simgan_web",
    "SIMGAN_ENV_LANG": "C.UTF-8",
    "SIMGAN_WEB_ENV_PATH": "/usr/bin",
    "SIMGAN_HOME": "/opt/simgan",
    "SIMGAN_ROOT": "/opt/simgan",
    "SIMGAN_DIR": "/opt/simgan",
    "SIMGAN_VERSION": "1.0",
    "SIMGAN_PATH": "/opt/simgan/bin",
}


@pytest.mark.parametrize("name", PLATFORM)
def test_a_variable_that_a_platform_sets_is_ignored_with_a_warning(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gather("refine", {}, None, {name: PLATFORM[name], "SIMGAN_SEED": "3", "SIMGAN_STEPS": "9"}) == {"seed": "3"}
    assert capsys.readouterr().err.startswith(f"warning: environment: {name} ignored: ")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SIMGAN_STEPZ", "did you mean SIMGAN_STEP?"),
        ("SIMGAN_OUT_DIR", ""),
        ("SIMGAN_RUN_NAME", ""),
        ("SIMGAN_EXPORT", ""),
        ("SIMGAN_PRESET_PATH", ""),
        ("SIMGAN_PORTS", ""),
        ("SIMGAN_RESET", "did you mean SIMGAN_PRESET?"),
    ],
)
def test_a_misspelt_variable_is_an_error_beside_those_of_a_platform(name: str, hint: str) -> None:
    with pytest.raises(SettingsError) as error:
        gather("train", {}, None, PLATFORM | {name: "hands"})
    (problem,) = error.value.problems
    assert problem.startswith(f"environment: unknown {name}")
    assert hint in problem


def test_a_variable_of_a_setting_counts_whatever_a_platform_may_mean(capsys: pytest.CaptureFixture[str]) -> None:
    for name, model in COMMANDS.items():
        keys = [field.alias or key for key, field in model.model_fields.items()]
        assert gather(name, {}, None, {f"SIMGAN_{key.upper()}": "/" for key in keys}) == dict.fromkeys(keys, "/")
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_variables_of_a_platform_are_told_once_and_beside_the_document(domains: Domains) -> None:
    result = simgan("train", *domains.flags, "--quiet", "--dry-run", "--json", env=PLATFORM)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)
    assert result.stderr == (
        f"warning: environment: {', '.join(sorted(PLATFORM))} ignored: no settings of ours; container platforms and "
        "environment modules set such variables\n"
    )


def test_a_list_of_patterns_comes_from_each_place(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[refine]\ninclude = ["*.png", "*.jpg"]\nexclude = "masks"\n')
    found = gather("refine", {"inputs": ["in"], "model": "m", "out": "o"}, file, {"SIMGAN_EXCLUDE": "*.mask.png"})
    config = COMMANDS["refine"].model_validate(found).model_dump()
    assert (config["include"], config["exclude"]) == (("*.png", "*.jpg"), ("*.mask.png",))


@pytest.mark.slow
def test_an_absent_device_is_an_error(domains: Domains) -> None:
    if torch.cuda.device_count() > 99:
        pytest.skip("a machine with a hundred GPUs")
    assert_fails(2, domains, "--device", "cuda:99", says=("--device cuda:99", "use auto, cpu"))


@pytest.mark.slow
def test_settings_come_from_recipe_file_environment_and_flags_in_this_order(domains: Domains, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[train]\nrecipe = "paper"\nbeta1 = 0.1\nema = 0.1\nbatch-size = 6\nhistory_size = 9\nsteps = 1\n')
    more = ["--ema", "0.3", "--pretrain-refiner", "0", "--pretrain-discriminator", "0", "--refiner-width", "2"]
    env = {"SIMGAN_BETA1": "0.2", "SIMGAN_EMA": "0.2"}
    result = simgan("train", *domains.flags, *more, "--config", file, env=env)
    assert result.returncode == 0, result.stderr
    settings = json.loads((domains.out / "config.json").read_text())["settings"]
    from_recipe = settings["optimizer"], settings["refiner_output"], settings["lambda"]
    assert from_recipe == ("sgd", "tanh", 1.0)
    assert settings["batch_size"] == 6
    assert (settings["beta1"], settings["ema"]) == (0.2, 0.3)


@pytest.mark.slow
def test_names_cannot_steer_the_terminal(domains: Domains) -> None:
    (domains.real / "\x1b[31mred.png").write_bytes(b"")
    result = simgan("train", *domains.flags, *TINY)
    assert result.returncode == 0
    assert "\x1b" not in result.stderr
    assert "\\x1b[31mred.png: empty file" in result.stderr


@pytest.mark.slow
def test_a_quiet_training_still_says_that_it_gained_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realism, "STEPS", 1)  # of the two-sample classifier, which the sentence does not quote
    alike = [write_images(tmp_path / name, 80, seed) for seed, name in enumerate(("synthetic", "real"))]
    folders = ["--synthetic", alike[0], "--real", alike[1], "--out", tmp_path / "run"]
    result = CliRunner().invoke(app, ["train", *map(str, folders), "--quiet", *TINY])
    assert result.exit_code == 0, result.stderr
    assert "conclusion: synthetic images are as close to real ones as other real ones are" in result.stderr
    assert "realism" not in result.stderr


def test_long_reading_is_told_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(command, "SILENCE", 0.0)
    with command._ConsoleListener(RunFolder(tmp_path / "run"), quiet=False, heard=True) as listener:
        listener.decoding("real", 7, 4000)
    assert capsys.readouterr().err == "reading real: 7 of 4,000 images\n"


@pytest.mark.slow
def test_a_full_disk_leaves_the_previous_checkpoint_good(domains: Domains) -> None:
    """The limit on file sizes fails a write as a full disk does, in the middle of a file."""
    few = [
        "--save-every", "4", "--history-size", "800", "--batch-size", "80", "--keep", "0", "--optimizer", "sgd",
        "--refiner-updates", "1",
    ]  # fmt: skip

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (330_000, 330_000))

    flags = [*domains.flags, *TINY, *few, "--steps", "40", "--cache", "off", "--log-every", "100"]
    failed = simgan("train", *flags, preexec=limit)
    assert failed.returncode == 1, failed.stderr
    assert "File too large" in failed.stderr
    assert "--resume auto" in failed.stderr
    assert "Traceback" not in failed.stderr
    saved = sorted(path.name for path in (domains.out / "checkpoints").iterdir())
    assert saved
    assert not any(name.startswith(".tmp") for name in saved)
    resumed = simgan("train", *flags, "--resume", "auto", "--steps", str(int(saved[-1][-8:])), "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed {domains.out / 'checkpoints' / saved[-1]}" in resumed.stderr


@pytest.mark.slow
def test_divergence_exits_4_and_names_the_last_good_checkpoint(domains: Domains) -> None:
    more = ["--optimizer", "sgd", "--ema", "0", "--refiner-lr", "1e38", "--save-every", "2"]
    good = str(domains.out / "checkpoints" / "step-00000002")
    assert_fails(4, domains, *more, says=("diverged before step", good, "--clip-gradient"))


@pytest.mark.slow
def test_a_bad_checkpoint_is_named_and_left_alone(domains: Domains) -> None:
    assert simgan("train", *domains.flags, *TINY).returncode == 0
    folder = domains.out / "checkpoints" / "step-00000005"
    damages: dict[str, Callable[[bytes], bytes]] = {
        "history.safetensors": lambda content: content[:-9],
        "refiner.safetensors": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        "state.json": lambda content: content.replace(b'"step": 5', b'"step": 4'),
    }
    for name, spoiled in damages.items():
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(spoiled(content))
        assert_fails(4, domains, "--resume", "auto", "--steps", "9", says=(str(path), "manifest", "older checkpoint"))
        path.write_bytes(content)
    assert_fails(2, domains, "--resume", "auto", "--lambda", "8", says=("--lambda", "1.0", "8.0"))
    assert simgan("train", *domains.flags, *TINY, "--resume", "auto", "--steps", "4").returncode == 0


@pytest.mark.slow
def test_json_is_one_document_also_after_a_failure(domains: Domains) -> None:
    Image.new("L", (9, 9)).save(domains.real / "odd.png")
    result = simgan("train", *domains.flags, *TINY, "--json")
    assert result.returncode == 4
    document = json.loads(result.stdout)
    assert (document["schema"], document["status"], document["step"]) == ("simgan.train/1", "failed", 0)


@pytest.mark.slow
def test_lambda_is_a_number_or_auto(domains: Domains) -> None:
    for more in ([], ["--dry-run"]):
        assert_fails(2, domains, "--lambda", "auto", *more, says=("3 in a domain are too few", "(wanted: 80)"))
    for folder in (domains.synthetic, domains.real):
        shutil.rmtree(folder)
        write_images(folder, 80, 1 if folder == domains.real else 2)
    dry = simgan("train", *domains.flags, "--lambda", "auto", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert re.search(r"lambda +auto\b", dry.stderr)
    assert_fails(2, domains, "--lambda", "much", says=("--lambda", "'much' is neither a number nor auto"))


@pytest.mark.slow
def test_help_shows_brackets_as_they_are() -> None:
    assert "simgan-cli[tensorboard]" in simgan("train", "--help").stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["doctor", "--help"], 0),
        (["train", "--help"], 0),
        (["train", "--no-such-option"], 2),
        (["train"], 2),
        (["train", "--synthetic", "nowhere", "--real", "nowhere", "--steps", "-4"], 2),
        (["train", "--synthetic", "nowhere", "--real", "nowhere", "--resume", "latest"], 4),
    ],
    ids=str,
)
def test_help_and_usage_errors_do_not_import_torch(arguments: list[str], code: int, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from simgan_cli.cli.app import app\n"
        "try:\n    app(sys.argv[1:], prog_name='simgan')\n"
        "except SystemExit as exit:\n    code = exit.code\n"
        "print('torch' in sys.modules or 'torchvision' in sys.modules, code or 0, file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert result.stderr.splitlines()[-1] == f"False {code}"
