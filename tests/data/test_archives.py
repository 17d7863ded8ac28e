"""Archives: the images of a folder, its tar and its zip are the same; what is damaged or hostile is refused."""

import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simgan_cli.data.archives import open_archive, open_archives
from simgan_cli.data.cache import PixelSet, Source, open_pixels
from simgan_cli.data.decoding import Preparation, read_pixels
from simgan_cli.data.tree import read_tree
from simgan_cli.errors import DataError, UnreadableArchive, UnreadableImage
from tests.helpers import pack, write_images

KINDS = ["a.tar", "a.tar.gz", "a.tgz", "a.zip"]


def opened(place: Path, cache: str = "off") -> PixelSet:
    return open_pixels(Source(place), Preparation(), cache, 2, lambda done, total: None)


@pytest.fixture
def renders(tmp_path: Path) -> Path:
    """Images whose natural order is neither that of their names nor that of the file system."""
    folder = write_images(tmp_path / "renders", 12, 1)
    for number, place in enumerate(("b", "a10", "a9", "a9/c", "B")):
        write_images(folder / place, 3, number + 2)
    (folder / "labels.csv").write_text("file\n")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "1.png").write_bytes(b"not looked at")
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_and_its_archive_are_the_same_images(renders: Path, tmp_path: Path, name: str) -> None:
    expected, pixels = opened(renders), opened(pack(renders, tmp_path / name))
    assert np.array_equal(pixels.pixels, expected.pixels)
    assert (pixels.fingerprint, pixels.skipped) == (expected.fingerprint, [])


def test_shards_are_read_in_their_order_after_loose_images(renders: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    for number in (10, 9, 2):
        pack(write_images(tmp_path / f"s{number}", 2, number), shards / "deep" / f"{number}.tar")
    write_images(shards / "z", 1, 77)
    pixels = opened(shards)
    order = [tmp_path / "shards/z/0.png", *(tmp_path / f"s{n}" / f"{i}.png" for n in (2, 9, 10) for i in range(2))]
    assert np.array_equal(pixels.pixels, np.stack([read_pixels(path, Preparation()) for path in order]))


def test_a_changed_archive_is_decoded_again(tmp_path: Path) -> None:
    cache, shard = str(tmp_path / "cache"), tmp_path / "1.tar"
    pack(write_images(tmp_path / "a", 3, 1), shard)
    before = opened(shard, cache)
    pack(write_images(tmp_path / "b", 3, 2), shard)
    assert opened(shard, cache).fingerprint != before.fingerprint


def test_unreadable_images_and_archives_are_skipped_and_named(renders: Path, tmp_path: Path) -> None:
    (renders / "7.png").write_bytes(b"this is no image")
    (renders / "8.png").write_bytes(b"")
    pack(renders, tmp_path / "in" / "1.zip")
    (tmp_path / "in" / "2.tar").write_bytes(b"this is no archive")
    (tmp_path / "in" / "3.png").symlink_to("nowhere")
    cache = str(tmp_path / "cache")
    for _ in range(2):
        skipped = dict(opened(tmp_path / "in", cache).skipped)
        assert skipped.keys() == {
            str(tmp_path / "in" / name) for name in ("1.zip/7.png", "1.zip/8.png", "2.tar", "3.png")
        }
        assert skipped[str(tmp_path / "in/1.zip/8.png")] == "empty file"


def test_archives_without_images_are_an_error_with_the_reason(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "1.zip", "w") as archive:
        archive.writestr("labels.csv", "")
    with pytest.raises(DataError, match=r"1\.zip: no image among its files"):
        opened(tmp_path / "1.zip")
    (tmp_path / "2.tar").write_bytes(b"this is no archive")
    with pytest.raises(DataError, match=r"no image.*2\.tar: damaged"):
        opened(tmp_path / "2.tar")


def test_only_archives_with_images_are_read(tmp_path: Path) -> None:
    pack(write_images(tmp_path / "a", 1, 1), tmp_path / "in" / "images.tar")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "labels.csv").touch()
    pack(tmp_path / "b", tmp_path / "in" / "labels.zip")
    (tmp_path / "in" / "broken.tgz").write_bytes(b"x")
    tree, archives = open_archives(read_tree(tmp_path / "in"))
    assert [archive.path.name for archive in archives] == ["images.tar", "labels.zip"]
    assert (tree.archives, tree.others) == (["images.tar"], ["labels.zip"])
    assert [name for name, _ in tree.unusable] == ["broken.tgz"]


# Refusals


def tar_of(*infos: tarfile.TarInfo, layout: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=layout) as tar:
        for info in infos:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return file.getvalue()


def info(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    result = tarfile.TarInfo(name)
    result.type, result.size, result.linkname = kind, size, link
    return result


def resized(content: bytes, field: bytes) -> bytes:
    """Return a tar whose first header claims another size."""
    header = bytearray(content[:512])
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content[512:]


def zip_of(*names: str, mode: int = 0, content: bytes = b"", level: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            member = zipfile.ZipInfo(name)
            member.external_attr, member.compress_type = mode << 16, level
            archive.writestr(member, content)
    return file.getvalue()


def patched(content: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """Return a zip with bytes of each of its headers of a kind replaced."""
    changed, at = bytearray(content), content.find(signature)
    while at >= 0:
        changed[at + offset : at + offset + len(value)] = value
        at = content.find(signature, at + 1)
    return bytes(changed)


LOCAL, CENTRAL = b"PK\3\4", b"PK\1\2"
GOOD_TAR, GOOD_ZIP = (
    tar_of(info("a.png", size=600), info("b.png", size=600)),
    zip_of("a.png", "b.png", content=b"x" * 600),
)
HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "above": ("tar", lambda: tar_of(info("a/../../b.png")), "leads outside"),
    "a folder above": ("tar", lambda: tar_of(info("../x", tarfile.DIRTYPE), info("b.png")), "leads outside"),
    "absolute": ("tar", lambda: tar_of(info("/tmp/b.png")), "leads outside"),
    "symbolic link": ("tar", lambda: tar_of(info("b.png", tarfile.SYMTYPE, link="/etc/passwd")), "is a link"),
    "hard link": ("tar", lambda: tar_of(info("b.png", tarfile.LNKTYPE, link="../x")), "is a link"),
    "device": ("tar", lambda: tar_of(info("b.png", tarfile.CHRTYPE)), "is no file"),
    "pipe": ("tar", lambda: tar_of(info("b.png", tarfile.FIFOTYPE)), "is no file"),
    "twice": ("tar", lambda: tar_of(info("b.png"), info("b.png")), "twice"),
    "twice by other words": ("tar", lambda: tar_of(info("b.png"), info("./b.png")), "twice"),
    "too large a size": ("tar", lambda: resized(GOOD_TAR, b"77777777777\0"), "damaged|ends within"),
    "negative size": ("tar", lambda: resized(GOOD_TAR, b"\xff" * 11 + b"\0"), "damaged"),
    "cut": ("tar", lambda: GOOD_TAR[:900], "damaged|ends within"),
    "cut in a header": ("tar", lambda: GOOD_TAR[:1700], "damaged"),
    "rubbish after a member": ("tar", lambda: GOOD_TAR[:1536] + b"rubbish!" * 200, "no header at byte 1,536"),
    "large header": (
        "tar",
        lambda: resized(tar_of(info("x" * 200), layout=tarfile.GNU_FORMAT), b"00040000000\0"),
        "header of 8,388,608 bytes",
    ),
    "headers without end": ("tar", lambda: _pax_header() * 3000 + GOOD_TAR, "damaged"),
    "text": ("tar", lambda: b"this is no archive" * 100, "damaged"),
    "empty": ("tar", lambda: b"", "damaged"),
    "a gzip of zeros": ("tar.gz", lambda: gzip.compress(bytes(70_000_000), 9), "expands to more than 64,000,000"),
    "a cut gzip": ("tar.gz", lambda: gzip.compress(GOOD_TAR)[:-20], "damaged"),
    "a tar without gzip": ("tgz", lambda: GOOD_TAR, "damaged"),
    "zip: above": ("zip", lambda: zip_of("a/../../b.png"), "leads outside"),
    "zip: above in DOS": ("zip", lambda: zip_of("a\\..\\..\\b.png"), "leads outside"),
    "zip: a folder above": ("zip", lambda: zip_of("../x/", "b.png"), "leads outside"),
    "zip: absolute": ("zip", lambda: zip_of("/b.png"), "leads outside"),
    "zip: a drive": ("zip", lambda: zip_of("C:b.png"), "leads outside"),
    "zip: link": ("zip", lambda: zip_of("b.png", mode=0o120777, content=b"/etc/passwd"), "is a link"),
    "zip: device": ("zip", lambda: zip_of("b.png", mode=0o020777), "is no file"),
    "zip: twice": ("zip", lambda: zip_of("b.png", "./b.png"), "twice"),
    "zip: encrypted": ("zip", lambda: patched(GOOD_ZIP, CENTRAL, 8, b"\1"), "encrypted"),
    "zip: method": ("zip", lambda: patched(GOOD_ZIP, CENTRAL, 10, b"\x63"), "method 99"),
    "zip: of zeros": ("zip", lambda: zip_of("b.png", content=bytes(70_000_000)), "expands to more than 200 times"),
    "zip: large by its word": ("zip", lambda: patched(GOOD_ZIP, CENTRAL, 24, b"\0\0\0\x70"), "expands to more than"),
    "zip: cut": ("zip", lambda: GOOD_ZIP[:-30], "damaged"),
    "zip: text": ("zip", lambda: b"this is no archive" * 100, "damaged"),
}  # fmt: skip


def _pax_header() -> bytes:
    return tar_of(info("x" * 200))[:1024]


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_are_refused_by_name(tmp_path: Path, case: str) -> None:
    suffix, content, says = HOSTILE[case]
    path = tmp_path / f"shard.{suffix}"
    path.write_bytes(content())
    with pytest.raises(UnreadableArchive, match=says) as caught:
        open_archive(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("size", [599, 601])
def test_a_zip_member_of_another_size_than_declared_is_unreadable(tmp_path: Path, size: int) -> None:
    (tmp_path / "a.zip").write_bytes(patched(GOOD_ZIP, CENTRAL, 24, struct.pack("<L", size)))
    archive = open_archive(tmp_path / "a.zip")
    assert str(archive.members()[0]) == f"{tmp_path}/a.zip/a.png"
    with pytest.raises(UnreadableImage, match=r"a\.zip/a\.png: damaged in its archive"):
        archive.members()[0].read_bytes()
    archive.close()


def test_a_zip_member_with_a_wrong_size_takes_no_memory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "complete.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(100_000_000))
    (tmp_path / "a.zip").write_bytes(
        patched((tmp_path / "complete.zip").read_bytes(), CENTRAL, 24, struct.pack("<L", 1000))
    )
    lying = open_archive(tmp_path / "a.zip")
    tracemalloc.start()
    with pytest.raises(UnreadableImage, match="damaged in its archive"):
        lying.members()[0].read_bytes()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    lying.close()
    assert peak < 5_000_000


def test_an_archive_that_changes_after_it_was_listed_is_not_read(tmp_path: Path) -> None:
    path = pack(write_images(tmp_path / "a", 2, 1), tmp_path / "a.tar")
    archive = open_archive(path)
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises(UnreadableImage, match="changed since it was listed"):
        archive.members()[0].read_bytes()
    path.unlink()
    with pytest.raises(UnreadableImage, match="No such file"):
        archive.members()[0].read_bytes()
