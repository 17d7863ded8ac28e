"""Train several estimators in parallel on the available cores."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Result = TypeVar("Result")
Report = Callable[[int, int], None]  # updates done, updates in all
Training = Callable[[Report], Result]


def run_trainings(trainings: Sequence[Training[Result]], workers: int, progress: Report) -> list[Result]:
    """Return the results of `trainings`; up to `workers` run at once, on equal parts of PyTorch's threads.

    `progress` gets the sum of all updates. The first exception, or a signal, stops all trainings at their next update
    and is raised.
    """
    lock, is_stopped = threading.Lock(), threading.Event()
    shares = [0.0] * len(trainings)

    def run(index: int) -> Result:
        def report(done: int, total: int) -> None:
            if is_stopped.is_set():
                raise CancelledError
            with lock:
                shares[index] = done / total
                progress(round(sum(shares) * total), len(trainings) * total)

        result = trainings[index](report)
        shares[index] = 1.0  # early stopping ends before the last update
        return result

    threads, workers = torch.get_num_threads(), min(workers, len(trainings))
    if workers <= 1:
        return [run(index) for index in range(len(trainings))]
    each = max(1, threads // workers)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(each,))
    try:
        futures = [pool.submit(run, index) for index in range(len(trainings))]
        for future in wait(futures, return_when=FIRST_EXCEPTION).done:
            future.result()
        return [future.result() for future in futures]
    finally:
        is_stopped.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # the pool's threads changed the default of later ones
