"""Pictures of an evaluation."""

import numpy as np
import pytest

from simgan_cli.gaze.plots import _plain, curve, plots_available
from simgan_cli.gaze.scores import Result

pytestmark = pytest.mark.slow  # whole commands


@pytest.mark.skipif(not plots_available(), reason="Matplotlib is not installed")
def test_names_are_neither_formulas_nor_hidden() -> None:
    rows = [Result(name, "cnn", 3, [], np.array([[1.0, 2.0, 3.0]])) for name in (r"a$\x$", "_raw")]
    assert curve(rows, "gaze", "png").startswith(b"\x89PNG")
    assert _plain(rows[1]) == " _raw, cnn"  # Matplotlib leaves a label out that begins with "_"
