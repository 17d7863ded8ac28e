"""Pictures of an evaluation."""

import numpy as np
import pytest

from simgan_cli.gaze.scores import Row
from simgan_cli.report.gaze import curve, plots_available


@pytest.mark.skipif(not plots_available(), reason="Matplotlib is not installed")
def test_names_are_neither_formulas_nor_hidden() -> None:
    errors = np.array([[1.0, 2.0, 3.0]])
    named = [Row(name, "cnn", 3, [], errors) for name in (r"a$\x$", "_raw")]
    with_names, without = curve(named, "gaze", "png"), curve([], "gaze", "png")
    assert with_names.startswith(b"\x89PNG")
    hidden = curve([Row("_raw", "cnn", 3, [], errors)], "gaze", "png")
    assert len(hidden) > len(without) + 1000  # a line and a legend of one name
