"""The versions that CI locks and the oldest that are allowed cover what pyproject.toml asks for."""

import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LISTED = {
    match[1]: match[2]
    for line in chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    if (match := re.fullmatch(r"([a-z0-9-]+)>=([0-9.]+)", line))
}
FREE = {"torch", "torchvision"}


def pins(text: str) -> dict[str, str]:
    found = dict(line.split("==") for line in text.splitlines() if not line.startswith("#"))
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in found.values())
    return found


def test_everything_but_pytorch_is_locked() -> None:
    locked = pins((ROOT / ".ci" / "constraints.txt").read_text())
    assert LISTED.keys() - locked.keys() == FREE
    assert not any(re.match("torch|nvidia|triton|cuda", name) for name in locked)
    for name, least in LISTED.items():
        if name in locked:
            assert [int(part) for part in re.findall(r"\d+", locked[name])] >= [int(p) for p in least.split(".")], name


def test_the_oldest_versions_are_the_lower_bounds_of_what_users_install() -> None:
    result = subprocess.run([sys.executable, ROOT / "scripts" / "oldest"], capture_output=True, text=True, check=True)
    found = pins(result.stdout)
    assert {line.split(">=")[0] for line in PROJECT["dependencies"]} <= found.keys()
    assert {"scipy", "h5py", "matplotlib", "tensorboard"} <= found.keys()
    assert all(LISTED[name] == version for name, version in found.items())
