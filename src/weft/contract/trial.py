"""A callback called once on small tensors, where its code does not show the names that it returns.

That is done only where the code shows no change of anything beside its arguments, and torch's
random numbers are as before.
"""

import weakref
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch

__all__ = ["returned"]

_found: weakref.WeakKeyDictionary[Any, dict[str, frozenset[str] | None]] = (
    weakref.WeakKeyDictionary()
)
UNKNOWN: tuple[Callable[[torch.Tensor], Any], ...] = (  # what a name without a value could be
    lambda p: 0.5,
    lambda p: torch.full_like(p, 0.5),
    lambda p: torch.tensor(0.5),
    lambda p: (0.5, 0.5),
)


def returned(
    cb: Callable, args: Mapping[str, Any], first: str | None, positional: bool, ndim: int
) -> frozenset[str] | None:
    """The names that `cb` returns; None where it cannot be called like this.

    Args:
        cb: it is called under `torch.no_grad()`.
        args: its arguments with their values, `None` for what is not known.
        first: the argument that may be the parameter.
        positional: whether that one is passed by position.
        ndim: the parameter's dimensions.
    """
    owner, name = (cb.__self__, cb.__name__) if isinstance(cb, MethodType) else (cb, "")
    try:
        held = _found.setdefault(owner, {})
    except TypeError:  # it cannot be looked up
        held = {}
    if name not in held:
        held[name] = _call(cb, args, first, positional, ndim)
    return held[name]


def _call(
    cb: Callable, args: Mapping[str, Any], first: str | None, positional: bool, ndim: int
) -> frozenset[str] | None:
    before = torch.get_rng_state()
    try:
        for unknown in UNKNOWN:
            p, given = _values(args, first, unknown, ndim)
            leading = [given.pop(first, p)] if positional and first is not None else []
            try:
                with torch.no_grad():
                    out = cb(*leading, **given)
            except Exception:
                continue
            return frozenset(map(str, out)) if isinstance(out, dict) else frozenset()
    finally:
        torch.set_rng_state(before)
    return None


def _values(
    args: Mapping[str, Any], first: str | None, unknown: Callable[[torch.Tensor], Any], ndim: int
) -> tuple[torch.Tensor, dict[str, Any]]:
    """A parameter, and a value for each argument."""
    p = torch.nn.Parameter(torch.linspace(0.5, 1.5, 2**ndim).reshape((2,) * ndim))
    p.grad = torch.linspace(-0.5, 0.25, p.numel()).reshape(p.shape)
    known = {
        "p": p,
        "grad": p.grad.clone(),
        "update": p.grad.clone(),
        "step": 1,
        "loss": p.new_ones(()),
    }
    out: dict[str, Any] = {}
    for name, value in args.items():
        if name in known:
            out[name] = known[name]
        elif name == first:
            out[name] = p
        elif hasattr(value, "make"):
            out[name] = value.make(p)
        elif hasattr(value, "init"):
            out[name] = value.init
        else:
            out[name] = unknown(p) if value is None else value
    return p, out
