"""`x[...]` and `x[...] = v`: slices are views, masks are selects, the rest is torch's."""

from typing import Any

import torch

from weft.engine.ir.graph import Node
from weft.engine.ir.traced import Untraceable
from weft.engine.trace.opaque import call
from weft.engine.trace.scalar import Scalar
from weft.engine.trace.selected import Selected
from weft.engine.trace.tensor import TensorProxy
from weft.engine.trace.tracer import Tracer
from weft.engine.trace.views import reshaped, sliced

__all__ = ["get_item", "set_item"]


def get_item(t: Tracer, x: TensorProxy, index: Any) -> TensorProxy | Selected:
    """`x[index]`."""
    mask = _mask(index)
    if mask is not None:
        if not x.ndim or tuple(mask.shape) != tuple(x.shape):
            raise Untraceable("x[mask] has a shape that depends on values: use where")
        return Selected(TensorProxy.fresh(t, x.read(), x.contig), t.tensor(mask))
    if _advanced(index):
        return TensorProxy.fresh(t, _gather(t, x, index))
    return _view(x, index)


def set_item(t: Tracer, x: TensorProxy, index: Any, value: Any) -> None:
    """`x[index] = value`."""
    mask = _mask(index)
    if mask is not None:
        node = x.read()
        if isinstance(value, Selected):
            if value.mask is not t.tensor(mask):
                raise Untraceable("it writes the elements of one mask to those of another")
            x.write(t.where(value.mask, value.values.read(), node, node.dtype))
            return
        m = t.cast(t.tensor(mask), torch.bool)
        rest = len(node.shape or ()) - len(m.shape or ())
        m = t.reshape(m, (*(m.shape or ()), *(1,) * rest))
        value_node = t.lift(value)
        if isinstance(value_node, Node) and not value_node.is_host and value_node.numel != 1:
            raise Untraceable("x[mask] = tensor: use where")
        if isinstance(value_node, Node) and not value_node.is_host:
            value_node = t.reshape(value_node, ())
        x.write(t.where(m, value_node, node, node.dtype))
    elif _advanced(index):
        x.write(_scatter(t, x, index, value))
    else:
        part = _view(x, index)
        node = t.lift(value)
        node = t.full(node, tuple(part.shape), part.dtype) if _is_number(node) else t.tensor(node)
        shape = node.shape or ()
        while len(shape) > part.ndim and shape[0] == 1:  # type: ignore[index]
            shape = shape[1:]
        part.write(t.reshape(node, shape))


def _is_number(node: Any) -> bool:
    return isinstance(node, Node) and node.is_host


def _mask(index: Any) -> Any:
    """The index as a boolean tensor, if that is what it is."""
    if isinstance(index, tuple) and len(index) == 1:
        index = index[0]
    return index if isinstance(index, torch.Tensor) and index.dtype is torch.bool else None


def _advanced(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(i, list | torch.Tensor | bool) for i in parts)


def _concrete(i: Any) -> Any:
    if isinstance(i, Scalar):
        return i.__index__()
    if isinstance(i, slice):
        return slice(*(_concrete(v) for v in (i.start, i.stop, i.step)))
    return i


def _view(x: TensorProxy, index: Any) -> TensorProxy:
    parts = list(index) if isinstance(index, tuple) else [index]
    used = sum(i is not None and i is not Ellipsis for i in parts)
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    at = parts.index(Ellipsis)
    parts[at : at + 1] = [slice(None)] * (x.ndim - used)
    shape: list[int] = []
    dim = 0
    for i in map(_concrete, parts):
        if i is None:
            shape.append(1)
            continue
        n = x.shape[dim]
        if isinstance(i, slice):
            start, stop, step = i.indices(n)
            if step < 1:
                raise ValueError("step must be greater than zero")
            x = sliced(x, dim, start, max(start, stop), step)
            shape.append(x.shape[dim])
        else:
            if not -n <= i < n:
                raise IndexError(f"index {i} is out of bounds for dimension {dim} with size {n}")
            x = sliced(x, dim, i % n, i % n + 1)
        dim += 1
    return reshaped(x, shape)


def _get(x: torch.Tensor, index: Any) -> torch.Tensor:
    return x[index]


def _put(x: torch.Tensor, index: Any, value: Any) -> torch.Tensor:
    out = x.clone()
    out[index] = value
    return out


def _plain(index: Any) -> Any:
    """An index that can stand in a call: slices as they are, lists as tensors."""
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(torch.tensor(i) if isinstance(i, list) else _concrete(i) for i in parts)


def _gather(t: Tracer, x: TensorProxy, index: Any) -> Node:
    if any(isinstance(i, torch.Tensor) and i.dtype is torch.bool for i in _plain(index)):
        raise Untraceable("x[mask, ...] has a shape that depends on values")
    return call(t, _get, (x.read(), _plain(index)), {})[0]


def _scatter(t: Tracer, x: TensorProxy, index: Any, value: Any) -> Node:
    node = x.read()
    return call(t, _put, (node, _plain(index), value), {}, [(node.shape, node.dtype)])[0]
