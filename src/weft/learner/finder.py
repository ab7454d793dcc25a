"""The learning rate finder: a mock training at exponentially growing rates."""

import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from weft.learner.callbacks import StopFit
from weft.learner.checkpoint import Snapshot
from weft.learner.schedules import exponential
from weft.learner.smoothing import smooth, trend

if TYPE_CHECKING:
    from weft.learner.learner import Learner

__all__ = ["LrFind", "find_lr", "steepest"]

DIVERGED = 4.0  # times the best loss so far


@dataclass
class LrFind:
    """What `lr_find` saw.

    Attributes:
        lrs: the rates that were tried.
        losses: the loss of the batch at each.
        suggestion: the rate at which the smoothed loss fell fastest.
    """

    lrs: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def smooth_losses(self) -> list[float]:
        """The losses, each averaged with its neighbours."""
        return trend(self.losses, reach=max(1, len(self.losses) // 25))

    @property
    def suggestion(self) -> float:
        """The rate at which the smoothed loss fell fastest.

        Raises:
            ValueError: where no batch had a finite loss.
        """
        if not self.losses:
            raise ValueError("lr_find saw no finite loss: is there nan or inf in model or data?")
        return self.lrs[steepest(self.smooth_losses)]

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """Draw the loss over the rate.

        Args:
            path: an image file to write, or None for a pyplot figure.

        Returns:
            A matplotlib figure.

        Raises:
            ImportError: where matplotlib is missing.
        """
        from weft.learner.plotting import plot_lr_find

        return plot_lr_find(self.lrs, self.losses, self.smooth_losses, self.suggestion, path)

    def __repr__(self) -> str:
        if not self.losses:
            return "LrFind(no finite loss)"
        return f"LrFind(suggestion={self.suggestion:.3g}, {len(self.lrs)} rates)"


def steepest(losses: list[float], reach: int = 3) -> int:
    """The index, before the lowest point, around which the losses fall most.

    Args:
        losses: smoothed losses at rates that grow by equal factors.
        reach: how far to look to each side.

    >>> steepest([2.0, 2.0, 1.9, 1.2, 0.6, 0.5, 0.5, 0.9], reach=1)
    3
    """
    lowest = min(range(len(losses)), key=losses.__getitem__)
    ahead = lambda i: losses[min(i + reach, lowest)]
    behind = lambda i: losses[max(i - reach, 0)]
    return min(range(lowest + 1), key=lambda i: ahead(i) - behind(i))


class Finder:
    """The learner callback that raises the rate and knows when to stop."""

    def __init__(self, start_lr: float, end_lr: float, num_it: int, stop_div: bool):
        self._schedule = exponential(start_lr, end_lr)
        self._num_it, self._stop_div = num_it, stop_div
        self._best = math.inf
        self.result = LrFind()

    def before_batch(self, learn: "Learner") -> None:
        tried = len(self.result.lrs)
        if tried >= self._num_it:
            raise StopFit
        self.lr = self._schedule(tried / self._num_it)
        learn.dials.set("lr", self.lr)

    def after_loss(self, learn: "Learner") -> None:
        # before the learner looks: a loss that explodes is what ends the search, not an error
        loss = float(learn.loss.detach())
        if not math.isfinite(loss):
            raise StopFit
        self.result.lrs.append(self.lr)
        self.result.losses.append(loss)
        smoothed = smooth(self.result.losses)[-1]
        self._best = min(self._best, smoothed)
        if self._stop_div and smoothed > DIVERGED * self._best:
            raise StopFit


def find_lr(
    learn: "Learner", start_lr: float, end_lr: float, num_it: int, stop_div: bool
) -> LrFind:
    """See `Learner.lr_find`.

    Raises:
        ValueError: where the rates are not above zero and growing.
    """
    if not 0 < start_lr < end_lr or num_it < 2:
        raise ValueError(f"lr_find cannot go up from {start_lr} to {end_lr} in {num_it} batches")
    finder = Finder(start_lr, end_lr, num_it, stop_div)
    before, position = Snapshot(learn), learn.epochs_done
    try:
        # more epochs than can be needed: the finder ends it after num_it batches
        learn.run(num_it, [*learn.cbs, finder], validate=False)
    finally:
        before.restore()
        learn.epochs_done = position
    return finder.result
