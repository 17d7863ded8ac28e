"""Signals as a request to stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from simgan_cli.engine.runtime.stop import StopRequest
from simgan_cli.errors import EXIT_INTERRUPTED, EXIT_STOPPED, Interrupted
from simgan_cli.portability import stop_signals


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Yield a request to stop, which signals set.

    A signal before the job listens, or after Ctrl-C, raises Interrupted at once.
    """
    stop = StopRequest()

    def handle(number: int, _: FrameType | None) -> None:
        interrupt = number == signal.SIGINT
        if not stop.is_listening or stop.reason == "interrupt":
            raise Interrupted(EXIT_INTERRUPTED if interrupt else EXIT_STOPPED)
        stop.reason = "interrupt" if interrupt else "signal"

    before = {number: signal.signal(number, handle) for number in stop_signals()}
    try:
        yield stop
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
