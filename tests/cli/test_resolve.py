"""Settings from flags, files and the environment: their order, and the errors of wrong ones."""

import json
import os
from pathlib import Path

import pytest

from simgan_cli.cli.resolve import COMMANDS, gather, shared_keys, variables_of
from simgan_cli.errors import SettingsError
from tests.conftest import Domains
from tests.helpers import TINY, invoke, parse_document


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return path


def problems_of(*arguments: str | Path, env: dict[str, str] | None = None) -> list[str]:
    """Return the problems that `simgan train` reports, on stderr and in its document alike."""
    result = invoke("train", *arguments, "--json", code=2, env=env)
    document = parse_document(result.stdout)
    assert (document["schema"], document["exit_code"]) == ("simgan.error/1", 2)
    assert document["message"] == "\n".join(document["problems"])
    assert result.stderr == "".join(f"error: {problem}\n" for problem in document["problems"])
    problems: list[str] = document["problems"]
    return problems


def test_all_wrong_values_are_named_at_once_with_their_source(tmp_path: Path) -> None:
    file = toml(tmp_path, '[train]\nkeep = "many"\nbatch-size = 2.5\nflip = "maybe"\nout = 3\nreal = 4\n')
    flags = ["--steps", "many", "--size", "big", "--psi", "identity=x", "--max-time", "soon", "--channels", "2"]
    env = {"SIMGAN_TRAIN_EMA": "1.5", "SIMGAN_SEED": "first", "SIMGAN_TRAIN_LAMBDA": "much"}
    problems = problems_of("--config", file, *flags, env=env)
    places = [
        "--synthetic is required", "--steps:", "--size:", "--psi:", "--max-time:", "--channels:", "SIMGAN_TRAIN_EMA:",
        "SIMGAN_SEED:", "SIMGAN_TRAIN_LAMBDA:", *(f"{file}: {key}:" for key in ("keep", "batch_size", "flip", "out")),
        f"{file}: real:",
    ]  # fmt: skip
    assert [sum(problem.startswith(place) for problem in problems) for place in places] == [1] * len(problems)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[train]\nbatchsize = 3\n", "{file}: unknown key 'batchsize'; did you mean batch_size?"),
        ("steps = 3\n", "--config {file}: unknown table or key 'steps'; settings belong below [train]"),
        ("[train\n", "--config {file}: cannot be read as TOML"),
        ('{"settings"', "--config {file}: cannot be read as JSON"),
        ('{"schema": "simgan.eval-gaze/1", "settings": {}}', "--config {file}: holds no settings of simgan train"),
        (b"\xff\xfe\x00", "--config {file}: cannot be read as TOML"),
        ("[train]\n# Größe".encode("latin-1"), "byte 12 is not UTF-8"),
        (None, "--config {file}: cannot be read as TOML"),
    ],
)
def test_a_settings_file_that_is_wrong_is_named(content: str | bytes | None, says: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    (problem,) = problems_of("--config", file)
    assert says.format(file=file) in problem


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_settings_file_is_read_in_any_encoding_and_with_any_line_ends(
    tmp_path: Path, encoding: str, end: str
) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(end.join(["# Größe", "[train]", "synthetic = 'rendérs'", "steps = 7", ""]).encode(encoding))
    assert gather("train", {}, path, {}).values == {"synthetic": "rendérs", "steps": 7}


@pytest.mark.slow
def test_settings_come_from_recipe_file_environment_and_flags_in_this_order(domains: Domains, tmp_path: Path) -> None:
    file = toml(tmp_path, '[train]\nrecipe = "paper"\nbeta1 = 0.1\nema = 0.1\nbatch-size = 6\nhistory_size = 9\n')
    env = {"SIMGAN_TRAIN_BETA1": "0.2", "SIMGAN_TRAIN_EMA": "0.2", "SIMGAN_SEED": "1", "SIMGAN_TRAIN_SEED": "2"}
    more = ["--ema", "0.3", "--config", file, "--refiner-width", "2", "--steps", "1", "--pretrain-refiner", "0",
            "--pretrain-discriminator", "0", "--sample-every", "0"]  # fmt: skip
    invoke("train", *domains.flags, *more, env=env)
    recorded = domains.out / "config.json"
    settings = json.loads(recorded.read_text())["settings"]
    assert [settings[key] for key in ("optimizer", "refiner_output", "lambda")] == ["sgd", "tanh", 1.0]
    assert [settings[key] for key in ("batch_size", "beta1", "ema", "seed")] == [6, 0.2, 0.3, 2]

    again = domains.out.with_name("again")
    invoke("train", "--config", recorded, "--out", again)
    assert json.loads((again / "config.json").read_text())["settings"] == settings | {"out": str(again)}
    weights = [(run / "refiner" / "model.safetensors").read_bytes() for run in (domains.out, again)]
    assert weights[0] == weights[1]


def test_presets_yield_to_a_file_and_files_to_flags(domains: Domains, tmp_path: Path) -> None:
    file = toml(tmp_path, '[train]\npreset = "hands"\nrefiner_kernel = 5\nrefiner_blocks = 2\nnoise = true\n')
    result = invoke("train", *domains.flags, "--config", file, "--refiner-blocks", "1", "--no-noise", "--dry-run")
    shown = dict(line.split() for line in result.stderr.splitlines() if len(line.split()) == 2)
    keys = ("size", "refiner-block-kernel", "refiner-kernel", "refiner-blocks", "noise")
    assert [shown[key] for key in keys] == ["224x224", "7", "5", "1", "False"]
    assert not domains.out.exists()


def test_a_list_of_patterns_comes_from_each_place(tmp_path: Path) -> None:
    file = toml(tmp_path, '[refine]\ninclude = ["*.png", "*.jpg"]\nexclude = "masks"\n')
    environment = {"SIMGAN_REFINE_EXCLUDE": "*.mask.png"}
    given = gather("refine", {"inputs": ["in"], "model": "m", "out": "o"}, file, environment)
    config = COMMANDS["refine"].model_validate(given.values).model_dump()
    assert (config["include"], config["exclude"]) == (("*.png", "*.jpg"), ("*.mask.png",))


def test_a_variable_without_a_command_sets_what_commands_have_in_common() -> None:
    assert shared_keys() == {"seed", "device", "precision", "cache", "workers"}
    for command, model in COMMANDS.items():
        own = {f"SIMGAN_{command.upper().replace('-', '_')}_{key.upper()}": key for key in model.fields_by_key()}
        common = {f"SIMGAN_{key.upper()}": key for key in shared_keys() & model.fields_by_key().keys()}
        assert variables_of(command) == own | common
        assert gather(command, {}, None, dict.fromkeys(own, "/")).values == dict.fromkeys(own.values(), "/")


# Variables that Kubernetes sets for Services named simgan and simgan-web, Docker for such links, and modules.
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
    environment = {name: PLATFORM[name], "SIMGAN_SEED": "3", "SIMGAN_TRAIN_STEPS": "9"}
    assert gather("refine", {}, None, environment).values == {"seed": "3"}
    assert capsys.readouterr().err.startswith(f"warning: environment: {name} ignored: ")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SIMGAN_STEP", "; did you mean SIMGAN_TRAIN_STEPS?"),
        ("SIMGAN_STEPS", "; did you mean SIMGAN_TRAIN_STEPS?"),
        ("SIMGAN_TRAIN_STEPZ", "; did you mean SIMGAN_TRAIN_STEPS?"),
        ("SIMGAN_SEEDS", "; did you mean SIMGAN_SEED?"),
        ("SIMGAN_LABELS", "; did you mean SIMGAN_TRAIN_LABELS?"),
        ("SIMGAN_OUT_DIR", ""),
        ("SIMGAN_EXPORT", ""),
        ("SIMGAN_PORTS", ""),
        ("SIMGAN_RESET", "; did you mean SIMGAN_TRAIN_PRESET?"),
    ],
)
def test_a_variable_that_no_command_knows_is_an_error_beside_those_of_a_platform(name: str, hint: str) -> None:
    with pytest.raises(SettingsError) as error:
        gather("train", {}, None, PLATFORM | {name: "hands"})
    (problem,) = error.value.problems
    assert problem.startswith(f"environment: unknown {name}")
    assert hint in problem


def test_an_unknown_option_is_a_document_too() -> None:
    result = invoke("train", "--lamda", "3", "--json", code=2)
    (problem,) = json.loads(result.stdout)["problems"]
    assert "--lamda" in problem
    assert "--lambda" in problem


@pytest.mark.slow
def test_names_that_are_not_utf8_are_accepted(domains: Domains, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"render\xff")
    domains.synthetic.rename(folder)
    (folder / os.fsdecode(b"broken\xfe.png")).write_bytes(b"")
    result = invoke("train", "--synthetic", folder, *domains.flags[2:], *TINY)
    assert "broken\\udcfe.png: empty file" in result.stderr
    invoke("train", *domains.flags[2:], "--resume", "auto", "--steps", "4")
