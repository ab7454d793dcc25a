"""Torch functions that stay torch functions: matrix work, sorting, random numbers.

Each becomes a `call` node. Shapes of matrix products follow from their arguments; the rest learn
theirs by running the function once on ones of the same shape (running it on meta tensors would
import sympy, which takes a second).
"""

import functools
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any

import torch

from weft.engine.ir.graph import Node
from weft.engine.ir.traced import Arg, Untraceable, put_back
from weft.engine.rng import forked
from weft.engine.trace.generators import source_of
from weft.engine.trace.pointwise import op
from weft.engine.trace.scalar import Scalar
from weft.engine.trace.tracer import Tracer, Wrapped, broadcast_shapes

__all__ = ["RANDOM", "call", "copied", "opaque", "random_call"]

TOO_LARGE = 1 << 14
# arguments that are the same in every step
FIXED = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.layout,
         torch.memory_format, slice, range, type(Ellipsis))  # fmt: skip


def call(
    t: Tracer, fn: Callable, args: Sequence[Any], kwargs: dict[str, Any],
    specs: Sequence[tuple[Any, torch.dtype]] | None = None, serial: int = 0,
) -> tuple[Node, ...]:  # fmt: skip
    """A call of `fn`, and its results. `specs` are their shapes and dtypes, where they are known."""
    nodes: list[Node] = []
    tree = (_lay_out(t, tuple(args), nodes), _lay_out(t, dict(kwargs), nodes))
    single = specs is not None and len(specs) == 1
    made: Callable[..., Any] = lambda *results: results
    if specs is None:
        specs, single, fields = _run_on_ones(fn, tree, nodes)
        if fields:
            made = namedtuple("Results", fields)
    shape, dtype = specs[0]
    attrs: dict[str, Any] = {"fn": fn, "tree": tree, "results": 0 if single else len(specs)}
    if serial:
        attrs["serial"] = serial
    node = t.graph.add("call", tuple(nodes), shape=tuple(shape or ()), dtype=dtype, **attrs)
    if single:
        return (node,)
    return made(
        *(
            t.graph.add("getitem", (node,), shape=tuple(s or ()), dtype=d, index=i)
            for i, (s, d) in enumerate(specs)
        )
    )


def _lay_out(t: Tracer, x: Any, nodes: list[Node]) -> Any:
    """The arguments with every tensor and symbolic number replaced by its place."""
    if isinstance(x, torch.Tensor | Scalar | Node | Wrapped):
        node = t.lift(x)
        if isinstance(node, Wrapped):
            raise Untraceable("a number read out of a tensor is an argument of an opaque function")
        nodes.append(node)
        return Arg(len(nodes) - 1)
    if isinstance(x, tuple | list):
        return tuple(_lay_out(t, v, nodes) for v in x)
    if isinstance(x, dict):
        return {k: _lay_out(t, v, nodes) for k, v in x.items()}
    if isinstance(x, torch.Generator):
        return source_of(x)
    if not isinstance(x, FIXED):
        raise Untraceable(f"it gives a torch function a {type(x).__name__}, which may change")
    return x


def _run_on_ones(fn: Callable, tree: Any, nodes: list[Node]) -> tuple[list[Any], bool, Any]:
    """What the results look like: shapes and dtypes, whether there is one, their names."""
    device = "cpu" if sum(n.numel for n in nodes if not n.is_host) <= TOO_LARGE else "meta"

    def stand_in(n: Node) -> Any:
        if n.is_host:
            return {float: 0.5, int: 1, bool: True}[n.dtype]
        if n.op == "external":
            return n.attr("tensor").tensor.to(device, copy=True)
        if n.dtype is torch.int64:  # an index: 0 is within whatever has an element
            return torch.zeros(n.shape or (), dtype=n.dtype, device=device)
        out = torch.ones(n.shape or (), dtype=n.dtype, device=device)
        square = len(n.shape or ()) >= 2 and n.shape[-1] == n.shape[-2]  # type: ignore[index]
        return out + torch.eye(n.shape[-1], device=device).to(n.dtype) if square else out  # type: ignore[index]

    with torch._C.DisableTorchFunction(), torch.no_grad():
        given = [stand_in(n) for n in nodes]
        args, kwargs = put_back(tree, given)
        try:
            out = fn(*args, **kwargs)
        except NotImplementedError as e:
            raise Untraceable(f"{_name(fn)} has no shape that can be told: {e}") from e
    many = isinstance(out, tuple | list)
    results = list(out) if many else [out]
    if not results or not all(isinstance(r, torch.Tensor) for r in results):
        raise Untraceable(f"{_name(fn)} returns something else than tensors")
    if any(r.is_complex() for r in results):
        raise Untraceable(f"{_name(fn)} gives complex numbers")
    if any(r.layout is not torch.strided or r.is_quantized for r in results):
        raise Untraceable(f"{_name(fn)} gives tensors that are not strided")
    _see_to_memory(fn, [x for x in given if isinstance(x, torch.Tensor)], results)
    fields = getattr(type(out), "__match_args__", ()) if many else ()
    return [(tuple(r.shape), r.dtype) for r in results], not many, fields


def _see_to_memory(fn: Callable, given: list[torch.Tensor], results: list[torch.Tensor]) -> None:
    """Refuse what schemas keep silent about: composite functions that write or share memory."""
    if any(x._version for x in given):
        raise Untraceable(f"{_name(fn)} writes to its arguments")
    memory = lambda x: x.untyped_storage()._cdata
    if {memory(x) for x in given} & {memory(r) for r in results}:
        raise Untraceable(f"{_name(fn)} may give the memory that it was given")


def _name(fn: Any) -> str:
    return getattr(fn, "__name__", str(fn))


def opaque(t: Tracer, fn: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """A deterministic torch function as it is; its result, or a tuple of results."""
    out = call(t, fn, args, kwargs)
    return out[0] if len(out) == 1 and out[0].op == "call" else out


@functools.cache
def copied(fn: Callable) -> Callable:
    """A function whose results have memory of their own."""

    def copy(*args: Any, **kwargs: Any) -> Any:
        out = fn(*args, **kwargs)
        return out.clone() if isinstance(out, torch.Tensor) else tuple(x.clone() for x in out)

    copy.__name__ = copy.__qualname__ = _name(fn)
    return copy


# ---------------------------------------------------------------- matrix products


def _matmul_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    if not a or not b:
        raise RuntimeError("matmul of a 0-dim tensor")
    left = a if len(a) > 1 else (1, *a)
    right = b if len(b) > 1 else (*b, 1)
    if left[-1] != right[-2]:
        raise RuntimeError(f"matmul of {a} and {b}")
    batch = broadcast_shapes(left[:-2], right[:-2])
    rows = (left[-2],) if len(a) > 1 else ()
    return (*batch, *rows, *((right[-1],) if len(b) > 1 else ()))


def _matmul(t: Tracer, input: Any, other: Any) -> Node:
    a, b = t.tensor(input), t.tensor(other)
    if a.dtype is not b.dtype:
        raise RuntimeError(f"matmul of {a.dtype} and {b.dtype}")
    shape = _matmul_shape(a.shape or (), b.shape or ())
    return call(t, torch.matmul, (a, b), {}, [(shape, a.dtype)])[0]


for _n in ("matmul", "__matmul__", "mm", "bmm", "mv", "linalg_matmul"):
    op(_n)(lambda t, input=None, other=None, mat2=None, vec=None: _matmul(
        t, input, next(x for x in (other, mat2, vec) if x is not None)))  # fmt: skip
op("__rmatmul__")(lambda t, input, other: _matmul(t, other, input))


@op("addmm", "addmv")
def _addmm(t: Tracer, input: Any, a: Any = None, b: Any = None, *old: Any, beta: Any = 1,
           alpha: Any = 1, mat1: Any = None, mat2: Any = None) -> Node:  # fmt: skip
    if old:
        raise Untraceable("the deprecated order of addmm's arguments")
    product = _matmul(t, mat1 if a is None else a, mat2 if b is None else b)
    scaled = product if _is_one(alpha) else t.pointwise("mul", product, alpha)
    base = input if _is_one(beta) else t.pointwise("mul", input, beta)
    return t.pointwise("add", base, scaled)


def _is_one(x: Any) -> bool:
    return not isinstance(x, Scalar) and x == 1


@op("outer", "ger")
def _outer(t: Tracer, input: Any, vec2: Any) -> Node:
    a, b = t.tensor(input), t.tensor(vec2)
    column = t.reshape(a, (*(a.shape or ()), 1))
    return t.pointwise("mul", column, t.reshape(b, (1, *(b.shape or ()))))


# ---------------------------------------------------------------- random numbers


def _filled(name: str) -> Callable:
    """A function that fills new memory like `x` by one of torch's in-place random methods."""

    def fill(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return getattr(torch.empty_like(x), name)(*args, **kwargs)

    fill.__name__ = fill.__qualname__ = name
    return fill


IN_PLACE_RANDOM = {
    n: _filled(n)
    for n in ("normal_", "uniform_", "bernoulli_", "exponential_", "random_", "cauchy_",
              "log_normal_", "geometric_")
}  # fmt: skip
LIKE = ("rand_like", "randn_like", "randint_like", "bernoulli")
FACTORIES = ("rand", "randn", "randint", "randperm", "normal")
RANDOM = frozenset((*IN_PLACE_RANDOM, *LIKE, *FACTORIES))


def random_call(t: Tracer, name: str, fn: Callable, args: Sequence[Any], kwargs: Any) -> Node:
    """A draw: never merged with another, and in its place in the order of draws."""
    if t.path.order:
        raise Untraceable("it draws random numbers after a branch on a tensor")
    if name in IN_PLACE_RANDOM:
        x = t.tensor(args[0])
        fn, spec = IN_PLACE_RANDOM[name], (x.shape, x.dtype)
    elif name in LIKE:
        x = t.tensor(args[0] if args else kwargs["input"])
        spec = (x.shape, kwargs.get("dtype") or x.dtype)
    elif name not in FACTORIES:
        spec = None
    else:
        with torch._C.DisableTorchFunction(), forked(t.device):
            out = fn(*args, **{k: v for k, v in kwargs.items() if k != "generator"})
        spec = (tuple(out.shape), out.dtype)
    with forked(t.device):
        node, *more = call(t, fn, args, kwargs, spec and [spec], serial=len(t.random) + 1)
    if more:
        raise Untraceable(f"{name} draws several tensors at once")
    t.random.append(node)
    return node
