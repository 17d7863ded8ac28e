"""The pixel cache: the same pixels with and without it, decoded once, never stale."""

import os
import resource
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simgan_cli.data.cache import PixelSet, Source, cache_folder, open_pixels
from simgan_cli.data.decoding import Preparation
from simgan_cli.errors import DataError
from tests.helpers import pack, write_images


def opened(folder: Path, cache: Path | str | None, **preparation: object) -> PixelSet:
    place = None if cache is None else str(cache)
    return open_pixels(Source(folder), Preparation(**preparation), place, 2, lambda done, total: None)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", 3, 1)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_pixels_are_those_of_the_files_with_and_without_a_cache(tmp_path: Path, cache: Path) -> None:
    folder = write_images(tmp_path / "images", 12, 1)
    expected = np.stack([np.asarray(Image.open(folder / f"{n}.png")) for n in range(12)])[:, None]
    for place in ("off", cache, cache):
        images = opened(folder, place)
        assert np.array_equal(images.pixels, expected)
        assert images.shape == (1, 16, 20)


def test_the_default_cache_is_the_platforms(folder: Path) -> None:
    opened(folder, None)
    assert list((Path(os.environ["XDG_CACHE_HOME"]) / "simgan-pixels").glob("*/index.json"))


def test_a_second_call_decodes_nothing_unless_a_file_changed(folder: Path, cache: Path) -> None:
    before = opened(folder, cache)
    (index,) = cache.rglob("index.json")
    made = index.stat().st_ino
    assert opened(folder, cache).fingerprint == before.fingerprint
    assert index.stat().st_ino == made
    file = folder / "1.png"
    status = file.stat()
    file.write_bytes(b"x" * status.st_size)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # as unpacking an archive sets it
    assert [path for path, _ in opened(folder, cache).skipped] == [str(file)]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file of Linux that cannot be read")
def test_images_with_read_errors_are_decoded_again(folder: Path, cache: Path) -> None:
    failing = folder / "9.png"
    failing.symlink_to("/proc/self/mem")  # an "Input/output error"
    for _ in range(2):
        images = opened(folder, cache)
        assert ([path for path, _ in images.skipped], len(images.pixels)) == ([str(failing)], 3)
        assert list(cache_folder(str(cache)).iterdir()) == []
    failing.unlink()
    failing.write_bytes(b"no image, which is its own fault")
    for _ in range(2):
        assert [path for path, _ in opened(folder, cache).skipped] == [str(failing)]
        assert len(list(cache.rglob("index.json"))) == 1


def test_the_fingerprint_is_of_the_pixels_alone(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert opened(folder, "off").fingerprint == opened(tmp_path / "copy", "off").fingerprint
    other = write_images(tmp_path / "other", 3, 2)
    assert opened(folder, "off").fingerprint != opened(other, "off").fingerprint


def test_another_preparation_makes_another_entry(folder: Path, cache: Path) -> None:
    plain, equalized = opened(folder, cache), opened(folder, cache, preprocess="equalize")
    assert plain.fingerprint != equalized.fingerprint
    assert opened(folder, cache, size=(8, 10)).shape == (1, 8, 10)


def test_a_failed_build_leaves_nothing(folder: Path, cache: Path) -> None:
    write_images(folder / "larger", 1, 1, (30, 30))
    with pytest.raises(DataError, match="mixed sizes"):
        opened(folder, cache)
    assert list(cache_folder(str(cache)).iterdir()) == []


@pytest.mark.slow
def test_builders_of_one_entry_wait_for_the_first(tmp_path: Path, cache: Path) -> None:
    """Four processes at once: one decodes, all get the same pixels, and no other file is left."""
    folder = write_images(tmp_path / "images", 200, 1)
    script = (
        "import sys\nfrom pathlib import Path\nfrom simgan_cli.data.cache import Source, open_pixels\n"
        "from simgan_cli.data.decoding import Preparation\n"
        "reports = []\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        "source = Source(Path(sys.argv[1]))\n"
        "found = open_pixels(source, Preparation(), sys.argv[2], 1, lambda done, total: reports.append(done))\n"
        "print(len(found.pixels), found.fingerprint, bool(reports))\n"
    )
    command = [sys.executable, "-c", script, str(folder), str(cache)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
    for process in processes:
        outputs.append(process.communicate()[0].split())
        assert process.returncode == 0
    assert len({tuple(words[:2]) for words in outputs}) == 1
    assert outputs[0][0] == "200"
    assert sorted(words[2] for words in outputs) == ["False", "False", "False", "True"]
    assert len(list(cache_folder(str(cache)).iterdir())) == 1


def test_leftovers_of_a_killed_builder_are_removed(folder: Path, cache: Path) -> None:
    opened(folder, cache)
    pixels = cache_folder(str(cache))
    (entry,) = pixels.iterdir()
    entry.rename(pixels / f".tmp-{entry.name}-killed")
    (pixels / f"{entry.name}.lock").touch()
    (pixels / f".tmp-{'0' * 32}-alive").mkdir()  # another entry's builder may be writing it
    assert len(opened(folder, cache).pixels) == 3
    assert {path.name for path in pixels.iterdir()} == {entry.name, f".tmp-{'0' * 32}-alive"}


def test_mixed_depths_name_both_files(folder: Path) -> None:
    write_images(folder / "deep", 1, 1, dtype=np.uint16)
    with pytest.raises(DataError, match=r"mixed bit depths: .*0\.png is .*8 bits, .*deep/0\.png is .*16 bits"):
        opened(folder, "off")


def test_a_lack_of_file_descriptors_does_not_cache_images_as_unreadable(folder: Path, cache: Path) -> None:
    """Otherwise every later training would leave these images out."""
    pack(folder, folder / "shard.tar")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for room in range(1, 9):
        held = [os.open(folder, os.O_RDONLY) for _ in range(3)]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + room, hard))
            with suppress(OSError, DataError):
                assert opened(folder, cache).skipped == []
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in held:
                os.close(descriptor)
    images = opened(folder, cache)
    assert (len(images.pixels), images.skipped) == (6, [])
