"""What is told about an optimizer by planning a step of it: bytes, passes, where it is right."""

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from weft.cli.catalog import right_on_shards
from weft.optimizers import algorithms

__all__ = ["Facts", "facts"]


@dataclass(frozen=True)
class Facts:
    """Of a step over a float32 matrix of 64 x 64, planned and not taken.

    Attributes:
        state_bytes: kept between steps, for one element.
        moved_bytes: read and written in a step, for one element.
        phases: what runs in order.
        eager: callbacks that no kernel runs, with the reason.
        needs_closure: whether a step evaluates the gradient itself.
        on_shards: whether it is right on shards of matrices and vectors.
        vectors: whether it takes a parameter of one dimension.
    """

    state_bytes: float
    moved_bytes: float
    phases: tuple[str, ...]
    eager: tuple[str, ...]
    needs_closure: bool
    on_shards: bool
    vectors: bool


@cache
def facts(name: str) -> Facts:
    """The facts of the optimizer that `weft.create` knows by `name`."""
    cls: Any = algorithms()[name]
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        opt = cls([parameter(64, 64)])
        plan = opt.explain()
        return Facts(
            round(plan.state_bytes_per_parameter, 2),
            round(plan.bytes_per_parameter, 2),
            tuple(plan.phases),
            tuple(f"`{callback}`: {reason}" for callback, _, _, reason in plan.fallbacks),
            opt.needs_closure,
            right_on_shards(name),
            takes_vectors(cls),
        )


def parameter(*shape: int) -> torch.nn.Parameter:
    """A parameter with a grad."""
    p = torch.nn.Parameter(torch.randn(shape))
    p.grad = torch.randn(shape)
    return p


def takes_vectors(cls: Any) -> bool:
    """Whether a parameter of one dimension is not refused."""
    try:
        cls([parameter(48)])
    except ValueError:  # a ChainError is one
        return False
    return True
