"""Talk on stderr, data on stdout, and the one place where an exception becomes an exit code."""

import errno
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simgan_cli.errors import EXIT_INTERRUPTED, Interrupted, LabelImages, SettingsError, SimganError, is_out_of_memory

REFRESH = 0.1  # seconds between two looks of a bar; many small images pass in that time


class _Stderr:
    """sys.stderr, silent once it takes no more: hours of work need no terminal, end of a pipe or room for a log."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below(), name)

    def write(self, text: str) -> int:
        with self._unread():
            self._below().write(text)
        return len(text)

    def flush(self) -> None:
        with self._unread():
            self._below().flush()

    @staticmethod
    def _below() -> IO[str]:
        file: IO[str] = getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # what Rich's bars put their own before
        return file

    @contextmanager
    def _unread(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            with Path(os.devnull).open("w") as nowhere:  # the descriptor itself: Python flushes what is left at its end
                os.dup2(nowhere.fileno(), self._below().fileno())


# No emoji: Rich would draw them in place of names such as ":skull:.png".
stderr = Console(file=cast("IO[str]", _Stderr()), highlight=False, soft_wrap=True, emoji=False)
stdout = Console(highlight=False, soft_wrap=True, emoji=False)


def strip_control(text: str) -> str:
    """Return `text` without what could steer a terminal: file names may hold anything."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def echo_err(text: str, style: str = "") -> None:
    """Write a line to stderr."""
    stderr.print(escape(strip_control(text)), style=style or None)


def format_duration(seconds: float) -> str:
    """Return a duration as h:mm:ss."""
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"


def print_json(document: dict[str, Any]) -> None:
    """Write the one document that --json promises to stdout."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def status_of(error: BaseException) -> str:
    """Return the status that --json tells of a job which `error` ended."""
    return "stopped" if isinstance(error, Interrupted) else "failed"


class ProgressLine:
    """A bar with rate and time left on a terminal; elsewhere a plain line every `every` units."""

    def __init__(self, verb: str, unit: str, every: int, *, quiet: bool) -> None:
        self._verb, self._unit, self._every, self._quiet = verb, unit, every, quiet
        self._started = time.monotonic()
        self._told, self._shown_at = 0, 0.0
        self._bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(), console=stderr, disable=quiet or not stderr.is_terminal, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task(verb, total=None, rate="")

    def __enter__(self) -> "ProgressLine":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` are finished."""
        now = time.monotonic()
        if now < self._shown_at + REFRESH and done < total:
            return
        self._shown_at = now
        rate = done / max(1e-9, now - self._started)
        self._bar.update(self._task, completed=done, total=total, rate=f"{rate:.0f} {self._unit}/s")
        if not self._quiet and not stderr.is_terminal and done >= self._told + self._every:
            self._told = done
            left = format_duration((total - done) / rate)
            echo_err(f"{self._verb} {done:,}/{total:,} {self._unit}, {rate:.0f}/s, ETA {left}")


@contextmanager
def exit_codes(
    writing: str, again: str, smaller: str, interrupted: str = "interrupted; what was saved before is untouched"
) -> Iterator[None]:
    """Turn errors into messages and exit codes (see simgan_cli.errors).

    `writing` names what was being written, `again` what goes on after a full disk, `smaller` says what to do for less
    memory, `interrupted` what a stop leaves.
    """
    try:
        yield
    except SettingsError as error:
        for problem in error.problems:
            echo_err(f"error: {problem}", "bold red")
        raise typer.Exit(error.exit_code) from error
    except LabelImages as error:
        echo_err(f"error: {error}", "bold red")
        for what, arguments in error.remedies.items():
            echo_err(f"to {what}: {shlex.join(['simgan', *sys.argv[1:], *arguments])}")
        raise typer.Exit(error.exit_code) from error
    except SimganError as error:
        if str(error):
            echo_err(f"error: {error}", "bold red")
        raise typer.Exit(error.exit_code) from error
    except Interrupted as interruption:
        echo_err(interrupted)
        raise typer.Exit(interruption.exit_code) from interruption
    except KeyboardInterrupt as interruption:
        echo_err("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from interruption
    except BrokenPipeError:
        raise  # the reader of stdout has gone: Click ends with 1, and has nothing to say
    except OSError as error:
        echo_err(f"error: {_os_error(error, writing, again)}", "bold red")
        raise typer.Exit(1) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        echo_err(
            f"error: out of memory ({(str(error) or type(error).__name__).splitlines()[0]}); {smaller}", "bold red"
        )
        raise typer.Exit(1) from error


def _os_error(error: OSError, writing: str, again: str) -> str:
    place = str(error.filename or writing)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"{place}: {os.strerror(error.errno)}; free some space and run it again with {again}: "
            "what was saved before is untouched"
        )
    return f"{place}: {error.strerror or error}; nothing saved before was touched"
