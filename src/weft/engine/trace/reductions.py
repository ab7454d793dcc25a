"""Reductions: sums, means, norms, extremes and what is made of them."""

import math
from collections import namedtuple
from typing import Any

import torch

from weft.engine.ir.graph import Node
from weft.engine.ir.traced import Untraceable
from weft.engine.trace.opaque import call
from weft.engine.trace.pointwise import op
from weft.engine.trace.scalar import Scalar
from weft.engine.trace.tracer import Tracer, category

__all__ = []

Extremes = namedtuple("Extremes", "values indices")


def _dims(dim: Any) -> Any:
    """The dims of a reduction, None for all."""
    if dim is None or (isinstance(dim, tuple | list) and not dim):
        return None
    return [d.__index__() for d in dim] if isinstance(dim, tuple | list) else [dim.__index__()]


def _count(x: Node, dims: Any) -> int:
    shape = x.shape or ()
    return math.prod(shape if dims is None else [shape[d] for d in dims])  # type: ignore[return-value]


@op("sum")
def _sum(t: Tracer, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None):
    x = t.tensor(input)
    wide = dtype or (x.dtype if category(x.dtype) == 2 else torch.int64)
    return t.reduce("sum", t.cast(x, wide), _dims(dim), keepdim)


@op("mean")
def _mean(t: Tracer, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None):
    x = t.tensor(input)
    x = t.cast(x, dtype) if dtype else x
    if not x.dtype.is_floating_point:
        raise RuntimeError("mean of integers")
    dims = _dims(dim)
    return t.pointwise("div", t.reduce("sum", x, dims, keepdim), float(_count(x, dims)))


@op("prod")
def _prod(t: Tracer, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None):
    x = t.tensor(input)
    wide = dtype or (x.dtype if category(x.dtype) == 2 else torch.int64)
    return t.reduce("prod", t.cast(x, wide), _dims(dim), keepdim)


@op("amax")
def _amax(t: Tracer, input: Any, dim: Any = (), keepdim: bool = False):
    return t.reduce("amax", t.tensor(input), _dims(dim), keepdim)


@op("amin")
def _amin(t: Tracer, input: Any, dim: Any = (), keepdim: bool = False):
    return t.reduce("amin", t.tensor(input), _dims(dim), keepdim)


@op("aminmax")
def _aminmax(t: Tracer, input: Any, *, dim: Any = None, keepdim: bool = False):
    x = t.tensor(input)
    return tuple(t.reduce(o, x, _dims(dim), keepdim) for o in ("amin", "amax"))


def _extreme(name: str, reduction: str, both: str):
    @op(name)
    def handler(
        t: Tracer, input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None
    ):
        if isinstance(dim, torch.Tensor) or other is not None:
            return t.pointwise(both, input, dim if other is None else other)
        x = t.tensor(input)
        if dim is None:
            return t.reduce(reduction, x)
        values = t.reduce(reduction, x, _dims(dim), keepdim)
        fn = getattr(torch, f"arg{name}")
        where = call(t, fn, (x,), {"dim": dim, "keepdim": keepdim}, [(values.shape, torch.int64)])
        return Extremes(values, where[0])

    return handler


_extreme("max", "amax", "maximum")
_extreme("min", "amin", "minimum")


def _truth(name: str):
    @op(name)
    def handler(t: Tracer, input: Any, dim: Any = None, keepdim: bool = False):
        return t.reduce(name, t.cast(t.tensor(input), torch.bool), _dims(dim), keepdim)

    return handler


_truth("any")
_truth("all")


@op("count_nonzero")
def _count_nonzero(t: Tracer, input: Any, dim: Any = None):
    return _sum(t, t.pointwise("ne", input, 0), dim)


# ---------------------------------------------------------------- norms


def _norm_of(t: Tracer, x: Node, p: Any, dims: Any, keepdim: bool) -> Node:
    mul = lambda a: t.pointwise("mul", a, a)
    if isinstance(p, Scalar):
        raise Untraceable("a norm whose order is a hyper")
    if not x.dtype.is_floating_point:
        raise RuntimeError("norm of integers")
    if p == 2:
        return t.pointwise("sqrt", t.reduce("sum", mul(x), dims, keepdim))
    size = t.pointwise("abs", x)
    if p == 1:
        return t.reduce("sum", size, dims, keepdim)
    if p in (math.inf, -math.inf):
        return t.reduce("amax" if p > 0 else "amin", size, dims, keepdim)
    if p == 0:
        return t.reduce("sum", t.cast(t.pointwise("ne", x, 0), x.dtype), dims, keepdim)
    powers = t.reduce("sum", t.pointwise("pow", size, float(p)), dims, keepdim)
    return t.pointwise("pow", powers, 1.0 / p)


@op("norm")
def _norm(t: Tracer, input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, out=None,
          dtype: Any = None):  # fmt: skip
    x = t.tensor(input)
    if p in ("fro", None):
        p = 2
    if isinstance(p, str):
        return call(t, torch.norm, (x, p, dim, keepdim), {})[0]
    return _norm_of(t, t.cast(x, dtype) if dtype else x, p, _dims(dim), keepdim)


@op("linalg_vector_norm")
def _vector_norm(t: Tracer, x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *,
                 dtype: Any = None):  # fmt: skip
    node = t.tensor(x)
    return _norm_of(t, t.cast(node, dtype) if dtype else node, ord, _dims(dim), keepdim)


@op("linalg_norm")
def _linalg_norm(t: Tracer, input: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *,
                 dtype: Any = None):  # fmt: skip
    x = t.tensor(input)
    x = t.cast(x, dtype) if dtype else x
    dims = _dims(dim)
    rank = len(x.shape or ()) if dims is None else len(dims)
    if ord is None or rank == 1:
        return _norm_of(t, x, 2 if ord is None else ord, dims, keepdim)
    return _norm_of_matrix(t, x, ord, (0, 1) if dims is None else dims, keepdim)


@op("linalg_matrix_norm")
def _linalg_matrix_norm(t: Tracer, input: Any, ord: Any = "fro", dim: Any = (-2, -1),
                        keepdim: bool = False, *, dtype: Any = None):  # fmt: skip
    x = t.tensor(input)
    return _norm_of_matrix(t, t.cast(x, dtype) if dtype else x, ord, _dims(dim), keepdim)


def _norm_of_matrix(t: Tracer, x: Node, ord: Any, dims: Any, keepdim: bool) -> Node:
    """The largest sum of a column or a row; torch's where the norm is of singular values."""
    if len(dims) != 2:
        raise RuntimeError(f"a matrix norm over {len(dims)} dims")
    if isinstance(ord, Scalar):
        raise Untraceable("a norm whose order is a hyper")
    if ord == "fro":
        return _norm_of(t, x, 2, dims, keepdim)
    if ord in (1, -1, math.inf, -math.inf):
        along = dims[0] if abs(ord) == 1 else dims[1]
        sums = t.reduce("sum", t.pointwise("abs", x), [along], True)
        return t.reduce("amax" if ord > 0 else "amin", sums, dims, keepdim)
    return call(t, torch.linalg.matrix_norm, (x, ord, tuple(dims), keepdim), {})[0]


@op("dist")
def _dist(t: Tracer, input: Any, other: Any, p: Any = 2):
    return _norm_of(t, t.pointwise("sub", input, other), p, None, False)


@op("normalize")
def _normalize(
    t: Tracer, input: Any, p: Any = 2.0, dim: Any = 1, eps: Any = 1e-12, out: Any = None
):
    x = t.tensor(input)
    size = t.pointwise("maximum", _norm_of(t, x, p, _dims(dim), True), eps)
    return t.pointwise("div", x, size)


# ---------------------------------------------------------------- spread and products


def _variance(t: Tracer, x: Node, dim: Any, correction: Any, keepdim: bool) -> tuple[Node, Node]:
    dims = _dims(dim)
    n = _count(x, dims)
    mean = t.pointwise("div", t.reduce("sum", x, dims, True), float(n))
    off = t.pointwise("sub", x, mean)
    squares = t.reduce("sum", t.pointwise("mul", off, off), dims, keepdim)
    variance = t.pointwise("div", squares, float(max(n - correction, 0)))
    flat = mean if keepdim else t.reshape(mean, variance.shape or ())
    return variance, flat


def _correction(dim: Any, unbiased: Any, correction: Any) -> tuple[Any, Any]:
    """(dim, correction): `var(False)` means unbiased=False."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    return dim, correction


@op("var")
def _var(t: Tracer, input: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *,
         correction: Any = None):  # fmt: skip
    dim, correction = _correction(dim, unbiased, correction)
    return _variance(t, t.tensor(input), dim, correction, keepdim)[0]


@op("std")
def _std(t: Tracer, input: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *,
         correction: Any = None):  # fmt: skip
    return t.pointwise("sqrt", _var(t, input, dim, unbiased, keepdim, correction=correction))


@op("var_mean")
def _var_mean(t: Tracer, input: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *,
              correction: Any = None):  # fmt: skip
    dim, correction = _correction(dim, unbiased, correction)
    return _variance(t, t.tensor(input), dim, correction, keepdim)


@op("std_mean")
def _std_mean(t: Tracer, input: Any, *args: Any, **kw: Any):
    variance, mean = _var_mean(t, input, *args, **kw)
    return t.pointwise("sqrt", variance), mean


@op("dot", "vdot", "inner")
def _dot(t: Tracer, input: Any, other: Any):
    a, b = t.tensor(input), t.tensor(other)
    if len(a.shape or ()) != 1 or a.shape != b.shape:
        raise Untraceable("dot or inner of something else than two vectors")
    return t.reduce("sum", t.pointwise("mul", a, b))


@op("cosine_similarity")
def _cosine(t: Tracer, x1: Any, x2: Any, dim: int = 1, eps: Any = 1e-8):
    dims = [dim]
    product = t.reduce("sum", t.pointwise("mul", x1, x2), dims)
    sizes = [
        t.pointwise("maximum", _norm_of(t, t.tensor(x), 2, dims, False), eps) for x in (x1, x2)
    ]
    return t.pointwise("div", product, t.pointwise("mul", *sizes))


@op("softmax")
def _softmax(t: Tracer, input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None):
    x = t.tensor(input)
    x = t.cast(x, dtype) if dtype else x
    e = t.pointwise("exp", t.pointwise("sub", x, t.reduce("amax", x, _dims(dim), True)))
    return t.pointwise("div", e, t.reduce("sum", e, _dims(dim), True))


@op("logsumexp")
def _logsumexp(t: Tracer, input: Any, dim: Any, keepdim: bool = False):
    x = t.tensor(input)
    high = t.reduce("amax", x, _dims(dim), True)
    total = t.reduce("sum", t.pointwise("exp", t.pointwise("sub", x, high)), _dims(dim), True)
    out = t.pointwise("add", t.pointwise("log", total), high)
    return out if keepdim else t.reduce("sum", out, _dims(dim), False)
