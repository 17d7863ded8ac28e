"""Run command lines of `simgan` without the POSIX features that Windows lacks.

    python tests/without_posix.py "train --synthetic renders --real photos" "status run --json"

POSIX's modules and calls are gone. Folders cannot be opened, open or mapped files neither renamed nor removed, and a
rename ends at an existing name. Text files need a named encoding. The last line of stdout is the list of exit codes.
"""

import asyncio  # noqa: F401 - it and the next imports choose by sys.platform, and need POSIX here
import errno
import json
import multiprocessing.reduction  # noqa: F401
import os
import platform
import shlex
import shutil
import signal
import subprocess  # noqa: F401
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

MODULES = ("fcntl", "grp", "pwd", "resource", "termios")
CALLS = ("fork", "pread", "sched_getaffinity", "statvfs", "sync", "O_CLOEXEC", "O_NOFOLLOW")
SIGNALS = ("SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2")


def main(lines: list[str]) -> None:
    """Run each line and print the exit codes."""
    take_away()
    from simgan_cli.cli import app

    codes = []
    for line in lines:
        sys.argv = ["simgan", *shlex.split(line)]
        try:
            app.main()
        except SystemExit as end:
            codes.append(end.code)
    sys.stdout.write(json.dumps(codes) + "\n")


def take_away() -> None:
    """Remove the features of this process that Windows lacks."""
    platform.uname()  # its answer is cached
    sys.modules |= dict.fromkeys(MODULES)  # type: ignore[arg-type]  # None: importing it fails
    for name in CALLS:
        delattr(os, name)
    for name in SIGNALS:
        delattr(signal, name)
    os.open = _without_folders(os.open)
    for name in ("rename", "replace", "unlink", "remove", "rmdir"):
        setattr(os, name, _without_open_files(getattr(os, name), may_replace=name == "replace"))
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  # rmtree would open folders
    warnings.filterwarnings("error", category=EncodingWarning, module="simgan_cli")
    from simgan_cli import portability

    portability.IS_WINDOWS = True


def _without_folders(opened: Callable[..., int]) -> Callable[..., int]:
    def call(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if Path(path).is_dir() and not flags & os.O_TMPFILE == os.O_TMPFILE:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, flags, *more, **named)

    return call


def _without_open_files(function: Callable[..., None], *, may_replace: bool) -> Callable[..., None]:
    def call(*paths: Any, **named: Any) -> None:
        if len(paths) == 2 and not may_replace and Path(paths[1]).exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(paths[1]))
        for path in paths:
            place = str(Path(path).resolve())
            if any(used == place or used.startswith(f"{place}/") for used in _files_in_use()):
                raise PermissionError(errno.EACCES, "in use by this process", str(path))
        function(*paths, **named)

    return call


def _files_in_use() -> set[str]:
    """Return the paths that this process has open or mapped."""
    opened = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # another thread has closed it
            opened.add(str(link.readlink()))
    return opened | {line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text("utf-8").splitlines()}


if __name__ == "__main__":
    main(sys.argv[1:])
