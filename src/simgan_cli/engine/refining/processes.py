"""A refining job in several processes, one for each core: Python runs one thread of a process at a time.

The processes are forked once the job is planned, so they share the model and start at once. Each refines a part of the
plan. They report to the first process over a pipe each, and end when it does.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import BinaryIO

import torch

from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.refining.job import Listener, OddImages, RefineJob
from simgan_cli.engine.refining.outcome import Report
from simgan_cli.engine.refining.plan import Plan
from simgan_cli.engine.runtime.stop import StopReason, StopRequest
from simgan_cli.errors import SimganError
from simgan_cli.portability import stop_signals
from simgan_cli.settings.refine import RefineConfig

MIN_IMAGES = 256  # of a process, which takes a tenth of a second to start
MAX_PIXELS = 2**20  # of an image; with larger ones threads spend their time in the network, and memory is short
LOOK_EVERY = 0.2  # seconds between looks for a request to stop


def processes_for(plan: Plan, cores: int, size: tuple[int, int] | None) -> int:
    """Return the number of processes that refine `plan`, of images of `size` (H, W), soonest on a CPU.

    An archive is written by one process, so a few archives leave the others idle; threads share them better.
    """
    if sys.platform != "linux" or not hasattr(os, "fork"):  # macOS and Windows cannot fork a process that uses torch
        return 1
    if multiprocessing.current_process().daemon:  # as in a Pool: Python lets it have no processes
        return 1
    if size is None or size[0] * size[1] > MAX_PIXELS:
        return 1
    archives = len(list(plan.archives()))
    if archives:
        return cores if archives >= cores and plan.images >= cores * MIN_IMAGES else 1
    return max(1, min(cores, plan.images * plan.copies // MIN_IMAGES))


@dataclass
class _Child:
    """A process, the end of its pipe here, and how far it is."""

    process: BaseProcess
    connection: Connection
    done: int
    total: int


class ParallelJob:
    """A job in `count` processes, forked at once: this process may have no other threads yet."""

    def __init__(
        self,
        count: int,
        config: RefineConfig,
        plan: Plan,
        refiner: ImageRefiner,
        listener: Listener,
        stop: StopRequest,
        manifest: BinaryIO | None,
    ) -> None:
        self._count, self._config, self._plan, self._refiner = count, config, plan, refiner
        self._listener, self._stop, self._manifest = listener, stop, manifest
        self._children: list[_Child] = []
        self._reports: list[Report] = []
        self._errors: list[BaseException] = []
        self._odd = OddImages(lambda: sum(child.total for child in self._children))
        stop.is_listening = True
        try:
            for part in plan.split(count):
                self._start(part)
        except BaseException:
            self._end()
            raise

    @property
    def report(self) -> Report:
        """The sum of the parts that have ended."""
        return Report.total(self._reports)

    def run(self) -> Report:
        """Wait for all parts. Raises what one of them raises, after the others have stopped.

        After any exception, every result that exists is complete.
        """
        try:
            self._listen()
        except BaseException:
            self._tell("interrupt")
            self._listen()
            raise
        finally:
            self._end()
        if self._errors:
            raise self._errors[0]
        return self.report

    def _start(self, plan: Plan) -> None:
        ours, theirs = multiprocessing.Pipe()

        def work() -> None:
            for number in stop_signals():  # a terminal sends them to all processes; the first one relays them
                signal.signal(number, signal.SIG_IGN)
            for connection in (ours, *(child.connection for child in self._children)):
                connection.close()  # so that the end of the first process ends the pipes
            report, error = self._refine(plan, theirs)
            with suppress(OSError):
                theirs.send(("ended", report, error))

        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        theirs.close()
        self._children.append(_Child(process, ours, 0, plan.images * plan.copies))

    def _refine(self, plan: Plan, connection: Connection) -> tuple[Report, BaseException | None]:
        """Refine a part, in its process; return its report and the exception that ended it."""
        relay = _Relay(connection)
        manifest = None if self._manifest is None else relay
        common = self._config, plan, self._refiner, relay, self._stop, manifest
        job = RefineJob(*common, processes=self._count, refuse_odd=relay.refuse_odd)
        try:
            # Replaces PyTorch's pool, which no fork survives; two threads that need it first would fail.
            torch.set_num_threads(torch.get_num_threads())
            threading.Thread(target=_obey, args=(connection, self._stop), daemon=True).start()
            job.run()
        except BaseException as error:
            if not isinstance(error, SimganError | OSError):
                error.add_note(traceback.format_exc())
            return job.report, error
        return job.report, None

    def _end(self) -> None:
        for child in self._children:
            child.connection.close()  # a process that is still at work stops
            child.process.join()

    def _listen(self) -> None:
        """Take what the processes send until all have ended."""
        waiting = {child.connection: child for child in self._children if not child.connection.closed}
        was_told = False
        while waiting:
            if self._stop.reason and not was_told:
                was_told = True
                self._tell(self._stop.reason)
            for connection in wait(list(waiting), LOOK_EVERY):
                child = waiting[connection]  # type: ignore[index]
                if not self._take(child):
                    child.connection.close()
                    del waiting[child.connection]

    def _take(self, child: _Child) -> bool:
        """Take what a process has sent; return whether more will come."""
        try:
            what, *values = child.connection.recv()
        except (EOFError, ConnectionResetError):  # the latter where it left a message unread
            child.process.join()
            self._fail(
                SimganError(
                    f"a process of this job ended with code {child.process.exitcode}, as by lack of memory; "
                    f"{self._config.resume_hint}"
                )
            )
            return False
        if what == "ended":
            report, error = values
            self._reports.append(report)
            if error is not None:
                self._fail(error)
            return False
        if what == "advanced":
            child.done, child.total = values
            self._listener.advanced(
                sum(each.done for each in self._children), sum(each.total for each in self._children)
            )
        elif what == "warning":
            self._listener.warning(*values)
        elif what == "odd":
            try:
                self._odd.add(*values)
            except SimganError as error:
                self._fail(error)
        elif self._manifest is not None:
            self._manifest.write(*values)
        return True

    def _fail(self, error: BaseException) -> None:
        self._errors.append(error)
        self._tell("signal")

    def _tell(self, reason: StopReason) -> None:
        for child in self._children:
            with suppress(OSError):  # it has ended
                child.connection.send(reason)


class _Relay:
    """Sends to the first process what a part of the job reports, and lines of its manifest."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def advanced(self, done: int, total: int) -> None:
        self._connection.send(("advanced", done, total))

    def warning(self, text: str) -> None:
        self._connection.send(("warning", text))

    def refuse_odd(self, path: str, reason: str) -> None:
        self._connection.send(("odd", path, reason))

    def write(self, line: bytes) -> None:
        self._connection.send(("line", line))


def _obey(connection: Connection, stop: StopRequest) -> None:
    """Wait for a request to stop; the end of the first process is one, too."""
    try:
        stop.reason = connection.recv()
    except (EOFError, OSError):
        stop.reason = "signal"
