"""What is said about a callback besides its signature: its place, its roles, its rank."""

import functools
from collections.abc import Callable
from typing import Any

from weft.contract.places import PLACES
from weft.errors import ChainError

__all__ = ["MARKS", "ROLES", "attribute", "mark"]

MARKS = ("place", "ndim", "defaults", "returns", "bounds", "sparse", "role", "needs")

# what a step does once: "correction" is that of the second moment, "rate" the learning rate taken in
ROLES = ("decay", "debias", "correction", "precondition", "nesterov", "rate", "descend")


def mark(
    fn: Callable | None = None,
    /,
    *,
    place: str | None = None,
    ndim=None,
    defaults=None,
    returns=None,
    bounds=None,
    sparse=None,
    role=None,
    needs=None,
):
    """Say about a callback what its code cannot: its place, roles, rank, bounds, and what it returns.

    Args:
        place: one of "grad", "decay", "statistics", "update", "descend", "after".
        ndim: the ranks of the parameters that it can serve, such as `(2,)`.
        defaults: hyper defaults, for arguments that have none in the signature.
        returns: the names that it returns, such as `("update",)`, where its code does not show them.
        bounds: what hypers are refused outside of, such as `{"k": ">= 1", "beta": ">= 0, < 1"}`;
            a tuple has the words that one may be.
        sparse: what it does to entries without a gradient where that is sparse: nothing, "entries";
            something, "dense"; a hyper's name, nothing while that is zero. Without it sparse
            gradients are refused.
        role: what it does that a step does once, "decay" say, or several: a modifier with all of them
            takes its place; `()` where twice is as good as once.
        needs: names that it reads with a default, one of which the chain has to provide all the same.

    >>> import weft
    >>> @weft.mark(place="update")
    ... def halve(update): return {"update": update / 2}
    >>> halve.place
    'update'
    """
    if place is not None and place not in PLACES:
        raise ChainError(f"place must be one of {PLACES}, not {place!r}")
    roles = (role,) if isinstance(role, str) else role
    if not set(roles or ()) <= set(ROLES):
        raise ChainError(f"role must be one or several of {ROLES}, not {role!r}")

    said = (place, ndim, defaults, returns, bounds, sparse, roles, needs)

    def marked(f: Callable) -> Callable:
        for key, value in zip(MARKS, said, strict=True):
            if value is not None:
                setattr(f, key, value)
        return f

    return marked if fn is None else marked(fn)


def attribute(cb: Any, key: str) -> Any:
    """`cb.key`, looked for under partials too, which lose the attributes of what they bind."""
    while (found := getattr(cb, key, None)) is None and isinstance(cb, functools.partial):
        cb = cb.func
    return found
