"""Torch functions that make tensors, copy them, or change their dtype."""

import math
from typing import Any

import torch

from weft.engine.ir.graph import Node
from weft.engine.ir.traced import Untraceable
from weft.engine.trace.opaque import call
from weft.engine.trace.pointwise import op
from weft.engine.trace.scalar import Scalar
from weft.engine.trace.tensor import TensorProxy
from weft.engine.trace.tracer import Tracer
from weft.engine.trace.views import shape_of

__all__ = ["LIKE"]

LIKE = {"zeros_like": 0, "ones_like": 1, "empty_like": 0}


def _fill(t: Tracer, value: Any, shape: Any, dtype: Any, default: torch.dtype) -> Node:
    dtype = dtype or default
    value = value if isinstance(value, Scalar | torch.Tensor) else _as(dtype)(value)
    return t.full(value, tuple(shape), dtype)


def _as(dtype: torch.dtype) -> type:
    return float if dtype.is_floating_point else bool if dtype is torch.bool else int


def _like(name: str, value: int) -> None:
    @op(name)
    def handler(t: Tracer, input: Any, *, dtype: Any = None, **unused: Any) -> Node:
        return _fill(t, value, input.shape, dtype, input.dtype)


for _name, _value in LIKE.items():
    _like(_name, _value)


@op("full_like")
def _full_like(t: Tracer, input: Any, fill_value: Any, *, dtype: Any = None, **unused: Any) -> Node:
    return _fill(t, fill_value, input.shape, dtype, input.dtype)


def _new(name: str, value: int) -> None:
    @op(name)
    def handler(t: Tracer, input: Any, *size: Any, dtype: Any = None, **kw: Any) -> Node:
        return _fill(t, value, shape_of(t, size or (kw["size"],)), dtype, input.dtype)


for _name, _value in {"new_zeros": 0, "new_ones": 1, "new_empty": 0}.items():
    _new(_name, _value)


@op("new_full")
def _new_full(t: Tracer, input: Any, size: Any, fill_value: Any, *, dtype: Any = None, **kw: Any):
    return _fill(t, fill_value, shape_of(t, (size,)), dtype, input.dtype)


@op("new_tensor")
def _new_tensor(t: Tracer, input: Any, data: Any, *, dtype: Any = None, **kw: Any) -> Any:
    return _tensor(t, data, dtype=dtype or input.dtype, device=t.device)


@op("new")
def _new_legacy(t: Tracer, input: Any, *data: Any) -> Node:
    """The old constructor: of sizes, or of numbers in a list."""
    values = data[0] if len(data) == 1 else None
    if isinstance(values, list | tuple | torch.Tensor) and not isinstance(values, torch.Size):
        return _tensor(t, values, dtype=input.dtype, device=t.device)
    return _fill(t, 0, shape_of(t, data), None, input.dtype)


def _factory(name: str, value: int) -> None:
    @op(name)
    def handler(t: Tracer, *size: Any, dtype: Any = None, **kw: Any) -> Node:
        return _fill(t, value, shape_of(t, size or (kw["size"],)), dtype, torch.get_default_dtype())


for _name, _value in {"zeros": 0, "ones": 1, "empty": 0}.items():
    _factory(_name, _value)


@op("full")
def _full(t: Tracer, size: Any, fill_value: Any, *, dtype: Any = None, **kw: Any) -> Node:
    if dtype is None and not isinstance(fill_value, Scalar | torch.Tensor):
        dtype = torch.tensor(fill_value).dtype
    return t.full(fill_value, shape_of(t, (size,)), dtype)


@op("tensor", "scalar_tensor")
def _tensor(t: Tracer, data: Any, *, dtype: Any = None, **kw: Any) -> Node:
    if isinstance(data, torch.Tensor):
        node = t.tensor(data)
        return t.cast(node, dtype) if dtype else node
    if type(data).__module__ == "numpy" and getattr(data, "ndim", 1) == 0:
        dtype = dtype or torch.tensor(data).dtype
    if isinstance(data, float | int) or (dtype and hasattr(data, "item")):
        kind = getattr(data, "number_type", None)  # of a NumPy number
        return t.full(data, (), dtype or (kind and torch.tensor(kind(0)).dtype))
    parts: list[Any] = []
    shape = _flat(data, parts)
    if not any(isinstance(x, Scalar | torch.Tensor) for x in parts):
        device = t.device if kw.get("device") is not None else "cpu"
        return t.external(torch.tensor(data, dtype=dtype, device=device))
    nodes = [t.reshape(t.full(x, (), None), (1,)) for x in parts]
    wide = dtype or _wide(nodes)
    nodes = [t.cast(n, wide) for n in nodes]
    return t.reshape(call(t, torch.cat, (nodes,), {}, [((len(nodes),), wide)])[0], shape)


def _wide(nodes: list[Node]) -> torch.dtype:
    out = nodes[0].dtype
    for n in nodes[1:]:
        out = torch.promote_types(out, n.dtype)
    return out


def _flat(data: Any, parts: list[Any]) -> tuple[int, ...]:
    if not isinstance(data, tuple | list):
        if not isinstance(data, float | int | torch.Tensor):
            raise Untraceable(f"a tensor made of {type(data).__name__}")
        parts.append(data)
        return ()
    shapes = {_flat(x, parts) for x in data}
    if len(shapes) > 1:
        raise ValueError("a tensor made of lists of different lengths")
    return (len(data), *(shapes.pop() if shapes else ()))


def constant(t: Tracer, fn: Any, args: Any, kwargs: dict[str, Any]) -> Node:
    """A factory whose result depends on nothing: a call without tensors."""
    if "device" in kwargs:
        kwargs = {**kwargs, "device": t.device}
    args = tuple(_concrete(a) for a in args)
    return call(t, fn, args, {k: _concrete(v) for k, v in kwargs.items()})[0]


def _concrete(x: Any) -> Any:
    """The value of a number that a factory needs: pinned."""
    if isinstance(x, Scalar):
        return x.__index__() if x.kind is not float else float(x)
    return x


# what depends on no tensor
WINDOWS = ("bartlett_window", "blackman_window", "hamming_window", "hann_window", "kaiser_window")
CONSTANT = frozenset(
    ("arange", "linspace", "logspace", "eye", "tril_indices", "triu_indices", *WINDOWS)
)


# ---------------------------------------------------------------- copies and dtypes


@op("clone", "__copy__", "__deepcopy__")
def _clone(t: Tracer, input: Any, *args: Any, **kw: Any) -> Node:
    return t.tensor(input)


def to_dtype(t: Tracer, x: TensorProxy, args: tuple[Any, ...], kw: dict[str, Any]) -> TensorProxy:
    """`Tensor.to`: itself where nothing changes, else a copy."""
    dtype, device, copy = kw.get("dtype"), kw.get("device"), kw.get("copy", False)
    for a in args:
        if isinstance(a, torch.dtype):
            dtype = a
        elif isinstance(a, torch.Tensor):
            dtype, device = a.dtype, a.device
        elif isinstance(a, str | torch.device):
            device = a
    if kw.get("memory_format", torch.preserve_format) is not torch.preserve_format:
        raise Untraceable("to(memory_format=...)")
    here = (t.device.type, "meta")  # torch's own C++ may have looked at the stand-in
    if device is not None and torch.device(device).type not in here:
        raise Untraceable(f"it moves a tensor to {device}")
    if not copy and (dtype is None or dtype is x.dtype):
        return x
    return TensorProxy.fresh(t, t.cast(x.read(), dtype or x.dtype), x.contig)


# ---------------------------------------------------------------- reading numbers


def item(t: Tracer, x: Any) -> Scalar:
    """A number read out of a tensor: double (or int64, bool) arithmetic from here on."""
    node = t.tensor(x)
    if math.prod(node.shape or ()) != 1:
        raise RuntimeError(f"a tensor of {node.shape} cannot be converted to a number")
    node = t.reshape(node, ())
    if node.op == "full":
        value = node.args[0]
        single = node.dtype is torch.float32 and value.dtype is float
        if not single and value.dtype is _as(node.dtype):
            return Scalar(t, value)
    wide = node.dtype
    if wide.is_floating_point:
        wide = torch.float64
    elif wide is not torch.bool:
        wide = torch.int64
    return Scalar(t, t.cast(node, wide))
