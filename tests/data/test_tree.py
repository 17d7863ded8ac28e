"""The files below a folder, and their order."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simgan_cli.data.patterns import Patterns
from simgan_cli.data.tree import part_of, read_tree, walk_order


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_files_come_in_natural_order_folder_by_folder(tmp_path: Path) -> None:
    touch(tmp_path, "b/10.png", "b/9.png", "a/2.JPG", "1.tif", ".hidden.png", "b/labels.csv", ".thumbs/1.png", "10.csv")
    tree = read_tree(tmp_path)
    assert tree.images == ["1.tif", "a/2.JPG", "b/9.png", "b/10.png"]
    assert tree.others == ["10.csv", "b/labels.csv"]
    assert tree.unusable == []


def test_archives_are_listed_apart_and_one_may_stand_for_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, "10.tar", "9.TAR", "a/1.tar.gz", "a/1.tgz", "a/x.zip", "a/x.gz", "1.png", "tar")
    tree = read_tree(tmp_path)
    assert (tree.images, tree.others) == (["1.png"], ["tar", "a/x.gz"])
    assert tree.archives == ["9.TAR", "10.tar", "a/1.tar.gz", "a/1.tgz", "a/x.zip"]
    alone = read_tree(tmp_path / "10.tar")
    assert (alone.root, alone.archives, alone.images) == (tmp_path, ["10.tar"], [])


NAMES = st.text("a9B0.é", min_size=1, max_size=4).filter(lambda name: not name.startswith("."))


@given(st.sets(st.lists(NAMES, max_size=3).map(lambda folders: "/".join([*folders, "x.png"])), max_size=6))
def test_the_sort_key_of_paths_gives_the_order_of_the_tree(
    tmp_path_factory: pytest.TempPathFactory, paths: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    touch(folder, *paths)
    assert read_tree(folder).images == sorted(paths, key=walk_order)


def test_links_that_lead_to_no_file_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "itself.png").symlink_to("itself.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe.png")
    tree = read_tree(tmp_path)
    assert tree.images == ["a/1.png"]
    assert dict(tree.unusable) == {
        "itself.png": "a link that leads nowhere",
        "gone.png": "a link that leads nowhere",
        "pipe.png": "neither a file nor a folder",
        "a/again": "a link to a folder above it; not followed",
    }


def test_a_folder_that_is_linked_twice_is_there_twice(tmp_path: Path) -> None:
    touch(tmp_path, "left/1.png")
    (tmp_path / "right").symlink_to(tmp_path / "left")
    assert read_tree(tmp_path).images == ["left/1.png", "right/1.png"]


def test_parts_are_balanced_and_make_up_all() -> None:
    assert [list(part_of(range(7), index, 3)) for index in range(3)] == [[0, 3, 6], [1, 4], [2, 5]]
    assert [list(part_of(range(1), index, 2)) for index in range(2)] == [[0], []]


def test_hidden_files_and_empty_folders_are_kept_apart_but_not_our_own(tmp_path: Path) -> None:
    touch(tmp_path, "z.zarr/.zgroup", ".cache/1.png", ".simgan-refine.json", "a/.tmp-0123456789abcdef", ".tmp-mine")
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    tree = read_tree(tmp_path)
    assert tree.hidden == [".tmp-mine", ".cache/1.png", "z.zarr/.zgroup"]
    assert tree.empty == ["empty/deeper"]
    assert (tree.images, tree.others) == ([], [])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM"])
@pytest.mark.parametrize("name", ["frame_0001", "render.0001", "shot.tmp"])
def test_an_image_without_a_known_suffix_is_recognised_by_its_first_bytes(tmp_path: Path, kind: str, name: str) -> None:
    Image.effect_noise((8, 6), 50).convert("RGB").save(tmp_path / name, kind)
    assert read_tree(tmp_path).images == [name]


@pytest.mark.parametrize("suffix", "jpe jfif jif jfi pjpeg pjp dib apng pnm JFIF".split())
def test_other_suffixes_of_images_are_read(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"a.{suffix}")
    assert read_tree(tmp_path).images == [f"a.{suffix}"]


def test_images_and_archives_that_are_not_read_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.exr", "b.exr", "c.avif", "d.tar.xz", "e.json", "f.txt", "notes")
    (tmp_path / "g").write_bytes(b"GIF89a...")
    (tmp_path / "h.part").write_bytes(bytes(4) + b"ftypheic")
    assert read_tree(tmp_path).foreign == {".exr": 2, ".avif": 1, ".xz": 1, "nameless": 1, ".part": 1}


def test_patterns_leave_images_and_archives_among_the_others(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/1.png", "mask/1.png", "x.tar", "y.zip", "z.npy", "depth.exr")
    tree = read_tree(tmp_path, Patterns(("rgb/*", "*.npy"), ("y.zip",)))
    assert tree.images == ["z.npy", "rgb/1.png"]
    assert tree.archives == ["x.tar"]
    assert tree.others == ["depth.exr", "y.zip", "mask/1.png"]
