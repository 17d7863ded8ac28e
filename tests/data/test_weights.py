"""The table of weights of renders."""

from pathlib import Path

import numpy as np
import pytest

from simgan_cli.data.weights import read_weights
from simgan_cli.errors import DataError


def write(folder: Path, text: str) -> Path:
    path = folder / "weights.csv"
    path.write_text(text)
    return path


def test_weights_come_in_the_order_of_the_files(tmp_path: Path) -> None:
    table = write(tmp_path, "file,weight\na.png,2\nb.png,0.5\nc.png,0\n")
    assert np.array_equal(read_weights(table, ["c.png", "a.png"]), [0, 2])


@pytest.mark.parametrize(
    "text",
    [
        "file;weight\na.png;2,5\nb.png;1\n",
        "weight\tfile\n2.5\ta.png\n1\tb.png\n",
        "file , weight\na.png , 2.5\nb.png , 1\n",
    ],
)
def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path, text: str) -> None:
    assert np.array_equal(read_weights(write(tmp_path, text), ["a.png", "b.png"]), [2.5, 1])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,often\na.png,1\n", "has no column 'weight'; wanted file,weight"),
        ("file,weight\na.png,x\n", "not a readable table of weights"),
        ("file,weight\na.png\n", "not a readable table of weights"),
        ("file,weight\nb.png,1\n", r"no weight for 1 of 1 image, such as a\.png"),
        ("file,weight\na.png,0\n", "not all 0"),
        ("file,weight\na.png,-1\n", "must be finite, 0 or more"),
        ("file,weight\na.png,nan\n", "must be finite"),
    ],
)
def test_an_unusable_table_is_refused_with_the_reason(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_weights(write(tmp_path, text), ["a.png"])


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv: not a readable table"):
        read_weights(tmp_path / "gone.csv", ["a.png"])
