"""How a signal asks a long job to end well. Imports no torch, so that it can be at hand from the first instant."""

from dataclasses import dataclass
from typing import Literal

StopReason = Literal["signal", "interrupt", "max-time"]


@dataclass
class StopRequest:
    """Set `reason` from anywhere, a signal handler too, to save and stop after the work at hand.

    `is_listening` says that the job has come so far as to look at it.
    """

    reason: StopReason | None = None
    is_listening: bool = False
