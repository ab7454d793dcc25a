"""The contract: what a callback reads, declares and returns.

A callback is a plain function called once for each parameter and step, with the arguments that it
names. `read(cb)` turns its signature and its literal returns into a `Spec`; nothing is called.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType, MappingProxyType, MethodType
from typing import Any

import torch

from weft.errors import ChainError
from weft.source import constants, returned

__all__ = [
    "BUILTIN",
    "PLACES",
    "OverParams",
    "Renamed",
    "Shared",
    "Spec",
    "State",
    "copy_of_param",
    "function_of",
    "mark",
    "number",
    "ones",
    "over_params",
    "read",
    "rename",
    "shared",
    "state",
    "zeros",
]

BUILTIN = ("p", "grad", "update", "step", "loss")
PLACES = ("grad", "statistics", "update", "descend", "after")


# ---------------------------------------------------------------- what a default declares


@dataclass(frozen=True)
class State:
    """Per-parameter state: how its first value is made, and its dtype where it is not the parameter's."""

    init: Any
    dtype: torch.dtype | None = None
    name: str = ""

    def make(self, p: torch.Tensor) -> Any:
        """The initial value for parameter `p`: a fresh tensor, or a number."""
        value = self.init(p.detach()) if callable(self.init) else self.init
        if isinstance(value, torch.Tensor):
            return value.to(self.dtype) if self.dtype is not None else value
        if self.dtype is not None:
            return torch.tensor(value, dtype=self.dtype, device=p.device)
        return value

    @property
    def is_number(self) -> bool:
        """Whether the state is a Python value rather than a tensor."""
        return not callable(self.init) and self.dtype is None

    def __repr__(self) -> str:
        return f"weft.{self.name}" if self.name else f"weft.state({self.init!r})"

    def __reduce__(self):
        return self.name if self.name else (State, (self.init, self.dtype))


@dataclass(frozen=True)
class Shared:
    """One value for all parameters of a group, updated once a step."""

    init: float


def _copy(p: torch.Tensor) -> torch.Tensor:
    return p.clone(memory_format=torch.preserve_format)


zeros: Any = State(torch.zeros_like, name="zeros")
ones: Any = State(torch.ones_like, name="ones")
copy_of_param: Any = State(_copy, name="copy_of_param")


def state(initial: Any, dtype: torch.dtype | None = None) -> Any:
    """Declare per-parameter state, as a callback's default.

    Args:
        initial: a number, or a function of the parameter that returns a tensor.
        dtype: of the state's tensors; the parameter's where it is not given.

    >>> import torch, weft
    >>> def rows(grad, row_sq=weft.state(lambda p: p.new_zeros(p.shape[:1]))):
    ...     return {"row_sq": row_sq + grad.square().sum(dim=1)}
    >>> p = torch.nn.Parameter(torch.ones(2, 3)); p.grad = torch.ones(2, 3)
    >>> opt = weft.Optimizer([p], [rows, weft.callbacks.descend], lr=0.)
    >>> opt.step(); opt.state[p]["row_sq"]
    tensor([3., 3.])
    """
    return State(initial, dtype)


def shared(initial: float) -> Any:
    """Declare one value for all parameters of a group, updated once a step, as a callback's default.

    It is kept in the parameter group under its name, as a number. The first parameter that returns
    it in a step decides its new value; the other parameters read the old one until they return it.

    >>> import weft
    >>> def tally(n=weft.shared(0.)): return {"n": n + 1}
    """
    return Shared(float(initial))


# ---------------------------------------------------------------- callbacks that are not functions


class Renamed:
    """A callback under other names; made by `rename`."""

    def __init__(self, cb: Callable, names: Mapping[str, str]):
        self.cb, self.names = cb, dict(names)
        known = read(cb)
        unknown = set(names) - set(known.args) - known.returns
        if unknown:
            raise ChainError(
                f"rename: {known.name} neither reads nor returns {sorted(unknown)}; "
                f"it has {sorted(set(known.args) | known.returns)}"
            )

    def __call__(self, *args, **kwargs):
        back = {new: old for old, new in self.names.items()}
        out = self.cb(*args, **{back.get(k, k): v for k, v in kwargs.items()})
        return {self.names.get(k, k): v for k, v in out.items()} if isinstance(out, dict) else out

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
    """
    if op not in ("sum", "max", "min"):
        raise ChainError(f"over_params({name!r}): op must be 'sum', 'max' or 'min', not {op!r}")
    if scope not in ("optimizer", "group"):
        raise ChainError(
            f"over_params({name!r}): scope must be 'optimizer' or 'group', not {scope!r}"
        )
    return OverParams(name, fn, op, scope)


def mark(fn: Callable | None = None, /, *, place: str | None = None, ndim=None, defaults=None):
    """Say about a callback what its signature cannot: its place in a chain, its rank, its defaults.

    Args:
        place: one of "grad", "statistics", "update", "descend", "after".
        ndim: the ranks of the parameters that it can serve, such as `(2,)`.
        defaults: hyper defaults, for arguments that have none in the signature.

    >>> import weft
    >>> @weft.mark(place="update")
    ... def halve(update): return {"update": update / 2}
    >>> halve.place
    'update'
    """
    if place is not None and place not in PLACES:
        raise ChainError(f"place must be one of {PLACES}, not {place!r}")

    def marked(f: Callable) -> Callable:
        for key, value in (("place", place), ("ndim", ndim), ("defaults", defaults)):
            if value is not None:
                setattr(f, key, value)
        return f

    return marked if fn is None else marked(fn)


# ---------------------------------------------------------------- reading a callback


@dataclass(frozen=True, eq=False)
class Spec:
    """What one callback reads, declares and returns, under the names of its chain.

    `args` maps a name of the chain to the argument that takes it. `first` is the name of a leading
    argument that may be the parameter by position.
    """

    cb: Callable  # as it was given
    fn: Callable  # what is called: renaming and bound defaults removed
    name: str
    file: str
    line: int
    args: dict[str, str]
    first: str | None
    positional: bool
    var_kw: bool
    required: tuple[str, ...]
    optional: tuple[str, ...]
    hypers: dict[str, Any]
    states: dict[str, State]
    shared: dict[str, Shared]
    returns: frozenset[str]
    opaque: bool
    mentions: frozenset[str]  # string constants of its code: what it may take out of **kwargs
    place: str
    ndim: tuple[int, ...] | None
    produces: dict[str, str] = field(default_factory=dict)  # returned name -> name of the chain

    @property
    def where(self) -> str:
        """The callback's name, file and line, for messages."""
        return f"{self.name} ({self.file}:{self.line})" if self.file else self.name

    def may_return(self, name: str) -> bool:
        """Whether the callback returns `name`, or could without the source showing it."""
        return name in self.returns or self.opaque


_cache: dict[int, tuple[Any, Spec]] = {}


def read(cb: Callable) -> Spec:
    """The `Spec` of a callback: a function, a partial, a callable object, or one of those renamed.

    Raises:
        ChainError: where `cb` is not callable, or a default cannot be told for hyper or state.
    """
    held = _cache.get(id(cb))
    if held is not None and held[0] is cb:
        return held[1]
    spec = _read(cb)
    if len(_cache) > 4096:
        _cache.clear()
    _cache[id(cb)] = (cb, spec)
    return spec


def _read(cb: Callable) -> Spec:
    if isinstance(cb, Renamed):
        return _rename_spec(cb, read(cb.cb))
    if not callable(cb):
        raise ChainError(f"a callback must be callable, not {cb!r} of type {type(cb).__name__}")
    name, code = _name(cb), _code(cb)
    try:
        parameters = list(inspect.signature(cb).parameters.values())
    except (ValueError, TypeError) as e:
        raise ChainError(f"callback {name}: its signature cannot be read ({e})") from e
    out = returned(code) if code else returned.__wrapped__(_no_code)
    where = f"{code.co_filename}:{code.co_firstlineno}" if code else "no source"
    defaults = {k: number(v) for k, v in dict(_attribute(cb, "defaults") or {}).items()}
    args: dict[str, str] = {}
    required: list[str] = []
    optional: list[str] = []
    hypers: dict[str, Any] = dict(defaults)
    states: dict[str, State] = {}
    shareds: dict[str, Shared] = {}
    first, positional, var_kw = None, False, False
    for i, a in enumerate(parameters):
        if a.kind is a.VAR_KEYWORD:
            var_kw = True
            continue
        if a.kind is a.VAR_POSITIONAL:
            continue
        if i == 0 and a.kind is not a.KEYWORD_ONLY and a.default is a.empty:
            first, positional = a.name, a.kind is a.POSITIONAL_ONLY or a.name not in BUILTIN
        default = number(a.default)
        args[a.name] = a.name
        if isinstance(default, State):
            states[a.name] = default
        elif isinstance(default, Shared):
            shareds[a.name] = default
        elif default is a.empty:
            if a.name not in defaults:
                required.append(a.name)
        elif default is None:
            optional.append(a.name)
        elif isinstance(default, bool | int | float | str | tuple):
            if a.name in out.names:
                states[a.name] = State(default)
            elif a.name in defaults:
                pass
            elif out.may_return(a.name):
                raise ChainError(
                    f"callback {name} ({where}): the default {a.name}={default!r} is a hyper, or "
                    f"state if the callback returns {a.name!r}, and what it returns cannot be read "
                    f"from its source. For state write {a.name}=weft.state({default!r}); for a "
                    f"hyper set {name}.defaults = dict({a.name}={default!r}), or return a literal "
                    "{...}"
                )
            else:
                hypers[a.name] = default
    ndim = _attribute(cb, "ndim")
    file = code.co_filename if code else ""
    spec: dict[str, Any] = dict(  # noqa: C408
        cb=cb, fn=cb, name=name, file=file, line=code.co_firstlineno if code else 0,
        args=args, first=first, positional=positional, var_kw=var_kw,
        required=tuple(required), optional=tuple(optional), hypers=hypers, states=states,
        shared=shareds, returns=out.names, opaque=out.opaque,
        mentions=constants(code) if var_kw and code else frozenset(),
        ndim=(ndim,) if isinstance(ndim, int) else tuple(ndim) if ndim is not None else None,
        produces={n: n for n in out.names},
    )  # fmt: skip
    return Spec(place=_attribute(cb, "place") or _place(spec, code), **spec)


def _rename_spec(cb: Renamed, inner: Spec) -> Spec:
    to = lambda name: cb.names.get(name, name)
    over = {
        **{f: tuple(map(to, getattr(inner, f))) for f in ("required", "optional")},
        **{
            f: {to(k): v for k, v in getattr(inner, f).items()}
            for f in ("args", "hypers", "states", "shared")
        },
        "returns": frozenset(map(to, inner.returns)),
        "produces": {k: to(v) for k, v in inner.produces.items()},
        "cb": cb,
        "name": inner.name,
    }
    return Spec(**{**{f: getattr(inner, f) for f in Spec.__dataclass_fields__}, **over})


def _no_code_():
    pass


_no_code: CodeType = _no_code_.__code__


def function_of(cb: Any) -> FunctionType | None:
    """The Python function that runs when `cb` is called."""
    while isinstance(cb, functools.partial):
        cb = cb.func
    if isinstance(cb, MethodType):
        cb = cb.__func__
    if not isinstance(cb, FunctionType):
        cb = getattr(type(cb), "__call__", None)  # noqa: B004
    cb = inspect.unwrap(cb) if cb is not None else None
    return cb if isinstance(cb, FunctionType) else None


def _code(cb: Any) -> CodeType | None:
    function = function_of(cb)
    return function.__code__ if function else None


def _name(cb: Any) -> str:
    while isinstance(cb, functools.partial):
        cb = cb.func
    return getattr(cb, "__name__", type(cb).__name__)


def _attribute(cb: Any, key: str) -> Any:
    """`cb.key`, looked for under partials too, which lose the attributes of what they bind."""
    while (found := getattr(cb, key, None)) is None and isinstance(cb, functools.partial):
        cb = cb.func
    return found


def _place(spec: dict[str, Any], code: CodeType | None) -> str:
    """Where in a chain a callback belongs, from what it reads and returns."""
    returns, reads = spec["returns"], set(spec["args"])
    if "p" in returns:
        return "descend" if reads & {"update", "grad"} else "grad"
    if "grad" in returns:
        return "grad"
    if "update" in returns:
        return "statistics" if spec["states"] else "update"
    if returns or code is None:
        return "statistics"
    # a callback of the original's style works in place on what it is given
    return "descend" if "grad" in code.co_names or spec["optional"] else "grad"


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


EMPTY: Mapping[str, Any] = MappingProxyType({})
