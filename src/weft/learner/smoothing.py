"""Noisy losses as a line."""

from collections.abc import Iterable, Sequence

__all__ = ["smooth", "trend"]


def smooth(values: Iterable[float], beta: float = 0.9) -> list[float]:
    """An exponential average, corrected for its start.

    >>> smooth([1.0, 1.0, 1.0])
    [1.0, 1.0, 1.0]
    """
    smoothed, average, weight = [], 0.0, 0.0
    for value in values:
        average = beta * average + (1 - beta) * value
        weight = beta * weight + (1 - beta)
        smoothed.append(average / weight)
    return smoothed


def trend(values: Sequence[float], reach: int | None = None) -> list[float]:
    """The mean of each value and its neighbours: unlike `smooth`, it does not lag behind.

    Args:
        values: what to average.
        reach: how many neighbours on each side, fewer at the ends; None for a twenty-fifth of all.

    >>> trend([0.0, 3.0, 0.0, 3.0, 6.0], reach=1)
    [1.5, 1.0, 2.0, 3.0, 4.5]
    """
    n = len(values)
    reach = max(1, n // 25) if reach is None else reach
    means = []
    for i in range(n):
        window = values[max(0, i - reach) : i + reach + 1]
        means.append(sum(window) / len(window))
    return means
