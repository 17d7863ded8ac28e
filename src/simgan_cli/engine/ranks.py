"""The processes that torchrun starts: which one this is, and how they bring results together."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ranks:
    """The number of this process and how many there are; 0 of 1 without torchrun."""

    rank: int
    count: int

    @classmethod
    def of_process(cls) -> "Ranks":
        """Read what torchrun put into the environment."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def is_first(self) -> bool:
        """Say whether this is the one that talks."""
        return self.rank == 0

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connect the processes for the length of the block."""
        if self.count == 1:
            yield
            return
        import torch.distributed as dist

        dist.init_process_group("gloo")
        try:
            yield
        finally:
            dist.destroy_process_group()

    def gather(self, value: Any) -> list[Any]:
        """Return everybody's `value`, by rank, to everybody; waits for the slowest."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values
