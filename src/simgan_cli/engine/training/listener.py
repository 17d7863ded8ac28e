"""Who follows a training: the command line, or a test."""

from typing import Any, Protocol

from simgan_cli.engine.run_folder.health import Finding


class Listener(Protocol):
    """Is told how a training goes."""

    def decoding(self, domain: str, done: int, total: int) -> None:
        """Images of a domain are being read."""

    def message(self, text: str) -> None:
        """Something worth a line happened."""

    def warning(self, text: str) -> None:
        """Something a person should look at happened."""

    def finding(self, finding: Finding) -> None:
        """A rule of health fired for the first time."""

    def log(self, line: dict[str, Any], total_steps: int, eta_seconds: float) -> None:
        """A line of metrics was written."""

    def advanced(self, step: int, total_steps: int) -> None:
        """A step was finished."""
