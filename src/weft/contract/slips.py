"""What a chain cannot mean: results that nobody takes, names that miss another by a letter."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch

from weft.errors import ChainError, slip_of

if TYPE_CHECKING:
    from weft.contract.bind import Call

__all__ = ["check_result", "check_results", "check_shape", "unwritten"]

VECTORS = ("update", "grad", "p")


def check_results(calls: "Sequence[Call]", read: Collection[str]) -> None:
    """Refuse a result that is ignored, and a returned name that misses one that is read.

    Args:
        calls: the chain.
        read: every name that somebody reads, or may.

    Raises:
        ChainError: names the callback and the mend.
    """
    for c in calls:
        s = c.spec
        if c.over is None and s.seen.other and s.only_returns and not (s.returns or s.opaque):
            raise ChainError(f"{s.where} {no_dict(s.name)}")
        own = {*s.states, *s.shared, *s.optional}
        for name in sorted(s.returns - own - set(VECTORS) - set(read)):
            meant = slip_of(name, {*VECTORS, *own} - s.returns)
            if meant is not None and not s.may_write(meant):
                raise ChainError(
                    f"{s.where} returns {name!r}, which nobody reads: did you mean {meant!r}? A "
                    f"state of that name would be declared, {name}=weft.zeros"
                )


def no_dict(name: str) -> str:
    """What to say of a callback that returns a tensor or a tuple and changes nothing."""
    return (
        f"returns something that is no dict and changes nothing in place, so that {name} has no "
        'effect: return {"update": ...}, or whichever name it computes'
    )


def check_result(call: "Call", out: Any) -> None:
    """Refuse a tensor or a tuple from a callback that changes nothing in place.

    Raises:
        ValueError: says what to return.
    """
    if (
        isinstance(out, torch.Tensor | tuple | list)
        and call.over is None
        and call.spec.only_returns
    ):
        raise ValueError(f"it {no_dict(call.spec.name)}")


def unwritten(calls: "Sequence[Call]") -> list[str]:
    """Warnings for declared states that stay as they began: nobody returns them or works on them."""
    out = []
    for c in calls:
        for name, state in c.spec.states.items():
            constant = state.is_number or state.name in ("zeros", "ones")
            if constant and not any(o.spec.opaque or o.spec.may_write(name) for o in calls):
                out.append(
                    f"{c.spec.where} declares the state {name!r} and nobody writes it: return it, "
                    f'{{"{name}": ...}}, or work on it in place'
                )
    return out


def check_shape(call: "Call", update: Sequence[int], p: Sequence[int]) -> None:
    """Refuse to apply an update that would be spread over a parameter of another shape.

    Raises:
        ValueError: says both shapes.
    """
    if tuple(update) == tuple(p) or len(update) > len(p):
        return
    if all(u in (1, n) for u, n in zip(reversed(update), reversed(p), strict=False)):
        raise ValueError(
            f"the update is {tuple(update)} and the parameter is {tuple(p)}: it would be spread over "
            "it. A reduction before may want keepdim=True, or a result the parameter's shape"
        )
