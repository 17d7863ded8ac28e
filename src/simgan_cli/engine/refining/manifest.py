"""The file of --manifest: a JSON line for each image, in the order of their completion."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol

from simgan_cli.documents import ImageStatus, ManifestLine
from simgan_cli.engine.refining.outcome import Outcome
from simgan_cli.engine.refining.plan import Plan
from simgan_cli.files import atomic_file
from simgan_cli.settings.refine import RefineConfig, file_of_part


class BinaryLines(Protocol):
    """Takes lines, as a file does."""

    def write(self, line: bytes, /) -> object:
        """Add a line."""


class Manifest:
    """Lines about images, and the SHA-256 of the model in each."""

    def __init__(self, file: BinaryLines, model_sha256: str) -> None:
        self._file, self._model = file, model_sha256

    def add(self, outcome: Outcome) -> None:
        """Write the line of an image."""
        hashes = outcome.source_sha256, outcome.output_sha256
        self._write(str(outcome.task.source), str(outcome.task.output), outcome.status, outcome.reason, *hashes)

    def add_unusable(self, path: str, reason: str) -> None:
        """Write the line of an image or archive that could not be opened."""
        self._write(path, None, "failed", reason, None, None)

    def _write(
        self,
        source: str,
        output: str | None,
        status: ImageStatus,
        reason: str,
        source_sha256: str | None,
        output_sha256: str | None,
    ) -> None:
        line: ManifestLine = {
            "source": source,
            "output": output,
            "status": status,
            "source_sha256": source_sha256,
            "output_sha256": output_sha256,
            "model_sha256": self._model,
            "reason": reason or None,
        }
        self._file.write(json.dumps(line).encode() + b"\n")


@contextmanager
def open_manifest(config: RefineConfig, plan: Plan) -> Iterator[BinaryIO | None]:
    """Yield the file of --manifest for a part of a job, None without that flag; it takes its place at the end."""
    if config.manifest is None:
        yield None
        return
    path = file_of_part(config.manifest, plan.part)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        yield file
