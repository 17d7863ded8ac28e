"""Messages on stderr, data on stdout, and the one place where an exception becomes an exit code."""

import errno
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simgan_cli.documents import Document, ErrorDocument
from simgan_cli.errors import EXIT_INTERRUPTED, Interrupted, LabelImages, SettingsError, SimganError, is_out_of_memory
from simgan_cli.files import with_filename

REFRESH = 0.1  # seconds between updates of a bar: drawing takes longer than a small image


class _Stderr:
    """sys.stderr, silent once a write fails: a closed terminal or a full disk must not end hours of work."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below(), name)

    def write(self, text: str) -> int:
        try:
            self._below().write(text)
            self._below().flush()
        except OSError:
            with Path(os.devnull).open("wb") as nowhere:  # the descriptor itself: Python flushes to it at exit
                os.dup2(nowhere.fileno(), self._below().fileno())
        return len(text)

    @staticmethod
    def _below() -> IO[str]:
        file: IO[str] = getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # below the proxy of Rich's bars
        return file


# No emoji: Rich would draw them in place of names such as ":skull:.png".
stderr = Console(file=cast("IO[str]", _Stderr()), highlight=False, soft_wrap=True, emoji=False)
stdout = Console(highlight=False, soft_wrap=True, emoji=False)


def strip_control(text: str) -> str:
    """Return `text` with control characters escaped: a file name could otherwise steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def echo_err(text: str, style: str = "") -> None:
    """Write a line to stderr."""
    stderr.print(escape(strip_control(text)), style=style or None)


def format_duration(seconds: float) -> str:
    """Return a duration as h:mm:ss."""
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"


def print_json(document: Document) -> None:
    """Write the one document that --json promises to stdout."""
    with with_filename(Path("standard output")):
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()


def print_error(exit_code: int, problems: Sequence[str]) -> None:
    """Write the error that ended a command to stdout, as --json promises."""
    document: ErrorDocument = {
        "schema": "simgan.error/1",
        "exit_code": exit_code,
        "message": "\n".join(problems),
        "problems": list(problems),
    }
    with suppress(OSError):  # a full stdout may be the error itself
        print_json(document)


class ProgressLine:
    """Shows one piece of work after the other: as a bar on a terminal, elsewhere as plain lines.

    Lines come every `every` units, and at least `pause` seconds apart.
    """

    def __init__(self, every: int = 1, *, quiet: bool, pause: float = 0.0) -> None:
        self._every, self._pause, self._is_plain = every, pause, not (quiet or stderr.is_terminal)
        self._verb, self._started, self._written, self._written_at, self._shown_at = "", 0.0, 0, 0.0, 0.0
        self._bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(20), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
            console=stderr, disable=quiet or not stderr.is_terminal, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("", visible=False, rate="")

    def __enter__(self) -> "ProgressLine":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, verb: str, unit: str, done: int, total: int) -> None:
        """Show that `done` of the `total` units of some work are finished."""
        now = time.monotonic()
        if verb != self._verb:
            self._verb, self._started, self._written, self._written_at, self._shown_at = verb, now, 0, now, 0.0
            self._bar.reset(self._task, description=strip_control(verb), total=total, visible=True)
        if now < self._shown_at + REFRESH and done < total:
            return
        self._shown_at = now
        self._bar.update(self._task, completed=done, rate=f"{self._bar.tasks[0].speed or 0:.0f} {unit}/s")
        if self._is_plain and done >= self._written + self._every and now >= self._written_at + self._pause:
            self._written, self._written_at = done, now
            rate = done / max(1e-9, now - self._started)
            echo_err(f"{verb} {done:,}/{total:,} {unit}, {rate:.0f}/s, ETA {format_duration((total - done) / rate)}")


@contextmanager
def exit_codes(
    writing: str,
    smaller: str,
    again: str = "the same command",
    interrupted: str = "interrupted; earlier saves are untouched",
    *,
    json: bool = False,
) -> Iterator[None]:
    """Turn errors into messages and exit codes (see simgan_cli.errors), with `json` into a document, too.

    `writing` names the output, `smaller` the way to need less memory, `again` the way to resume after a full disk.
    `interrupted` is the message after a stop.
    """
    try:
        yield
    except Interrupted as interruption:
        echo_err(interrupted)
        raise typer.Exit(interruption.exit_code) from interruption
    except KeyboardInterrupt as interruption:
        echo_err("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from interruption
    except BrokenPipeError:
        raise  # the reader of stdout is gone: Click exits with 1, without a message
    except (SimganError, OSError, MemoryError, RuntimeError) as error:
        problems = _problems(error, writing, again, smaller)
        if problems is None:
            raise
        for problem in problems:
            echo_err(f"error: {problem}", "bold red")
        if isinstance(error, LabelImages):
            for what, arguments in error.remedies.items():
                echo_err(f"to {what}: {shlex.join(['simgan', *sys.argv[1:], *arguments])}")
        exit_code = error.exit_code if isinstance(error, SimganError) else 1
        if json and os.environ.get("RANK", "0") == "0":  # torchrun's first rank alone
            print_error(exit_code, problems)
        raise typer.Exit(exit_code) from error


def _problems(error: Exception, writing: str, again: str, smaller: str) -> Sequence[str] | None:
    """Return the messages of an error, None for an unexpected one, whose traceback helps more."""
    if isinstance(error, SettingsError):
        return error.problems
    if isinstance(error, SimganError):
        return [str(error)] if str(error) else []  # another rank has written it
    if isinstance(error, OSError):
        return [_os_error(error, writing, again)]
    if is_out_of_memory(error):
        return [f"out of memory ({(str(error) or type(error).__name__).splitlines()[0]}); {smaller}"]
    return None


def _os_error(error: OSError, writing: str, again: str) -> str:
    place = str(error.filename or writing)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"{place}: {os.strerror(error.errno)}; free some space and rerun with {again}; earlier saves are untouched"
        )
    return f"{place}: {error.strerror or error}; earlier saves are untouched"
