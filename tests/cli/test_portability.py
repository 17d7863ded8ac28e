"""The program without the POSIX features that Windows lacks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import TINY, files_below, pack, write_images, write_renders

WITHOUT_POSIX = Path(__file__).parents[1] / "without_posix.py"
TRAIN = " ".join(["train --synthetic synthetic --real real --out run --resume auto --save-every 2 --keep 1", *TINY])


@pytest.mark.slow
def test_every_command_works_without_what_windows_lacks(tmp_path: Path) -> None:
    write_images(tmp_path / "synthetic", 12, 1)
    write_images(tmp_path / "real", 3, 2)
    pack(write_renders(tmp_path / "renders"), tmp_path / "renders" / "more.tar")
    (tmp_path / "soon.toml").write_text("[train]\nmax_time = 0.001\n")
    lines = {
        "--help": 0,
        "doctor --json": 0,
        f"{TRAIN} --config soon.toml": 75,
        f"{TRAIN} --sample-every 1 --tensorboard": 0,
        "status run --json": 0,
        "inspect-buffer run": 0,
        "refine renders --model run --out refined": 0,
        "refine renders --model run --out refined --skip-existing": 0,
        "refine renders --model run --out refined --overwrite": 0,
    }
    result = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", WITHOUT_POSIX, *lines],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == list(lines.values()), result.stderr
    left = [name for folder in ("run", "refined") for name in files_below(tmp_path / folder) if ".tmp-" in name]
    assert not left
