"""Differences between Windows and POSIX, each in one place.

Windows neither renames nor deletes a file that a process has open, and cannot sync a folder.
"""

import ctypes
import errno
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

IS_WINDOWS = os.name == "nt"
LOCK_PAUSE, MAX_REPLACE_SECONDS = 0.02, 2.0  # seconds: between attempts; to wait for readers before a rename
_reading = threading.Lock()


def open_to_write(path: Path) -> int:
    """Return a descriptor of `path`, created if missing, to read and write bytes; a link is not followed."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags, 0o666)


def take_lock(descriptor: int, *, patience: float) -> bool:
    """Lock an open file against all other processes; return False where its file system has no locks.

    Closing the descriptor releases the lock, and so does the end of the process. Raises BlockingIOError where another
    process holds it longer than `patience` seconds.
    """
    from filelock import lock_descriptor  # 20 ms that --help saves

    deadline = time.monotonic() + patience
    try:
        while not lock_descriptor(descriptor, blocking=False):
            if time.monotonic() >= deadline:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            time.sleep(LOCK_PAUSE)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            return False
        raise
    return True


def remove_locked(path: Path, descriptor: int) -> None:
    """Remove a lock file and release its lock, in the order that the system allows."""
    if IS_WINDOWS:
        os.close(descriptor)
        with suppress(OSError):  # a process that waits for it has it open, and removes it
            path.unlink()
    else:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def close_to_rename(file: BinaryIO) -> None:
    """Close a file on Windows, which cannot rename or remove an open one; elsewhere leave it open, and so locked."""
    if IS_WINDOWS:
        file.close()


def replace_file(source: Path, target: Path) -> None:
    """Rename a file over another; on Windows wait for programs that read that, such as virus scanners."""
    deadline = time.monotonic() + MAX_REPLACE_SECONDS
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if not IS_WINDOWS or time.monotonic() >= deadline:
                raise
        time.sleep(LOCK_PAUSE)


def has_syncfs() -> bool:
    """Return whether `sync_files` may be called: on Linux."""
    return _syncfs() is not None


def sync_files(descriptors: list[int]) -> None:
    """Write open files to disk; several take one call for each file system. Raises OSError."""
    if len(descriptors) == 1:
        os.fsync(descriptors[0])
        return
    for descriptor in {os.fstat(descriptor).st_dev: descriptor for descriptor in descriptors}.values():
        if _syncfs()(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


@cache
def _syncfs() -> Any:
    return None if IS_WINDOWS else getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


def read_at(file: BinaryIO, size: int, offset: int) -> bytes:
    """Return up to `size` bytes from `offset` of an open file; may be called by several threads at once."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), size, offset)
    with _reading:
        file.seek(offset)
        return file.read(size)


def peak_memory_bytes() -> int | None:
    """Return the peak memory of this process in bytes; None where the system does not report it."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def stop_signals() -> list[signal.Signals]:
    """Return the signals that ask a job to stop; SIGHUP, of a closed terminal, unless nohup ignores it."""
    names = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP", "SIGBREAK")  # Windows has SIGBREAK in place of the two before
    signals = [signal.Signals(getattr(signal, name)) for name in names if hasattr(signal, name)]
    return [each for each in signals if each.name != "SIGHUP" or signal.getsignal(each) is not signal.SIG_IGN]
