"""What one callback reads, declares, returns and changes."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from weft.contract.declare import Shared, State
from weft.contract.introspect import Seen, function_of
from weft.contract.places import place_of

if TYPE_CHECKING:
    from weft.callback import OverParams

__all__ = ["BUILTIN", "PARAMETER", "Spec"]

BUILTIN = ("p", "grad", "update", "step", "loss")
PARAMETER = ("p", "param", "params", "parameter", "w", "weight")  # a first argument that gets it


@dataclass(frozen=True, eq=False)
class Spec:
    """What one callback reads, declares and returns, under the names of its chain.

    `args` maps each argument to the chain's name for it. `first` is the name of a leading argument
    that may be the parameter, `*args` included.
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
    makes: dict[str, State]  # of `optional`, in a dtype of their own
    shared: dict[str, Shared]
    over: "dict[str, OverParams]"  # values over all parameters that its defaults declare
    returns: frozenset[str]
    opaque: bool
    mentions: frozenset[str]  # string constants of its code: what it may take out of **kwargs
    seen: Seen  # what its code shows, under its own names
    place: str  # empty where it cannot be told
    ndim: tuple[int, ...] | None
    bounds: dict[str, str]  # of hypers, as `mark` takes them
    produces: dict[str, str] = field(default_factory=dict)  # renamed: its own name -> the chain's

    @property
    def where(self) -> str:
        """The callback's name, file and line, for messages."""
        return f"{self.name} ({self.file}:{self.line})" if self.file else self.name

    @property
    def may_be_param(self) -> bool:
        """Whether its first argument may get the parameter: by its name, or as the original's."""
        return self.first in PARAMETER or self.positional or self.var_kw

    @functools.cached_property
    def only_returns(self) -> bool:
        """Whether it changes nothing in place, so that all it does is what it returns."""
        return not (self.seen.writes or self.seen.leaks or self.seen.changes_more)

    @functools.cached_property
    def writes_unseen(self) -> bool:
        """Whether it may write a tensor through `.data`, which leaves no trace but the values."""
        function = function_of(self.fn)
        return function is None or "data" in function.__code__.co_names

    @functools.cached_property
    def only_reads(self) -> bool:
        """Whether its code shows that it changes nothing in place."""
        return self.only_returns and not self.writes_unseen

    @functools.cached_property
    def works_in_place(self) -> bool:
        """Whether it may change the parameter, its grad or its state in place."""
        changed = self.seen.writes | self.seen.leaks
        return self.seen.changes_more or bool(changed - {"grad", "update"})

    @functools.cached_property
    def writes_param(self) -> bool:
        """Whether it returns the parameter, or may change it in place."""
        first = self.first if self.may_be_param else None
        return self.may_write("p") or (first is not None and self.seen.may_write(first))

    @functools.cached_property
    def applies(self) -> bool:
        """Whether it reads the update and writes the parameter."""
        reads_it = "update" in self.args.values() or "update" in self.seen.reads
        return reads_it and self.writes_param

    def may_write(self, name: str) -> bool:
        """Whether it returns what its chain calls `name`, or may change it in place."""
        own = {n for n in (*self.args, *self.produces) if self.chain_name(n) == name} or {name}
        return name in self.returns or any(self.seen.may_write(n) for n in own)

    def chain_name(self, own: str) -> str:
        """What its chain calls one of its own names."""
        return self.args.get(own) or self.produces.get(own, own)

    def placed(self) -> str:
        """Where in a chain it belongs, by what it does under the names of its chain."""
        p = self.first if self.first not in BUILTIN and self.may_be_param else "p"

        def names(own: Iterable[str]) -> set[str]:
            grads = {"grad" for n in own if n.endswith(".grad")}
            return grads | {"p" if n == p else self.chain_name(n) for n in own if "." not in n}

        reads = {"p" if a == p else n for a, n in self.args.items()} | names(self.seen.reads)
        return place_of(reads, self.returns | names(self.seen.writes))
