"""Runs side by side: processes of one thread each."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess

import torch

from weft.racing.run import Job, Record, run

__all__ = ["Pool", "cores"]


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not everywhere, but where containers are
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pool:
    """Runs jobs, so many at a time; one at a time is in this process, on all its threads.

    Args:
        workers: how many.

    Raises:
        ValueError: from `run`, for what another process cannot be sent.
    """

    def __init__(self, workers: int):
        self._workers = workers
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Record]]:
        """Yield each job with its record, as they end."""
        if self._workers == 1:
            yield from ((job, run(job)) for job in jobs)
            return
        futures = {}
        try:
            futures = {self._opened(job).submit(run, job): job for job in jobs}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            time.sleep(0.2)  # Ctrl-C ends them too, and may come here a moment later
            raise RuntimeError(
                "a process ended before its run did. A script that races needs its call under"
                ' `if __name__ == "__main__":`, or workers=1; else it was killed, perhaps for memory'
            ) from error
        finally:
            for future in futures:
                future.cancel()

    def _opened(self, job: Job) -> ProcessPoolExecutor:
        try:
            pickle.dumps(job)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{job.contestant.name} on {job.task.name} cannot be sent to another process"
                f" ({error}): define it at the top of a file, or race with workers=1"
            ) from error
        if self._executor is None:
            # not forked: a fork of a process whose OpenMP threads have run may hang
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self._workers, context, _begin)
        return self._executor


def _begin() -> None:
    """A process's first act: one thread, no last words at Ctrl-C, and no life after its parent's."""
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: BaseProcess) -> None:
    """End this process when its parent has ended, by whatever: it would wait for work for ever."""
    parent.join()
    os._exit(1)
