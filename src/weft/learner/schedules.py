"""Schedules: functions from the fraction of training done, 0 to 1, to a value.

Nothing here knows an optimizer. A schedule of the learning rate is a *shape*, in multiples of the
rate at its peak, so that one shape serves every group of a discriminative rate.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from weft.contract.hyperparameters import spread as spread_slice

__all__ = [
    "Schedule",
    "combine",
    "constant",
    "cosine",
    "exponential",
    "flat_cosine",
    "linear",
    "one_cycle",
    "restarts",
    "spread",
]

Schedule = Callable[[float], float]


def constant(value: float) -> Schedule:
    """`value` all the way.

    >>> constant(0.1)(0.7)
    0.1
    """
    return lambda pos: value


def linear(start: float, end: float) -> Schedule:
    """A straight line from `start` to `end`.

    >>> linear(0, 2)(0.25)
    0.5
    """
    return lambda pos: start + pos * (end - start)


def cosine(start: float, end: float) -> Schedule:
    """Half a cosine from `start` to `end`: flat at both ends.

    >>> cosine(0, 2)(0.5)
    1.0
    """
    return lambda pos: start + (1 + math.cos(math.pi * (1 - pos))) * (end - start) / 2


def exponential(start: float, end: float) -> Schedule:
    """Equal factors in equal times.

    Raises:
        ValueError: where an end is not above zero, or both are not below.

    >>> round(exponential(1, 100)(0.5), 9)
    10.0
    """
    if start * end <= 0:
        raise ValueError(f"an exponential schedule cannot go from {start} to {end}: same sign only")
    return lambda pos: start * (end / start) ** pos


def combine(fractions: Sequence[float], schedules: Sequence[Schedule]) -> Schedule:
    """Run `schedules` one after the other, each over its fraction of the whole.

    Args:
        fractions: how much of the whole each takes; they add up to 1.
        schedules: one for each fraction, itself over 0 to 1.

    Raises:
        ValueError: where the two differ in length, or the fractions do not add up to 1.

    >>> up_and_down = combine([0.5, 0.5], [linear(0, 1), linear(1, 0)])
    >>> [up_and_down(pos) for pos in (0, 0.25, 0.5, 0.75, 1)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if len(fractions) != len(schedules):
        raise ValueError(f"{len(fractions)} fractions for {len(schedules)} schedules")
    if min(fractions) < 0 or not math.isclose(sum(fractions), 1.0, rel_tol=1e-9):
        raise ValueError(f"the fractions {list(fractions)} are not parts of 1")
    starts = [0.0, *accumulate(fractions)][:-1]

    def at(pos: float) -> float:
        part = bisect_right(starts, pos) - 1
        while fractions[part] == 0:  # a part of no length, at the very end
            part -= 1
        return schedules[part](min((pos - starts[part]) / fractions[part], 1.0))

    return at


def one_cycle(start: float, peak: float, end: float, pct_start: float = 0.25) -> Schedule:
    """Cosine from `start` to `peak` over the first `pct_start`, then cosine to `end`.

    >>> lr = one_cycle(1 / 25, 1, 1e-5)
    >>> [round(lr(pos), 3) for pos in (0, 0.25, 1)]
    [0.04, 1.0, 0.0]
    """
    return combine([pct_start, 1 - pct_start], [cosine(start, peak), cosine(peak, end)])


def flat_cosine(pct_start: float = 0.75, div_final: float = 1e5) -> Schedule:
    """1 for the first `pct_start`, then cosine to `1 / div_final`.

    >>> lr = flat_cosine(0.75)
    >>> [round(lr(pos), 3) for pos in (0, 0.75, 0.875, 1)]
    [1.0, 1.0, 0.5, 0.0]
    """
    return combine([pct_start, 1 - pct_start], [constant(1.0), cosine(1.0, 1 / div_final)])


def restarts(n_cycles: int, cycle_mult: float = 2) -> Schedule:
    """Cosine from 1 to 0, `n_cycles` times, each cycle `cycle_mult` times as long as the last.

    >>> lr = restarts(2, cycle_mult=1)
    >>> [round(lr(pos), 3) for pos in (0, 0.25, 0.5, 0.75)]
    [1.0, 0.5, 1.0, 0.5]
    """
    lengths = [cycle_mult**i for i in range(n_cycles)]
    return combine([n / sum(lengths) for n in lengths], [cosine(1.0, 0.0)] * n_cycles)


def spread(value: float | slice | Sequence[float], n_groups: int) -> list[float]:
    """One value for each group, the first group being the earliest layers.

    Args:
        value: a number for all; `slice(a, b)` for a geometric spread from `a` to `b`; `slice(b)`
            for `b` in the last group and a tenth of it before; or one value for each group.
        n_groups: how many groups there are.

    Raises:
        ValueError: where a sequence has another length.

    >>> spread(0.1, 2)
    [0.1, 0.1]
    >>> [round(lr, 6) for lr in spread(slice(1e-4, 1e-2), 3)]
    [0.0001, 0.001, 0.01]
    >>> spread(slice(1e-2), 3)
    [0.001, 0.001, 0.01]
    """
    if isinstance(value, slice):
        return spread_slice(value, n_groups)
    try:
        return [float(value)] * n_groups  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):  # a list; an array; a tensor
        values = [float(v) for v in value]  # type: ignore[union-attr]
    if len(values) != n_groups:
        raise ValueError(f"{len(values)} values for {n_groups} parameter groups: {values}")
    return values
