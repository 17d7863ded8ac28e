"""labels.csv beside the images: gaze as vectors or angles, pupils, or points."""

import csv
import re
from functools import partial
from pathlib import Path

import numpy as np

from simgan_cli.data.label_table import NAME, Row, delimiter_of, read_rows
from simgan_cli.data.texts import read_text
from simgan_cli.data.tree import read_tree
from simgan_cli.errors import DataError
from simgan_cli.gaze.labels import LabelFormat, Sample
from simgan_cli.gaze.layouts.common import Samples, decode_grey, match_images, paired, to_vectors

THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")  # 1,230 may be 1.23, too
X_COLUMN = re.compile(r"x(\d+)|(.+)_x")  # such as x3 or NAME_x


def is_table_folder(path: Path) -> bool:
    """Return whether a folder holds labels.csv."""
    return (path / NAME).is_file()


def read_table_folder(folder: Path, label_format: LabelFormat) -> Samples:
    """Return a sample for each line of labels.csv; its images are read later. Raises DataError."""
    table = folder / NAME
    columns, rows, delimiter = _read_table(table)
    points = _point_columns(columns, table) if label_format.target == "points" else {}
    wanted = [column for pair in points.values() for column in pair] or _wanted_columns(columns, label_format, table)
    if repeated := [column for column in ["file", *wanted] if columns.count(column) > 1]:
        raise DataError(f"{table}: has the column {repeated[0]} more than once; keep one")
    missing = "nan" if points else ""
    numbers = [[_number(row[name] or missing, name, table, line, delimiter) for name in wanted] for line, row in rows]
    targets = np.array(numbers, np.float64).reshape(len(rows), len(wanted))
    if wanted == ["pitch", "yaw"]:
        angles = targets[:, ::-1] if label_format.convention == "gazehub" else targets
        targets = to_vectors(angles, label_format, table)
    elif points:
        targets = paired(targets)
    names = [row["file"] for _, row in rows]
    files, warnings = match_images(read_tree(folder, label_format.patterns), names, table)
    persons = [row.get("person") or None for _, row in rows]
    if any(persons) and not all(persons):
        line = rows[persons.index(None)][0]
        raise DataError(f"{table}: line {line} has no person; fill in the column person, or remove it")
    samples = [
        Sample(file, partial(decode_grey, folder / file), target, person, tuple(points))
        for file, target, person in zip(files, targets, persons, strict=True)
        if label_format.patterns.takes(file)
    ]
    return samples, warnings


def _read_table(table: Path) -> tuple[list[str], list[Row], str]:
    """Return the columns, the rows that are not blank, and the delimiter."""
    try:
        text = read_text(table)
        columns, rows = read_rows(text)
    except (OSError, csv.Error) as error:
        raise DataError(f"{table}: not a readable table ({error}); save it as CSV") from error
    except ValueError as error:  # not text, with what to do
        raise DataError(f"{table}: not a readable table: {error}") from error
    for line, row in rows:
        if None in row:  # unquoted decimal commas give extra cells
            raise DataError(f"{table}: line {line} has more cells than the {len(columns)} columns; quote commas")
    return columns, rows, delimiter_of(text)


def _wanted_columns(columns: list[str], label_format: LabelFormat, table: Path) -> list[str]:
    choices = [["pupil_x", "pupil_y"]] if label_format.target == "pupil" else [["gx", "gy", "gz"], ["pitch", "yaw"]]
    for choice in choices:
        if {"file", *choice} <= set(columns):
            return choice
    wanted = " or ".join(",".join(["file", *choice]) for choice in choices)
    raise DataError(f"{table}: has the columns {', '.join(columns) or '(none)'}; wanted {wanted}")


def _point_columns(columns: list[str], table: Path) -> dict[str, tuple[str, str]]:
    """Return the columns of x and y by the name of the point, in the order of the header."""
    points = {}
    for column in columns:
        if match := X_COLUMN.fullmatch(column):
            number, name = match.groups()
            other = f"y{number}" if name is None else f"{name}_y"
            if other in columns:
                points[number if name is None else name] = column, other
    if not points or "file" not in columns:
        raise DataError(
            f"{table}: has the columns {', '.join(columns) or '(none)'}; wanted file, and x0,y0,x1,y1,... or "
            "NAME_x,NAME_y for each point"
        )
    return points


def _number(text: str, column: str, table: Path, line: int, delimiter: str) -> float:
    if delimiter == "," and THOUSANDS.fullmatch(text):
        raise DataError(
            f"{table}: line {line}: {column} is {text!r}, with a decimal comma or thousands; write a decimal point, or "
            "leave the comma out"
        )
    try:
        return float(text.replace(",", "."))  # half of Europe writes decimal commas
    except ValueError:
        raise DataError(f"{table}: line {line}: {column} is {text!r}; wanted a number") from None
