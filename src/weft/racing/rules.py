"""What a race states before it starts, the same for everyone in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from weft.errors import did_you_mean
from weft.learner.schedules import Schedule, combine, constant, cosine, linear

__all__ = ["Rules", "as_rules", "shape"]

SHAPES = {"cosine": cosine, "linear": linear}
HORIZONS = (1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1.0, 5 / 4, 3 / 2, 2.0)


@dataclass(frozen=True)
class Rules:
    """The search that everyone gets, and what is run after it.

    Attributes:
        steps: of a full run; the task's own where None.
        seeds: runs at the best setting, each with weights and data order of its own; the search has
            seed 0, and these have 1, 2, ...
        lrs: how many rates a grid has, around each one's own default.
        factor: between neighbours in a grid.
        extend: by how many rates a grid may grow while its best is at its edge.
        tries: hyper -> values: the grid is the product of rates and these, for those that have the
            hyper. `warmup` is the fraction of a run over which the rate rises.
        halving: successive halving: all at a quarter of the steps, the better half at a half, the
            best quarter at all of them.
        horizons: fractions of the steps at which the baseline's final loss is looked for.
        schedule: how the rate falls to zero after the warm-up: "cosine" or "linear".
        warmup: the fraction of a run over which the rate rises, where `tries` has none.
        points: how often in a run the validation loss is taken.
        device: as torch names it.

    Raises:
        ValueError: for what cannot be.
    """

    steps: int | None = None
    seeds: int = 3
    lrs: int = 5
    factor: float = 10**0.5
    extend: int = 6
    tries: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    halving: bool = False
    horizons: Sequence[float] = HORIZONS
    schedule: str = "cosine"
    warmup: float = 0.05
    points: int = 10
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.schedule not in SHAPES:
            hint = did_you_mean(self.schedule, SHAPES)
            raise ValueError(
                f"no schedule is called {self.schedule!r}{hint}: {' or '.join(SHAPES)}"
            )
        for name in ("steps", "seeds", "lrs", "points"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: at least 1")
        if not self.factor > 1:
            raise ValueError(f"factor={self.factor}: neighbours in a grid differ, above 1")
        for warmup in (self.warmup, *self.tries.get("warmup", ())):
            if not 0 <= warmup < 1:
                raise ValueError(f"warmup={warmup}: a fraction of the run, from 0 to below 1")
        if not all(h > 0 for h in self.horizons):
            raise ValueError(f"horizons={self.horizons}: fractions of the steps, above 0")
        for name, values in self.tries.items():
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise ValueError(f"tries[{name!r}] is a sequence of values, not {values!r}")

    def in_words(self) -> str:
        """The search, in a sentence.

        >>> Rules(lrs=3, tries={"weight_decay": (0, 0.1)}).in_words()
        '3 rates a factor 3.16 apart around its own default x weight_decay 0, 0.1'
        """
        others = [f" x {n} {', '.join(map(str, v))}" for n, v in self.tries.items()]
        halved = ", by successive halving" if self.halving else ""
        rates = f"{self.lrs} rate{'s' if self.lrs > 1 else ''} a factor {self.factor:.3g} apart"
        return f"{rates} around its own default{''.join(others)}{halved}"


def as_rules(given: Mapping[str, Any]) -> Rules:
    """Rules from keywords.

    Raises:
        TypeError: for one that there is not.
    """
    known = [f.name for f in fields(Rules)]
    for name in given:
        if name not in known:
            raise TypeError(f"race() has no {name!r}{did_you_mean(name, known)}")
    return Rules(**given)


def shape(schedule: str, warmup: float) -> Schedule:
    """The rate, in multiples of its peak, over the fraction of a run.

    Args:
        schedule: "cosine" or "linear", down to zero, or "constant".
        warmup: the fraction over which it rises, from zero.

    >>> rate = shape("linear", 0.5)
    >>> [rate(at) for at in (0.25, 0.5, 0.75, 1)]
    [0.5, 1.0, 0.5, 0.0]
    """
    after = constant(1.0) if schedule == "constant" else SHAPES[schedule](1.0, 0.0)
    return combine([warmup, 1 - warmup], [linear(0.0, 1.0), after])
