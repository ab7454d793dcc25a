"""Views: torch functions that give the same memory in another shape."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from weft.engine.ir.graph import Node
from weft.engine.ir.traced import Untraceable
from weft.engine.trace.tensor import Storage, TensorProxy, View, inverse_permutation
from weft.engine.trace.tracer import Tracer

__all__ = ["VIEW_OPS", "as_proxy", "permuted", "reshaped", "sliced", "view_op"]

VIEW_OPS: dict[str, Any] = {}


def view_op(*names: str):
    """Register a handler `(tracer, x, ...)` of torch functions that return views."""

    def registered(fn: Any) -> Any:
        for name in names:
            VIEW_OPS[name] = fn
        return fn

    return registered


def as_proxy(tracer: Tracer, x: Any) -> TensorProxy:
    """A tensor as a proxy: one that the callback brought along cannot be written."""
    if isinstance(x, TensorProxy):
        return x
    node = tracer.external(x)
    return TensorProxy.make(tracer, Storage(node, "a captured tensor"), (), x.is_contiguous())


def shape_of(tracer: Tracer, given: Sequence[Any]) -> tuple[int, ...]:
    """Sizes given one by one, or as one sequence."""
    if len(given) == 1 and isinstance(given[0], tuple | list):
        given = given[0]
    return tuple(n.__index__() for n in given)


# ---------------------------------------------------------------- reshape


def reshaped(x: TensorProxy, shape: Sequence[int]) -> TensorProxy:
    """A view in another shape."""
    t, base = x.tracer, tuple(x.shape)
    shape = _infer(shape, math.prod(base))
    if shape == base:
        return x.through(View(lambda n: n, lambda _, n: n), x.contig)
    view = View(lambda n: t.reshape(n, shape), lambda b, n: t.reshape(n, b.shape or ()))
    return x.through(view, x.contig)


def _infer(shape: Sequence[int], numel: int) -> tuple[int, ...]:
    shape = tuple(shape)
    if -1 in shape:
        known = -math.prod(shape)
        shape = tuple(numel // known if n == -1 and known else n for n in shape)
    if math.prod(shape) != numel or any(n < 0 for n in shape):
        raise RuntimeError(f"shape {shape} is invalid for input of size {numel}")
    return shape


def _maybe_copied(x: TensorProxy, shape: Sequence[int]) -> TensorProxy:
    """A reshape that is a view or a copy, depending on strides that are not known."""
    shape = _infer(shape, math.prod(x.shape))
    return reshaped(x, shape) if x.contig or shape == tuple(x.shape) else _twin(x, shape)


def _twin(x: TensorProxy, shape: tuple[int, ...]) -> TensorProxy:
    storage = Storage(x.tracer.reshape(x.read(), shape))
    storage.twin = (x.storage_, x.storage_.version)
    return TensorProxy.make(x.tracer, storage, (), True)


@view_op("view")
def _view(t: Tracer, x: TensorProxy, *shape: Any, dtype: Any = None, size: Any = None) -> Any:
    if isinstance(dtype, torch.dtype) or (shape and isinstance(shape[0], torch.dtype)):
        raise Untraceable("view(dtype)")
    return reshaped(x, shape_of(t, shape or size))


@view_op("reshape")
def _reshape(t: Tracer, x: TensorProxy, *shape: Any, **kw: Any) -> Any:
    return _maybe_copied(x, shape_of(t, shape or kw["shape"]))


@view_op("reshape_as", "view_as")
def _view_as(t: Tracer, x: TensorProxy, other: Any) -> Any:
    return _maybe_copied(x, tuple(other.shape))


@view_op("flatten")
def _flatten(t: Tracer, x: TensorProxy, start_dim: int = 0, end_dim: int = -1) -> Any:
    n = x.ndim
    if n == 0:
        return reshaped(x, (1,))
    a, b = start_dim % n, end_dim % n
    return _maybe_copied(x, (*x.shape[:a], math.prod(x.shape[a : b + 1]), *x.shape[b + 1 :]))


@view_op("ravel")
def _ravel(t: Tracer, x: TensorProxy) -> Any:
    return _maybe_copied(x, (-1,) if x.shape.numel() else (0,))


@view_op("unflatten")
def _unflatten(t: Tracer, x: TensorProxy, dim: int, sizes: Any) -> Any:
    d = dim % x.ndim
    inner = _infer(sizes, x.shape[d])
    return reshaped(x, (*x.shape[:d], *inner, *x.shape[d + 1 :]))


@view_op("contiguous")
def _contiguous(t: Tracer, x: TensorProxy, memory_format: Any = torch.contiguous_format) -> Any:
    if memory_format is not torch.contiguous_format:
        raise Untraceable(f"contiguous({memory_format})")
    return x if x.contig else _twin(x, tuple(x.shape))


@view_op("squeeze")
def _squeeze(t: Tracer, x: TensorProxy, dim: Any = None) -> Any:
    dims = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {d % max(x.ndim, 1) for d in dims}
    return reshaped(x, [n for i, n in enumerate(x.shape) if not (i in gone and n == 1)])


@view_op("unsqueeze")
def _unsqueeze(t: Tracer, x: TensorProxy, dim: int) -> Any:
    d = dim % (x.ndim + 1)
    return reshaped(x, (*x.shape[:d], 1, *x.shape[d:]))


@view_op("atleast_1d")
def _atleast_1d(t: Tracer, x: TensorProxy) -> Any:
    return reshaped(x, x.shape or (1,))


@view_op("atleast_2d")
def _atleast_2d(t: Tracer, x: TensorProxy) -> Any:
    return reshaped(x, (1,) * (2 - x.ndim) + x.shape)


@view_op("atleast_3d")
def _atleast_3d(t: Tracer, x: TensorProxy) -> Any:
    flat = _atleast_2d(t, x)
    return reshaped(flat, (*flat.shape, 1)[: max(x.ndim, 3)])


@view_op(
    "detach", "alias", "positive", "__pos__", "requires_grad_",
    "conj", "conj_physical", "resolve_conj", "resolve_neg", "real",
)  # fmt: skip
def _alias(t: Tracer, x: TensorProxy, *args: Any) -> Any:
    return x.data


# ---------------------------------------------------------------- permute, expand


def permuted(x: TensorProxy, dims: Sequence[int]) -> TensorProxy:
    """A view with the axes in another order."""
    t, n = x.tracer, x.ndim
    order = tuple(d % n for d in dims)
    if sorted(order) != list(range(n)):
        raise RuntimeError(f"permute{tuple(dims)} of a tensor of {n} dims")
    back = inverse_permutation(order)
    view = View(lambda v: t.permute(v, order), lambda _, v: t.permute(v, back))
    long = [d for d in order if x.shape[d] != 1]
    return x.through(view, x.contig and long == sorted(long))


@view_op("permute")
def _permute(t: Tracer, x: TensorProxy, *dims: Any, **kw: Any) -> Any:
    return permuted(x, shape_of(t, dims or (kw["dims"],)))


@view_op("t", "get:T", "get:mT", "adjoint", "get:H", "get:mH")
def _t(t: Tracer, x: TensorProxy) -> Any:
    n = x.ndim
    return x.data if n < 2 else permuted(x, (*range(n - 2), n - 1, n - 2))


@view_op("transpose", "swapaxes", "swapdims")
def _transpose(t: Tracer, x: TensorProxy, dim0: int, dim1: int) -> Any:
    if x.ndim == 0:
        return x.data
    dims = list(range(x.ndim))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return permuted(x, dims)


@view_op("movedim", "moveaxis")
def _movedim(t: Tracer, x: TensorProxy, source: int, destination: int) -> Any:
    dims = [d for d in range(x.ndim) if d != source % x.ndim]
    dims.insert(destination % x.ndim, source % x.ndim)
    return permuted(x, dims)


@view_op("expand", "broadcast_to")
def _expand(t: Tracer, x: TensorProxy, *shape: Any, **kw: Any) -> Any:
    shape = shape_of(t, shape or (kw.get("size", ()),))
    pad = len(shape) - x.ndim
    full = tuple(x.shape[i - pad] if n == -1 else n for i, n in enumerate(shape))
    return x.through(View(lambda v: t.expand(v, full)))


@view_op("expand_as")
def _expand_as(t: Tracer, x: TensorProxy, other: Any) -> Any:
    return _expand(t, x, *other.shape)


# ---------------------------------------------------------------- parts


def sliced(x: TensorProxy, dim: int, start: int, stop: int, step: int = 1) -> TensorProxy:
    """Elements `start:stop:step` along one dimension, indices already in range."""
    t = x.tracer
    if (start, stop, step) == (0, x.shape[dim], 1):
        return x.data

    def write(base: Node, part: Node) -> Node:
        return t.graph.add(
            "slice_scatter", (base, part), shape=base.shape, dtype=base.dtype,
            dim=dim, start=start, stop=stop, step=step,
        )  # fmt: skip

    view = View(lambda v: t.slice(v, dim, start, stop, step), write)
    leading = math.prod(x.shape[:dim]) == 1
    return x.through(view, x.contig and leading and step == 1)


@view_op("select")
def _select(t: Tracer, x: TensorProxy, dim: int, index: Any) -> Any:
    d, i = dim % x.ndim, index.__index__()
    n = x.shape[d]
    if not -n <= i < n:
        raise IndexError(f"index {i} is out of bounds for dimension {d} with size {n}")
    part = sliced(x, d, i % n, i % n + 1)
    return reshaped(part, (*x.shape[:d], *x.shape[d + 1 :]))


@view_op("narrow")
def _narrow(t: Tracer, x: TensorProxy, dim: int, start: Any, length: Any) -> Any:
    d = dim % x.ndim
    start = start.__index__() % max(x.shape[d], 1)
    stop = start + length.__index__()
    if stop > x.shape[d]:
        raise RuntimeError("narrow goes past the end")
    return sliced(x, d, start, stop)


@view_op("split", "split_with_sizes")
def _split(t: Tracer, x: TensorProxy, split_size: Any = None, dim: int = 0, **kw: Any) -> Any:
    size = kw.get("split_size_or_sections", split_size)
    d = dim % x.ndim
    n = x.shape[d]
    sizes = size if isinstance(size, tuple | list) else [size] * (-(-n // size) or 1)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(sliced(x, d, a, min(n, a + s)) for a, s in zip(starts, sizes, strict=True))


@view_op("tensor_split")
def _tensor_split(t: Tracer, x: TensorProxy, given: Any = None, dim: int = 0, **kw: Any) -> Any:
    """In so many parts, the first ones longer by one, or at these places."""
    at = next(iter(kw.values())) if given is None else given
    d = dim % x.ndim
    n = x.shape[d]
    if not isinstance(at, tuple | list):
        parts = at.__index__()
        at = [i * (n // parts) + min(i, n % parts) for i in range(1, parts)]
    ends = [slice(0, i).indices(n)[1] for i in (*at, n)]
    return tuple(sliced(x, d, a, max(a, b)) for a, b in zip([0, *ends], ends, strict=False))


@view_op("chunk")
def _chunk(t: Tracer, x: TensorProxy, chunks: int, dim: int = 0) -> Any:
    return _split(t, x, max(1, -(-x.shape[dim] // chunks)), dim)


@view_op("unbind")
def _unbind(t: Tracer, x: TensorProxy, dim: int = 0) -> Any:
    return tuple(_select(t, x, dim, i) for i in range(x.shape[dim]))


@view_op("diagonal")
def _diagonal(t: Tracer, x: TensorProxy, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    if x.ndim != 2 or (dim1 % 2, dim2 % 2) != (0, 1):
        raise Untraceable("diagonal of something else than a matrix")
    rows, cols = x.shape
    n = max(0, min(rows + min(offset, 0), cols - max(offset, 0)))

    def read(v: Node) -> Node:
        return t.graph.add("diagonal", (v,), shape=(n,), dtype=v.dtype, offset=offset)

    def write(b: Node, v: Node) -> Node:
        return t.graph.add("diagonal_scatter", (b, v), shape=b.shape, dtype=b.dtype, offset=offset)

    return x.through(View(read, write))
