"""Processes forked from one that has imported PyTorch already: starting each would take seconds."""

import os
import signal
import time
from collections.abc import Callable, Iterable
from importlib import import_module


def warm_up(modules: Iterable[str]) -> None:
    """Import what takes long; threads stay away, for a process that has them cannot be forked safely."""
    import torch

    torch.set_num_threads(1)
    for module in modules:
        import_module(module)


def fork(work: Callable[[], int]) -> int:
    """Do some work in a forked process, which ends with the exit code that it returns; return the process's number."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            code = work()
        finally:
            os._exit(code)
    return process


def wait(process: int, seconds: float) -> int:
    """Return the exit code of a process, negative where a signal ended it; one that takes longer is killed."""
    until = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.002)


def silence(path: str = os.devnull) -> None:
    """Write what this process says to a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(file, number)
