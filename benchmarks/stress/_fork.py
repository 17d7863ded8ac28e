"""Processes forked from one that has imported PyTorch already: starting each would take seconds."""

import os
import signal
import time
from collections.abc import Callable, Iterable
from importlib import import_module


def warm_up(modules: Iterable[str]) -> None:
    """Import slow modules without starting threads, since a process with threads cannot be forked safely."""
    import torch

    torch.set_num_threads(1)
    for module in modules:
        import_module(module)


def fork(work: Callable[[], int]) -> int:
    """Run a function in a forked process, which exits with its result; return the process id."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            code = work()
        finally:
            os._exit(code)
    return process


def wait(process: int, seconds: float) -> int:
    """Return the exit code of a process, negative after a signal; one that takes too long is killed."""
    until = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.002)


def silence(path: str = os.devnull) -> None:
    """Write the output of this process to a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(file, number)
