"""Parameters without elements, as uneven shards have them: nothing to step, and no callback sees them.

Yet they have state and count steps, so that state dicts have the same names everywhere.
"""

from collections.abc import Iterable, MutableMapping

import torch

from weft.engine.eager.norms import Norms
from weft.groups import BoundGroup

__all__ = ["count", "is_empty", "make_states", "norms_of_empty"]


def is_empty(p: torch.Tensor) -> bool:
    """Whether there is nothing to step."""
    return p.numel() == 0


def make_states(bound: BoundGroup, p: torch.Tensor, state: MutableMapping) -> None:
    """The states of an empty parameter that callbacks make themselves in their first step."""
    from weft.engine.eager.infer_state import states_made  # it takes an eager step

    binding = bound.binding
    if not binding.made or state.get(p) or p.is_meta:  # those are what states_made steps
        return
    made = {k: v for k, v in states_made(bound, p).items() if k in binding.made}
    for name, value in made.items():
        state[p][name] = _zeros(bound, name, value, p) if isinstance(value, torch.Tensor) else value


def _zeros(bound: BoundGroup, name: str, like: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """A state of this shape, in the dtype that the chain keeps it in."""
    dtype = bound.binding.dtype_of(name, like.dtype, like.ndim, p.dtype, p.ndim)
    return torch.zeros(like.shape, dtype=dtype, device=p.device)


def count(stepped: Iterable[tuple[BoundGroup, torch.Tensor]], state: MutableMapping) -> None:
    """One more step for empty parameters."""
    for _, p in stepped:
        if "step" in state.get(p, ()):
            state[p]["step"] += 1


def norms_of_empty(groups: Iterable[BoundGroup]) -> dict[torch.Tensor, Norms]:
    """The norms of empty parameters that step: the turns and kernels that find norms see none."""
    every = (p for bound in groups for p in bound.params)
    return {p: Norms(0.0, 0.0, 0.0) for p in every if p.grad is not None and is_empty(p)}
