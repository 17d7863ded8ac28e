"""Threads with bounded queues: nothing is lost, little is held, and errors are raised."""

import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgan_cli.engine.runtime.threads import WriteBehind, read_ahead


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 20), st.integers(1, 4))
@settings(max_examples=40)
def test_every_job_is_read_once(costs: list[int], budget: int, threads: int) -> None:
    jobs = list(enumerate(costs))
    read = read_ahead(lambda job: job, jobs, lambda job: job[1], budget, threads)
    assert sorted(read) == jobs


def test_readers_stay_within_their_budget() -> None:
    read_so_far = threading.Semaphore(0)

    def read(job: int) -> int:
        read_so_far.release()
        return job

    with closing(read_ahead(read, range(1000), lambda _: 10, budget=50, threads=2)) as items:
        next(items)
        for _ in range(1 + 5 + 2):  # one result taken, five queued, one in each of two threads
            assert read_so_far.acquire(timeout=10)
        assert not read_so_far.acquire(timeout=0.2)


def test_an_error_while_reading_or_listing_is_raised() -> None:
    def listing() -> Iterator[int]:
        yield 1
        raise OSError("listing")

    with pytest.raises(OSError, match="listing"):
        list(read_ahead(lambda job: job, listing(), lambda _: 1, 10, 2))
    with pytest.raises(ZeroDivisionError):
        list(read_ahead(lambda job: 1 // job, [1, 0, 1], lambda _: 1, 10, 2))


def test_closing_early_leaves_no_thread() -> None:
    before = threading.active_count()
    items = read_ahead(lambda job: job, range(1000), lambda _: 10, 20, 3)
    assert next(items) in range(5)
    items.close()
    assert threading.active_count() == before


def test_writers_return_every_result_and_the_first_error() -> None:
    def divide(job: int) -> int:
        return 10 // job

    with WriteBehind(divide, lambda _: 3, budget=7, threads=2) as writer:
        for job in (1, 2, 5):
            writer.put(job)
        assert sorted(writer.drained()) == [2, 5, 10]
        writer.put(0)
        with pytest.raises(ZeroDivisionError):
            writer.drained()


def test_a_writer_waits_while_its_budget_is_used_up() -> None:
    gate = threading.Event()

    def wait(_: int) -> bool:
        return gate.wait(10)

    with WriteBehind(wait, lambda _: 1, budget=2, threads=1) as writer:
        writer.put(1)
        writer.put(2)
        third = threading.Thread(target=writer.put, args=(3,))
        third.start()
        third.join(0.2)
        assert third.is_alive()
        gate.set()
        third.join(10)
        assert not third.is_alive()
        assert writer.drained() == [True, True, True]


def test_a_job_that_ends_while_results_are_collected_is_not_lost() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can, so that jobs end at every moment
    try:
        with WriteBehind[int, int](lambda job: job, lambda _: 1, budget=512, threads=8) as writer:
            found: list[int] = []
            for job in range(3000):
                writer.put(job)
                found += writer.finished()
            found += writer.drained()
    finally:
        sys.setswitchinterval(interval)
    assert (len(found), len(set(found))) == (3000, 3000)
