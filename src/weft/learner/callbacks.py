"""Learner callbacks: objects with any of the methods of `EVENTS`, each given the learner.

Not to be confused with the callbacks of an optimizer's step. Most are two or three lines:

    class PrintLoss:
        def after_epoch(self, learn):
            print(learn.epoch, learn.epoch_means["train_loss"])
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from weft.learner.learner import Learner

__all__ = ["EVENTS", "GradientAccumulation", "GradientClip", "ScheduleHypers", "StopFit"]

EVENTS = (
    "before_fit",
    "before_epoch",
    "before_batch",
    "after_loss",
    "after_backward",
    "after_batch",
    "after_epoch",
    "after_fit",
)


class StopFit(Exception):
    """Raise it in any event: the fit ends there, cleanly and without an error.

    >>> class StopAtLoss:
    ...     def __init__(self, target): self.target = target
    ...     def after_epoch(self, learn):
    ...         if learn.epoch_means["valid_loss"] < self.target:
    ...             raise StopFit
    """


class ScheduleHypers:
    """Set hypers before each batch, from the fraction of training done; put them back at the end.

    Args:
        schedules: for each hyper (`lr`, `mom`, `wd`, or a key of the groups) a function from 0..1
            to a number, or to one number for each parameter group.
    """

    def __init__(self, schedules: Mapping[str, Callable[[float], float | Sequence[float]]]):
        self.schedules = dict(schedules)
        self.rest: dict[str, list[float | None]] = {}

    def before_fit(self, learn: "Learner") -> None:
        self.rest = {name: learn.dials.get(name) for name in self.schedules}

    def before_batch(self, learn: "Learner") -> None:
        for name, schedule in self.schedules.items():
            learn.dials.set(name, schedule(learn.fraction_done))

    def after_fit(self, learn: "Learner") -> None:
        learn.dials.put_back(self.rest)
        self.rest = {}


class GradientAccumulation:
    """Step once every `n` batches, with the mean of their gradients.

    What is left at the end of an epoch makes a smaller step's worth, averaged over what it has, so
    nothing is carried from one epoch into the next.

    Args:
        n: batches to a step.

    Raises:
        ValueError: where n is below 1.

    >>> GradientAccumulation(0)
    Traceback (most recent call last):
    ...
    ValueError: GradientAccumulation(0): at least one batch makes a step
    """

    def __init__(self, n: int):
        if n < 1:
            raise ValueError(f"GradientAccumulation({n}): at least one batch makes a step")
        self.n = n
        self._window = n

    def before_batch(self, learn: "Learner") -> None:
        first = learn.batch - learn.batch % self.n
        self._window = min(self.n, learn.n_batches - first)
        if learn.batch + 1 < first + self._window:
            learn.will_step = False

    def after_loss(self, learn: "Learner") -> None:
        learn.loss_grad = learn.loss_grad / self._window


class GradientClip:
    """Scale the gradients down where their norm, over all parameters, exceeds `max_norm`.

    Args:
        max_norm: the largest norm that is left as it is.
        norm_type: which norm, as in `torch.nn.utils.clip_grad_norm_`.

    Raises:
        ValueError: where max_norm is not above zero.

    >>> GradientClip(-1)
    Traceback (most recent call last):
    ...
    ValueError: GradientClip(-1): the largest norm must be above 0
    """

    def __init__(self, max_norm: float, norm_type: float = 2.0):
        if not max_norm > 0:
            raise ValueError(f"GradientClip({max_norm}): the largest norm must be above 0")
        self.max_norm, self.norm_type = max_norm, norm_type

    def after_backward(self, learn: "Learner") -> None:
        if learn.will_step:  # a sum that is still being accumulated is clipped once it is whole
            params = [p for group in learn.opt.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(params, self.max_norm, self.norm_type)
