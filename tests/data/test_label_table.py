"""labels.csv with repeated rows: everything except file names stays byte for byte."""

import codecs
import csv
import io

import pytest

from simgan_cli.data.label_table import repeat_rows
from simgan_cli.data.texts import edit_text


def twice(file: str) -> list[str]:
    """Return two names for each file, and one for masks."""
    stem, _, suffix = file.rpartition(".")
    return [file] if "mask" in file else [f"{stem}_0.{suffix}", f"{stem}_1.{suffix}"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("file,yaw\n1.png,0.5\n", "file,yaw\n1_0.png,0.5\n1_1.png,0.5\n"),
        ("file,yaw\r\n1.png,0.5", "file,yaw\r\n1_0.png,0.5\r\n1_1.png,0.5"),  # no last line end
        ("yaw;file\n0,5;1.png\n", "yaw;file\n0,5;1_0.png\n0,5;1_1.png\n"),
        ('"file","yaw"\n"1.png","0,5"\n', '"file","yaw"\n"1_0.png","0,5"\n"1_1.png","0,5"\n'),
        ("file\tyaw\r\n1.png\t0.50\r\n\r\n", "file\tyaw\r\n1_0.png\t0.50\r\n1_1.png\t0.50\r\n\r\n"),
        ("file, yaw, n\n1.png, 2,\n", "file, yaw, n\n1_0.png, 2,\n1_1.png, 2,\n"),
        ('file,note\n1.png,"a ""b""\nc, d"\n', 'file,note\n1_0.png,"a ""b""\nc, d"\n1_1.png,"a ""b""\nc, d"\n'),
        ('file\n"a ""b"".png"\n', 'file\n"a ""b""_0.png"\n"a ""b""_1.png"\n'),
        ("file,yaw\nmask.png,1\n", "file,yaw\nmask.png,1\n"),
        ("file\n", "file\n"),
    ],
)
def test_rows_are_repeated_with_other_names_of_files(before: str, after: str) -> None:
    assert repeat_rows(before, twice) == after


def test_python_reads_the_repeated_table_as_each_row_twice() -> None:
    table = 'person;file;note\n3;"1.png";"semi;colon"\n\n4;2.png;\n'
    rows = list(csv.DictReader(io.StringIO(repeat_rows(table, twice)), delimiter=";"))
    assert [row["file"] for row in rows] == ["1_0.png", "1_1.png", "2_0.png", "2_1.png"]
    assert [(row["person"], row["note"]) for row in rows] == [("3", "semi;colon")] * 2 + [("4", "")] * 2


@pytest.mark.parametrize("table", ["", "name,yaw\n1.png,2\n"])
def test_a_table_without_files_is_refused(table: str) -> None:
    with pytest.raises(ValueError, match="no column file"):
        repeat_rows(table, twice)


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_an_edited_text_keeps_its_encoding_and_mark(mark: bytes, encoding: str) -> None:
    content = mark + "file,Blick\r\nä.png,1\r\n".encode(encoding)
    expected = mark + "file,Blick\r\nä_0.png,1\r\nä_1.png,1\r\n".encode(encoding)
    assert edit_text(content, lambda text: repeat_rows(text, twice)) == expected
