"""From torch functions to handlers: one place that knows torch's conventions.

`add_` is `add` written back, `out=` likewise, `_foreach_add` is `add` on lists, operators and
`torch.ops.aten` are the functions that they call.
"""

import inspect
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from weft.engine.ir.graph import Node
from weft.engine.ir.traced import Untraceable
from weft.engine.trace import factories, reductions  # noqa: F401  (they register their handlers)
from weft.engine.trace.indexing import get_item, set_item
from weft.engine.trace.inside import is_composed, opened
from weft.engine.trace.opaque import RANDOM, copied, opaque, random_call
from weft.engine.trace.pointwise import OPS
from weft.engine.trace.rounding import compute
from weft.engine.trace.schemas import changes_shape, drawn, pure, shares
from weft.engine.trace.tensor import TensorProxy
from weft.engine.trace.tracer import Tracer, Wrapped
from weft.engine.trace.views import VIEW_OPS, as_proxy

__all__ = ["Mode", "dispatch"]

METHOD_ONLY = frozenset(
    ("where", "float", "double", "half", "bool", "bfloat16", "int", "long", "byte", "char", "short")
)
IN_PLACE_OPERATORS = {
    f"__i{n}__": f"__{n}__"
    for n in ("add", "sub", "mul", "truediv", "div", "floordiv", "mod", "pow", "and", "or", "xor")
}
# questions about a tensor whose answer is the same for the proxy's own meta tensor
METADATA = frozenset((
    "dim", "size", "numel", "nelement", "ndimension", "__len__", "element_size",
    "is_floating_point", "is_complex", "is_signed", "get:nbytes", "get:itemsize", "is_same_size",
    "get:is_cpu", "is_tensor", "is_inference", "is_conj", "is_neg", "has_names", "get:is_meta",
    "get:is_quantized", "get:is_mkldnn", "get:is_nested", "get:is_mps", "get:is_xpu", "get:names",
    "result_type", "can_cast", "is_nonzero_", "promote_types",
))  # fmt: skip
PASS = frozenset((
    "_set_grad_enabled", "set_grad_enabled", "is_grad_enabled", "get_default_dtype", "finfo",
    "iinfo", "broadcast_shapes", "get_num_threads", "_C_set_grad_enabled", "set_default_dtype",
    "get_device_module", "_get_tracing_state", "device", "__torch_function__",
    "_is_functional_tensor",
))  # fmt: skip


class Mode(TorchFunctionMode):
    """Sends every torch call of a callback to the tracer."""

    def __init__(self, tracer: Tracer):
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(self.tracer, func, args, kwargs or {})


_names: dict[Any, str] = {}


def name_of(func: Any) -> str:
    """What a torch function is called, whether method, operator, attribute or aten op."""
    try:
        return _names[func]
    except KeyError:
        name = getattr(func, "__name__", type(func).__name__)
        owner = getattr(func, "__self__", None)
        if name in ("__get__", "__set__", "__delete__"):
            name = f"{name[2:5]}:{getattr(owner, '__name__', None) or owner.fget.__name__}"  # type: ignore[union-attr]
        elif hasattr(func, "_schema"):
            name = func._schema.name.rpartition("::")[2]
        elif name in METHOD_ONLY and (
            inspect.ismethoddescriptor(func) or "Tensor." in getattr(func, "__qualname__", "")
        ):
            name = f"method:{name}"
        name = name.removeprefix("special_")
        if getattr(func, "__module__", None) == "torch._C._linalg" and not name.startswith(
            "linalg"
        ):
            name = f"linalg_{name}"
        _names[func] = name
        return name


def dispatch(t: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a torch call gives on proxies."""
    name = name_of(func)
    if name.startswith("_foreach_"):
        return _foreach(t, name.removeprefix("_foreach_"), args, kwargs)
    if "out" in kwargs:
        out = kwargs["out"]
        kwargs = {k: v for k, v in kwargs.items() if k != "out"}
        if out is not None:
            return _into(t, out, dispatch(t, func, args, kwargs))
    itself = "inplace" in kwargs and is_composed(func)  # torch's code knows what it writes to
    if name in OPS and not itself:
        return wrap(t, compute(t, name, func, args, kwargs), _contig(t, args, kwargs))
    if name in VIEW_OPS:
        return VIEW_OPS[name](t, as_proxy(t, _self(args, kwargs)), *args[1:], **_rest(args, kwargs))
    special = SPECIAL.get(name)
    if special is not None:
        return special(t, args, kwargs)
    if name in RANDOM:
        return _random(t, name, func, args, kwargs)
    if name in factories.CONSTANT:
        return wrap(t, factories.constant(t, func, args, kwargs), True)
    plain = IN_PLACE_OPERATORS.get(name) or (name[:-1] if name.endswith("_") else "")
    if plain in OPS or plain in VIEW_OPS or (pure(plain) and not changes_shape(name)):
        return _in_place(t, plain, func, args, kwargs)
    if name in METADATA:
        return _about(func, args, kwargs)
    if name in PASS:
        return func(*args, **kwargs)
    if is_composed(func):
        return _inside(t, func, args, kwargs)
    if pure(name):
        return wrap(t, opaque(t, func, args, kwargs), False)
    if shares(name):
        return _looked_at(t, name, func, args, kwargs)
    if drawn(name):
        return _random(t, name, func, args, kwargs)
    raise Untraceable(f"torch's {name.removeprefix('get:')} is not known to the tracer")


def _self(args: tuple, kwargs: dict) -> Any:
    return args[0] if args else kwargs.get("input", kwargs.get("self"))


def _rest(args: tuple, kwargs: dict) -> dict:
    return kwargs if args else {k: v for k, v in kwargs.items() if k not in ("input", "self")}


def wrap(t: Tracer, result: Any, contig: bool) -> Any:
    """Results as a callback gets them: nodes as tensors with memory of their own."""
    if isinstance(result, Node):
        return TensorProxy.fresh(t, result, contig)
    if isinstance(result, tuple):
        values = [wrap(t, r, contig) for r in result]
        return type(result)(*values) if hasattr(result, "_fields") else tuple(values)
    return result


def _contig(t: Tracer, args: Any, kwargs: Any) -> bool:
    """Whether a result is certain to be C-contiguous: all tensors that it comes from are."""
    return all(
        x.contig if type(x) is TensorProxy else _is_contiguous(x)
        for x in (*args, *kwargs.values())
        if isinstance(x, torch.Tensor)
    )


def _is_contiguous(x: torch.Tensor) -> bool:
    with torch._C.DisableTorchFunction():
        return x.is_contiguous()


def _inside(t: Tracer, func: Any, args: tuple, kwargs: dict) -> Any:
    """A function of torch's that is written in Python: its calls are traced, as a callback's are."""
    if func in t.inside:
        raise Untraceable(f"torch's {func.__name__} is not known to the tracer")
    t.inside.append(func)
    try:
        with Mode(t):
            return opened(func)(*args, **kwargs)
    finally:
        t.inside.pop()


def _looked_at(t: Tracer, name: str, func: Any, args: tuple, kwargs: dict) -> Any:
    """A view that is only known to torch: fine as long as neither it nor its base is written."""
    base = as_proxy(t, _self(args, kwargs))
    views = wrap(t, opaque(t, copied(func), args, kwargs), False)
    for x in views if isinstance(views, tuple) else (views,):
        x.storage_.frozen = f"what {name} gave"
        x.storage_.twin = (base.storage_, base.storage_.version)
    return views


# ---------------------------------------------------------------- writing


def _in_place(t: Tracer, plain: str, func: Any, args: tuple, kwargs: dict) -> Any:
    """`x.f_(...)`: `x.f(...)`, written to x."""
    x = _self(args, kwargs)
    if not isinstance(x, TensorProxy):
        raise Untraceable(f"it writes to a captured tensor ({plain}_)")
    if plain in VIEW_OPS:  # t_, squeeze_ and the like change the tensor's own shape
        if plain in ("detach", "requires_grad"):
            return x
        return _in_another_shape(t, x, plain, func, args, kwargs)
    if plain in OPS:
        key = f"method:{plain}" if plain in METHOD_ONLY else plain
        result = compute(t, key, getattr(torch.Tensor, plain, None), args, kwargs)
    else:
        func = getattr(torch.Tensor, plain, None) or getattr(torch.nn.functional, plain)
        result = opaque(t, func, args, kwargs)
    _write(t, x, result)
    return x


def _in_another_shape(
    t: Tracer, x: TensorProxy, plain: str, func: Any, args: tuple, kwargs: dict
) -> TensorProxy:
    """`unsqueeze_` and the like: the callback's own tensor becomes a view of what it was."""
    if any(x is g for g in t.given):
        raise Untraceable(f"{plain}_ changes the shape of a tensor that it was given")
    x.become(VIEW_OPS[plain](t, x, *args[1:], **_rest(args, kwargs)))
    _about(func, args, kwargs)
    return x


def _write(t: Tracer, x: Any, value: Any) -> None:
    if not isinstance(x, TensorProxy):
        raise Untraceable("it writes to a captured tensor")
    node = value.read() if isinstance(value, TensorProxy) else t.lift(value)
    if isinstance(node, Wrapped) or node.is_host:
        node = t.full(node, (), x.dtype)
    if node.dtype is not x.dtype and not torch.can_cast(node.dtype, x.dtype):
        raise RuntimeError(f"result type {node.dtype} cannot be written to {x.dtype} in place")
    x.write(node)


def _into(t: Tracer, out: Any, value: Any) -> Any:
    """`out=`."""
    if isinstance(out, tuple | list):
        for o, v in zip(out, value, strict=True):
            _into(t, o, v)
        return out
    if tuple(out.shape) != tuple(value.shape):
        raise Untraceable("out= of another shape")
    _write(t, out, value)
    return out


def _foreach(t: Tracer, name: str, args: tuple, kwargs: dict) -> Any:
    """A function of lists: element by element in order, as torch does it on the CPU."""
    results = []
    for i, x in enumerate(args[0]):
        at = lambda a, i=i: a[i] if isinstance(a, tuple | list) else a
        node = _each(t, name.removesuffix("_"), [x, *map(at, args[1:])], dict(kwargs), at)
        if name.endswith("_"):
            _write(t, x, node)
        else:
            results.append(wrap(t, node, _contig(t, (x,), {})))
    return None if name.endswith("_") else tuple(results)


def _each(t: Tracer, name: str, each: list[Any], kwargs: dict, at: Any) -> Any:
    """One element of a foreach function."""
    fused = name in ("addcmul", "addcdiv")
    keys: dict[str, Any] = {}
    for k, v in kwargs.items():
        if k in ("scalar", "scalars") and fused:
            keys["value"] = at(v)
        elif k in ("scalar", "scalars", "other", "exponent"):
            each.append(at(v))
        else:
            keys[{"ord": "p"}.get(k, k)] = at(v)  # type: ignore[index]
    if fused and len(each) == 4:
        keys["value"] = each.pop()
    if name == "copy":
        return t.tensor(each[1])
    if name == "zero":
        return t.full(0, tuple(each[0].shape), each[0].dtype)
    func: Any = getattr(torch, name, None)
    if name in OPS:
        return compute(t, name, func, tuple(each), keys)
    if pure(name):
        return opaque(t, func, each, keys)
    raise Untraceable(f"torch's _foreach_{name} is not known to the tracer")


# ---------------------------------------------------------------- the rest


def _about(func: Any, args: tuple, kwargs: dict) -> Any:
    with torch._C.DisableTorchFunction():
        return func(*args, **kwargs)


def _copy_(t: Tracer, args: tuple, kwargs: dict) -> Any:
    x, source = args[0], args[1] if len(args) > 1 else kwargs["src"]
    if not isinstance(x, TensorProxy):
        raise Untraceable("it writes to a captured tensor (copy_)")
    x.write(t.tensor(source))
    return x


def _fill_(t: Tracer, args: tuple, kwargs: dict) -> Any:
    x, value = args[0], args[1] if len(args) > 1 else kwargs["value"]
    _write(t, x, t.full(value, tuple(x.shape), x.dtype))
    return x


def _zero_(t: Tracer, args: tuple, kwargs: dict) -> Any:
    return _fill_(t, (args[0], 0), {})


def _random(t: Tracer, name: str, func: Any, args: tuple, kwargs: dict) -> Any:
    node = random_call(t, name, func, args, kwargs)
    if name.endswith("_"):
        args[0].write(node)
        return args[0]
    return wrap(t, node, _contig(t, args, kwargs))


def _truth(t: Tracer, args: tuple, kwargs: dict) -> bool:
    return bool(factories.item(t, args[0]))


def _type(t: Tracer, args: tuple, kwargs: dict) -> Any:
    x = as_proxy(t, args[0])
    dtype = args[1] if len(args) > 1 else kwargs.get("dtype")
    if t.device.type != "cpu" and not isinstance(dtype, torch.dtype):
        raise Untraceable("Tensor.type() with or for a name")
    if dtype is None:
        return torch.empty((), dtype=x.dtype).type()
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype.removeprefix("torch."), None)
    dtype = getattr(dtype, "dtype", dtype)  # of a type such as torch.FloatTensor
    if not isinstance(dtype, torch.dtype):
        raise Untraceable("Tensor.type() for a name that torch does not have")
    return factories.to_dtype(t, x, (dtype,), {})


def _is_contig(t: Tracer, args: tuple, kwargs: dict) -> bool:
    x = as_proxy(t, args[0])
    if not x.contig or len(args) > 1 or kwargs:
        raise Untraceable("it asks for the layout of a tensor")
    return True


def _stride(t: Tracer, args: tuple, kwargs: dict) -> Any:
    if not as_proxy(t, args[0]).contig:
        raise Untraceable("it asks for the strides of a tensor")
    return _about(args[0].__class__.stride, args, kwargs)


def _attribute(value: Any):
    return lambda t, args, kwargs: value(t, as_proxy(t, args[0]))


def _same(t: Tracer, args: tuple, kwargs: dict) -> Any:
    """torch.equal and torch.allclose: a branch on a tensor."""
    node = t.reduce("all", t.pointwise("eq", args[0], args[1]))
    return bool(factories.item(t, node))


def _allclose(t: Tracer, args: tuple, kwargs: dict) -> Any:
    return bool(factories.item(t, t.reduce("all", OPS["isclose"](t, *args, **kwargs))))


SPECIAL: dict[str, Any] = {
    "copy_": _copy_, "fill_": _fill_, "zero_": _zero_,
    "__getitem__": lambda t, args, kw: get_item(t, as_proxy(t, args[0]), args[1]),
    "__setitem__": lambda t, args, kw: set_item(t, as_proxy(t, args[0]), args[1], args[2]),
    "__bool__": _truth, "is_nonzero": _truth, "__nonzero__": _truth,
    "item": lambda t, args, kw: factories.item(t, args[0]),
    "to": lambda t, args, kw: factories.to_dtype(t, as_proxy(t, args[0]), args[1:], kw),
    "type_as": lambda t, args, kw: factories.to_dtype(t, as_proxy(t, args[0]), (args[1],), {}),
    "type": _type, "is_contiguous": _is_contig, "stride": _stride,
    "cpu": lambda t, args, kw: factories.to_dtype(t, as_proxy(t, args[0]), ("cpu",), {}),
    "cuda": lambda t, args, kw: factories.to_dtype(t, as_proxy(t, args[0]), ("cuda",), {}),
    "equal": _same, "allclose": _allclose,
    "as_tensor": lambda t, args, kw: (
        factories.to_dtype(t, args[0], args[1:], kw) if isinstance(args[0], TensorProxy)
        else wrap(t, OPS["tensor"](t, *args, **kw), True)
    ),
    "asarray": lambda t, args, kw: SPECIAL["as_tensor"](t, args, kw),
    "__iter__": lambda t, args, kw: iter(VIEW_OPS["unbind"](t, as_proxy(t, args[0]))),
    "__float__": lambda t, args, kw: float(factories.item(t, args[0])),
    "__int__": lambda t, args, kw: int(factories.item(t, args[0])),
    "__index__": lambda t, args, kw: factories.item(t, args[0]).__index__(),
    "broadcast_tensors": lambda t, args, kw: tuple(
        VIEW_OPS["expand"](t, as_proxy(t, x), torch.broadcast_shapes(*(tuple(a.shape) for a in args)))
        for x in args
    ),
    "get:shape": _attribute(lambda t, x: x.shape), "get:dtype": _attribute(lambda t, x: x.dtype),
    "get:device": _attribute(lambda t, x: x.device), "get:ndim": _attribute(lambda t, x: x.ndim),
    "get:data": _attribute(lambda t, x: x.data), "get:grad": _attribute(lambda t, x: x.grad),
    "get:requires_grad": _attribute(lambda t, x: x.requires_grad),
    "get:is_leaf": _attribute(lambda t, x: True), "get:is_sparse": _attribute(lambda t, x: False),
    "get:is_cuda": _attribute(lambda t, x: x.is_cuda), "get:layout": _attribute(lambda t, x: x.layout),
    "get:real": _attribute(lambda t, x: x), "get:grad_fn": _attribute(lambda t, x: None),
    "get:name": _attribute(lambda t, x: None), "get:retains_grad": _attribute(lambda t, x: False),
    "get_device": _attribute(lambda t, x: -1 if t.device.index is None else t.device.index),
}  # fmt: skip
