"""What torch's own schemas say of a function, so that the tracer need not know each by its name."""

import functools
import re
from typing import Any

import torch

__all__ = ["changes_shape", "drawn", "pure", "shares"]

DRAWS, BY_VALUE = torch.Tag.nondeterministic_seeded, torch.Tag.dynamic_output_shape
# pure only for some of their arguments
LISTED = frozenset(("one_hot", "repeat_interleave", "linalg_lstsq"))
# memory without values or by its layout; running statistics, written though no schema says so
IMPURE = re.compile(r"(new_)?empty|resize|as_strided|.*(batch|instance)_norm")


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


@functools.cache
def shares(name: str) -> bool:
    """Whether a function gives the memory that it was given in another shape, and writes nothing."""
    aliases = [a for f in _of_tensors(name) for a in _aliases(f)]
    return bool(aliases) and not any(a.is_write for a in aliases) and not IMPURE.match(name)


def _makes(name: str) -> bool:
    """Whether a function only makes tensors, of shapes that follow from shapes."""
    found = _of_tensors(name)
    safe = all(BY_VALUE not in f.tags and not _aliases(f) for f in found)
    return bool(found) and safe and not IMPURE.match(name)


def _draws(name: str) -> bool:
    return any(DRAWS in f.tags for f in _overloads(name))


def _of_tensors(name: str) -> list[Any]:
    """The overloads that give tensors, and nothing else."""
    kinds = lambda f: [str(r.type) for r in f._schema.returns]
    return [
        f for f in _overloads(name) if kinds(f) and {"Tensor", "List[Tensor]"}.issuperset(kinds(f))
    ]


def _aliases(f: Any) -> list[Any]:
    schema = f._schema
    return [a.alias_info for a in (*schema.arguments, *schema.returns) if a.alias_info is not None]
