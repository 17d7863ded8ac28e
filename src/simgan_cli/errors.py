"""Every error that simgan raises on purpose, and the exit code it means.

    SimganError              1   simgan failed: a full disk, no memory, a file that cannot be written
    ├── SettingsError        2   the command line, a settings file or the environment asks for the impossible
    ├── DataError            4   images or folders that cannot be used
    │   ├── LabelImages        4   a folder with masks, depth or codes among its images; patterns must choose
    │   ├── UnreadableImage    4   one image; skipped and counted unless --strict
    │   └── UnreadableArchive  4   one tar or zip file; likewise
    ├── CheckpointError      4   a checkpoint or model that is damaged or belongs to something else
    ├── DivergedError        4   training produced NaN or infinity
    └── EndedElsewhere       -   another rank or command failed and reports why; its exit code
    Interrupted         75 130   stopped by a signal at once, saving nothing more

Jobs that completed or saved have codes, too: 3 where some images of a batch failed, 75 or 130 after a signal.

Each message names the path, what was found, what was wanted and what to do.
"""

import errno
from pathlib import Path
from typing import Any

EXIT_OK = 0
EXIT_SOME_FAILED = 3  # some images of a batch; the rest are done
EXIT_STOPPED = 75  # EX_TEMPFAIL: saved; rerun to resume
EXIT_INTERRUPTED = 130  # 128 + SIGINT

# The meaning of each code; the reference shows this table.
EXIT_CODES = {
    EXIT_OK: "done",
    1: "failed, as on a full disk; earlier saves are untouched",
    2: "wrong or contradictory settings, all listed at once",
    EXIT_SOME_FAILED: "some images failed; fix them and rerun with --skip-existing",
    4: "bad data, checkpoint or model, or training diverged",
    EXIT_STOPPED: "stopped after saving (SIGTERM, SIGUSR1, SIGHUP, --max-time); rerun it",
    EXIT_INTERRUPTED: "stopped after saving (Ctrl-C); rerun it",
}


def plural(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 file" or "2,000 files"."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def is_shortage(error: BaseException) -> bool:
    """Return whether the process lacks memory, file descriptors or disk; the file that it was reading may be fine."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT)
    return is_out_of_memory(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means out of memory, as Python, its threads, PyTorch, C++ or oneDNN report it.

    oneDNN reports a broken promise where it could not create a primitive for its cache.
    """
    phrases = (
        "allocate memory",
        "size calculation overflowed",
        "bad_alloc",
        "could not create a primitive",
        "can't start new thread",
        "Broken promise",
    )
    name = type(error).__name__  # torch's own class, without importing torch
    return isinstance(error, MemoryError) or name == "OutOfMemoryError" or any(each in str(error) for each in phrases)


class SimganError(Exception):
    """Something went wrong that a person can act on."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to restore it in another process: not by its own parameters, which it may not keep."""
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[SimganError], args: tuple[Any, ...]) -> SimganError:
    error = kind.__new__(kind)
    error.args = args
    return error


class SettingsError(SimganError):
    """One or more settings are wrong; `problems` holds all of them, a sentence each."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class DataError(SimganError):
    """Images or folders cannot be used as they are."""

    exit_code = 4


class LabelImages(DataError):
    """A folder holds images that look like labels, and no pattern selects the pictures.

    `remedies` maps each way out, in words, to the arguments that take it.
    """

    def __init__(self, message: str, remedies: dict[str, tuple[str, ...]]) -> None:
        self.remedies = {action: arguments for action, arguments in remedies.items() if arguments}
        super().__init__(message)


class UnreadableImage(DataError):
    """One image file could not be decoded."""

    def __init__(self, place: object, reason: str) -> None:  # a path, or what prints as one
        self.reason = reason
        super().__init__(f"{place}: {reason}")


class UnreadableArchive(DataError):
    """One tar or zip file is damaged, encrypted, not safe to unpack, or expands too far."""

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class CheckpointError(SimganError):
    """A checkpoint or an exported model is damaged, incomplete or belongs to other settings."""

    exit_code = 4


class DivergedError(SimganError):
    """A loss or a weight became NaN or infinite."""

    exit_code = 4


class EndedElsewhere(SimganError):
    """Another rank or command failed with `exit_code`; `message` is empty where that one reports why."""

    def __init__(self, exit_code: int, message: str = "") -> None:
        self.exit_code = exit_code
        super().__init__(message)


class Interrupted(BaseException):
    """A signal ends the command at once, early or as the second Ctrl-C; unwinds like KeyboardInterrupt."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(exit_code)
