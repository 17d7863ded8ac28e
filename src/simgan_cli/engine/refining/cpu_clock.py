"""The CPU time of a job by its use."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class CpuClock:
    """CPU seconds by use, over all threads. Blocks of one thread must not be nested."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Add this thread's CPU time in the block to `name`."""
        started = time.thread_time()
        try:
            yield
        finally:
            seconds = time.thread_time() - started
            with self._lock:
                self.seconds[name] += seconds
