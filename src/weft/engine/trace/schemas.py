"""What torch's own schemas say of a function, so that the tracer need not know each by its name."""

import functools
import re
from typing import Any

import torch

__all__ = ["changes_shape", "drawn", "pure"]

DRAWS, BY_VALUE = torch.Tag.nondeterministic_seeded, torch.Tag.dynamic_output_shape
# pure only for some of their arguments
LISTED = frozenset(("one_hot", "repeat_interleave", "linalg_lstsq"))
# memory without values, and running statistics that are written though no schema says so
IMPURE = re.compile(r"(new_)?empty|resize|.*(batch|instance)_norm")


@functools.cache
def _overloads(name: str) -> list[Any]:
    """The overloads of an aten function, those that write to `out=` left out."""
    for full in (name, f"special_{name}") if name.isidentifier() else ():
        packet = getattr(torch.ops.aten, full, None)
        if packet is not None:
            found = [getattr(packet, o) for o in packet.overloads()]
            return [f for f in found if not any(a.is_out for a in f._schema.arguments)]
    return []


@functools.cache
def pure(name: str) -> bool:
    """Whether a function gives new tensors, neither written to nor shared, the same each time."""
    return name in LISTED or (_makes(name) and not _draws(name))


@functools.cache
def drawn(name: str) -> bool:
    """Whether a function gives new tensors that follow from random numbers."""
    return _makes(name) and _draws(name)


@functools.cache
def changes_shape(name: str) -> bool:
    """Whether a function in place changes more than values."""
    return any(torch.Tag.inplace_view in f.tags for f in _overloads(name))


def _makes(name: str) -> bool:
    """Whether a function only makes tensors, of shapes that follow from shapes."""
    of_tensors = [f for f in _overloads(name) if _gives_tensors(f)]
    safe = all(BY_VALUE not in f.tags and not _aliases(f) for f in of_tensors)
    return bool(of_tensors) and safe and not IMPURE.match(name)


def _draws(name: str) -> bool:
    return any(DRAWS in f.tags for f in _overloads(name))


def _gives_tensors(f: Any) -> bool:
    returns = f._schema.returns
    return bool(returns) and all(str(r.type) in ("Tensor", "List[Tensor]") for r in returns)


def _aliases(f: Any) -> bool:
    schema = f._schema
    return any(a.alias_info is not None for a in (*schema.arguments, *schema.returns))
