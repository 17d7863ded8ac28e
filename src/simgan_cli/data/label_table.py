"""Tables such as labels.csv: rows are read as spreadsheets save them, or repeated and renamed as text."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence

NAME = "labels.csv"
FILE = "file"  # the column that names images
DELIMITERS = ",;\t"
Row = tuple[int, dict[str, str]]  # the number of its last line; text by column


def delimiter_of(text: str) -> str:
    """Return the delimiter of a table: the one that is most frequent in its header."""
    return max(DELIMITERS, key=text.partition("\n")[0].count)


def read_rows(text: str) -> tuple[list[str], list[Row]]:
    """Return the columns, and the rows that are not blank, both without blanks around cells.

    Cells beyond the header stay in a list, under None. Raises csv.Error.
    """
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter_of(text), skipinitialspace=True, restval="")
    reader.fieldnames = columns = [name.strip() for name in reader.fieldnames or ()]
    return columns, [(reader.line_num, _stripped(row)) for row in reader if any(row.values())]


def _stripped(row: dict[str, str]) -> dict[str, str]:
    return {name: text.strip() if isinstance(text, str) else text for name, text in row.items()}


def repeat_rows(text: str, names_of: Callable[[str], Sequence[str]]) -> str:
    """Return a table in which each row stands once for each name that `names_of` gives for its file.

    Raises ValueError for a table without the column `file`.
    """
    header, *rows = list(_rows(text, delimiter_of(text))) or [["", ""]]
    names = [_unquoted(cell) for cell in header[::2]]
    if FILE not in names:
        raise ValueError(f"no column {FILE}")
    place = 2 * names.index(FILE)
    parts = [*header]
    for row in rows:
        *cells, end = row
        file = _unquoted(cells[place]) if place < len(cells) else ""
        if not file:  # a blank line
            parts += row
            continue
        renamed = [_renamed(cells[place], name) for name in names_of(file)]
        repeated = ["".join([*cells[:place], cell, *cells[place + 1 :]]) for cell in renamed]
        parts += [(end or header[-1]).join(repeated), end]
    return "".join(parts)


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    """Yield each row as cell, delimiter, cell, ..., line end; cells keep their quotes and blanks."""
    row: list[str] = []
    pattern = rf'( *"(?:[^"]|"")*"[^{delimiter}\r\n]*|[^{delimiter}\r\n]*)({delimiter}|\r\n|\r|\n|\Z)'
    for match in re.finditer(pattern, text):
        if match.start() == len(text) and not row:
            return
        row += match.groups()
        if match[2] != delimiter:
            yield row
            row = []


def _unquoted(cell: str) -> str:
    bare = cell.strip(" ")
    return bare[1:-1].replace('""', '"') if _is_quoted(bare) else bare


def _renamed(cell: str, name: str) -> str:
    """Return a cell with another text, quoted if it was."""
    bare = cell.strip(" ")
    quoted = '"' + name.replace('"', '""') + '"'
    return cell.replace(bare, quoted if _is_quoted(bare) else name)


def _is_quoted(bare: str) -> bool:
    return len(bare) > 1 and bare[0] == bare[-1] == '"'
