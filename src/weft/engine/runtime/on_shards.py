"""Whether chains are right on shards, told from their plans: no process but this one is needed."""

from collections.abc import Iterator, MutableMapping
from itertools import combinations
from typing import Any

import torch

from weft.contract.groups import NOT_HYPERS, BoundGroup
from weft.engine.fallback import Fallback
from weft.engine.ir.traced import Example, Sharding, Splits, TensorSpec
from weft.engine.runtime.preview import declared_states
from weft.engine.runtime.programs import planned
from weft.engine.sharded.shard import splits_like

__all__ = ["why_not"]


def why_not(groups: list[BoundGroup], state: MutableMapping, loss: Any) -> str:
    """Why these chains cannot run on shards, in words; nothing where they can.

    `state` is that after a step: a chain may run otherwise in its first.
    """
    try:
        for bound in groups:
            for p in bound.params:
                for splits in _ways(p.ndim):
                    _plan(bound, p, state.get(p, {}), splits, loss)
    except Fallback as e:
        return str(e)
    return ""


def _ways(ndim: int) -> Iterator[Splits]:
    """Some dims split, each by a dim of the mesh of its own."""
    for many in range(1, min(2, ndim) + 1):
        for dims in combinations(range(ndim), many):
            yield tuple((dims.index(d),) if d in dims else () for d in range(ndim))


def _plan(
    bound: BoundGroup, p: torch.Tensor, own: dict[str, Any], splits: Splits, loss: Any
) -> None:
    """Plan a first step and a later one."""
    shape, declared = tuple(p.shape), declared_states(bound, p)
    found = tuple(
        (name, splits_like(tuple(t.shape), shape, splits)) for name, t in declared.items()
        if isinstance(t, torch.Tensor) and t.ndim == p.ndim and t.shape != p.shape
    )  # fmt: skip
    sharding = Sharding(shape, splits, found)
    first = planned(bound.binding, _example(bound, p, declared, sharding, 1, loss))
    made = {
        name: of for name, of in first.placed.states.items()
        if name in own and getattr(own[name], "shape", ()) not in ((), p.shape)
    }  # fmt: skip
    later = sharding._replace(states=tuple(made.items()))
    planned(bound.binding, _example(bound, p, own, later, 2, loss))


def _example(
    bound: BoundGroup,
    p: torch.Tensor,
    own: dict[str, Any],
    sharding: Sharding,
    step: int,
    loss: Any,
) -> Example:
    hypers = {k: v for k, v in bound.group.items() if k not in NOT_HYPERS}
    specs = {
        k: TensorSpec(tuple(v.shape), v.dtype) if isinstance(v, torch.Tensor) else v
        for k, v in own.items()
    }
    given = frozenset(k for k in own if k in hypers and bound.is_set(k))
    return Example(
        tuple(p.shape), p.dtype, specs, hypers, given, step, loss, p.device, sharding=sharding
    )
