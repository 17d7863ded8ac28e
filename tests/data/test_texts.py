import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgan_cli.data.texts import decode_text, names_in, read_text
from simgan_cli.engine.refining.plan import folders_in
from simgan_cli.errors import SettingsError

# Byte order marks by hand; the codecs named have none.
MARKED = {
    "utf-8": b"\xef\xbb\xbf",
    "utf-16-le": b"\xff\xfe",
    "utf-16-be": b"\xfe\xff",
    "utf-32-le": b"\xff\xfe\x00\x00",
    "utf-32-be": b"\x00\x00\xfe\xff",
}
# Valid names of folders without line ends, blanks at an end, or a mark alone.
LETTERS = st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp", "Zs"], blacklist_characters="\\\ufeff\x85")
NAMES = st.lists(st.text(LETTERS, min_size=1), min_size=1)


TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\ufeff"))


@given(st.sampled_from([*MARKED.items(), ("utf-8", b"")]), TEXTS)
def test_text_of_every_encoding_is_decoded(encoding: tuple[str, bytes], text: str) -> None:
    codec, mark = encoding
    assert decode_text(mark + text.encode(codec)) == text


@given(st.text(st.characters(min_codepoint=9, max_codepoint=126), min_size=1), st.sampled_from(["le", "be"]))
def test_utf16_without_a_mark_is_recognised_by_its_nuls(text: str, order: str) -> None:
    assert decode_text(text.encode(f"utf-16-{order}")) == text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"caf\xe9", "byte 3 is not UTF-8"),
        (b"\xff\xfea\x00b", "byte 4 is not UTF-16-LE"),
        (b"\xef\xbb\xbfa\xff", "byte 4 is not UTF-8"),
    ],
)
def test_an_error_names_the_byte_counted_from_the_file_s_start(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=f"not text in UTF-8, UTF-16 or UTF-32 .{says}.; save it as UTF-8$"):
        decode_text(content)


def test_lines_of_a_text_end_in_newlines(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("one\r\ntwo\rthree\n\rfour".encode("utf-16"))
    assert read_text(tmp_path / "text") == "one\ntwo\nthree\n\nfour"


@given(
    NAMES,
    st.sampled_from(["\n", "\r\n", "\r", "\0", "  \n", "\n\n\t", "\0\n"]),
    st.sampled_from([*MARKED.items(), ("utf-8", b"")]),
    st.booleans(),
)
def test_a_list_is_read_in_any_encoding_and_with_any_line_ends(
    names: list[str], end: str, encoding: tuple[str, bytes], ended: bool
) -> None:
    text = end.join(names) + (end if ended else "")
    codec, mark = encoding
    if codec != "utf-8" or mark or "\0" not in text:  # one-letter names that NULs end look like UTF-16
        assert names_in(mark + text.encode(codec)) == names


@given(st.binary())
def test_any_bytes_of_a_list_give_folders_or_a_settings_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any-bytes"
    file.write_bytes(content)
    try:
        folders = folders_in(file)
    except SettingsError as error:
        assert str(error).startswith(f"--from-file {file}: ")
    else:
        assert folders
        assert not any("\0" in str(folder) for folder in folders)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"render\xff\nb\xfe/c\n", [b"render\xff", b"b\xfe/c"]),  # no text in any encoding
        (b"render\xff\0b\xfe/c\0", [b"render\xff", b"b\xfe/c"]),
        (b"two\nlines\0three\0", [b"two\nlines", b"three"]),
        (b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n\xef\xbb\xbf\n", [b"one", b"two"]),  # joined lists
    ],
)
def test_names_arrive_byte_for_byte(content: bytes, names: list[bytes]) -> None:
    assert [os.fsencode(name) for name in names_in(content)] == names


def test_blanks_and_backslashes_belong_to_a_name_only_where_such_a_folder_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blank  ").mkdir()
    (tmp_path / "back\\slash").mkdir()
    (tmp_path / "a" / "b").mkdir(parents=True)
    content = b"blank  \nother  \nback\\slash\na\\b\n.\\a\\b\nnew\\one\n"
    assert names_in(content) == ["blank  ", "other", "back\\slash", "a/b", "./a/b", "new\\one"]


def test_one_letter_folders_between_nuls_are_not_utf16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert names_in(b"a\0b\0") == ["ab"]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert names_in(b"a\0b\0") == ["a", "b"]


def test_a_list_that_is_not_text_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xff\xfes\x00y")
    with pytest.raises(SettingsError, match=r"--from-file .*list: not text in UTF-8.*save it as UTF-8"):
        folders_in(tmp_path / "list")
