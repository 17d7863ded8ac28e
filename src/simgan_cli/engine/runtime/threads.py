"""Work in threads between a reader and a writer, with bounded memory whatever the number and size of the items."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Budget:
    """An amount that threads take from and give back; a take above the total waits until all is given back."""

    def __init__(self, total: int) -> None:
        self._total, self._held = total, 0
        self._condition = threading.Condition()
        self._closed = False

    def take(self, amount: int) -> bool:
        """Wait until `amount` is free and take it; False when the budget was closed instead."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or not self._held or self._held + amount <= self._total)
            self._held += amount
            return not self._closed

    def give_back(self, amount: int) -> None:
        """Give back an `amount` that was taken."""
        with self._condition:
            self._held -= amount
            self._condition.notify_all()

    def close(self) -> None:
        """Wake all threads that wait."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()


def read_ahead(
    read: Callable[[Job], Result], jobs: Iterable[Job], cost: Callable[[Result], int], budget: int, threads: int
) -> Generator[Result, None, None]:
    """Yield `read(job)` of every job as soon as it is ready; `threads` read ahead up to `budget`.

    Beyond the budget each thread may hold one result. An exception of `read` or `jobs` is raised here. Closing the
    iterator stops the threads.
    """
    source, lock = iter(jobs), threading.Lock()
    stock: queue.SimpleQueue[Result | _Failure | None] = queue.SimpleQueue()  # None: a thread has nothing left to do
    allowed = Budget(budget)

    def work() -> None:
        try:
            while True:
                with lock:  # a generator may not be entered twice
                    job = next(source)
                result = read(job)
                if not allowed.take(cost(result)):
                    break
                stock.put(result)
        except StopIteration:
            pass
        except BaseException as error:
            stock.put(_Failure(error))
        stock.put(None)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        while threads:
            result = stock.get()
            if isinstance(result, _Failure):
                raise result.error
            if result is None:
                threads -= 1
            else:
                allowed.give_back(cost(result))
                yield result
    finally:
        allowed.close()
        for worker in workers:
            worker.join()


@dataclass(frozen=True)
class _Failure:
    error: BaseException


class WriteBehind(Generic[Job, Result]):
    """Threads that run `write(job)` while the caller continues, until the jobs in hand cost more than `budget`.

    As a context manager it waits for the jobs that have started; after an exception it drops the others.
    """

    def __init__(self, write: Callable[[Job], Result], cost: Callable[[Job], int], budget: int, threads: int) -> None:
        self._write, self._cost, self._budget = write, cost, Budget(budget)
        self._pool = ThreadPoolExecutor(threads)
        self._pending: list[Future[Result]] = []

    def __enter__(self) -> "WriteBehind[Job, Result]":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def put(self, job: Job) -> None:
        """Hand over a job, waiting for earlier ones where too many are in hand."""
        amount = self._cost(job)
        self._budget.take(amount)
        future = self._pool.submit(self._write, job)
        future.add_done_callback(lambda _: self._budget.give_back(amount))
        self._pending.append(future)

    def finished(self) -> list[Result]:
        """Return the results since the last call; raises the exception of a job that failed."""
        looked = [(future, future.done()) for future in self._pending]  # once: a job may end between two looks
        self._pending = [future for future, done in looked if not done]
        return [future.result() for future, done in looked if done]

    def drained(self) -> list[Result]:
        """Wait for all jobs and return the results since the last call; raises the exception of a job that failed."""
        wait(self._pending)
        return self.finished()
