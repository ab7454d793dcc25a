"""The job of `weft train`: four optimizers, one small convolutional net, real digits.

Each optimizer gets the same initial weights, the same batches in the same order and the same number
of epochs. Its learning rate is the best of a grid of three, a factor of about three apart, which goes
on beyond its edge where the best is there; it is chosen on a part of the *training* digits, and the
held-out digits are looked at only for the final figures.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from weft.learner.callbacks import StopFit
from weft.learner.data import Digits, in_memory, split
from weft.learner.learner import Learner, NonFiniteLoss
from weft.learner.metrics import accuracy
from weft.learner.recorder import Recorder
from weft.optimizer.optimizer import Optimizer
from weft.optimizers import SGD, Adam
from weft.racing.pool import cores
from weft.racing.tasks.images import channels_last, small_cnn

__all__ = ["CONTESTANTS", "Comparison", "Contestant", "Job", "compare"]


def sgd_cb(p, lr, **kwargs):
    p.data.add_(-lr, p.grad.data)  # as the original has it, in an overload that torch deprecates


def agreeing(update, grad):
    """An own callback: only what the gradient agrees with (Liang et al., 2024, arXiv:2411.16085)."""
    agree = (update * grad > 0).to(update.dtype)
    return {"update": update * agree / agree.mean().clamp(min=1e-3)}


@dataclass(frozen=True)
class Contestant:
    """An optimizer, its momentum and its grid of rates."""

    name: str
    opt_func: Callable[..., torch.optim.Optimizer]
    rates: tuple[float, ...]
    moms: tuple[float, float, float] = (0.95, 0.85, 0.95)


# in the order in which the original introduces them; a sum of gradients with momentum .9 is ten
# times a gradient, which is why the second grid lies lower than the first
CONTESTANTS = (
    Contestant("plain SGD", partial(Optimizer, cbs=[sgd_cb]), (0.03, 0.1, 0.3), (0, 0, 0)),
    Contestant("SGD with momentum", partial(SGD, momentum=0.9), (0.01, 0.03, 0.1)),
    Contestant("Adam", Adam, (1e-3, 3e-3, 1e-2)),
    Contestant("Adam, agreeing", Adam.chain() + agreeing, (1e-3, 3e-3, 1e-2)),
)
MOST_RATES = 6  # tried for one optimizer


@dataclass(frozen=True)
class Job:
    """How much to train.

    Attributes:
        epochs: of a final run.
        seeds: of initial weights and shuffling, one run each.
        batch_size: of training.
        grid_epochs: of a run that tries a rate.
        grid_rows: at most this many training digits are used to try the rates, a fifth of them to
            judge, so that the search stays short where the data is large.
        workers: how many runs at a time, each on one thread: that is faster than one run on many,
            for a net this small, and the figures are the same on any number of cores.
        device: where, as torch names it.
    """

    epochs: int = 5
    seeds: tuple[int, ...] = (0, 1, 2)
    batch_size: int = 64
    grid_epochs: int = 2
    grid_rows: int = 4000
    workers: int = field(default_factory=cores)
    device: str = "cpu"


@dataclass
class Run:
    """One training: where it ended and how it got there."""

    valid_loss: float
    accuracy: float
    seconds: float
    recorder: Recorder


@dataclass
class Comparison:
    """The outcome for one contestant."""

    name: str
    grid: dict[float, float]  # rate -> validation loss
    lr: float
    runs: list[Run] = field(default_factory=list)

    @property
    def medians(self) -> dict[str, float]:
        """Validation loss, accuracy and seconds, each the median over the seeds."""
        names = ("valid_loss", "accuracy", "seconds")
        return {name: median(getattr(run, name) for run in self.runs) for name in names}

    @property
    def typical(self) -> Run:
        """The run in the middle, by validation loss."""
        return sorted(self.runs, key=lambda run: run.valid_loss)[(len(self.runs) - 1) // 2]


def beyond(grid: dict[float, float]) -> float | None:
    """The rate to try next: where the best is the lowest or highest of the grid, the one after it.

    >>> beyond({0.1: 2.0, 0.3: 1.0, 1.0: 3.0})
    >>> beyond({0.1: 2.0, 0.3: 1.5, 1.0: 1.0})
    3.3
    """
    rates = sorted(grid)
    best = min(grid, key=grid.__getitem__)
    if (
        len(rates) == MOST_RATES
        or not math.isfinite(grid[best])
        or best not in (rates[0], rates[-1])
    ):
        return None
    further = rates[-1] ** 2 / rates[-2] if best == rates[-1] else rates[0] ** 2 / rates[1]
    return float(f"{further:.2g}")


class Watch:
    """A learner callback that tells of every batch, and ends the fit when nobody waits for it."""

    def __init__(self, on_batches: Callable[[int], None], abandoned: threading.Event):
        self.on_batches, self.abandoned, self.seen = on_batches, abandoned, 0

    def after_batch(self, learn: Learner) -> None:
        self.seen += 1
        self.on_batches(1)
        if self.abandoned.is_set():
            raise StopFit


Rows = tuple[Tensor, ...]
Data = tuple[Rows, Rows]


def train(
    contestant: Contestant, lr: float, seed: int, data: Data, epochs: int, batch_size: int, cbs: Any
) -> Run:
    """One run; a rate that makes the loss infinite ends it early, with that loss.

    Args:
        contestant: whose optimizer and momentum.
        lr: the highest rate of the cycle.
        seed: of initial weights and shuffling.
        data: to train on, and to validate on.
        epochs: how many.
        batch_size: of training.
        cbs: learner callbacks.
    """
    (x, y), _ = data
    learn = Learner(
        in_memory(*data, batch_size=batch_size, seed=seed),
        small_cnn(seed, x.shape[-1], int(y.max()) + 1).to(x.device),
        F.cross_entropy,
        contestant.opt_func,
        metrics=[accuracy],
        progress=False,
    )
    started = time.perf_counter()
    outcome = {"valid_loss": math.inf, "accuracy": 0.0}
    try:
        learn.fit_one_cycle(epochs, lr, moms=contestant.moms, cbs=cbs)
        outcome |= learn.recorder.metrics[-1] if learn.recorder.metrics else {}
    except NonFiniteLoss:
        pass
    seconds = time.perf_counter() - started
    return Run(outcome["valid_loss"], outcome["accuracy"], seconds, learn.recorder)


class Runs:
    """Runs on threads of their own, until the first is not wanted any more.

    Args:
        job: how many at a time, and their batch size.
        on_batches: told how many batches have been done; a run that ends early counts as whole.
    """

    def __init__(self, job: Job, on_batches: Callable[[int], None]):
        self._job, self._on_batches = job, on_batches
        self._abandoned = threading.Event()
        self._pool = ThreadPoolExecutor(job.workers)

    def __enter__(self) -> "Runs":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._abandoned.set()
        self._pool.shutdown(cancel_futures=True)

    def submit(
        self, contestant: Contestant, lr: float, seed: int, data: Data, epochs: int
    ) -> "Future[Run]":
        """Put a run in the queue."""
        return self._pool.submit(self._run, contestant, lr, seed, data, epochs)

    def _run(self, contestant: Contestant, lr: float, seed: int, data: Data, epochs: int) -> Run:
        torch.set_num_threads(1)
        watch = Watch(self._on_batches, self._abandoned)
        run = train(contestant, lr, seed, data, epochs, self._job.batch_size, [watch])
        self._on_batches(batches(len(data[0][0]), epochs, self._job) - watch.seen)
        return run


def compare(
    digits: Digits,
    job: Job,
    contestants: Sequence[Contestant] = CONTESTANTS,
    on_batches: Callable[[int], None] = lambda n: None,
    on_grid: Callable[[Comparison], None] = lambda comparison: None,
) -> Iterator[Comparison]:
    """Yield the outcome for each contestant, in their order.

    Args:
        digits: to train on and to hold out.
        job: how much to train.
        contestants: whom to compare.
        on_batches: told how many batches have been done since it was last told.
        on_grid: told when a rate has been chosen.
    """
    there = lambda part: tuple(tensor.to(job.device) for tensor in channels_last(part))
    data = (there(digits.train), there(digits.test))
    n = min(len(digits.train[0]), job.grid_rows)
    tuning = split(tuple(tensor[:n] for tensor in data[0]), n // 5)
    with Runs(job, on_batches) as runs:
        trials = [
            {lr: runs.submit(c, lr, job.seeds[0], tuning, job.grid_epochs) for lr in c.rates}
            for c in contestants
        ]
        finals = []
        for contestant, trial in zip(contestants, trials, strict=True):
            grid = {lr: future.result().valid_loss for lr, future in trial.items()}
            while (lr := beyond(grid)) is not None:
                future = runs.submit(contestant, lr, job.seeds[0], tuning, job.grid_epochs)
                grid[lr] = future.result().valid_loss
            grid = dict(sorted(grid.items()))
            comparison = Comparison(contestant.name, grid, min(grid, key=grid.__getitem__))
            on_grid(comparison)
            lr = comparison.lr
            finals.append(
                (comparison, [runs.submit(contestant, lr, s, data, job.epochs) for s in job.seeds])
            )
        for comparison, futures in finals:
            comparison.runs = [future.result() for future in futures]
            yield comparison


def batches(rows: int, epochs: int, job: Job) -> int:
    """How many batches `epochs` of so many rows take."""
    return epochs * -(-rows // job.batch_size)


def total_batches(digits: Digits, job: Job, contestants: Sequence[Contestant]) -> int:
    """How many batches the whole job takes, if no grid has to go on beyond its edge."""
    rows = len(digits.train[0])
    n = min(rows, job.grid_rows)
    trial, final = batches(n - n // 5, job.grid_epochs, job), batches(rows, job.epochs, job)
    return sum(len(c.rates) * trial + len(job.seeds) * final for c in contestants)
