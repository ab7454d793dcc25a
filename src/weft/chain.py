"""Composing callbacks: an immutable sequence that makes an optimizer."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from weft.callback import PLACES, OverParams, Renamed, number, read
from weft.contract.bind import bind, same_value
from weft.contract.groups import BoundGroup
from weft.contract.roles import DECAYS, superseded
from weft.engine import engine_named
from weft.engine.explain.table import Explanation, chain_rows
from weft.errors import ChainError, did_you_mean
from weft.optimizer.optimizer import Optimizer
from weft.wrapper import Wrapper, in_words

__all__ = ["Chain", "chain"]

EXAMPLES = ((64, 64), (64,))  # parameters that a chain is explained with


class Chain(Sequence):
    """An immutable sequence of callbacks with hyper defaults; made by `chain`.

    Called with parameters it makes an `Optimizer`, so it serves wherever
    `partial(Optimizer, cbs=[...])` does.
    """

    __slots__ = ("_defaults", "elements", "replaced")

    def __init__(
        self, elements: tuple[Any, ...], defaults: Mapping[str, Any], replaced: tuple[str, ...] = ()
    ):
        self.elements = keeping_own(elements, defaults)
        self._defaults = dict(defaults)
        self.replaced = replaced  # which modifiers took the place of what, in words

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The hypers that the chain itself gives."""
        return MappingProxyType(self._defaults)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each element."""
        return tuple(name_of(e) for e in self.elements)

    def __call__(self, params: Any, **hypers: Any) -> Optimizer:
        """An `Optimizer` over `params` with this chain."""
        return Optimizer(params, self, **hypers)

    # ------------------------------------------------------------ editing

    def insert(self, cb: Any, *, before: Any = None, after: Any = None) -> "Chain":
        """The chain with `cb` before or after another element, named or given itself.

        >>> import weft
        >>> def halve(update): return {"update": update / 2}
        >>> weft.chain(weft.callbacks.descend, lr=.1).insert(halve, before="descend").names
        ('halve', 'descend')
        """
        if (before is None) == (after is None):
            raise ChainError("insert: say either before= or after=")
        at = self._find(before) if after is None else self._find(after) + 1
        return self._with((*self.elements[:at], cb, *self.elements[at:]))

    def replace(self, old: Any, new: Any) -> "Chain":
        """The chain with `new` in the place of `old`."""
        at = self._find(old)
        return self._with((*self.elements[:at], new, *self.elements[at + 1 :]))

    def without(self, cb: Any) -> "Chain":
        """The chain without one of its elements."""
        at = self._find(cb)
        return self._with((*self.elements[:at], *self.elements[at + 1 :]))

    def __add__(self, modifier: Any) -> "Chain":
        """The chain with a callback, or the elements of another chain, where they belong.

        Every element has a place in the order grad, decay, statistics, update, descend, after; a new one
        comes last among those of its place. A wrapper goes around the step. What a step does once, such
        as decay, the new one does instead of the old; `replaced`, and `explain`, say so.

        >>> import weft
        >>> def halve(update): return {"update": update / 2}
        >>> (weft.SGD.chain(momentum=.9) + halve).names[-2:]
        ('halve', 'descend')
        """
        if isinstance(modifier, Chain):
            defaults = joined(self, modifier)
            out = Chain(self.elements, defaults, self.replaced + modifier.replaced)
            for element in modifier.elements:
                out = out + element
            return out
        if not callable(modifier) and not isinstance(modifier, Wrapper | OverParams):
            return NotImplemented
        old = superseded(self.elements, modifier)
        kept = [e for i, e in enumerate(self.elements) if i not in old]
        own = {n: v for n, v in bound_values(modifier).items() if not _readers(kept, n)}
        unread = {
            n for i in old for n in _reads(self.elements[i]) if not _readers((*kept, modifier), n)
        }
        defaults = {n: own.get(n, v) for n, v in self._defaults.items() if n not in unread - {"lr"}}
        place = PLACES.index(place_of(modifier))
        places = [PLACES.index(place_of(e)) for e in kept]
        at = next((i for i, other in enumerate(places) if other > place), len(places))
        for i in old:  # where it stood, if that is the modifier's place as well
            if place_of(self.elements[i]) == place_of(modifier):
                at = i - sum(other < i for other in old)
        gone = tuple(
            f"{name_of(modifier)} takes the place of {name_of(self.elements[i])}"
            for i in old if self.elements[i] is not modifier
        )  # fmt: skip
        return Chain((*kept[:at], modifier, *kept[at:]), defaults, self.replaced + gone)

    def _find(self, wanted: Any) -> int:
        for i, e in enumerate(self.elements):
            if e is wanted or e == wanted or (isinstance(wanted, str) and name_of(e) == wanted):
                return i
        for i, e in enumerate(self.elements):
            if isinstance(e, Renamed) and e.cb is wanted:
                return i
        name = wanted if isinstance(wanted, str) else name_of(wanted)
        raise ChainError(
            f"the chain has no {name!r}{did_you_mean(name, self.names)}; it has {self.names}"
        )

    def _with(self, elements: tuple[Any, ...]) -> "Chain":
        return Chain(elements, self._defaults, self.replaced)

    # ------------------------------------------------------------ looking

    def explain(self) -> Explanation:
        """What each callback reads, returns and keeps, and what a first step of a matrix would run.

        An optimizer's `explain` knows its own parameters and its kernels.
        """
        callbacks = [e for e in self.elements if not isinstance(e, Wrapper)]
        binding = bind(callbacks, self._defaults)
        out = Explanation([], eager=False)
        for shape in EXAMPLES:
            p = torch.nn.Parameter(torch.empty(shape))
            bound = BoundGroup(0, {"params": [p], **self._defaults}, binding, set(self._defaults))
            out = self._explained(bound)
            if out.ahead:  # it is a chain for such a parameter
                out.example = shape
                break
        out.wrappers = [in_words(e, {}) for e in self.elements if isinstance(e, Wrapper)]
        out.replaced = list(self.replaced)
        return out

    def _explained(self, bound: BoundGroup) -> Explanation:
        if not set(bound.binding.required) <= set(bound.group):
            return Explanation(chain_rows([bound]), eager=False)
        bound.fill_defaults()
        return engine_named("auto").explain([bound], {})

    def __getitem__(self, i: Any) -> Any:
        return self._with(self.elements[i]) if isinstance(i, slice) else self.elements[i]

    def __len__(self) -> int:
        return len(self.elements)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.elements)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Chain)
            and self.elements == other.elements
            and self._defaults == other._defaults
        )

    def __hash__(self) -> int:
        return hash(self.names)

    def __repr__(self) -> str:
        parts = [*self.names, *(f"{k}={v!r}" for k, v in self._defaults.items())]
        return f"chain({', '.join(parts)})"

    def __reduce__(self):
        return Chain, (self.elements, self._defaults, self.replaced)


def chain(*cbs: Callable | OverParams | Wrapper | Chain, **defaults: Any) -> Chain:
    """Compose callbacks, in order, into a chain that makes optimizers.

    Args:
        *cbs: callbacks, `over_params`, wrappers, or chains whose elements are taken.
        **defaults: hypers that the chain gives.

    Raises:
        ChainError: where an element is none of these.

    >>> import torch, weft
    >>> def halve(update): return {"update": update / 2}
    >>> half_sgd = weft.chain(halve, weft.callbacks.descend, lr=0.1)
    >>> half_sgd
    chain(halve, descend, lr=0.1)
    >>> p = torch.nn.Parameter(torch.ones(1)); p.grad = torch.ones(1)
    >>> half_sgd([p]).step(); p.data
    tensor([0.9500])
    """
    elements: list[Any] = []
    given: dict[str, Any] = {}
    replaced: tuple[str, ...] = ()
    for cb in cbs:
        if isinstance(cb, Chain):
            given = joined(Chain(tuple(elements), given), cb, defaults)
            elements += cb.elements
            replaced += cb.replaced
        elif isinstance(cb, Wrapper | OverParams) or (callable(cb) and not isinstance(cb, type)):
            elements.append(cb)
        else:
            raise ChainError(
                f"a chain takes callbacks, over_params, wrappers and chains, not {cb!r}"
            )
    return Chain(tuple(elements), {**given, **defaults}, replaced)


def joined(a: Chain, b: Chain, said: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The hypers that two chains give, the second's before the first's, and before both what is `said`.

    Raises:
        ChainError: where both read one of another value, so that one of the two would be lost.
    """
    for name in a.defaults.keys() & b.defaults.keys() - said.keys():
        one, other = a.defaults[name], b.defaults[name]
        if not same_value(one, other) and _readers(a, name) and _readers(b, name):
            raise ChainError(
                f"two chains give and read {name!r}, {one!r} and {other!r}: say which it is, "
                f"weft.chain(a, b, {name}=...), or rename a reader's, weft.rename(cb, {name}=...)"
            )
    return {**a.defaults, **b.defaults, **said}


def bound_values(element: Any) -> dict[str, Any]:
    """The hypers that a partial binds: these are that callback's own."""
    if not isinstance(element, functools.partial):
        return {}
    hypers = read(element).hypers
    return {n: number(v) for n, v in element.keywords.items() if n in hypers}


def _reads(element: Any) -> set[str]:
    """What a callback reads by name, the values over all parameters that it declares included."""
    if isinstance(element, Wrapper):
        return set()
    spec = read(element.fn, value=True) if isinstance(element, OverParams) else read(element)
    return {*spec.args.values(), *spec.mentions}.union(*map(_reads, spec.over.values()))


def _readers(elements: Iterable[Any], name: str) -> list[Any]:
    """The elements that read the hyper `name`."""
    return [e for e in elements if name in _reads(e)]


def _hypers(element: Any) -> dict[str, Any]:
    return {} if isinstance(element, Wrapper | OverParams) else read(element).hypers


def keeping_own(elements: tuple[Any, ...], defaults: Mapping[str, Any]) -> tuple[Any, ...]:
    """The elements, where a value that a partial binds stays its own: others may read another.

    Then its hyper has its callback's name before it. Two decays are refused rather than told apart.
    """
    out = list(elements)
    for i, e in enumerate(elements):
        names = {}
        for name, value in bound_values(e).items():
            for other in _readers(elements[:i] + elements[i + 1 :], name):
                later = name in bound_values(other) and not any(other is o for o in elements[:i])
                theirs = {**_hypers(other), **defaults, **bound_values(other)}.get(name, value)
                if name not in DECAYS and not later and not same_value(theirs, value):
                    names[name] = f"{read(e).name}_{name}"
        if names:
            out[i] = Renamed(e, names)
    return tuple(out)


def name_of(element: Any) -> str:
    """What a chain calls one of its elements."""
    if isinstance(element, OverParams):
        return element.name
    if isinstance(element, Wrapper):
        return element.prefix
    return read(element).name


def place_of(element: Any) -> str:
    """The place of an element in the order of a step."""
    if isinstance(element, Wrapper):
        return "after"
    if isinstance(element, OverParams):
        reads = set(read(element.fn, value=True).args.values())
        return "grad" if reads <= {"grad", "p"} else "update"
    spec = read(element)
    if not spec.place:
        raise ChainError(
            f"{spec.where}: its code does not show what it returns, and so not its place in a "
            f"chain: say it, weft.mark(place=...) with one of {PLACES}, or say what it returns, "
            'weft.mark(returns=("update",))'
        )
    return spec.place
