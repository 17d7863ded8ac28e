"""The program on real eyes, where they are at hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import SHARED, TINY, needs_shared_data, simgan

pytestmark = pytest.mark.slow  # whole commands


@needs_shared_data
def test_rendered_and_real_eyes_train(tmp_path: Path) -> None:
    folders: list[str | Path] = ["--synthetic", SHARED / "eyes" / "synthetic", "--real", SHARED / "eyes" / "real"]
    result = simgan(
        "train", *folders, "--out", tmp_path / "run", *TINY, "--sample-every", "5", "--eval-every", "0", "--json"
    )
    assert result.returncode == 0, result.stderr
    assert "synthetic: 6,000 images of 35x55 grey, 8 bits" in result.stderr
    assert "real: 144 images" in result.stderr
    assert json.loads(result.stdout)["metrics"]["change"] < 0.1
    sheet = Image.open(tmp_path / "run" / "samples" / "step-00000005.png")
    assert np.asarray(sheet).std() > 30
