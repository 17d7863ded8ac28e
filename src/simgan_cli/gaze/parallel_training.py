"""Train several estimators at once, on the cores that there are."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Result = TypeVar("Result")
Report = Callable[[int, int], None]  # of one training: updates done, and all
Training = Callable[[Report], Result]


def run_trainings(trainings: Sequence[Training[Result]], workers: int, progress: Report) -> list[Result]:
    """Return the results of `trainings`, of which up to `workers` run at once on equal parts of PyTorch's threads.

    `progress` gets the updates of all of them together. The first exception of a training stops the others at their
    next update and is raised; so does a signal.
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
        shares[index] = 1.0  # also where it stopped early
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
        torch.set_num_threads(threads)  # what the pool's threads set is the default of later ones, too
