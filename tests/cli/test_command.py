"""Help shows the essential options on one screen, and all of them with `--help-all`."""

from typing import Any

import pytest
import typer

import simgan_cli
from simgan_cli.cli.app import app
from tests.helpers import invoke

GROUP: Any = typer.main.get_command(app)
SCREEN = {"COLUMNS": "80"}


@pytest.mark.parametrize("name", GROUP.commands)
def test_help_fits_a_screen_and_help_all_has_every_option(name: str) -> None:
    command = GROUP.commands[name]
    short = invoke(name, "--help", env=SCREEN).stdout
    complete = invoke(name, "--help-all", env=SCREEN).stdout if "--help-all" in short else short
    assert max(map(len, (short + complete).splitlines())) <= 80
    assert len(short.splitlines()) <= 42
    assert f"    simgan {name}" in short
    assert short.splitlines()[-2].lstrip()[0].isdigit()  # the last lines are the exit codes
    for parameter in command.params:
        assert all(option in complete for option in parameter.opts if option.startswith("-"))


def test_help_shows_what_every_call_needs_first_and_defaults_as_they_are() -> None:
    lines = invoke("train", "--help", env=SCREEN).stdout.splitlines()
    assert lines[0] == "Usage: simgan train --synthetic DIR --real DIR [OPTIONS]"
    options = lines.index("Options:")
    assert [line.split()[0] for line in lines[options + 1 : options + 3]] == ["--synthetic", "--real"]
    assert any(line.endswith("[default: 2000]") for line in lines)
    complete = invoke("train", "--help-all", env=SCREEN).stdout
    assert "--noise/--no-noise" in complete
    assert "--no-flip" not in complete  # off by default
    assert "simgan-cli[tensorboard]" in complete


def test_version_is_one_line() -> None:
    assert invoke("--version").stdout == f"simgan {simgan_cli.__version__}\n"
