"""SIGINT, SIGTERM, SIGUSR1 and SIGHUP as a request to stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from simgan_cli.engine.runtime.stop import StopRequest
from simgan_cli.errors import EXIT_INTERRUPTED, EXIT_STOPPED, Interrupted


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Yield a request that signals set: before the job heeds it, leave at once; then, stop after the work at hand.

    A second signal after Ctrl-C leaves at once, too. Raises Interrupted where the signal arrives.
    """
    stop = StopRequest()

    def handle(number: int, _: FrameType | None) -> None:
        interrupt = number == signal.SIGINT
        if not stop.is_listening or stop.reason == "interrupt":
            raise Interrupted(EXIT_INTERRUPTED if interrupt else EXIT_STOPPED)
        stop.reason = "interrupt" if interrupt else "signal"

    before = {number: signal.signal(number, handle) for number in _heard()}
    try:
        yield stop
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _heard() -> list[signal.Signals]:
    """Return the signals to act upon: SIGHUP, of a terminal that closes, only where nohup has not put it off."""
    hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, *hangup]
