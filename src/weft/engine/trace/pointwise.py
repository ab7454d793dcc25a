"""Elementwise torch functions in terms of the graph's few, rounding as torch rounds."""

import math
from typing import Any

import torch

from weft.engine.ir.graph import Node
from weft.engine.ir.traced import Untraceable
from weft.engine.trace.scalar import Scalar
from weft.engine.trace.tracer import Tracer

__all__ = ["OPS", "op"]

OPS: dict[str, Any] = {}


def op(*names: str):
    """Register a handler `(tracer, x, ...) -> node` of torch functions that compute."""

    def registered(fn: Any) -> Any:
        for name in names:
            OPS[name] = fn
        return fn

    return registered


def _plain(name: str, arity: int, *torch_names: str) -> None:
    if arity == 1:
        handler = lambda t, input: t.pointwise(name, input)
    else:
        handler = lambda t, input, other: t.pointwise(name, input, other)
    op(name, *torch_names)(handler)


for _name, _aliases in {
    "neg": ("negative", "__neg__"), "abs": ("absolute", "__abs__"), "sign": ("sgn",), "sqrt": (),
    "rsqrt": (), "reciprocal": (), "exp": (), "exp2": (), "log": (), "log2": (), "log10": (),
    "log1p": (), "expm1": (), "sin": (), "cos": (), "tan": (), "asin": ("arcsin",),
    "acos": ("arccos",), "atan": ("arctan",), "sinh": (), "cosh": (), "tanh": (),
    "sigmoid": ("expit",), "erf": (), "floor": (), "ceil": (), "trunc": ("fix",),
    "isnan": (), "isinf": (), "isfinite": (),
}.items():  # fmt: skip
    _plain(_name, 1, *_aliases)
for _name, _aliases in {
    "mul": ("multiply", "__mul__", "__rmul__"), "atan2": ("arctan2",),
    "fmod": (), "remainder": ("__mod__",), "maximum": (), "minimum": (), "copysign": (),
    "lt": ("less", "__lt__"), "le": ("less_equal", "__le__"), "gt": ("greater", "__gt__"),
    "ge": ("greater_equal", "__ge__"), "eq": ("__eq__",), "ne": ("not_equal", "__ne__"),
}.items():  # fmt: skip
    _plain(_name, 2, *_aliases)


def is_one(x: Any) -> bool:
    """Whether a factor changes nothing, and is known."""
    return not isinstance(x, torch.Tensor | Scalar) and x == 1


def times(t: Tracer, x: Any, factor: Any) -> Any:
    """`x * factor`, and `x` itself where the factor is 1."""
    return x if is_one(factor) else t.pointwise("mul", x, factor)


@op("add", "__add__", "__radd__")
def _add(t: Tracer, input: Any, other: Any, *old: Any, alpha: Any = 1) -> Node:
    if old:  # add(alpha, tensor): the original's deprecated overload
        (alpha, other) = (other, old[0])
    return t.pointwise("add", input, times(t, other, alpha))


@op("sub", "subtract", "__sub__")
def _sub(t: Tracer, input: Any, other: Any, *old: Any, alpha: Any = 1) -> Node:
    if old:
        (alpha, other) = (other, old[0])
    return t.pointwise("sub", input, times(t, other, alpha))


@op("rsub", "__rsub__")
def _rsub(t: Tracer, input: Any, other: Any, alpha: Any = 1) -> Node:
    return t.pointwise("sub", other, times(t, input, alpha))


@op("div", "divide", "true_divide", "__truediv__", "__div__")
def _div(t: Tracer, input: Any, other: Any, rounding_mode: Any = None) -> Node:
    if rounding_mode is None:
        return t.pointwise("div", input, other)
    dtype = t.promote(t.lift(input), t.lift(other))
    if not dtype.is_floating_point:
        raise Untraceable(f"div of integers with rounding_mode={rounding_mode!r}")
    return t.pointwise(rounding_mode, t.pointwise("div", input, other))


@op("__rtruediv__", "__rdiv__")
def _rdiv(t: Tracer, input: Any, other: Any) -> Node:
    return t.pointwise("mul", t.pointwise("reciprocal", input), other)  # torch's way


@op("floor_divide", "__floordiv__")
def _floor_divide(t: Tracer, input: Any, other: Any) -> Node:
    return _div(t, input, other, "floor")


@op("__rfloordiv__")
def _rfloor_divide(t: Tracer, input: Any, other: Any) -> Node:
    return _div(t, other, input, "floor")


@op("__rmod__")
def _rmod(t: Tracer, input: Any, other: Any) -> Node:
    return t.pointwise("remainder", other, input)


@op("pow", "__pow__", "float_power")
def _pow(t: Tracer, input: Any, exponent: Any) -> Node:
    if isinstance(input, torch.Tensor) and isinstance(exponent, int | float):
        special = None if isinstance(exponent, Scalar) else _power(t, t.lift(input), exponent)
        if special is not None:
            return special
    return t.pointwise("pow", input, exponent)


def _power(t: Tracer, x: Any, e: float) -> Node | None:
    """The powers that torch computes without pow."""
    if not x.dtype.is_floating_point and e not in (1, 2, 3):
        return None
    mul = lambda a, b: t.pointwise("mul", a, b)
    match e:
        case 0.5:
            return t.pointwise("sqrt", x)
        case -0.5:
            return t.pointwise("rsqrt", x)
        case 1 if not (isinstance(e, float) and not x.dtype.is_floating_point):
            return x
        case 2 if not (isinstance(e, float) and not x.dtype.is_floating_point):
            return mul(x, x)
        case 3 if not (isinstance(e, float) and not x.dtype.is_floating_point):
            return mul(mul(x, x), x)
        case -1:
            return t.pointwise("reciprocal", x)
        case -2:
            return t.pointwise("reciprocal", mul(x, x))
    return None


@op("__rpow__")
def _rpow(t: Tracer, input: Any, other: Any) -> Node:
    return t.pointwise("pow", other, input)


@op("square")
def _square(t: Tracer, input: Any) -> Node:
    return t.pointwise("mul", input, input)


@op("round")
def _round(t: Tracer, input: Any, decimals: int = 0) -> Node:
    digits = decimals.__index__()
    if not digits:
        return t.pointwise("round", input)
    to, back = ("mul", "div") if digits > 0 else ("div", "mul")
    unit = 10.0 ** abs(digits)
    return t.pointwise(back, t.pointwise("round", t.pointwise(to, input, unit)), unit)


@op("frac")
def _frac(t: Tracer, input: Any) -> Node:
    return t.pointwise("sub", input, t.pointwise("trunc", input))


@op("addcmul")
def _addcmul(t: Tracer, input: Any, *args: Any, value: Any = 1, tensor1=None, tensor2=None) -> Node:
    value, a, b = _old_style(args, value, tensor1, tensor2)
    return t.pointwise("add", input, t.pointwise("mul", times(t, a, value), b))


@op("addcdiv")
def _addcdiv(t: Tracer, input: Any, *args: Any, value: Any = 1, tensor1=None, tensor2=None) -> Node:
    value, a, b = _old_style(args, value, tensor1, tensor2)
    return t.pointwise("add", input, t.pointwise("div", times(t, a, value), b))


def _old_style(args: tuple, value: Any, a: Any, b: Any) -> tuple[Any, Any, Any]:
    """(value, tensor1, tensor2) of the present and the deprecated order of arguments."""
    if len(args) == 3:
        return args
    given = [*args, *(x for x in (a, b) if x is not None)]
    return value, given[0], given[1]


@op("lerp")
def _lerp(t: Tracer, input: Any, end: Any, weight: Any) -> Node:
    """torch's: from the end that is nearer, so that weight 1 gives `end` itself."""
    w, gap = t.lift(weight), t.pointwise("sub", end, input)
    if isinstance(w, Node) and w.is_host:
        near = t.host("lt", t.host("abs", w), t.const(0.5))
        base = t.where(near, input, end)
        factor = t.host("select", near, w, t.host("-", w, t.const(1)))
        return t.pointwise("add", base, t.pointwise("mul", gap, factor))
    near = t.pointwise("lt", t.pointwise("abs", w), 0.5)
    factor = t.where(near, w, t.pointwise("sub", w, 1))
    return t.pointwise("add", t.where(near, input, end), t.pointwise("mul", gap, factor))


@op("clamp", "clip")
def _clamp(t: Tracer, input: Any, min: Any = None, max: Any = None) -> Node:
    x = input
    if min is None and max is None:
        raise Untraceable("clamp without bounds")
    if min is not None:
        x = t.pointwise("maximum", x, min)
    if max is not None:
        x = t.pointwise("minimum", x, max)
    return t.tensor(x)


@op("clamp_min")
def _clamp_min(t: Tracer, input: Any, min: Any) -> Node:
    return t.pointwise("maximum", input, min)


@op("clamp_max")
def _clamp_max(t: Tracer, input: Any, max: Any) -> Node:
    return t.pointwise("minimum", input, max)


@op("fmin")
def _fmin(t: Tracer, input: Any, other: Any) -> Node:
    low = t.pointwise("minimum", input, other)
    return _without_nan(t, input, other, low)


@op("fmax")
def _fmax(t: Tracer, input: Any, other: Any) -> Node:
    return _without_nan(t, input, other, t.pointwise("maximum", input, other))


def _without_nan(t: Tracer, a: Any, b: Any, both: Node) -> Node:
    return t.where(
        t.pointwise("isnan", a), b, t.where(t.pointwise("isnan", b), a, both), dtype=both.dtype
    )


@op("where")
def _where(t: Tracer, condition: Any, input: Any = None, other: Any = None, *, self=None) -> Node:
    input = self if input is None else input
    if input is None or other is None:
        raise Untraceable("where(condition) has a shape that depends on values")
    return t.where(condition, input, other)


@op("method:where")
def _method_where(t: Tracer, input: Any, condition: Any, other: Any) -> Node:
    return t.where(condition, input, other)


@op("masked_fill")
def _masked_fill(t: Tracer, input: Any, mask: Any, value: Any) -> Node:
    x = t.tensor(input)
    return t.where(mask, value, x, dtype=x.dtype)


@op("nan_to_num")
def _nan_to_num(t: Tracer, input: Any, nan: Any = None, posinf: Any = None, neginf: Any = None):
    x = t.tensor(input)
    if not x.dtype.is_floating_point:
        return x
    limits = torch.finfo(x.dtype)
    inf = t.full(math.inf, (), x.dtype)
    out = t.where(t.pointwise("isnan", x), 0.0 if nan is None else nan, x, x.dtype)
    high = t.pointwise("eq", x, inf)
    out = t.where(high, limits.max if posinf is None else posinf, out, x.dtype)
    low = t.pointwise("eq", x, t.pointwise("neg", inf))
    return t.where(low, limits.min if neginf is None else neginf, out, x.dtype)


# ---------------------------------------------------------------- logic


def _logical(name: str):
    def handler(t: Tracer, input: Any, other: Any) -> Node:
        a, b = (t.cast(t.tensor(x), torch.bool) for x in (input, other))
        return t.pointwise(name, a, b)

    return handler


def _bitwise(name: str):
    def handler(t: Tracer, input: Any, other: Any) -> Node:
        if t.promote(t.lift(input), t.lift(other)).is_floating_point:
            raise RuntimeError(f"bitwise {name} of floats")
        return t.pointwise(name, input, other)

    return handler


for _name in ("and", "or", "xor"):
    op(f"logical_{_name}")(_logical(_name))
    op(f"bitwise_{_name}", f"__{_name}__", f"__r{_name}__")(_bitwise(_name))


@op("logical_not")
def _logical_not(t: Tracer, input: Any) -> Node:
    return t.pointwise("not", t.cast(t.tensor(input), torch.bool))


@op("bitwise_not", "__invert__")
def _bitwise_not(t: Tracer, input: Any) -> Node:
    return t.pointwise("not", input)


@op("isclose")
def _isclose(t: Tracer, input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8) -> Node:
    far = t.pointwise("abs", t.pointwise("sub", input, other))
    bound = t.pointwise("add", t.pointwise("mul", t.pointwise("abs", other), rtol), atol)
    near = t.pointwise("and", t.pointwise("le", far, bound), t.pointwise("isfinite", far))
    return t.pointwise("or", near, t.pointwise("eq", input, other))


# ---------------------------------------------------------------- dtype


def _cast_to(dtype: torch.dtype):
    return lambda t, input, **kw: t.cast(t.tensor(input), dtype)


for _name, _dtype in {
    "float": torch.float32, "double": torch.float64, "half": torch.float16, "bool": torch.bool,
    "bfloat16": torch.bfloat16, "int": torch.int32, "long": torch.int64, "byte": torch.uint8,
    "char": torch.int8, "short": torch.int16,
}.items():  # fmt: skip
    op(f"method:{_name}")(_cast_to(_dtype))


# ---------------------------------------------------------------- functions of torch.nn.functional


@op("relu")
def _relu(t: Tracer, input: Any, inplace: bool = False) -> Node:
    if inplace:
        raise Untraceable("relu(inplace=True)")
    return t.pointwise("maximum", input, 0)


@op("softplus")
def _softplus(t: Tracer, input: Any, beta: Any = 1, threshold: Any = 20) -> Node:
    scaled = times(t, input, beta)
    soft = t.pointwise("log1p", t.pointwise("exp", scaled))
    soft = soft if is_one(beta) else t.pointwise("div", soft, beta)
    return t.where(t.pointwise("gt", scaled, threshold), input, soft)


@op("silu")
def _silu(t: Tracer, input: Any, inplace: bool = False) -> Node:
    if inplace:
        raise Untraceable("silu(inplace=True)")
    return t.pointwise("mul", input, t.pointwise("sigmoid", input))


@op("softsign")
def _softsign(t: Tracer, input: Any) -> Node:
    return t.pointwise("div", input, t.pointwise("add", t.pointwise("abs", input), 1))


@op("hypot")
def _hypot(t: Tracer, input: Any, other: Any) -> Node:
    mul = lambda a: t.pointwise("mul", a, a)
    return t.pointwise("sqrt", t.pointwise("add", mul(input), mul(other)))


@op("xlogy")
def _xlogy(t: Tracer, input: Any, other: Any) -> Node:
    product = t.pointwise("mul", input, t.pointwise("log", other))
    product = t.where(t.pointwise("eq", input, 0), 0.0, product, product.dtype)
    return t.where(t.pointwise("isnan", other), other, product, product.dtype)


@op("logaddexp")
def _logaddexp(t: Tracer, input: Any, other: Any) -> Node:
    high = t.pointwise("maximum", input, other)
    gap = t.pointwise("neg", t.pointwise("abs", t.pointwise("sub", input, other)))
    return t.pointwise("add", high, t.pointwise("log1p", t.pointwise("exp", gap)))


@op("logit")
def _logit(t: Tracer, input: Any, eps: Any = None) -> Node:
    x = input if eps is None else _clamp(t, input, eps, 1 - eps)
    return t.pointwise("log", t.pointwise("div", x, t.pointwise("sub", 1, x)))
