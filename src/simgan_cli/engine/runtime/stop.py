"""A request to stop a long job. Imports no torch, so that signals can set it from the start."""

from dataclasses import dataclass
from typing import Literal

StopReason = Literal["signal", "interrupt", "max-time"]


@dataclass
class StopRequest:
    """Set `reason` from anywhere, a signal handler too, to save and stop after the work at hand.

    `is_listening` is true once the job looks at it.
    """

    reason: StopReason | None = None
    is_listening: bool = False
