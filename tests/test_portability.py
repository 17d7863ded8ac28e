"""Parts of the program that differ between operating systems."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path, PureWindowsPath

import pytest

from simgan_cli.data.selection import path_in
from simgan_cli.portability import peak_memory_bytes, read_at, stop_signals


@pytest.mark.parametrize("has_pread", [True, False])
def test_threads_read_a_file_at_their_own_offsets(
    has_pread: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_pread:
        monkeypatch.delattr(os, "pread")
    content = os.urandom(64_000)
    (tmp_path / "file").write_bytes(content)
    wrong: list[int] = []
    with (tmp_path / "file").open("rb") as file:

        def read(start: int) -> None:
            places = range(start, len(content), 8)
            wrong.extend(place for place in places if read_at(file, 100, place) != content[place : place + 100])

        threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


IN_USE = """
import sys, threading
from pathlib import Path, PureWindowsPath

sys.path.insert(0, sys.argv[1])
import without_posix

without_posix.take_away()
from simgan_cli.files import locked_file, write_atomic

path, lock = Path("file"), Path("lock")
path.write_text("old", "utf-8")
reader = path.open("rb")
try:
    write_atomic(path, "never")
except PermissionError:
    print(reader.read().decode())
threading.Timer(0.2, reader.close).start()
write_atomic(path, "new")
print(path.read_text("utf-8"))
with locked_file(lock):
    waiting = lock.open("rb")  # as of a process that waits for its turn
waiting.close()
print(lock.exists())
with locked_file(lock):
    pass
print(lock.exists())
"""


@pytest.mark.slow
def test_on_windows_a_file_is_replaced_once_its_reader_closes_it(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", IN_USE, Path(__file__).parent], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.stdout.split() == ["old", "new", "True", "False"], result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_images_in_folders_have_the_same_names_on_windows() -> None:
    root = PureWindowsPath("C:/renders")
    assert path_in(root, root / "left eye" / "0.png") == "left eye/0.png"  # type: ignore[arg-type]


@pytest.mark.parametrize("hangup", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_closed_terminal_stops_a_job_unless_nohup_runs_it(hangup: signal.Handlers) -> None:
    before = signal.signal(signal.SIGHUP, hangup)
    try:
        assert {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1} <= set(stop_signals())
        assert (signal.SIGHUP in stop_signals()) == (hangup == signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_peak_memory_is_at_least_the_current_memory() -> None:
    peak = peak_memory_bytes()
    assert peak is not None
    assert int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") <= peak * 1.01
