"""Symbolic versions of Python's and math's functions of numbers, and where those of NumPy are."""

import builtins
import math
import operator
from collections.abc import Callable
from types import FunctionType
from typing import Any

from weft.engine.ir.traced import Untraceable
from weft.engine.trace.factories import item
from weft.engine.trace.scalar import Scalar, choose, combine
from weft.engine.trace.tensor import TensorProxy

__all__ = ["guarded", "holds_proxy", "impure", "of_numpy", "shim_of"]


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


MATH = (
    "sqrt", "exp", "exp2", "log", "log2", "log10", "log1p", "expm1", "sin", "cos", "tan", "asin",
    "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "pow", "hypot",
    "floor", "ceil", "trunc", "copysign", "fmod", "erf", "erfc", "gamma", "lgamma", "degrees",
    "radians", "isnan", "isinf", "isfinite", "cbrt", "remainder", "ldexp", "factorial", "isqrt",
    "gcd", "lcm", "comb", "perm", "nextafter", "ulp",
)  # fmt: skip


def _log(x: Any, *base: Any) -> Any:
    x = number_of(x)
    if not base:
        return combine("log", x) if isinstance(x, Scalar) else math.log(x)
    return _log(x) / _log(base[0])


def _isclose(a: Any, b: Any, *, rel_tol: Any = 1e-9, abs_tol: Any = 0.0) -> Any:
    a, b = number_of(a), number_of(b)
    if not any(isinstance(x, Scalar) for x in (a, b, rel_tol, abs_tol)):
        return math.isclose(a, b, rel_tol=rel_tol, abs_tol=abs_tol)
    far = abs(a - b)
    near = _MAX(rel_tol * _MAX(abs(a), abs(b)), abs_tol)
    return choose(a == b, True, choose(far < math.inf, far <= near, False))


def _modf(x: Any) -> Any:
    x = number_of(x)
    if not isinstance(x, Scalar):
        return math.modf(x)
    part = combine("fmod", x, 1.0)
    return combine("copysign", part, x), combine("copysign", x - part, x)


def _frexp(x: Any) -> Any:
    x = number_of(x)
    if not isinstance(x, Scalar):
        return math.frexp(x)
    return combine("mantissa", x), combine("exponent", x)


def _dist(p: Any, q: Any) -> Any:
    gaps = [a - b for a, b in zip(p, q, strict=True)]
    return symbolic("hypot", math.hypot)(*gaps)


def _mean(data: Any) -> Any:
    data = list(map(number_of, data))
    return sum(data) / len(data)


def _variance(of: Callable[[int], int], root: bool) -> Callable[[Any], Any]:
    """A function of `statistics`: a sum of squares over how many, by its root or not."""

    def shim(data: Any) -> Any:
        data = list(data)
        mean = _mean(data)
        square = sum((x - mean) ** 2 for x in data) / of(len(data))
        return symbolic("sqrt", math.sqrt)(square) if root else square

    return shim


def _of_statistics(value: Any) -> Any:
    """A function of the module `statistics` on symbolic numbers; as it is on others."""
    own = STATISTICS.get(value.__name__)
    if own is None:
        return guarded(value, value.__name__)

    def shim(data: Any, *more: Any, **options: Any) -> Any:
        data = list(data)
        if more or options or not holds_proxy(data):
            return guarded(value, value.__name__)(data, *more, **options)
        return own(data)

    return shim


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
    its = getattr(x, "number_type", x.kind)  # NumPy's, of a NumPy number
    return issubclass(its, kind) or isinstance(its(0), kind)


def _type(x: Any, *more: Any) -> Any:
    if more:
        return type(x, *more)
    kind = x.kind if isinstance(x, Scalar | TensorProxy) else type(x)
    kind = getattr(x, "number_type", kind) if isinstance(x, Scalar) else kind
    return next((seen for seen, k in SEEN_AS.items() if k is kind), kind)


def _fsum(values: Any) -> Any:
    values = list(values)
    return sum(values) if any(isinstance(v, Scalar) for v in values) else math.fsum(values)


def _prod(values: Any, *, start: Any = 1) -> Any:
    for v in values:
        start = start * v
    return start


def _no_text(*args: Any, **kwargs: Any) -> Any:
    raise Untraceable("it prints")


STATISTICS = {
    "mean": _mean, "fmean": _mean, "variance": _variance(lambda n: n - 1, False),
    "pvariance": _variance(lambda n: n, False), "stdev": _variance(lambda n: n - 1, True),
    "pstdev": _variance(lambda n: n, True),
}  # fmt: skip
_MIN = _extreme(min, operator.lt)
_MAX = _extreme(max, operator.gt)

SHIMS: dict[int, tuple[Any, Any]] = {}


def _register(original: Any, shim: Any) -> None:
    SHIMS[id(original)] = (original, shim)


for _name in MATH:
    if hasattr(math, _name):
        _register(getattr(math, _name), symbolic(_name, getattr(math, _name)))
for _original, _shim in (
    (math.log, _log), (math.fsum, _fsum), (math.prod, _prod), (math.isclose, _isclose),
    (math.modf, _modf), (math.frexp, _frexp), (math.dist, _dist), (math.fabs, symbolic("fabs", math.fabs)),
    (builtins.float, _Float), (builtins.int, _Int), (builtins.round, _round),
    (builtins.min, _MIN), (builtins.max, _MAX), (builtins.isinstance, _isinstance),
    (builtins.type, _type), (builtins.print, _no_text), (builtins.input, _no_text),
):  # fmt: skip
    _register(_original, _shim)


def shim_of(value: Any) -> Any:
    """The symbolic version of a function of numbers, or None."""
    found = SHIMS.get(id(value))
    if found is None and _is_numpys(value):
        from weft.engine.trace import arrays  # only where NumPy is there

        if isinstance(value, type):
            shim = arrays.type_shim(value)
            SEEN_AS[shim] = value
        else:
            shim = arrays.function(value)
        _register(value, shim)
        return shim
    if found is None and isinstance(value, FunctionType) and value.__module__ == "statistics":
        return _of_statistics(value)
    return found[1] if found is not None and found[0] is value else None


def _is_numpys(value: Any) -> bool:
    """Whether something is a function of NumPy's, or a type of its numbers."""
    if isinstance(value, type):
        return value.__module__ == "numpy" and any(b.__name__ == "generic" for b in value.__mro__)
    module = getattr(value, "__module__", None) or type(value).__module__
    ours = isinstance(module, str) and module.split(".")[0] == "numpy"
    return ours and callable(value) and not hasattr(value, "ndim") and not impure(value)


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


def of_numpy(ufunc: Any, method: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """A ufunc of NumPy's on numbers of a trace."""
    from weft.engine.trace.ufuncs import apply  # NumPy is there, since it calls

    if method != "__call__":
        raise Untraceable(f"NumPy's {ufunc.__name__}.{method} of a number")
    return apply(ufunc, *args, **options)
