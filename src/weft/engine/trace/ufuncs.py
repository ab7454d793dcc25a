"""NumPy's numbers and ufuncs: a ufunc is a host op in the type that NumPy's promotion gives."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from weft.engine.ir.traced import Untraceable
from weft.engine.trace.scalar import OPERATORS, Scalar, choose, combine
from weft.engine.trace.tensor import TensorProxy

__all__ = [
    "Number",
    "apply",
    "around",
    "array",
    "cast",
    "common_type",
    "held",
    "holds_symbols",
    "objects",
    "type_of",
]

TYPES = (np.float64, np.float32, np.int64, np.bool_)


class Number(Scalar):
    """A symbolic NumPy number: rounds as its type does, and decides the type of what it meets."""

    __slots__ = ("number_type",)
    number_type: Any

    def __new__(cls, x: Scalar, kind: Any) -> "Number":
        """The number `x` as one of NumPy's."""
        self: Any = super().__new__(cls, x.tracer, x.node)
        self.number_type = kind
        return self

    def stored_as(self) -> type:
        """Python's type, where it computes alike in the next step."""
        if self.number_type not in (np.float64, np.bool_):
            raise Untraceable(
                f"it keeps NumPy's {self.number_type.__name__} as state: make it a float or int"
            )
        return self.kind

    def item(self) -> Scalar:
        """As a number of Python's."""
        return Scalar(self.tracer, self.node)

    def astype(self, kind: Any) -> Any:
        """As another of NumPy's."""
        return cast(self, kind)

    def __neg__(self) -> Any:
        return apply(np.negative, self)

    def __abs__(self) -> Any:
        return apply(np.absolute, self)

    def __round__(self, digits: Any = None) -> Any:
        return round(self.item()) if digits is None else around(self, digits)


UFUNC_OF = {"truediv": np.true_divide, "floordiv": np.floor_divide, "mod": np.remainder,
            "pow": np.power, "lt": np.less, "le": np.less_equal, "gt": np.greater,
            "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal, "and": np.bitwise_and,
            "or": np.bitwise_or, "xor": np.bitwise_xor, "lshift": np.left_shift,
            "rshift": np.right_shift}  # fmt: skip


def _operator(ufunc: Any, mirrored: bool):
    def method(self: Number, other: Any) -> Any:
        if isinstance(other, torch.Tensor) or not isinstance(other, float | int | np.generic):
            return NotImplemented
        return apply(ufunc, other, self) if mirrored else apply(ufunc, self, other)

    return method


for _name in OPERATORS:
    _ufunc = UFUNC_OF.get(_name) or getattr(
        np, {"sub": "subtract", "mul": "multiply"}.get(_name, _name)
    )
    setattr(Number, f"__{_name}__", _operator(_ufunc, False))
    if hasattr(Scalar, f"__r{_name}__"):
        setattr(Number, f"__r{_name}__", _operator(_ufunc, True))


# ---------------------------------------------------------------- arrays of objects


def holds_symbols(x: Any) -> bool:
    """Whether a stand-in is in `x`, a number or nested lists or arrays of them."""
    if isinstance(x, np.ndarray):
        return x.dtype == object
    if isinstance(x, tuple | list):
        return any(map(holds_symbols, x))
    return isinstance(x, Scalar | TensorProxy)


def objects(values: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    """An array of objects, as they are."""
    out = np.empty(len(values), object)
    for i, v in enumerate(values):
        out[i] = v
    return out.reshape(shape)


def array(x: Any, dtype: Any = None) -> Any:
    """What `np.array` makes of numbers, some of them symbolic."""
    x = held(x)
    if isinstance(x, np.ndarray):
        flat = list(x.flat)
        dtype = dtype or functools.reduce(common_type, map(type_of, flat))
        return objects([cast(v, dtype) for v in flat], x.shape)
    return cast(x, dtype or common_type(type_of(x)))


def held(x: Any) -> Any:
    """An operand: lists as arrays of objects, an array without dimensions as its number."""
    if isinstance(x, TensorProxy):
        raise Untraceable("NumPy is given a tensor")
    if isinstance(x, tuple | list):
        parts = [held(v) for v in x]
        shapes = {getattr(v, "shape", ()) for v in parts}
        if len(shapes) > 1 or not all(
            isinstance(v, np.ndarray | np.generic | float | int) for v in parts
        ):
            raise Untraceable(f"NumPy is given {x!r:.40}")
        flat = [e for v in parts for e in (v.flat if isinstance(v, np.ndarray) else [v])]
        return objects(flat, (len(parts), *shapes.pop()))
    if isinstance(x, np.ndarray):
        if x.ndim == 0:
            return x[()]
        return x if x.dtype == object else objects([x[i] for i in np.ndindex(x.shape)], x.shape)
    return x


# ---------------------------------------------------------------- types


def type_of(x: Any) -> Any:
    """NumPy's type of a number; for one of Python's float, int or bool, which give way to NumPy's."""
    return x.number_type if isinstance(x, Number) else x.kind if isinstance(x, Scalar) else type(x)


@functools.lru_cache(maxsize=1024)
def common_type(*kinds: Any) -> Any:
    """The type in which NumPy computes with numbers of these types."""
    ones = [k(1) for k in kinds]
    return type(functools.reduce(np.add, ones) if len(ones) > 1 else np.asarray(ones[0])[()])


@functools.lru_cache(maxsize=1024)
def _results(ufunc: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    """The types of what a ufunc gives."""
    with np.errstate(all="ignore"):
        given = ufunc(*(k(1) for k in kinds))
    return tuple(map(type, given if isinstance(given, tuple) else (given,)))


def cast(x: Any, kind: Any) -> Any:
    """A number in one of NumPy's types."""
    kind = np.dtype(kind).type
    if not isinstance(x, Scalar):
        return kind(x)
    if kind not in TYPES:
        raise Untraceable(f"NumPy's {kind.__name__} of a number")
    if type_of(x) is kind:
        return x
    plain = Scalar(x.tracer, x.node)
    if kind is np.bool_:
        return Number(combine("ne", plain, 0), kind)
    if kind is np.int64:
        return Number(combine("int", plain), kind)
    wide = plain if plain.kind is float else combine("float", plain)
    return Number(combine("float32", wide) if kind is np.float32 else wide, kind)


# ---------------------------------------------------------------- ufuncs

_host = lambda op: functools.partial(combine, op)
_low = lambda a, b: choose(combine("lt", b, a), b, a)
_high = lambda a, b: choose(combine("gt", b, a), b, a)
_where = lambda c, a, b: choose(c, a, b)
_sign = lambda x: choose(combine("gt", x, 0), 1, choose(combine("lt", x, 0), -1, 0))
_step = lambda x, h: choose(combine("gt", x, 0), 1.0, choose(combine("lt", x, 0), 0.0, h))
_truth = lambda x: combine("ne", x, 0) if isinstance(x, Scalar) else bool(x)
_both = lambda a, b: choose(_truth(a), _truth(b), False)
_one = lambda a, b: choose(_truth(a), True, _truth(b))
WHERE = np.frompyfunc(lambda c, a, b: a if c else b, 3, 1)

UFUNCS: dict[Any, Callable[..., Any]] = {
    getattr(np, name): _host(op)
    for name, op in {
        **{n: n for n in ("sqrt", "exp", "exp2", "log", "log2", "log10", "log1p", "expm1", "sin",
                          "cos", "tan", "sinh", "cosh", "tanh", "floor", "ceil", "trunc", "isnan",
                          "isinf", "isfinite", "copysign", "fmod", "hypot", "cbrt")},
        "rint": "round", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
        "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "power": "**",
        "float_power": "**", "absolute": "abs", "fabs": "fabs", "add": "+", "subtract": "-",
        "multiply": "*", "true_divide": "/", "negative": "neg", "remainder": "%",
        "floor_divide": "//", "less": "lt", "greater": "gt", "less_equal": "le",
        "greater_equal": "ge", "equal": "eq", "not_equal": "ne", "deg2rad": "radians",
        "rad2deg": "degrees", "degrees": "degrees", "radians": "radians", "bitwise_and": "&",
        "bitwise_or": "|", "bitwise_xor": "^", "left_shift": "<<", "right_shift": ">>",
        "invert": "invert", "ldexp": "ldexp",
    }.items()
} | {
    np.minimum: _low, np.maximum: _high, np.fmin: _low, np.fmax: _high, WHERE: _where,
    np.sign: _sign, np.heaviside: _step, np.logical_and: _both, np.logical_or: _one,
    np.logical_not: lambda x: combine("not", _truth(x)), np.positive: lambda x: x,
    np.conjugate: lambda x: x, np.square: lambda x: combine("*", x, x),
    np.reciprocal: lambda x: combine("/", 1, x),
    np.divmod: lambda a, b: (combine("//", a, b), combine("%", a, b)),
}  # fmt: skip


def apply(ufunc: Any, *xs: Any, **options: Any) -> Any:
    """A ufunc of numbers and arrays, some of them symbolic."""
    if options:
        raise Untraceable(f"NumPy's {ufunc.__name__} with options")
    xs = tuple(map(held, xs))
    if any(isinstance(x, np.ndarray) for x in xs):
        each = np.frompyfunc(lambda *e: apply(ufunc, *e), ufunc.nin, ufunc.nout)
        return each(*(x if isinstance(x, np.ndarray) else objects([x], ()) for x in xs))
    if not any(isinstance(x, Scalar) for x in xs):
        return ufunc(*xs)
    op = UFUNCS.get(ufunc)
    if op is None:
        raise Untraceable(f"NumPy's {ufunc.__name__} of a number")
    kinds = tuple(map(type_of, xs))
    common = common_type(*kinds)
    results = tuple(r if issubclass(r, np.generic) else common for r in _results(ufunc, kinds))
    _see_that_it_computes(ufunc, common, results)
    if common is np.float32:
        xs = tuple(cast(x, common) for x in xs)
    values = op(*(Scalar(x.tracer, x.node) if isinstance(x, Scalar) else _plain(x) for x in xs))
    values = values if isinstance(values, tuple) else (values,)
    made = tuple(_typed(ufunc, v, r) for v, r in zip(values, results, strict=True))
    return made[0] if len(made) == 1 else made


def _plain(x: Any) -> Any:
    return x.item() if isinstance(x, np.generic) else x


def _see_that_it_computes(ufunc: Any, common: Any, results: tuple[Any, ...]) -> None:
    """Refuse what NumPy computes otherwise than Python: narrow integers, powers that wrap, bools."""
    for kind in (common, *results):
        if kind not in TYPES:
            raise Untraceable(f"NumPy's {ufunc.__name__} in {kind.__name__}")
    if results[0] is np.int64 and ufunc in (np.power, np.left_shift):
        raise Untraceable(f"NumPy's {ufunc.__name__} of integers, which wraps")
    if common is np.bool_ and ufunc in (np.add, np.multiply, np.invert):
        raise Untraceable(f"NumPy's {ufunc.__name__} of bools")


def _typed(ufunc: Any, value: Any, kind: Any) -> Any:
    """A result in the type that NumPy gives it."""
    if not isinstance(value, Scalar):
        return kind(value)
    if value.kind is float and not issubclass(kind, np.floating):
        raise Untraceable(f"NumPy's {ufunc.__name__} of integers")
    return cast(value, kind) if issubclass(kind, np.floating) else Number(value, kind)


def around(x: Any, decimals: Any = 0) -> Any:
    """np.round: scaled, rounded and scaled back, as NumPy does it."""
    if isinstance(decimals, Scalar):
        raise Untraceable("NumPy's round to so many digits as a number says")
    if not decimals:
        return apply(np.rint, x)
    scale = 10.0 ** abs(decimals)
    there, back = (np.multiply, np.true_divide)[:: 1 if decimals > 0 else -1]
    return apply(back, apply(np.rint, apply(there, x, scale)), scale)
