"""Globs that select the pictures of a folder."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgan_cli.data.patterns import Patterns, translate


@pytest.mark.parametrize(
    ("pattern", "takes", "leaves"),
    [
        ("*.png", ["1.png", "a/b/1.png", "a b\nc.png"], ["1.jpg", "1.png.txt"]),
        ("rgb_*", ["rgb_1.png", "x/rgb_1.png", "rgb_x/1.png"], ["argb_1.png"]),
        ("rgb/*.png", ["rgb/1.png", "seq/rgb/1.png"], ["xrgb/1.png", "rgb/deep/1.png"]),
        ("/rgb/*.png", ["rgb/1.png"], ["seq/rgb/1.png"]),
        ("masks", ["masks/1.png", "a/masks/b/1.png", "masks"], ["mask/1.png", "masks2/1.png"]),
        ("masks/", ["masks/1.png"], ["mask/1.png"]),
        ("a/**/1.png", ["a/1.png", "a/b/c/1.png", "x/a/b/1.png"], ["a/b/2.png"]),
        ("frame_????.png", ["frame_0001.png"], ["frame_001.png"]),
        ("[0-4]*.png", ["3.png"], ["7.png"]),
        ("[!0]*.png", ["3.png"], ["03.png"]),
        ("a.camera+1.png", ["a.camera+1.png"], ["aXcamera+1.png"]),
        ("**", ["anything/at/all"], []),
    ],
)
def test_a_pattern_takes_what_rsync_takes(pattern: str, takes: list[str], leaves: list[str]) -> None:
    include, exclude = Patterns((pattern,)), Patterns((), (pattern,))
    assert [path for path in takes if not include.takes(path) or exclude.takes(path)] == []
    assert [path for path in leaves if include.takes(path) or not exclude.takes(path)] == []


def test_an_exclude_wins_over_an_include_and_no_pattern_takes_all() -> None:
    patterns = Patterns(("*.png", "*.jpg"), ("mask_*",))
    assert [patterns.takes(path) for path in ("1.png", "1.jpg", "mask_1.png", "1.tif")] == [True, True, False, False]
    assert Patterns().takes("a/b")


@given(st.text("ab*?[]!/.\\^$(){}+|\n", min_size=1))
def test_any_text_is_a_valid_pattern(pattern: str) -> None:
    re.compile(translate(pattern), re.DOTALL)


@given(st.text(st.characters(blacklist_characters="*?[]/", blacklist_categories=["Cs"]), min_size=1))
def test_a_name_without_wildcards_takes_itself_alone(name: str) -> None:
    assert Patterns((name,)).takes(f"a folder/{name}")
    assert Patterns((name,)).takes(f"a folder/x{name}") == (name == "a folder")
