"""Masks, depth and codes are distinguished from the pictures beside them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simgan_cli.data.label_images import LabelSearch, find_label_images, is_flat
from simgan_cli.data.patterns import Patterns
from simgan_cli.data.selection import select_pictures
from simgan_cli.data.tree import read_tree
from simgan_cli.errors import LabelImages
from tests.helpers import SHARED, needs_shared_data, pack
from tests.layouts import LAYOUTS, Writer


def look(folder: Path) -> LabelSearch:
    images = read_tree(folder).images
    return find_label_images(images, [folder / name for name in images])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_label_images_of_a_renderer_are_found_and_patterns_name_them(layout: str, tmp_path: Path) -> None:
    write = Writer(tmp_path)
    write.layout(layout)
    images = set(read_tree(tmp_path).images)
    if images == write.pictures:
        assert look(tmp_path).groups == []
        return
    with pytest.raises(LabelImages) as refused:
        select_pictures(read_tree(tmp_path))
    carry, take_all = refused.value.remedies.values()
    assert set(carry[::2]) == {"--exclude"}
    assert take_all == ("--include", "*")
    labels = {path for group in look(tmp_path).groups for path in group.paths}
    assert images - labels == write.pictures
    for group in look(tmp_path).groups:
        assert group.pattern in carry[1::2]
        assert f"{len(group.paths)} {group.pattern} ({group.why}), such as {group.paths[0]}" in str(refused.value)


@needs_shared_data
@pytest.mark.parametrize("name", ["eyes", "camera", "pupils", "unityeyes_sample", "."])
def test_real_pictures_and_plain_renders_are_never_taken_for_labels(name: str) -> None:
    search = look(SHARED / name)
    assert (search.groups, search.packed) == ([], None)


def discs(folder: Path, count: int, suffix: str = ".png") -> None:
    """Write flat renders: two colours each."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:24, :32]
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.full((24, 32, 3), rng.integers(150, 220, 3), np.uint8)
        pixels[(x - 16) ** 2 + (y - 12) ** 2 < rng.integers(20, 90)] = rng.integers(20, 120, 3)
        Image.fromarray(pixels).save(folder / f"{i:04}{suffix}")


def test_flat_renders_are_pictures_where_all_are_flat(tmp_path: Path) -> None:
    discs(tmp_path, 30)
    assert look(tmp_path).groups == []
    assert is_flat(np.asarray(Image.open(tmp_path / "0000.png")))


def test_few_files_of_many_kinds_are_pictures(tmp_path: Path) -> None:
    """One flat PNG among four varied JPEGs may be a picture or a mask."""
    discs(tmp_path, 4, ".jpg")
    discs(tmp_path / "more", 1)
    Image.effect_noise((32, 24), 50).convert("P").save(tmp_path / "palette.png")
    assert look(tmp_path).groups == []


def test_faces_with_masks_are_pictures(tmp_path: Path) -> None:
    write = Writer(tmp_path)
    for i in range(8):
        write.picture(f"faces/{i}.png")
        write.picture(f"faces_mask/{i}.png")
    assert look(tmp_path).groups == []


def test_one_mask_among_many_pictures_is_left_out(tmp_path: Path) -> None:
    write = Writer(tmp_path)
    for i in range(30):
        write.picture(f"{i}.png")
    write.mask("odd.png")
    write.depth("far.png")
    selection = select_pictures(read_tree(tmp_path))
    assert selection.odd == {"far.png": "16 bits among 8", "odd.png": "few values in large areas"}
    assert [selection.oddity(tmp_path / name) for name in ("odd.png", "1.png")] == ["few values in large areas", None]


def test_labels_in_an_archive_beside_that_of_pictures_are_found(tmp_path: Path) -> None:
    """Members of two archives often have the same names."""
    write = Writer(tmp_path)
    for i in range(8):
        write.picture(f"rgb/{i}.png")
        write.mask(f"aux/{i}.png")
    for name in ("rgb.zip", "aux.tar.gz"):
        pack(tmp_path / name.partition(".")[0], tmp_path / "data" / name)
    with pytest.raises(LabelImages, match=r"8 aux\.tar\.gz \(few values in large areas\)") as refused:
        select_pictures(read_tree(tmp_path / "data"))
    assert refused.value.remedies["leave labels as they are"] == ("--exclude", "aux.tar.gz")
    patterns = Patterns((), ("aux.tar.gz",))
    selection = select_pictures(read_tree(tmp_path / "data", patterns), patterns)
    assert (selection.tree.archives, selection.count, selection.unmatched) == (["rgb.zip"], 8, [])


def test_a_pattern_that_takes_all_members_of_an_archive_matches_files(tmp_path: Path) -> None:
    for kind in ("rgb", "seg"):
        (tmp_path / kind).mkdir()
        Image.new("L", (4, 3)).save(tmp_path / kind / f"{kind}_1.png")
        pack(tmp_path / kind, tmp_path / "data" / f"{kind}.zip")
    patterns = Patterns((), ("seg_?.png", "depth_?.png"))
    selection = select_pictures(read_tree(tmp_path / "data", patterns), patterns)
    assert selection.unmatched == [f"--exclude 'depth_?.png' matches no file in {tmp_path / 'data'}"]


def test_a_mask_does_not_make_labels_of_the_same_name_in_other_archives(tmp_path: Path) -> None:
    write = Writer(tmp_path)
    for i in range(30):
        write.picture(f"a/{i}.png")
        write.picture(f"b/{i}.png")
    write.mask("a/odd.png")
    write.picture("b/odd.png")
    for name in "ab":
        pack(tmp_path / name, tmp_path / "data" / f"{name}.tar")
    selection = select_pictures(read_tree(tmp_path / "data"))
    first, second = (archive.by_name()["odd.png"] for archive in selection.archives)
    assert selection.oddity(first) == "few values in large areas"
    assert selection.oddity(second) is None


def test_a_number_in_names_may_separate_labels_from_pictures(tmp_path: Path) -> None:
    write = Writer(tmp_path)
    for i in range(5):
        write.picture(f"{i:03}_0.png")
        write.mask(f"{i:03}_1.png")
    assert [(group.pattern, len(group.paths)) for group in look(tmp_path).groups] == [("*_1.png", 5)]


def test_includes_override_the_search_for_label_images(tmp_path: Path) -> None:
    write = Writer(tmp_path)
    write.layout("solo")
    everything = Patterns(("*",))
    assert select_pictures(read_tree(tmp_path, everything), everything).count == 20
    some = Patterns((), ("*segmentation.png", "*.depth.png"))
    assert select_pictures(read_tree(tmp_path, some), some).count == 5
    fewer = Patterns((), ("*.depth.png",))
    with pytest.raises(LabelImages) as refused:  # an exclude does not switch off the search
        select_pictures(read_tree(tmp_path, fewer), fewer)
    assert refused.value.remedies["leave labels as they are"][:2] == ("--exclude", "*.depth.png")


def test_numbers_packed_into_colour_give_a_warning_where_all_images_are_so(tmp_path: Path) -> None:
    write = Writer(tmp_path)
    for i in range(6):
        write.packed(f"synthdepth_1_{i:07}.png")
    selection = select_pictures(read_tree(tmp_path))
    assert selection.count == 6
    (warning,) = selection.warnings("plain")
    assert selection.warnings("packed16") == []
    assert "--pixels packed16" in warning


@pytest.mark.parametrize(
    ("channels", "remedy"), [((None, 1, 0), "--pixels packed16 unpacks"), ((None, 0, 1), "reorder the channels"),
                             ((1, 0, None), "reorder the channels")],
)  # fmt: skip
def test_flat_packed_images_give_a_warning_with_a_remedy_that_fits(
    tmp_path: Path, channels: tuple[int | None, ...], remedy: str
) -> None:
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:64, :64]
    for i in range(8):  # a hand of few depths before a flat wall
        distance = np.hypot(x - rng.uniform(20, 44), y - 32)
        depth = np.where(distance < 15, 700 + 2 * distance, 1800).astype(np.uint16)
        bytes_of_depth = [0 * depth if shift is None else depth >> 8 * shift & 255 for shift in channels]
        Image.fromarray(np.stack(bytes_of_depth, -1).astype(np.uint8)).save(tmp_path / f"synthdepth_1_{i:07}.png")
    selection = select_pictures(read_tree(tmp_path))
    assert selection.count == 8
    (warning,) = selection.warnings("plain")
    assert remedy in warning
    assert len(selection.warnings("packed16")) == (remedy == "reorder the channels")
