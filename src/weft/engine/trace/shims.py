"""Symbolic versions of Python's, math's and numpy's functions of numbers."""

import builtins
import math
import operator
import sys
from collections.abc import Callable
from typing import Any

from weft.engine.trace.api import Untraceable
from weft.engine.trace.factories import item
from weft.engine.trace.scalar import Scalar, choose, combine
from weft.engine.trace.tensor import TensorProxy

__all__ = ["guarded", "holds_proxy", "impure", "shim_of"]


def holds_proxy(x: Any, depth: int = 3) -> bool:
    """Whether a proxy is in `x`, or in a container in it."""
    if isinstance(x, Scalar | TensorProxy):
        return True
    if depth and isinstance(x, tuple | list | set | frozenset):
        return any(holds_proxy(v, depth - 1) for v in x)
    if depth and isinstance(x, dict):
        return any(holds_proxy(v, depth - 1) for v in x.values())
    return False


def number_of(x: Any) -> Any:
    """A tensor of one element as the number that it holds; anything else as it is."""
    return item(x.tracer, x) if isinstance(x, TensorProxy) else x


def symbolic(op: str, plain: Callable) -> Callable:
    """`plain` on numbers, the host op on symbolic ones."""

    def shim(*args: Any) -> Any:
        args = tuple(map(number_of, args))
        return combine(op, *args) if any(isinstance(a, Scalar) for a in args) else plain(*args)

    return shim


def elementwise(op: str, plain: Callable) -> Callable:
    """A numpy function: of numbers, or (through `__array__`, so refused) of tensors."""

    def shim(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(a, TensorProxy) for a in args):
            raise Untraceable(f"numpy's {plain.__name__} of a tensor")
        if not any(isinstance(a, Scalar) for a in args):
            return plain(*args, **kwargs)
        if kwargs:
            raise Untraceable(f"numpy's {plain.__name__} with options")
        return combine(op, *args)

    return shim


MATH = [
    "sqrt",
    "exp",
    "exp2",
    "log",
    "log2",
    "log10",
    "log1p",
    "expm1",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "atan2",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "pow",
    "hypot",
    "floor",
    "ceil",
    "trunc",
    "copysign",
    "fmod",
    "erf",
    "erfc",
    "gamma",
    "lgamma",
    "degrees",
    "radians",
    "isnan",
    "isinf",
    "isfinite",
    "cbrt",
    "remainder",
]


def _log(x: Any, *base: Any) -> Any:
    x = number_of(x)
    if not base:
        return combine("log", x) if isinstance(x, Scalar) else math.log(x)
    return _log(x) / _log(base[0])


def _float(x: Any = 0.0) -> Any:
    x = number_of(x)
    return combine("float", x) if isinstance(x, Scalar) else float(x)


def _int(x: Any = 0, *base: Any) -> Any:
    x = number_of(x)
    return combine("int", x) if isinstance(x, Scalar) else int(x, *base)


def _round(x: Any, digits: Any = None) -> Any:
    x = number_of(x)
    return round(x) if digits is None else round(x, digits)


def _extreme(plain: Callable, better: Callable) -> Callable:
    """min or max: of numbers without a branch, as Python compares them."""

    def shim(*args: Any, **kwargs: Any) -> Any:
        values = list(args[0]) if len(args) == 1 and not isinstance(args[0], TensorProxy) else args
        numbers = all(isinstance(v, float | int) for v in values)
        if kwargs or not numbers or not any(isinstance(v, Scalar) for v in values):
            return plain(*args, **kwargs)
        best = values[0]
        for v in values[1:]:
            best = choose(better(v, best), v, best)
        return best

    return shim


class _Float(float):
    """`float` as callbacks see it: symbolic of symbolic numbers, and itself as a type."""

    def __new__(cls, x: Any = 0.0) -> Any:
        return _float(x)


class _Int(int):
    """`int` as callbacks see it."""

    def __new__(cls, x: Any = 0, *base: Any) -> Any:
        return _int(x, *base)


SEEN_AS = {_Float: float, _Int: int}  # the types of a rebound callback, and what they stand for


def _isinstance(x: Any, kinds: Any) -> bool:
    return any(_is_kind(x, k) for k in _flat(kinds))


def _flat(kinds: Any) -> list[Any]:
    """The types in the second argument of isinstance: tuples and unions opened."""
    inner = kinds if isinstance(kinds, tuple) else getattr(kinds, "__args__", None)
    if inner is None:
        return [SEEN_AS.get(kinds, kinds)]
    return [k for v in inner for k in _flat(v)]


def _is_kind(x: Any, kind: Any) -> bool:
    if not isinstance(x, Scalar):
        return isinstance(x, kind)
    return issubclass(x.kind, kind) or isinstance(x.kind(0), kind)


def _type(x: Any, *more: Any) -> Any:
    if more:
        return type(x, *more)
    kind = x.kind if isinstance(x, Scalar | TensorProxy) else type(x)
    return {float: _Float, int: _Int}.get(kind, kind)


def _fsum(values: Any) -> Any:
    values = list(values)
    return sum(values) if any(isinstance(v, Scalar) for v in values) else math.fsum(values)


def _prod(values: Any, *, start: Any = 1) -> Any:
    for v in values:
        start = start * v
    return start


def _clip(x: Any, low: Any, high: Any, **kwargs: Any) -> Any:
    return _MIN(_MAX(x, low), high)


def _square(x: Any) -> Any:
    return x * x


def _sign(x: Any) -> Any:
    return choose(x > 0, 1.0, choose(x < 0, -1.0, 0.0))


def _np_where(cond: Any, a: Any, b: Any) -> Any:
    if isinstance(cond, TensorProxy):
        raise Untraceable("numpy's where of a tensor")
    return choose(cond, a, b)


def _no_text(*args: Any, **kwargs: Any) -> Any:
    raise Untraceable("it prints")


_MIN = _extreme(min, operator.lt)
_MAX = _extreme(max, operator.gt)

SHIMS: dict[int, tuple[Any, Any]] = {}


def _register(original: Any, shim: Any) -> None:
    SHIMS[id(original)] = (original, shim)


for _name in MATH:
    if hasattr(math, _name):
        _register(getattr(math, _name), symbolic(_name, getattr(math, _name)))
for _original, _shim in (
    (math.log, _log), (math.fsum, _fsum), (math.prod, _prod), (math.fabs, symbolic("fabs", math.fabs)),
    (builtins.float, _Float), (builtins.int, _Int), (builtins.round, _round),
    (builtins.min, _MIN), (builtins.max, _MAX), (builtins.isinstance, _isinstance),
    (builtins.type, _type), (builtins.print, _no_text), (builtins.input, _no_text),
):  # fmt: skip
    _register(_original, _shim)

SAME_IN_NUMPY = (
    "sqrt", "exp", "exp2", "log", "log2", "log10", "log1p", "expm1", "sin", "cos", "tan",
    "sinh", "cosh", "tanh", "floor", "ceil", "trunc", "isnan", "isinf", "isfinite",
    "copysign", "fmod", "hypot",
)  # fmt: skip
NUMPY = {
    **{n: n for n in SAME_IN_NUMPY},
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh",
    "arccosh": "acosh", "arctanh": "atanh", "power": "**", "float_power": "**", "abs": "abs",
    "absolute": "abs", "fabs": "fabs", "add": "+", "subtract": "-", "multiply": "*", "divide": "/",
    "true_divide": "/", "negative": "neg", "mod": "%", "remainder": "%", "floor_divide": "//",
    "less": "lt", "greater": "gt", "less_equal": "le", "greater_equal": "ge", "equal": "eq",
    "not_equal": "ne", "cbrt": "cbrt", "deg2rad": "radians", "rad2deg": "degrees",
}  # fmt: skip
NUMPY_OTHER = {
    "minimum": _MIN, "maximum": _MAX, "fmin": _MIN, "fmax": _MAX, "clip": _clip, "square": _square,
    "sign": _sign, "where": _np_where, "float64": _float, "int64": _int, "prod": _prod,
    "reciprocal": lambda x: 1.0 / x,
}  # fmt: skip


def _with_plain(shim: Callable, plain: Callable) -> Callable:
    def either(*args: Any, **kwargs: Any) -> Any:
        return shim(*args, **kwargs) if holds_proxy(args) else plain(*args, **kwargs)

    return either


_numpy_done = False


def shim_of(value: Any) -> Any:
    """The symbolic version of a function of numbers, or None."""
    global _numpy_done
    numpy = sys.modules.get("numpy")
    if numpy is not None and not _numpy_done:
        _numpy_done = True
        for name, op in NUMPY.items():
            plain = getattr(numpy, name, None)
            if plain is not None:
                _register(plain, elementwise(op, plain))
        for name, shim in NUMPY_OTHER.items():
            plain = getattr(numpy, name)
            _register(plain, _with_plain(shim, plain))
    found = SHIMS.get(id(value))
    return found[1] if found is not None and found[0] is value else None


# ---------------------------------------------------------------- everything else that can be called

IMPURE_MODULES = frozenset(
    ("random", "time", "datetime", "os", "secrets", "uuid", "sys", "io", "threading", "logging",
     "numpy.random", "socket", "subprocess", "pathlib", "warnings", "_io", "posix", "nt", "_random",
     "_thread", "_socket", "queue", "tempfile", "shutil")
)  # fmt: skip
# builtins that only pass on what they are given
HARMLESS = frozenset(
    id(f)
    for f in (
        len, range, zip, enumerate, list, tuple, dict, map, filter, any, all, sum, reversed, sorted,
        getattr, hasattr, callable, slice, iter, next, super, object, property, staticmethod,
        classmethod, bool, abs, pow, divmod, id, vars, dir, repr, issubclass, BaseException,
        operator.itemgetter, operator.attrgetter,
    )
)  # fmt: skip


def impure(value: Any) -> bool:
    """Whether a function's result depends on more than its arguments."""
    module = getattr(value, "__module__", None) or ""
    owner = getattr(value, "__self__", None)
    if owner is not None and type(owner).__module__ in ("random", "numpy.random.mtrand"):
        return True
    return module in IMPURE_MODULES or module.startswith("numpy.random")


def guarded(value: Callable, name: str) -> Callable:
    """A function that the tracer does not know: fine on what is no proxy, refused on proxies."""
    if id(value) in HARMLESS or (isinstance(value, type) and issubclass(value, BaseException)):
        return value
    operators = getattr(value, "__module__", "") in (
        "_operator",
        "operator",
        "itertools",
        "_functools",
    )
    if operators:
        return value

    def guard(*args: Any, **kwargs: Any) -> Any:
        if impure(value):
            raise Untraceable(f"it calls {name}, whose result is another one each time")
        if holds_proxy(args) or holds_proxy(kwargs):
            raise Untraceable(f"it calls {name}, which the tracer cannot look into")
        return value(*args, **kwargs)

    return guard
