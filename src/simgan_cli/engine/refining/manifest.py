"""The file of --manifest: a JSON line for each image."""

import json
from typing import BinaryIO

from simgan_cli.engine.refining.outcome import Outcome


class Manifest:
    """JSON lines in the order of the images, whatever the order in which they get done."""

    def __init__(self, file: BinaryIO, model_sha256: str) -> None:
        self._file, self._model = file, model_sha256
        self._early: dict[int, Outcome] = {}
        self._next = 0

    def add(self, outcome: Outcome) -> None:
        """Write the line of an image, once those before it are there."""
        self._early[outcome.task.number] = outcome
        while self._next in self._early:
            self._write(self._early.pop(self._next))
            self._next += 1

    def add_unusable(self, path: str, reason: str) -> None:
        """Write the line of what could not be opened, an image or an archive of them: nothing is made of it."""
        self._write_line(path, None, "failed", reason)

    def close(self) -> None:
        """Write what still waits for images that were not reached."""
        for number in sorted(self._early):
            self._write(self._early.pop(number))

    def _write(self, outcome: Outcome) -> None:
        source, output = str(outcome.task.source), str(outcome.task.output)
        hashes = (outcome.source_sha256, outcome.output_sha256)
        self._write_line(source, output, outcome.status, outcome.reason, *hashes)

    def _write_line(
        self,
        source: str,
        output: str | None,
        status: str,
        reason: str,
        source_sha256: str | None = None,
        output_sha256: str | None = None,
    ) -> None:
        line = {"source": source, "output": output, "status": status}
        line |= {"source_sha256": source_sha256, "output_sha256": output_sha256, "model_sha256": self._model}
        line |= {"reason": reason} if reason else {}
        self._file.write(json.dumps(line).encode() + b"\n")
