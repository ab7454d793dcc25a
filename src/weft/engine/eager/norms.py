"""Norms seen while a step runs: of a parameter, of its grad, and of what the step changed."""

import functools
from collections.abc import Generator, MutableMapping
from typing import Any, NamedTuple

import torch

from weft.engine.eager.param_step import Barrier, ParamStep

__all__ = ["Norms", "norm", "norms_now", "watched"]


class Norms(NamedTuple):
    """The norms of one parameter; numbers or 0-dim tensors, in double."""

    param_norm: Any
    grad_norm: Any
    update_norm: Any


def norm(x: torch.Tensor) -> torch.Tensor:
    """The Euclidean norm in double, a 0-dim tensor: nothing waits for a device here."""
    x = x.detach()
    if x.is_sparse:
        x = x.coalesce().values()
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj())
    return torch.linalg.vector_norm(x, dtype=torch.float64)


def norms_now(p: torch.Tensor) -> Norms:
    """What can be said of a parameter with a grad between steps: not what a step will change."""
    assert p.grad is not None
    return Norms(norm(p), norm(p.grad), float("nan"))


@functools.cache
def watched(param_step: type[ParamStep]) -> type["WatchedStep"]:
    """A kind of step that is watched."""
    return type(f"Watched{param_step.__name__}", (WatchedStep, param_step), {"__slots__": ()})


class WatchedStep(ParamStep):
    """A step that leaves the norms of its parameter in `seen`; it keeps a copy for that."""

    __slots__ = ("seen",)

    def __init__(self, seen: MutableMapping[torch.Tensor, Norms], *args: Any):
        self.seen = seen
        super().__init__(*args)

    def _path(self) -> Generator[Barrier, None, None]:
        before, grad = self.p.detach().clone(), self.p.grad
        assert grad is not None
        grad_norm = norm(grad)  # now: a callback may write it
        yield from super()._path()
        wide = torch.promote_types(before.dtype, torch.float64)
        change = self.p.detach().to(wide) - before.to(wide)
        self.seen[self.p] = Norms(norm(self.p), grad_norm, norm(change))
