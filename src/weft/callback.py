"""The contract: what a callback reads, declares and returns.

A callback is a plain function called once for each parameter and step, with the arguments that it
names. `read(cb)` turns its signature and what its code shows into a `Spec`.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from weft.contract import trial
from weft.contract.declare import Shared, State, copy_of_param, ones, shared, start, state, zeros
from weft.contract.introspect import Seen, constants, function_of, look
from weft.contract.marks import ROLES, attribute, mark
from weft.contract.places import PLACES
from weft.contract.spec import BUILTIN, PARAMETER, Spec
from weft.errors import ChainError

__all__ = [
    "BUILTIN",
    "PARAMETER",
    "PLACES",
    "ROLES",
    "OverParams",
    "Renamed",
    "Shared",
    "Spec",
    "State",
    "attribute",
    "copy_of_param",
    "function_of",
    "mark",
    "number",
    "ones",
    "over_params",
    "read",
    "rename",
    "shared",
    "start",
    "state",
    "zeros",
]


# ---------------------------------------------------------------- callbacks that are not functions


class Renamed:
    """A callback under other names; made by `rename`."""

    def __init__(self, cb: Callable, names: Mapping[str, str], *, value: bool = False):
        self.cb, self.names = cb, dict(names)
        spec = read(cb, value=value)
        known = set(spec.args.values()) | spec.returns
        for over in spec.over.values():
            known |= set(read(over.fn, value=True).args.values())
        unknown = set(names) - known
        if unknown and not spec.opaque and not spec.var_kw:
            raise ChainError(
                f"rename: {spec.name} neither reads nor returns {sorted(unknown)}; "
                f"it has {sorted(known)}"
            )
        for before in (spec.args.values(), spec.returns):
            after = [self.names.get(n, n) for n in before]
            twice = sorted({n for n in after if after.count(n) > 1})
            if twice:
                raise ChainError(f"rename: {spec.name} would have two things called {twice[0]!r}")

    def __call__(self, *args, **kwargs):
        back = {new: old for old, new in self.names.items()}
        out = self.cb(*args, **{back.get(k, k): v for k, v in kwargs.items()})
        return {self.names.get(k, k): v for k, v in out.items()} if isinstance(out, dict) else out

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Renamed) and (self.cb, self.names) == (other.cb, other.names)

    def __hash__(self) -> int:
        return hash((self.cb, *sorted(self.names.items())))

    def __repr__(self) -> str:
        pairs = ", ".join(f"{old}={new!r}" for old, new in self.names.items())
        return f"rename({read(self.cb).name}, {pairs})"


def rename(cb: Callable, **names: str) -> Renamed:
    """The callback `cb` with some of the names that it reads and returns replaced.

    >>> import weft
    >>> slow = weft.rename(weft.callbacks.ema, exp_avg="slow_avg")
    >>> sorted(n for n in weft.callback.read(slow).states)
    ['slow_avg']
    """
    return Renamed(cb, names)


@dataclass(frozen=True)
class OverParams:
    """A value computed for each parameter and combined over all; made by `over_params`."""

    name: str
    fn: Callable
    op: str = "sum"
    scope: str = "optimizer"

    def __repr__(self) -> str:
        return f"over_params({self.name!r}, {read(self.fn).name}, op={self.op!r}, scope={self.scope!r})"


def over_params(name: str, fn: Callable, op: str = "sum", scope: str = "optimizer") -> OverParams:
    """A chain element: a value of each parameter, combined over all, read by its name further on.

    Args:
        name: under which the callbacks that follow read the combined value, a 0-dim tensor.
        fn: a callback that returns a 0-dim tensor or a number for its parameter.
        op: "sum", "max" or "min".
        scope: "optimizer" combines over all groups whose chain has the name; "group" over each.

    Raises:
        ChainError: for another `op` or `scope`.

    >>> import weft
    >>> norm = weft.over_params("grad_sq_norm", lambda grad: grad.square().sum())
    >>> def clip(grad, grad_sq_norm, max_norm=1.):
    ...     return {"grad": grad * (max_norm / (grad_sq_norm.sqrt() + 1e-6)).clamp(max=1)}
    >>> weft.chain(norm, clip, weft.callbacks.descend, lr=.1).names
    ('grad_sq_norm', 'clip', 'descend')

    As the default of a callback's argument it comes along with the callback, computed where the chain
    first has one that declares it: so what needs such a value is still one element.

    >>> def clip(grad, grad_sq_norm=norm, max_norm=1.):
    ...     return {"grad": grad * (max_norm / (grad_sq_norm.sqrt() + 1e-6)).clamp(max=1)}
    >>> (weft.SGD.chain() + clip).names
    ('clip', 'l2', 'descend')
    """
    if op not in ("sum", "max", "min"):
        raise ChainError(f"over_params({name!r}): op must be 'sum', 'max' or 'min', not {op!r}")
    if scope not in ("optimizer", "group"):
        raise ChainError(
            f"over_params({name!r}): scope must be 'optimizer' or 'group', not {scope!r}"
        )
    return OverParams(name, fn, op, scope)


# ---------------------------------------------------------------- reading a callback


def read(cb: Callable, *, value: bool = False) -> Spec:
    """The `Spec` of a callback: a function, a partial, a callable object, or one of those renamed.

    Args:
        cb: what a chain was given.
        value: it returns a value, not a dict: the function of an `over_params`.

    Raises:
        ChainError: where `cb` is not callable, or a default cannot be told for hyper or state.
    """
    if isinstance(cb, Renamed):
        return _rename_spec(cb, read(cb.cb, value=value))
    if not callable(cb):
        raise ChainError(f"a callback must be callable, not {cb!r} of type {type(cb).__name__}")
    name, function = _name(cb), function_of(cb)
    code = function.__code__ if function else None
    try:
        parameters = list(inspect.signature(cb).parameters.values())
    except (ValueError, TypeError) as e:
        raise ChainError(f"callback {name}: its signature cannot be read ({e})") from e
    seen, ndim = look(cb), _ranks(attribute(cb, "ndim"))
    names, shown = _returned(cb, parameters, seen, ndim) if not value else (frozenset(), True)
    where = f"{code.co_filename}:{code.co_firstlineno}" if code else "no source"
    declared = _Declared(dict(_defaults(cb)), names, shown, f"{name} ({where})")
    first, positional = None, False
    for i, a in enumerate(parameters):
        leads = a.kind not in (a.KEYWORD_ONLY, a.VAR_KEYWORD) and a.default is a.empty
        if i == 0 and leads:
            first, positional = a.name, a.kind is not a.POSITIONAL_OR_KEYWORD
        elif a.kind is a.POSITIONAL_ONLY:
            raise ChainError(f"callback {name} ({where}): {a.name!r} cannot be passed by name")
        if a.kind not in (a.VAR_KEYWORD, a.VAR_POSITIONAL):
            declared.take(a.name, number(a.default))
    var_kw = any(a.kind is a.VAR_KEYWORD for a in parameters)
    file = code.co_filename if code else ""
    spec = Spec(
        cb=cb, fn=cb, name=name, file=file, line=code.co_firstlineno if code else 0,
        args=declared.args, first=first, positional=positional, var_kw=var_kw,
        required=tuple(declared.required), optional=tuple(declared.optional), hypers=declared.hypers,
        states=declared.states, makes=declared.makes, shared=declared.shared, over=declared.over,
        returns=names, seen=seen,
        opaque=seen.opaque and not value and attribute(cb, "returns") is None,
        mentions=constants(code) if var_kw and code else frozenset(),
        ndim=ndim, bounds=attribute(cb, "bounds") or {},
        place="",
    )  # fmt: skip
    return replace(spec, place=attribute(cb, "place") or (spec.placed() if shown else ""))


class _Declared:
    """What the arguments of a callback declare by their defaults, kind by kind."""

    def __init__(self, hypers: dict[str, Any], returned: Collection[str], shown: bool, who: str):
        """`hypers` are those that it lists; `shown`: its code shows what it returns."""
        self.hypers, self.listed = hypers, set(hypers)
        self.returned, self.shown, self.who = returned, shown, who
        self.args: dict[str, str] = {}
        self.required: list[str] = []
        self.optional: list[str] = []
        self.states: dict[str, State] = {}
        self.makes: dict[str, State] = {}
        self.shared: dict[str, Shared] = {}
        self.over: dict[str, OverParams] = {}

    def take(self, name: str, default: Any) -> None:
        """One argument."""
        self.args[name] = name
        if isinstance(default, State) and default.made_by_callback:
            self.optional.append(name)
            self.makes[name] = default
        elif isinstance(default, State):
            self.states[name] = default
        elif isinstance(default, Shared):
            self.shared[name] = default
        elif isinstance(default, OverParams):
            self.over[name] = default
            self.required.append(name)
        elif name in self.listed:
            pass
        elif default is inspect.Parameter.empty:
            self.required.append(name)
        elif not isinstance(default, bool | int | float | str | tuple):
            self.optional.append(
                name
            )  # None; and any other object serves where nothing provides one
        elif name in self.returned:
            self.states[name] = State(default)
        elif self.shown:
            self.hypers[name] = default
        else:
            raise ChainError(
                f"callback {self.who}: the default {name}={default!r} is a hyper, or "
                f"state if the callback returns {name!r}, and its code does not show what it "
                f"returns. For state write {name}=weft.state({default!r}); for a hyper set "
                f"{self.who.split()[0]}.defaults = dict({name}={default!r}); or say all that it "
                "returns, weft.mark(returns=(...))"
            )


def _returned(
    cb: Callable, parameters: list[inspect.Parameter], seen: Seen, ndim: tuple[int, ...] | None
) -> tuple[frozenset[str], bool]:
    """The names that a callback returns, and whether there are surely no others."""
    said = attribute(cb, "returns")
    if said is not None:
        return frozenset([said] if isinstance(said, str) else said), True
    if not seen.opaque or seen.changes_more:
        return seen.names, not seen.opaque
    args = {
        a.name: None if a.default is a.empty else a.default
        for a in parameters
        if a.kind not in (a.VAR_POSITIONAL, a.VAR_KEYWORD)
    } | _defaults(cb)
    if any(a.kind is a.VAR_KEYWORD for a in parameters):  # it is given all names there are
        args |= {name: None for name in ("grad", "update", "lr") if name not in args}
    a = parameters[0] if parameters else None
    first = a.name if a and a.default is a.empty and a.kind is not a.KEYWORD_ONLY else None
    by_place = a is not None and a.kind in (a.POSITIONAL_ONLY, a.VAR_POSITIONAL)
    found = trial.returned(cb, args, first, by_place, ndim[0] if ndim else 2)
    return seen.names | (found or frozenset()), found is not None


def _rename_spec(cb: Renamed, inner: Spec) -> Spec:
    to = lambda name: cb.names.get(name, name)
    spec = replace(
        inner,
        cb=cb,
        args={a: to(n) for a, n in inner.args.items()},
        required=tuple(map(to, inner.required)),
        optional=tuple(map(to, inner.optional)),
        hypers={to(k): v for k, v in inner.hypers.items()},
        states={to(k): v for k, v in inner.states.items()},
        makes={to(k): v for k, v in inner.makes.items()},
        shared={to(k): v for k, v in inner.shared.items()},
        over={to(k): _rename_over(v, cb.names) for k, v in inner.over.items()},
        returns=frozenset(map(to, inner.returns)),
        mentions=frozenset(map(to, inner.mentions)),
        produces={**cb.names, **{k: to(v) for k, v in inner.produces.items()}},
        ndim=_ranks(getattr(cb, "ndim", inner.ndim)),
        bounds={to(k): v for k, v in inner.bounds.items()},
    )
    moved = {"p", "grad", "update"} & {*cb.names, *cb.names.values()}
    place = spec.placed() if moved and inner.place else inner.place
    return replace(spec, place=getattr(cb, "place", place))


def _rename_over(over: OverParams, names: Mapping[str, str]) -> OverParams:
    """A value over all parameters that reads what its callback reads, under the same new names."""
    own = {k: v for k, v in names.items() if k in read(over.fn, value=True).args.values()}
    return replace(over, fn=Renamed(over.fn, own, value=True)) if own else over


def _defaults(cb: Any) -> dict[str, Any]:
    """The hypers that `cb.defaults` gives; what a partial binds is nearer than what it wraps."""
    own = {k: number(v) for k, v in dict(getattr(cb, "defaults", None) or {}).items()}
    if isinstance(cb, functools.partial):
        inner = _defaults(cb.func)
        bound = {k: number(v) for k, v in cb.keywords.items() if k in inner}
        return {**inner, **bound, **own}
    return own


def _name(cb: Any) -> str:
    while isinstance(cb, functools.partial):
        cb = cb.func
    return getattr(cb, "__name__", type(cb).__name__)


def _ranks(ndim: Any) -> tuple[int, ...] | None:
    return (ndim,) if isinstance(ndim, int) else None if ndim is None else tuple(ndim)


def number(value: Any) -> Any:
    """NumPy scalars as Python numbers (inside tuples too); anything else as it is.

    >>> import numpy as np
    >>> number(np.float32(0.5)), number((np.float64(0.9), 0.99))
    (0.5, (0.9, 0.99))
    """
    if isinstance(value, tuple):
        return tuple(number(v) for v in value)
    numpy = sys.modules.get("numpy")  # a NumPy value cannot exist where NumPy is not imported
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    return value
