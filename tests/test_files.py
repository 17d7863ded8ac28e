"""Files appear complete or not at all, also after a kill."""

import errno
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.files import atomic_directory, atomic_files, remove_temporaries, write_atomic
from tests.helpers import UNPRIVILEGED, needs_permissions

COPY = """
import os, signal, sys
from pathlib import Path
from simgan_cli import files

if sys.argv[3] == "killed":
    files.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
files.copy_atomic(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
@needs_permissions
def test_a_copy_replaces_the_read_only_leftover_of_a_killed_one(tmp_path: Path) -> None:
    source, copy = tmp_path / "labels.csv", tmp_path / "copy.csv"
    source.write_text("true")
    source.chmod(0o444)
    command = [*UNPRIVILEGED, sys.executable, "-c", COPY, str(source), str(copy)]
    assert subprocess.run([*command, "killed"], check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(".tmp-*")
    assert left.stat().st_mode & 0o777 == 0o444
    subprocess.run([*command, ""], check=True)
    assert (copy.read_text(), copy.stat().st_mode & 0o777) == ("true", 0o444)
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file")
def test_a_device_is_written_to_and_stays_one(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.symlink_to(os.devnull)
    write_atomic(nothing, b"results")
    assert nothing.is_char_device()


def test_files_of_a_group_appear_together(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    paths[1].write_bytes(b"old")
    with atomic_files() as write:
        for path in paths:
            write(path, b"new" * 1000)
        assert not paths[0].exists()
        assert paths[1].read_bytes() == b"old"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"new" * 1000, "b": b"new" * 1000}


def test_a_group_that_fails_leaves_the_earlier_files(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), atomic_files() as write:
        write(path, b"new")
        write(tmp_path / "nowhere" / "b", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}


def test_groups_that_lock_files_in_opposite_order_do_not_deadlock(tmp_path: Path) -> None:
    paths, both = [tmp_path / "a", tmp_path / "b"], threading.Barrier(2, timeout=10)

    def write_all(order: int) -> None:
        with atomic_files() as write:
            for path in paths[::order]:
                write(path, b"new")
                if path == paths[::order][0]:
                    both.wait()  # each holds its first lock, which is the other's second

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write_all, (1, -1)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"new", "b": b"new"}


REPLACE = """
import os, signal, sys
from pathlib import Path
from simgan_cli import files

rename = Path.rename
def stop_after_retiring(self, target):
    rename(self, target)
    if str(target).endswith("-retired"):
        os.kill(os.getpid(), signal.SIGKILL)
Path.rename = stop_after_retiring
with files.atomic_directory(Path(sys.argv[1])) as building:
    (building / "a").write_text("new")
"""


@pytest.mark.slow
def test_an_interrupted_replacement_of_a_folder_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "entry"
    with atomic_directory(folder) as building:
        (building / "a").write_text("old")
    command = [sys.executable, "-c", REPLACE, str(folder)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not folder.exists()
    remove_temporaries(tmp_path)
    assert ((folder / "a").read_text(), [path.name for path in tmp_path.iterdir()]) == ("new", ["entry"])


def test_files_are_written_on_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(descriptor: int, operation: int) -> None:  # as of a mount of a cluster's file system without locks
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", unknown)
    write_atomic(tmp_path / "a", "content")
    assert (tmp_path / "a").read_text() == "content"
    with RunFolder(tmp_path / "run").locked():
        pass


def test_text_with_a_file_name_that_is_not_utf_8_can_be_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / "predictions.csv", os.fsdecode(b"\xff.png"))
    assert (tmp_path / "predictions.csv").read_text() == r"\udcff.png"
