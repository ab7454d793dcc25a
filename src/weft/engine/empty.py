"""Parameters without elements, as uneven shards have them: nothing to step, and no callback sees them.

Yet they have state and count steps, so that state dicts have the same names everywhere.
"""

from collections.abc import Iterable, MutableMapping
from typing import Any

import torch

from weft.contract.groups import BoundGroup
from weft.engine.eager.norms import Norms

__all__ = ["count", "is_empty", "norms_of_empty"]


def is_empty(p: torch.Tensor) -> bool:
    """Whether there is nothing to step."""
    return p.numel() == 0


def count(
    stepped: Iterable[tuple[BoundGroup, torch.Tensor]], state: MutableMapping, left_out: Any = 0
) -> None:
    """One more step for empty parameters, where it is not left out."""
    for _, p in stepped:
        if "step" in state.get(p, ()):
            state[p]["step"] += 1 - 1 * left_out


def norms_of_empty(groups: Iterable[BoundGroup]) -> dict[torch.Tensor, Norms]:
    """The norms of empty parameters that step: the steps and kernels that find norms see none."""
    every = (p for bound in groups for p in bound.params)
    return {p: Norms(0.0, 0.0, 0.0) for p in every if p.grad is not None and is_empty(p)}
