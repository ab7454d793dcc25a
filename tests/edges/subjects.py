"""What is swept: every optimizer, wrapper and modifier that there is, found and not listed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

import weft
from weft import callbacks, wrappers
from weft.chain import place_of
from weft.optimizers import algorithms
from weft.wrapper import Wrapper

BASES = {
    "sgd": weft.SGD.chain(momentum=0.9),
    "adamw": weft.AdamW.chain(weight_decay=0.0),
}
PLAIN_LR = {"sgd": 0.1, "adamw": 1e-3}


@dataclass(frozen=True)
class Subject:
    """An optimizer under a name: `make(params, engine=..., **hypers)`, and the hypers that it has."""

    name: str
    make: Callable[..., weft.Optimizer]
    kind: str

    def __repr__(self) -> str:
        return self.name

    @property
    def hypers(self) -> dict[str, Any]:
        """The hypers that it can be given, with their defaults."""
        return _hypers(self)

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether it steps parameters of this rank."""
        return _takes(self, len(shape))


@cache
def _takes(subject: Subject, rank: int) -> bool:
    try:
        subject.make([torch.nn.Parameter(torch.ones((2,) * rank))])
    except (weft.ChainError, ValueError):
        return False
    return True


@cache
def _hypers(subject: Subject) -> dict[str, Any]:
    opt = subject.make([torch.nn.Parameter(torch.ones(2, 2))])
    if isinstance(subject.make, type):
        return subject.make._signature()
    kept = {"params", *opt._bound[0].binding.shared}
    kept |= {f"{w.prefix}_{n}" for w in opt._wrappers for n in w.numbers}
    return {k: v for k, v in opt.param_groups[0].items() if k not in kept}


def _around(wrapper: type[Wrapper], base: str) -> Callable[..., weft.Optimizer]:
    def make(params, **hypers):
        return (BASES[base] + wrapper())(params, **{"lr": PLAIN_LR[base], **hypers})

    return make


def _modified(cb: Callable, base: str) -> Callable[..., weft.Optimizer]:
    chain = BASES[base]
    chain = chain.replace("descend", cb) if place_of(cb) == "descend" else chain + cb

    def make(params, **hypers):
        return chain(params, **{"lr": PLAIN_LR[base], **hypers})

    return make


def _place(cb: Callable) -> str | None:
    """Where a chain puts a block; None for the values over all parameters, which are no blocks."""
    try:
        return place_of(cb)
    except weft.ChainError:
        return None


def _stands(make: Callable[..., weft.Optimizer]) -> bool:
    """Whether a block makes a chain with this base: others are parts that need more blocks."""
    p = torch.nn.Parameter(torch.ones(2, 2))
    p.grad = torch.ones_like(p)
    try:
        make([p], engine="eager").step(loss=1.0)
    except (weft.ChainError, weft.StepError, TypeError, IndexError):
        return False
    return True


@cache
def subjects() -> tuple[Subject, ...]:
    """Every algorithm; every wrapper around two optimizers; every block that modifies one of them."""
    found = [Subject(name, cls, "algorithm") for name, cls in algorithms().items()]
    for name in wrappers.__all__:
        for base in BASES:
            make = _around(getattr(wrappers, name), base)
            found.append(Subject(f"{base}+{name.lower()}", make, "wrapper"))
    for name in callbacks.__all__:
        cb = getattr(callbacks, name)
        if name == "fastai" or _place(cb) in (None, "statistics"):
            continue
        for base in BASES:
            make = _modified(cb, base)
            if _stands(make):
                found.append(Subject(f"{base}+{name}", make, "modifier"))
                break
    return tuple(found)
