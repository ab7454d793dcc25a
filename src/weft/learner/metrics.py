"""Numbers about predictions, and their averages."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

__all__ = ["Averages", "accuracy", "metric_name"]

Metric = Callable[[Any, Any], Any]


def accuracy(pred: Tensor, target: Tensor) -> float:
    """The share of rows whose largest column is the target's.

    >>> import torch
    >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    0.5
    """
    return (pred.argmax(dim=-1) == target).float().mean().item()


def metric_name(metric: Metric) -> str:
    """What tables call a metric.

    >>> metric_name(accuracy), metric_name(functools.partial(accuracy))
    ('accuracy', 'accuracy')
    """
    while isinstance(metric, functools.partial):
        metric = metric.func
    return getattr(metric, "__name__", type(metric).__name__)


class Averages:
    """The loss and the metrics of an epoch, each batch counting by its size.

    Args:
        metrics: functions `f(pred, target) -> number`.
        prefix: what the names begin with, `"train_"` or `"valid_"`; a validation metric stands
            under its own name.

    >>> import torch
    >>> averages = Averages([accuracy], "valid_")
    >>> averages.add(1, 0.5, torch.tensor([[0.0, 1.0]]), torch.tensor([1]))
    >>> averages.add(3, 0.1, torch.tensor([[0.0, 1.0]]).expand(3, 2), torch.zeros(3))
    >>> {name: round(value, 3) for name, value in averages.means().items()}
    {'valid_loss': 0.2, 'accuracy': 0.25}
    """

    def __init__(self, metrics: Sequence[Metric], prefix: str):
        own = prefix if prefix != "valid_" else ""
        self._metrics = {own + metric_name(metric): metric for metric in metrics}
        self._loss_name = prefix + "loss"
        self._sums = dict.fromkeys([self._loss_name, *self._metrics], 0.0)
        self._count = 0

    def add(self, size: int, loss: float, pred: Any, target: Any) -> None:
        """Count a batch of `size` rows."""
        self._count += size
        self._sums[self._loss_name] += size * loss
        for name, metric in self._metrics.items():
            self._sums[name] += size * float(metric(pred, target))

    def means(self) -> dict[str, float]:
        """Loss and metrics by name; nan where no batch came."""
        n = self._count
        return {name: total / n if n else math.nan for name, total in self._sums.items()}
