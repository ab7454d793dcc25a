"""Functions of 16-bit values: how often they round.

A callback that casts to bfloat16 means it: what follows is rounded as torch rounds it.
"""

from typing import Any

import torch

from weft.engine.ir.graph import Node
from weft.engine.ir.ops import POINTWISE, REDUCED
from weft.engine.storage import LOW
from weft.engine.trace.opaque import call
from weft.engine.trace.pointwise import OPS
from weft.engine.trace.tensor import TensorProxy
from weft.engine.trace.tracer import Tracer

__all__ = ["compute"]


def compute(t: Tracer, name: str, func: Any, args: tuple, kwargs: dict) -> Any:
    """The node, or nodes, of a function with a handler.

    Of 16-bit values torch computes a function in float32 and rounds once, at its end: so a function
    that is several ops in the graph, each rounding, stays torch's.
    """
    result = OPS[name](t, *args, **kwargs)
    low = any(_is_low(x) for a in (*args, *kwargs.values()) for x in _each_of(a))
    if low and _roundings(result, args, kwargs) > 1:
        nodes = _each_of(result)
        made = call(t, func, args, kwargs, [(n.shape, n.dtype) for n in nodes])
        if isinstance(result, Node):
            return made[0]
        return type(result)(*made) if hasattr(result, "_fields") else made
    return result


def _is_low(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype in LOW


def _each_of(x: Any) -> Any:
    return x if isinstance(x, tuple | list) else (x,)


def _roundings(result: Any, args: tuple, kwargs: dict) -> int:
    """How many ops on 16-bit values lie between the arguments of a function and its result."""
    given = [x for a in (*args, *kwargs.values()) for x in _each_of(a)]
    seen = {x.read().index for x in given if isinstance(x, TensorProxy)}
    todo, count = [n for n in _each_of(result) if isinstance(n, Node)], 0
    while todo:
        n = todo.pop()
        if n.index not in seen:
            seen.add(n.index)
            todo.extend(n.args)
            arithmetic = n.op in REDUCED or (n.op in POINTWISE and n.op not in ("cast", "where"))
            count += arithmetic and any(a.dtype in LOW for a in (n, *n.args))
    return count
