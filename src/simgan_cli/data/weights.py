"""Read the table of sampling weights, with file and weight, that `simgan eval-gaze` writes."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simgan_cli.data.label_table import read_rows
from simgan_cli.data.texts import read_text
from simgan_cli.errors import DataError, plural
from simgan_cli.files import write_atomic

COLUMNS = ("file", "weight")


def write_weights(path: Path, files: Sequence[str], weights: NDArray[np.float64]) -> None:
    """Write a table that `read_weights` reads. Raises OSError, leaving an earlier one."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows((file, f"{weight:.6g}") for file, weight in zip(files, weights, strict=True))
    write_atomic(path, text.getvalue())


def read_weights(path: Path, files: Sequence[str]) -> NDArray[np.float64]:
    """Return the weight of each of `files`, 0 or more.

    Raises DataError for a table that cannot be read, a file without a weight, or weights that leave nothing to draw.
    """
    try:
        _, rows = read_rows(read_text(path))
        by_file = {row["file"]: float(row["weight"].replace(",", ".")) for _, row in rows}
    except KeyError as error:
        raise DataError(f"{path}: has no column {error}; wanted {','.join(COLUMNS)}, as eval-gaze writes it") from error
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not a readable table of weights ({error}); rerun eval-gaze") from error
    missing = [file for file in files if file not in by_file]
    if missing:
        raise DataError(
            f"{path}: no weight for {len(missing):,} of {plural(len(files), 'image')}, such as {missing[0]}; "
            "give the table that eval-gaze wrote for these renders"
        )
    weights = np.array([by_file[file] for file in files])
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise DataError(f"{path}: weights must be finite, 0 or more, and not all 0; rerun eval-gaze")
    return weights
