"""NumPy's other functions of symbolic numbers, and what callbacks see in the place of all of them.

An array of symbolic numbers is one of objects, on which NumPy's own functions of arrays work.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from weft.engine.ir.traced import Untraceable
from weft.engine.trace.scalar import Scalar
from weft.engine.trace.ufuncs import (
    WHERE,
    apply,
    around,
    array,
    cast,
    common_type,
    held,
    holds_symbols,
    objects,
    type_of,
)

__all__ = ["function", "type_shim"]


def where(cond: Any, a: Any, b: Any) -> Any:
    """np.where, of three."""
    return apply(WHERE, apply(np.not_equal, cond, 0), a, b)


def clip(x: Any, low: Any = None, high: Any = None) -> Any:
    """np.clip."""
    x = x if low is None else apply(np.maximum, x, low)
    return x if high is None else apply(np.minimum, x, high)


def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08) -> Any:
    """np.isclose."""
    far = apply(np.absolute, apply(np.subtract, a, b))
    bound = apply(np.add, atol, apply(np.multiply, rtol, apply(np.absolute, b)))
    near = apply(np.logical_and, apply(np.isfinite, far), apply(np.less_equal, far, bound))
    return apply(np.logical_or, near, apply(np.equal, a, b))


def allclose(a: Any, b: Any, *bounds: Any, **named: Any) -> Any:
    """np.allclose."""
    return _truths(np.logical_and)([isclose(a, b, *bounds, **named)])


def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None):
    """np.nan_to_num."""
    limits = np.finfo(common_type(type_of(x)) if isinstance(x, Scalar) else np.float64)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    finite = where(apply(np.equal, x, np.inf), high, where(apply(np.equal, x, -np.inf), low, x))
    return where(apply(np.isnan, x), nan, finite)


def interp(x: Any, xp: Any, fp: Any) -> Any:
    """np.interp: a choice among the pieces."""
    xp, fp = (list(held(list(v))) for v in (xp, fp))
    out = cast(fp[-1], np.float64)
    for i in reversed(range(len(xp) - 1)):
        rise, run = apply(np.subtract, fp[i + 1], fp[i]), apply(np.subtract, xp[i + 1], xp[i])
        along = apply(np.multiply, apply(np.true_divide, rise, run), apply(np.subtract, x, xp[i]))
        out = where(apply(np.less, x, xp[i + 1]), apply(np.add, along, fp[i]), out)
    return where(apply(np.less, x, xp[0]), fp[0], out)


def _folded(ufunc: Any) -> Callable[[Any], Any]:
    def fold(a: Any) -> Any:
        return functools.reduce(functools.partial(apply, ufunc), array(a).flat)

    return fold


def _truths(ufunc: Any) -> Callable[[Any], Any]:
    return lambda a: _folded(ufunc)(apply(np.not_equal, array(a), 0))


def sort(a: Any) -> Any:
    """np.sort of a few, by exchanges: without a branch."""
    values = list(array(a).flat)
    for end in range(len(values) - 1, 0, -1):
        for i in range(end):
            x, y = values[i], values[i + 1]
            values[i], values[i + 1] = apply(np.minimum, x, y), apply(np.maximum, x, y)
    return objects(values, (len(values),))


def median(a: Any) -> Any:
    """np.median."""
    s = sort(a)
    return np.mean(s[(len(s) - 1) // 2 : len(s) // 2 + 1])


def average(a: Any, weights: Any = None) -> Any:
    """np.average, of all."""
    if weights is None:
        return np.mean(array(a))
    w = array(weights)
    return (array(a) * w).sum() / w.sum()


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.array: array, np.asarray: array, np.asanyarray: array, np.where: where, np.clip: clip,
    np.round: around, np.around: around, np.fix: functools.partial(apply, np.trunc),
    np.isclose: isclose, np.nan_to_num: nan_to_num, np.interp: interp, np.sort: sort,
    np.median: median, np.average: average, np.max: _folded(np.maximum), np.amax: _folded(np.maximum),
    np.min: _folded(np.minimum), np.amin: _folded(np.minimum), np.any: _truths(np.logical_or),
    np.all: _truths(np.logical_and), np.allclose: allclose,
}  # fmt: skip
EFFECTS = frozenset(
    ("save", "savez", "savez_compressed", "savetxt", "load", "loadtxt", "genfromtxt", "fromfile",
     "fromregex", "seterr", "seterrcall", "setbufsize", "set_printoptions", "copyto", "put",
     "place", "putmask", "fill_diagonal", "put_along_axis", "show_config", "show_runtime", "info")
)  # fmt: skip


def function(plain: Any) -> Callable[..., Any]:
    """A function of NumPy's as callbacks see it: itself on plain numbers."""
    name = getattr(plain, "__name__", "function")
    own = functools.partial(apply, plain) if isinstance(plain, np.ufunc) else FUNCTIONS.get(plain)

    def shim(*args: Any, **kwargs: Any) -> Any:
        if name in EFFECTS:
            raise Untraceable(f"it calls NumPy's {name}")
        if not holds_symbols(args) and not holds_symbols(list(kwargs.values())):
            return plain(*args, **kwargs)
        try:
            if own is not None:
                return own(*args, **kwargs)
            arrays = [array(a) if holds_symbols(a) else a for a in args]
            return plain(
                *arrays, **{k: array(v) if holds_symbols(v) else v for k, v in kwargs.items()}
            )
        except TypeError as e:
            raise Untraceable(f"NumPy's {name} of numbers: {e}") from e

    return shim


def type_shim(plain: Any) -> Any:
    """A type of NumPy's numbers as callbacks see it: of a symbolic number, a symbolic one."""

    def new(cls: Any, x: Any = 0) -> Any:
        return array(x, plain) if holds_symbols(x) else plain(x)

    try:
        return type(plain.__name__, (plain,), {"__new__": new})
    except TypeError:  # bool_ cannot be derived from
        return functools.partial(new, None)
