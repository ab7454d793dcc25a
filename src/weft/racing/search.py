"""The search for a setting: a grid, its growth at an edge, successive halving.

Searches are generators: they yield what they want to know, lists of (setting, steps), and are sent
the losses. So they know nothing of models, and all of a race's searches run side by side.
"""

import itertools
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from weft.racing.rules import Rules

__all__ = ["Asked", "Found", "Setting", "grid", "lockstep", "reach", "search"]

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """What a search chooses.

    Attributes:
        lr: at its peak.
        warmup: the fraction of the run over which it rises.
        hypers: others, as pairs.
    """

    lr: float
    warmup: float = 0.0
    hypers: tuple[tuple[str, Any], ...] = ()

    def others(self, tried: Sequence[str]) -> str:
        """All but the rate, of what was tried, in words.

        >>> Setting(0.1, 0.05, (("weight_decay", 0),)).others(["weight_decay"])
        'weight_decay 0'
        """
        values = {**dict(self.hypers), "warmup": self.warmup}
        return ", ".join(f"{name} {values[name]}" for name in tried if name in values)


Asked = list[tuple[Setting, int]]


@dataclass
class Found:
    """The outcome of a search.

    Attributes:
        best: None where everything diverged.
        losses: of each setting, at the most steps that it was run for; infinite where it diverged.
        steps: how many those are.
        added: the rates by which the grid grew.
        at_edge: whether the best is still at the grid's edge.
    """

    best: Setting | None
    losses: dict[Setting, float] = field(default_factory=dict)
    steps: dict[Setting, int] = field(default_factory=dict)
    added: list[float] = field(default_factory=list)
    at_edge: bool = False


def grid(middle: float, n: int, factor: float) -> list[float]:
    """`n` rates around `middle`; of an even number one more lies below it.

    >>> grid(0.001, 3, 10)
    [0.0001, 0.001, 0.01]
    """
    return [_rounded(middle * factor**k) for k in range(-(n // 2), n - n // 2)]


def _rounded(lr: float) -> float:
    return float(f"{lr:.4g}")  # as it is printed: so that a printed rate is the rate that was run


def search(
    middle: float, rules: Rules, steps: int, hypers: frozenset[str] = frozenset()
) -> Generator[Asked, list[float], Found]:
    """Try a grid of rates, times the values of other hypers, and say which is best.

    Args:
        middle: of the rates.
        rules: how many, how far apart, what else.
        steps: of a full run.
        hypers: those of the contestant: what it does not have is not tried.
    """
    others = _product(rules, hypers)
    lrs = grid(middle, rules.lrs, rules.factor)
    ends = [-(rules.lrs // 2), rules.lrs - rules.lrs // 2 - 1]
    settings = [Setting(lr, *other) for lr in lrs for other in others]
    found, n = Found(None), len(settings)
    losses = found.losses
    for left, length in _rungs(n, steps) if rules.halving else [(n, steps)]:
        settings = sorted(settings, key=lambda s: losses.get(s, 0.0))[:left]
        losses.update(zip(settings, (yield [(s, length) for s in settings]), strict=True))
        found.steps.update(dict.fromkeys(settings, length))
    finals = {s: losses[s] for s in settings}
    while _edge(finals, lrs) and len(found.added) < rules.extend:
        best, edge = _best(finals), _edge(finals, lrs)
        ends[edge > 0] += edge
        new = Setting(_rounded(middle * rules.factor ** ends[edge > 0]), best.warmup, best.hypers)
        lrs.append(new.lr)
        found.added.append(new.lr)
        (finals[new],) = yield [(new, steps)]
        losses[new], found.steps[new] = finals[new], steps
    found.best = _best(finals) if math.isfinite(min(finals.values())) else None
    found.at_edge = bool(_edge(finals, lrs))
    return found


def _product(rules: Rules, hypers: frozenset[str]) -> list[tuple[float, tuple]]:
    """Every combination of the values to try, but for the rate."""
    warmups = rules.tries.get("warmup", (rules.warmup,))
    own: Mapping[str, Sequence[Any]] = {n: v for n, v in rules.tries.items() if n in hypers}
    combined = [tuple(zip(own, values, strict=True)) for values in itertools.product(*own.values())]
    return [(warmup, values) for warmup in warmups for values in combined]


def _rungs(n: int, steps: int) -> list[tuple[int, int]]:
    """(how many settings, for how many steps), rung by rung.

    >>> _rungs(9, 100)
    [(9, 25), (5, 50), (3, 100)]
    """
    return [(-(-n // 2**k), max(1, steps * 2**k // 4)) for k in range(3)]


def _best(losses: Mapping[Setting, float]) -> Setting:
    return min(losses, key=lambda s: (losses[s], s.lr))  # where all diverged, the lowest rate


def _edge(losses: Mapping[Setting, float], lrs: Sequence[float]) -> int:
    """-1 or 1 where the best rate is the lowest or the highest of several, else 0."""
    lr = _best(losses).lr
    if len(lrs) < 2:
        return 0
    return (lr == max(lrs)) - (lr == min(lrs))


def reach(horizons: Sequence[int], full: int) -> Generator[int, bool, int | None]:
    """The fewest steps that are enough, by bisection: yields steps, is sent whether they are.

    Args:
        horizons: the numbers of steps that may be asked for.
        full: is asked for first, where it is among them: its runs are there already.

    >>> asking = reach([25, 50, 75, 100], 100)
    >>> next(asking), asking.send(True), asking.send(False)
    (100, 50, 75)
    """
    known = sorted(set(horizons))
    low, high = -1, len(known)  # not enough; enough
    first = known.index(full) if full in known else None
    while high - low > 1:
        at = (low + high) // 2 if first is None else first
        first = None
        low, high = (low, at) if (yield known[at]) else (at, high)
    return known[high] if high < len(known) else None


def lockstep(
    generators: Mapping[str, Generator[Any, Any, T]],
    answer: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, T]:
    """Run generators side by side: what all of them ask for next is answered together.

    >>> def ask(x):
    ...     return (yield x) + (yield 2 * x)
    >>> lockstep({"a": ask(1), "b": ask(10)}, lambda asked: {k: -v for k, v in asked.items()})
    {'a': -3, 'b': -30}
    """
    done: dict[str, T] = {}
    answers: dict[str, Any] = dict.fromkeys(generators)
    while answers:
        asked = {}
        for name, reply in answers.items():
            try:
                asked[name] = generators[name].send(reply)
            except StopIteration as stop:
                done[name] = stop.value
        answers = answer(asked) if asked else {}
    return done
