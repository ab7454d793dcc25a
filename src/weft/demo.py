"""The job of `weft train`: four optimizers, one small convolutional net, real digits.

Each optimizer gets the same initial weights, the same batches in the same order and the same number
of epochs. Its learning rate is the best of a grid of three, a factor of about three apart, chosen on
a part of the *training* digits; the held-out digits are looked at only for the final figures.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weft.learner.data import Digits, in_memory, split
from weft.learner.learner import Learner, NonFiniteLoss
from weft.learner.metrics import accuracy
from weft.learner.recorder import Recorder
from weft.optimizer import Optimizer
from weft.optimizers import SGD, Adam, RMSprop

__all__ = ["CONTESTANTS", "Comparison", "Contestant", "Job", "compare", "small_cnn"]


def sgd_cb(p, lr, **kwargs):
    p.data.add_(-lr, p.grad.data)  # as the original has it, in an overload that torch deprecates


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
    Contestant("RMSProp", RMSprop, (1e-3, 3e-3, 1e-2)),
    Contestant("Adam", Adam, (1e-3, 3e-3, 1e-2)),
)


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
    """

    epochs: int = 6
    seeds: tuple[int, ...] = (0, 1, 2)
    batch_size: int = 64
    grid_epochs: int = 2
    grid_rows: int = 4000


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
        """The run in the middle, by validation loss: the one to draw."""
        return sorted(self.runs, key=lambda run: run.valid_loss)[(len(self.runs) - 1) // 2]


def small_cnn(seed: int, side: int = 28, n_classes: int = 10) -> nn.Module:
    """Two convolutions and a linear layer: 28,938 parameters for MNIST.

    Args:
        seed: of the initial weights.
        side: width and height of the images.
        n_classes: how many there are to tell apart.

    >>> sum(p.numel() for p in small_cnn(seed=0).parameters())
    28938
    """
    torch.manual_seed(seed)
    left = side // 4
    net = nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),  # after the pooling: the same numbers, on a quarter of the pixels
        nn.Conv2d(16, 32, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * left * left, n_classes),
    )
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class Advance:
    """A learner callback that counts batches for whoever shows progress."""

    def __init__(self, advance: Callable[[], None]):
        self.advance = advance

    def after_batch(self, learn: Learner) -> None:
        self.advance()


Data = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


def train(
    contestant: Contestant, lr: float, seed: int, data: Data, epochs: int, job: Job, cbs: Any
) -> Run:
    """One run; a rate that makes the loss infinite ends it early, with that loss."""
    (x, y), _ = data
    learn = Learner(
        in_memory(*data, batch_size=job.batch_size, seed=seed),
        small_cnn(seed, x.shape[-1], int(y.max()) + 1),
        F.cross_entropy,
        contestant.opt_func,
        metrics=[accuracy],
        progress=False,
    )
    started = time.perf_counter()
    try:
        learn.fit_one_cycle(epochs, lr, moms=contestant.moms, cbs=cbs)
    except NonFiniteLoss:
        return Run(math.inf, 0.0, time.perf_counter() - started, learn.recorder)
    if learn.interrupted:
        raise KeyboardInterrupt  # the learner's own way is to go on; here the whole job is meant
    last = learn.recorder.metrics[-1]
    seconds = time.perf_counter() - started
    return Run(last["valid_loss"], last["accuracy"], seconds, learn.recorder)


def compare(
    digits: Digits,
    job: Job,
    contestants: Sequence[Contestant] = CONTESTANTS,
    on_start: Callable[[str, int], None] = lambda what, batches: None,
    on_batch: Callable[[], None] = lambda: None,
) -> Iterable[Comparison]:
    """Yield the outcome for each contestant, as it is known.

    Args:
        digits: to train on and to hold out.
        job: how much to train.
        contestants: whom to compare.
        on_start: told what is about to be trained, and how many batches that takes.
        on_batch: told when a batch is done.
    """
    held_out = (channels_last(digits.train), channels_last(digits.test))
    n = min(len(digits.train[0]), job.grid_rows)
    small = tuple(tensor[:n] for tensor in held_out[0])
    tuning = split(small, n // 5)
    cbs = [Advance(on_batch)]
    for contestant in contestants:
        grid = {}
        for lr in contestant.rates:
            on_start(f"{contestant.name}, trying lr {lr:g}", batches(tuning, job.grid_epochs, job))
            run = train(contestant, lr, job.seeds[0], tuning, job.grid_epochs, job, cbs)
            grid[lr] = run.valid_loss
        result = Comparison(contestant.name, grid, min(grid, key=grid.__getitem__))
        for seed in job.seeds:
            what = f"{contestant.name}, lr {result.lr:g}, seed {seed}"
            on_start(what, batches(held_out, job.epochs, job))
            run = train(contestant, result.lr, seed, held_out, job.epochs, job, cbs)
            result.runs.append(run)
        yield result


def batches(data: Data, epochs: int, job: Job) -> int:
    """How many batches `epochs` take."""
    return epochs * -(-len(data[0][0]) // job.batch_size)


def total_batches(digits: Digits, job: Job, contestants: Sequence[Contestant]) -> int:
    """How many batches the whole job takes, if no run ends early."""
    n = min(len(digits.train[0]), job.grid_rows)
    trial = job.grid_epochs * -(-(n - n // 5) // job.batch_size)
    final = job.epochs * -(-len(digits.train[0]) // job.batch_size)
    return sum(len(c.rates) * trial + len(job.seeds) * final for c in contestants)


def channels_last(data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Images in the layout in which CPUs convolve fastest."""
    return data[0].contiguous(memory_format=torch.channels_last), data[1]
