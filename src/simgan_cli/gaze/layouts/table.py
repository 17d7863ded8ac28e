"""labels.csv beside the images: gaze as vectors or angles, or pupils; as any spreadsheet saves it."""

import csv
import io
import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from simgan_cli.data.texts import read_text
from simgan_cli.data.tree import read_tree
from simgan_cli.errors import DataError
from simgan_cli.gaze.labels import LabelFormat, Sample
from simgan_cli.gaze.layouts.common import Samples, decode_grey, match_images, parse_number, to_vectors

NAME = "labels.csv"
OTHER_FORMATS = {  # by their first bytes
    b"version https://git-lfs": "a Git LFS pointer; get the table with: git lfs pull",
    b"PK\x03\x04": "an Excel workbook or another zip archive; save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save it as CSV",
    b"<": "HTML or XML, as a failed download leaves; download it again",
}
Row = tuple[int, dict[str, str]]  # the line it ends in; text by column


def is_table_folder(path: Path) -> bool:
    """Return whether a folder holds labels.csv."""
    return (path / NAME).is_file()


def read_table_folder(folder: Path, label_format: LabelFormat) -> Samples:
    """Return a sample for each line of labels.csv; its images are read later. Raises DataError."""
    table = folder / NAME
    columns, rows = _read_table(table)
    wanted = _columns(columns, label_format, table)
    numbers = [[_number(row.get(name, ""), name, table, line) for name in wanted] for line, row in rows]
    targets = np.array(numbers, np.float64).reshape(len(rows), len(wanted))
    if wanted == ["pitch", "yaw"]:
        angles = targets[:, ::-1] if label_format.convention == "gazehub" else targets
        targets = to_vectors(angles, label_format, table)
    names = [row.get("file", "") for _, row in rows]
    files, warnings = match_images(read_tree(folder, label_format.patterns), names, table)
    persons = [row.get("person") or None for _, row in rows]
    if any(persons) and not all(persons):  # some exporters write the column empty where no person is known
        raise DataError(
            f"{table}: line {rows[persons.index(None)][0]} names no person; fill the column in or remove it"
        )
    samples = [
        Sample(file, partial(decode_grey, folder / file), target, person)
        for file, target, person in zip(files, targets, persons, strict=True)
        if label_format.patterns.takes(file)
    ]
    return samples, warnings


def _read_table(table: Path) -> tuple[list[str], list[Row]]:
    """Return the columns and rows of a table whose cells are parted by what parts most of its header's.

    Blanks round cells go, and so does the case of columns where that leaves them apart.
    """
    try:
        with table.open("rb") as file:
            start = file.read(64).lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
        if other := next((what for magic, what in OTHER_FORMATS.items() if start.startswith(magic)), None):
            raise DataError(f"{table}: no table but {other}")
        text = read_text(table)
        header = text.strip().partition("\n")[0]
        named = re.fullmatch(r"sep=([,;\t])", header, re.IGNORECASE)  # Excel reads and writes such a line
        delimiter = named[1] if named else max(",;\t", key=header.count)
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
        lines = [(reader.line_num, cells) for line in reader if any(cells := [cell.strip() for cell in line])]
        lines = lines[1:] if named else lines
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a table ({error})") from error
    given = lines[0][1] if lines else []
    lowered = [name.lower() for name in given]
    columns = [low if lowered.count(low) == 1 else name for name, low in zip(given, lowered, strict=True)]
    for number, cells in lines[1:]:
        if any(cells[len(columns) :]):
            raise DataError(
                f"{table}: line {number} has {len(cells)} cells below {len(columns)} columns; where commas are decimal "
                "ones, quote the numbers or part the cells by semicolons"
            )
    return columns, [(number, dict(zip(columns, cells, strict=False))) for number, cells in lines[1:]]


def _columns(columns: Sequence[str], label_format: LabelFormat, table: Path) -> list[str]:
    choices = [["pupil_x", "pupil_y"]] if label_format.target == "pupil" else [["gx", "gy", "gz"], ["pitch", "yaw"]]
    for choice in choices:
        if {"file", *choice} <= set(columns):
            if repeated := [name for name in ("file", "person", *choice) if columns.count(name) > 1]:
                raise DataError(f"{table}: has the columns {', '.join(repeated)} more than once; keep one of each")
            return choice
    wanted = " or ".join(",".join(["file", *choice]) for choice in choices)
    raise DataError(f"{table}: has the columns {', '.join(columns) or '(none)'}; wanted {wanted}")


def _number(text: str, column: str, table: Path, line: int) -> float:
    try:
        number = parse_number(text)
        if not math.isfinite(number):
            raise ValueError
        return number
    except ValueError:
        raise DataError(f"{table}: line {line}: {column} is {text!r}, wanted a number") from None
