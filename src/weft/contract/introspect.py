"""What a callback's code says that it returns, reads and changes.

Whether a default is a hyper or a state depends on whether the callback returns that name, and its
place in a chain on what it does with `update`. Both are read from its bytecode, which is there
wherever the callback comes from; nothing is called to find out.
"""

import builtins
import functools
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import torch

from weft.contract.bytecode import Function, Origin, Run, TooLong, Value, arg, step

__all__ = ["Seen", "constants", "function_of", "look"]

PURE = ("torch", "math", "numpy")  # packages whose functions change what their name says, or `out`
HARMLESS = (  # builtins that change nothing
    abs, all, any, bool, complex, divmod, enumerate, float, frozenset, hash, id, int, isinstance,
    issubclass, len, list, max, min, pow, range, repr, reversed, round, set, slice, sorted, str, sum,
    tuple, type, zip,
)  # fmt: skip
MOST_FUNCTIONS, DEEPEST = 32, 5  # that are followed from one callback, and within each other


class Seen(NamedTuple):
    """What the code of a callback shows.

    Attributes:
        names: that it returns in dicts.
        opaque: it may return others.
        other: it may return something that is neither None nor a dict.
        reads: arguments that it looks at, those out of `**kwargs` and "p.grad" among them.
        writes: arguments that it changes in place, likewise.
        leaks: arguments that it hands to code that cannot be followed.
        changes_more: it changes something beside its arguments.
        lengths: of tuples that it indexes: at least, and exactly.
    """

    names: frozenset[str] = frozenset()
    opaque: bool = True
    other: bool = False
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    leaks: frozenset[str] = frozenset()
    changes_more: bool = True
    lengths: tuple[tuple[str, tuple[int, int | None]], ...] = ()

    def may_write(self, name: str) -> bool:
        """Whether `name` may be changed in place."""
        held = (name, f"{name}.grad")
        return any(n in self.writes or n in self.leaks for n in held)


def constants(code: CodeType) -> frozenset[str]:
    """Every string constant of `code`: the names that it may look up in its `**kwargs`."""
    found: set[str] = set()
    todo = list(code.co_consts)
    while todo:
        const = todo.pop()
        if isinstance(const, str):
            found.add(const)
        elif isinstance(const, tuple | frozenset):
            todo.extend(const)
        elif isinstance(const, CodeType):
            todo.extend(const.co_consts)
    return frozenset(found)


def function_of(cb: Any) -> FunctionType | None:
    """The Python function that runs when `cb` is called, decorators removed."""
    function, _ = _called(cb)
    return inspect.unwrap(function) if function is not None else None  # type: ignore[return-value]


def look(cb: Callable) -> Seen:
    """What the code of a callback shows: a function, a partial, a method, a callable object.

    >>> def ema(grad, exp_avg): return {"exp_avg": exp_avg.lerp(grad, .1)}
    >>> look(ema).names, look(ema).opaque
    (frozenset({'exp_avg'}), False)
    >>> def halve(update): update.mul_(.5)
    >>> look(halve).names, look(halve).writes
    (frozenset(), frozenset({'update'}))
    """
    named: dict[str, Any] = {}
    leading: tuple[Any, ...] = ()
    inner = cb
    while isinstance(inner, functools.partial):
        named, leading, inner = {**inner.keywords, **named}, (*inner.args, *leading), inner.func
    function, owner = _called(inner)
    if function is None:
        return Seen()
    out = _look(function, owner, leading, named)
    if out.opaque and (wrapped := inspect.unwrap(function)) is not function:
        within = _look(wrapped, owner, leading, named)  # type: ignore[arg-type]
        return out if within.opaque else within
    return out


def _called(cb: Any) -> tuple[FunctionType | None, Any]:
    """The function that is called, and the object that it is given as its first argument."""
    while isinstance(cb, functools.partial):
        cb = cb.func
    if isinstance(cb, MethodType):
        function, owner = cb.__func__, cb.__self__
    elif isinstance(cb, FunctionType):
        function, owner = cb, None
    else:
        function, owner = getattr(type(cb), "__call__", None), cb  # noqa: B004
    return (function, owner) if isinstance(function, FunctionType) else (None, None)


def _look(
    function: FunctionType, owner: Any, leading: tuple[Any, ...], named: dict[str, Any]
) -> Seen:
    """What a function shows, of an object or not, with what a partial binds."""
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    values = {n: arg(n) for n in names} | {n: _bound(v) for n, v in named.items() if n in names}
    own = [frozenset([("self", _attributes(owner, function))])] if owner is not None else []
    before = [*own, *map(_bound, leading)]
    values |= zip(names[: code.co_argcount], before, strict=False)
    rest = iter(code.co_varnames[len(names) :])
    if code.co_flags & 0x04:
        inner: Any = inspect.unwrap(function)
        first = inner.__code__.co_varnames[len(before) :][:1]
        values[next(rest)] = frozenset([("items", frozenset().union(*map(arg, first)))])
    if code.co_flags & 0x08:
        values[next(rest)] = frozenset([("kwargs",)])
    return _seen(Around().function(function), tuple(values.items()))


def _bound(value: Any) -> Value:
    """What a partial binds: strings may be keys."""
    return frozenset([("const", value) if isinstance(value, str) else ("object",)])


@functools.lru_cache(maxsize=4096)
def _seen(function: Function, given: tuple[tuple[str, Value], ...]) -> Seen:
    run = Run(step)
    try:
        returned = run.of(function, dict(given))
    except TooLong:
        return Seen()
    names: frozenset[str] = frozenset()
    opaque = other = False
    for origin in returned:
        if origin[0] == "dict":
            made = run.dicts[origin[1]]
            names |= made.names
            opaque |= made.opaque or made.passes_on
        elif origin[0] in ("anything", "object", "kwargs", "self"):
            opaque = True
        elif origin != ("const", None):
            other = True
    return Seen(
        names, opaque, other, frozenset(run.reads), frozenset(run.writes), frozenset(run.leaks),
        run.changes_more, tuple(run.lengths.items()),
    )  # fmt: skip


# ---------------------------------------------------------------- what a function sees around it


class Around:
    """What is known of the values that code finds around it; none of them is kept."""

    def __init__(self) -> None:
        self.within: list[CodeType] = []
        self.known: dict[FunctionType, Origin] = {}

    def function(self, function: FunctionType) -> Function:
        """A function with what is known of the names around it."""
        code = function.__code__
        names, around = _names(code), dict[str, Origin]()
        for name in names:
            if name in function.__globals__:
                around[name] = self.origin(function.__globals__[name], names)
            elif hasattr(builtins, name):
                around[name] = self.origin(getattr(builtins, name), ())
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                around[name] = self.origin(cell.cell_contents, names)
            except ValueError:  # it has no value yet
                continue
        for name, value in _defaults(function).items():
            around[f"{name}="] = ("const", value) if isinstance(value, str) else ("object",)
        return Function(code, tuple(around.items()))

    def origin(self, value: Any, names: Iterable[str]) -> Origin:
        """One value; `names` are the attributes of it that code may use."""
        match value:
            case str():
                return ("const", value)
            case tuple() | list() | frozenset() if value and all(isinstance(v, str) for v in value):
                return ("const", tuple(value))
            case None | bool() | int() | float() | torch.dtype() | torch.device():
                return ("no dict",)
            case torch.Tensor():
                return ("captured",)
            case FunctionType() if not _pure(value):
                return self._followed(value)
            case ModuleType() if value.__name__.split(".")[0] not in PURE:
                return ("module", self._members(vars(value), names))
            case type() if value in (dict, OrderedDict):
                return ("dict type",)
            case type() if not _pure(value):
                return ("module", self._members(vars(value), names))
        if value is print:
            return ("prints",)
        return ("pure",) if _pure(value) else ("object",)

    def _followed(self, function: FunctionType) -> Origin:
        code = function.__code__
        library = str(function.__module__).split(".")[0] in sys.stdlib_module_names
        far = len(self.within) >= DEEPEST or len(self.known) >= MOST_FUNCTIONS
        if library or far or code in self.within:
            return ("anything",)
        if function not in self.known:
            self.within.append(code)
            self.known[function] = ("function", self.function(function))
            self.within.pop()
        return self.known[function]

    def _members(self, held: Mapping[str, Any], names: Iterable[str]) -> tuple:
        simple = (str, tuple, FunctionType, BuiltinFunctionType)
        found = {n: held[n] for n in names if n in held}
        return tuple(
            (n, self.origin(v, ()) if isinstance(v, simple) else ("object",))
            for n, v in found.items()
        )


def _pure(value: Any) -> bool:
    """Whether it is torch's, or such a library's, and changes only what its name says."""
    if isinstance(value, ModuleType):
        return value.__name__.split(".")[0] in PURE
    if not callable(value):
        return False
    package = str(getattr(value, "__module__", "") or "").split(".")[0]
    torchs = package in PURE or getattr(torch, getattr(value, "__name__", ""), None) is value
    return torchs or any(value is h for h in HARMLESS)


def _defaults(function: FunctionType) -> dict[str, Any]:
    values, code = function.__defaults__ or (), function.__code__
    names = code.co_varnames[code.co_argcount - len(values) : code.co_argcount]
    return {**dict(zip(names, values, strict=True)), **(function.__kwdefaults__ or {})}


@functools.lru_cache(maxsize=4096)
def _names(code: CodeType) -> tuple[str, ...]:
    """The names that code and the functions in it use beside their variables."""
    within = [n for c in code.co_consts if isinstance(c, CodeType) for n in _names(c)]
    return tuple(dict.fromkeys((*code.co_names, *within)))


def _attributes(owner: Any, function: FunctionType) -> tuple[tuple[str, Origin], ...]:
    """The attributes of a callable object that its methods may use; no property is called."""
    out: dict[str, Origin] = {}
    around, todo = Around(), list(_names(function.__code__))
    while todo:
        name = todo.pop()
        held = inspect.getattr_static(owner, name, out)
        if name in out or held is out:
            continue
        if isinstance(held, FunctionType) and name not in getattr(owner, "__dict__", {}):
            out[name] = ("method", around.function(held))
            todo += _names(held.__code__)
        else:
            held = held.__func__ if isinstance(held, staticmethod) else held
            out[name] = around.origin(held, _names(function.__code__))
    return tuple(out.items())
