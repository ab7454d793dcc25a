"""Who races: an optimizer by name, a chain, a class, a function, or chains by the parameters' roles."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

import weft
from weft.learner.opt import needs_closure
from weft.racing.named import digest, from_file, is_in_file
from weft.registry import woven
from weft.wrappers import AtAverage

__all__ = ["Contestant", "Traits", "contestants"]

RULES = ("hidden", "*")


@dataclass(frozen=True)
class Traits:
    """What a race has to know of a contestant before it starts.

    Attributes:
        lr: its own default, the middle of its grid.
        scheduled: whether its rate falls to zero; a schedule-free method's stays.
        hypers: the names that a search may try values of.
    """

    lr: float
    scheduled: bool
    hypers: frozenset[str]


@dataclass(frozen=True)
class Contestant:
    """A name and how to make its optimizer.

    Attributes:
        name: in tables and pictures.
        given: words as `weft.create` takes them, `"muon/adamw"` (hidden matrices by the first, all
            else by the second), or `"file.py:name"`; a chain; an optimizer's class, or any function
            of parameters and `lr`; a mapping as `weft.route` takes it.
    """

    name: str
    given: Any

    @property
    def identity(self) -> dict[str, str]:
        """What tells its runs from another's."""
        words = self.given if isinstance(self.given, str) else self.name
        return {"contestant": words, "code": digest(self.given)}

    def build(self, model: nn.Module, lr: float | None = None, **hypers: Any) -> Any:
        """Its optimizer over a model.

        Args:
            model: whose parameters are trained.
            lr: the rate; its own default where None. Where chains are routed it is the first's, and
                the others' are as many times their own defaults.
            **hypers: of the optimizer.
        """
        given = self.resolved()
        rate = {} if lr is None else {"lr": lr}
        if isinstance(given, Mapping):
            return _routed(model, given, lr, hypers)
        params = [p for p in model.parameters() if p.requires_grad]
        make = functools.partial(weft.create, given) if isinstance(given, str) else given
        return make(params, **rate, **hypers)

    def resolved(self) -> Any:
        """What was given, found where it was named."""
        given = self.given
        if isinstance(given, str) and is_in_file(given):
            return from_file(given)
        if isinstance(given, str) and "/" in given:
            parts = given.split("/")
            if len(parts) != len(RULES):
                raise ValueError(f"{given!r}: name two, of hidden matrices and of all else")
            return dict(zip(RULES, parts, strict=True))
        return given

    def traits(self, model: nn.Module) -> Traits:
        """What a race has to know of it.

        Raises:
            ValueError: for what cannot be raced, with the reason.
        """
        try:
            opt = self.build(model)
        except (weft.ChainError, TypeError, ValueError) as error:
            more = "; in a race: NAME/adamw" if "with weft.route" in str(error) else ""
            raise ValueError(f"{self.name}: {error}{more}") from error
        if needs_closure(opt):
            raise ValueError(
                f"{self.name} evaluates the gradient itself, so that a step of it is not a step of "
                "the others: it cannot be raced against them"
            )
        groups = opt.param_groups
        if not all(isinstance(g.get("lr"), int | float) for g in groups):
            raise ValueError(f"{self.name} has no lr of its own: weft.chain(..., lr=...) gives one")
        free = any(isinstance(w, AtAverage) for w in getattr(opt, "_wrappers", ()))
        hypers = frozenset(set.intersection(*(set(g) for g in groups)) - {"params", "lr"})
        return Traits(float(groups[0]["lr"]), not free, hypers)


def _routed(model: nn.Module, rules: Mapping, lr: float | None, hypers: dict[str, Any]) -> Any:
    """An optimizer whose groups have chains of their own, all rates scaled alike."""
    groups = weft.route(model, {rule: _as_chain(c) for rule, c in rules.items()})
    opt = weft.Optimizer(groups, **hypers)
    scale = 1.0 if lr is None else lr / opt.param_groups[0]["lr"]
    for group in opt.param_groups:
        group["lr"] *= scale
    return opt


def _as_chain(given: Any) -> Any:
    """A chain, from a chain, a class, or words."""
    if isinstance(given, str):
        return woven(given)
    return given


def contestants(given: Mapping[str, Any] | Iterable[str]) -> list[Contestant]:
    """Contestants from a mapping name -> what makes them, or from words, which may be `name=words`.

    Raises:
        ValueError: where two have one name, or there is none.

    >>> [c.name for c in contestants(["adamw", "slow=sgd(momentum=0.9)"])]
    ['adamw', 'slow']
    """
    if isinstance(given, Mapping):
        found = [Contestant(str(name), one) for name, one in given.items()]
    else:
        found = [Contestant(*_named(w)) for w in ([given] if isinstance(given, str) else given)]
    names = [c.name for c in found]
    if not found:
        raise ValueError("nobody races: name an optimizer, such as adamw")
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ValueError(f"two contestants are called {twice!r}: name one, such as mine={twice}")
    return found


def _named(words: str) -> tuple[str, str]:
    name, equals, rest = words.partition("=")
    return (name, rest) if equals and "(" not in name else (words, words)
