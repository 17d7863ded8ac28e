"""The places of results, and refusals before anything is written."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgan_cli.data.patterns import ANY
from simgan_cli.data.selection import Selection
from simgan_cli.data.tree import Tree
from simgan_cli.engine.refining.copies import output_name
from simgan_cli.engine.refining.plan import (
    Plan,
    Source,
    _ignores_case,
    check_inputs,
    folders_in,
)
from simgan_cli.engine.refining.plan import make_plan as plan_of
from simgan_cli.errors import DataError, SettingsError
from simgan_cli.settings.refine import FormatName


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    return path


def make_plan(inputs: list[Path], out: Path, wanted: FormatName | None, part: tuple[int, int]) -> Plan:
    return plan_of(check_inputs(inputs, out), out, wanted, part, ANY)


def outputs(plan: Plan) -> list[Path]:
    return [task.output for task in plan.image_tasks()]


def test_one_folder_goes_to_out_and_several_to_folders_of_their_names(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "in" / "a", "x/1.png"), folder(tmp_path / "in" / "b", "1.png")
    out = tmp_path / "out"
    assert outputs(make_plan([a], out, None, (0, 1))) == [out / "x/1.png"]
    assert outputs(make_plan([a, b], out, None, (0, 1))) == [out / "a/x/1.png", out / "b/1.png"]


def test_a_list_of_folders_is_read(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("one\n\ntwo words\n")
    assert folders_in(tmp_path / "list") == [Path("one"), Path("two words")]
    (tmp_path / "bytes").write_bytes(b"\xff\r\nline\xe2\x80\xa8separator\n")
    assert [os.fsencode(folder) for folder in folders_in(tmp_path / "bytes")] == [b"\xff", b"line\xe2\x80\xa8separator"]
    (tmp_path / "empty").write_text("\n")
    for name in ("empty", "nowhere"):
        with pytest.raises(SettingsError, match=name):
            folders_in(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("a/1.PNG", None, "a/1.PNG"), ("a/1.PNG", "png", "a/1.PNG"), ("a/1.jpeg", "jpeg", "a/1.jpeg"),
        ("a.b/1.tif", "png", "a.b/1.png"), ("1.x.bmp", "tiff", "1.x.tif"),
    ],
)  # fmt: skip
def test_suffixes_change_only_where_they_must(name: str, wanted: FormatName | None, expected: str) -> None:
    assert output_name(name, wanted) == expected


def test_out_that_overlaps_an_input_is_refused(tmp_path: Path) -> None:
    a = folder(tmp_path / "in" / "a", "1.png")
    b = folder(tmp_path / "in" / "b", "1.png")
    for out in (a, a / "refined", tmp_path / "in", tmp_path):
        with pytest.raises(SettingsError, match="one lies inside the other"):
            make_plan([a], out, None, (0, 1))
    with pytest.raises(SettingsError, match="one lies inside the other"):
        make_plan([a, b], tmp_path / "in", None, (0, 1))  # would overwrite both
    (tmp_path / "link").symlink_to(a)
    with pytest.raises(SettingsError, match="one lies inside the other"):
        make_plan([a], tmp_path / "link", None, (0, 1))


def test_every_problem_of_folders_is_named_at_once(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", "1.png")
    also = folder(tmp_path / "b" / "a", "1.png")
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError) as caught:
        make_plan([a, also, tmp_path / "nowhere", tmp_path / "file"], tmp_path / "file", None, (0, 1))
    text = str(caught.value)
    for words in ("nowhere: no such folder", "file: a file, not a folder", "--out", "an --out of its own"):
        assert words in text


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image"):
        make_plan([folder(tmp_path / "a", "labels.csv")], tmp_path / "out", None, (0, 1))


def test_names_that_would_collide_are_named(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", "1.png", "1.jpg", "x/2.bmp", "x/2.webp", "3.PNG")
    with pytest.raises(SettingsError, match="collide") as caught:
        make_plan([a], tmp_path / "out", "png", (0, 1))
    assert "1.jpg and" in str(caught.value)
    assert "2.webp" in str(caught.value)
    make_plan([a], tmp_path / "out", None, (0, 1))
    folder(a, "3.png")
    make_plan([a], tmp_path / "out", None, (0, 1))  # where case counts, these are two files


def test_a_file_system_that_ignores_case_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "Some" / "out").mkdir(parents=True)
    assert not _ignores_case(tmp_path / "Some" / "new" / "deep")
    (tmp_path / "sOME").symlink_to(tmp_path / "Some")  # as such a file system behaves
    assert _ignores_case(tmp_path / "Some" / "123")


@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), st.integers(1, 6))
def test_parts_of_a_plan_make_up_all_of_it_and_count_from_0(sizes: list[int], parts: int) -> None:
    sources = [
        Source(
            Path(f"in{n}"),
            Path(f"out/{n}"),
            Selection(Tree(Path(f"in{n}"), images=[f"{i}.png" for i in range(size)], others=["labels.csv"]), []),
        )
        for n, size in enumerate(sizes)
    ]
    complete = [task.output for task in Plan(sources, None).image_tasks()]
    split = [Plan(sources, None, (index, parts)) for index in range(parts)]
    assert sorted(output for plan in split for output in outputs(plan)) == sorted(complete)
    assert sum(len(list(plan.other_tasks())) for plan in split) == len(sizes)
    for plan in split:
        assert [task.number for task in plan.image_tasks()] == list(range(plan.images))
