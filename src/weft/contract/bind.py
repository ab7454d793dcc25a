"""Binding a chain: which names are hypers, which are state, who provides what; with every error early.

`bind(elements, given)` looks at a chain as a whole. The result is what both engines run.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from weft.callback import (
    BUILTIN,
    PARAMETER,
    OverParams,
    Shared,
    Spec,
    State,
    attribute,
)
from weft.contract.declare import kept_dtype
from weft.contract.implied import (
    GROUP_STEP,
    decides,
    declared_states,
    mentions_step,
    with_count,
    with_values,
)
from weft.contract.roles import check_roles
from weft.contract.slips import check_results, unwritten
from weft.errors import ChainError, did_you_mean

__all__ = ["ORIGINAL_NAMES", "Binding", "Call", "bind", "same_value"]

# hypers that the original's Learner sets whatever the chain, and the field's names that they reach
ORIGINAL_NAMES = ("lr", "wd", "mom", "sqr_mom")


@dataclass(frozen=True, eq=False)
class Call:
    """One element of a bound chain: what it is called with and what becomes of its result.

    `reads` pairs each argument with the chain's name for it; `local` holds the defaults that stay
    its own because callbacks of the chain disagree on them. `over` is set for an `over_params`.
    """

    spec: Spec
    takes_param: bool
    reads: tuple[tuple[str, str], ...]
    local: dict[str, Any]
    over: OverParams | None = None

    @property
    def name(self) -> str:
        """How messages and plans call this element."""
        return self.over.name if self.over else self.spec.name


@dataclass(frozen=True, eq=False)
class Binding:
    """A chain whose every name is accounted for.

    Attributes:
        elements: the chain, as it was given.
        calls: the elements in order, each after the values over all parameters that it declares.
        hypers: defaults of the hypers that a parameter group shows.
        required: hypers without a default.
        hyper_names: every hyper that a callback reads by name.
        states: declared state, made before the first step.
        made: states that callbacks make themselves.
        kept: `states`, and those of `made` whose dtype is declared.
        shared: values that the group holds once, for all its parameters.
        keeps_step: a callback reads the built-in `step`.
        owns_step: the chain keeps a `step` of its own.
        state_dtype: what states are kept in that declare no dtype; None for the parameter's.
    """

    elements: tuple[Any, ...]
    calls: tuple[Call, ...]
    hypers: dict[str, Any]
    required: tuple[str, ...]
    hyper_names: frozenset[str]
    states: dict[str, State]
    made: frozenset[str]
    kept: dict[str, State]
    shared: dict[str, Shared]
    keeps_step: bool
    owns_step: bool
    reads_loss: bool
    over: tuple[str, ...]
    opaque: bool
    writes_p: bool
    ndim: tuple[tuple[Spec, tuple[int, ...]], ...] = field(default=())
    state_dtype: torch.dtype | None = None
    doubts: tuple[str, ...] = ()  # what works, but can hardly be meant

    @cached_property
    def identity(self) -> tuple[Any, ...]:
        """What two bindings of one chain have in common, as long as both are there."""
        elements = tuple(
            # a value over all parameters that a default declares is made at each bind
            (c.over.name, id(c.over.fn), c.over.op, c.over.scope) if c.over else id(c.spec.cb)
            for c in self.calls
        )
        return (
            elements, tuple(sorted(self.hypers)), self.required, self.keeps_step, self.state_dtype,
        )  # fmt: skip

    @cached_property
    def state_names(self) -> frozenset[str]:
        """Every name that may be in the state of a parameter."""
        return frozenset(self.states) | self.made | ({"step"} if self.keeps_step else frozenset())

    @cached_property
    def only_in_state(self) -> frozenset[str]:
        """Optional reads that nothing in the chain provides: a parameter's state may have them."""
        read = {name for c in self.calls for _, name in c.reads}
        local = {name for c in self.calls for name in c.local}
        provided = local.union(self.state_names, self.shared, self.over, BUILTIN)
        return frozenset(read - provided)

    def chooses(self, name: str) -> bool:
        """Whether the group's `state_dtype` says what the state `name` is kept in."""
        if self.state_dtype is None:
            return False
        declared = self.kept.get(name)
        return declared is None or not (declared.dtype or declared.least)

    def dtype_of(
        self, name: str, value: torch.dtype, ndim: int, p: torch.dtype, p_ndim: int
    ) -> torch.dtype:
        """What the state `name` is kept in, for a value and a parameter of these dtypes and ranks."""
        declared = self.kept.get(name)
        own = declared.dtype_beside(p) if declared is not None else None
        return own or kept_dtype(value, ndim, p, p_ndim, self.state_dtype)

    def knows_hyper(self, name: str) -> bool:
        """Whether a callback of the chain can read the hyper `name`."""
        return name in self.hyper_names or any(name in c.spec.mentions for c in self.calls)


def bind(
    elements: Sequence[Callable | OverParams],
    given: Iterable[str] = (),
    state_dtype: torch.dtype | None = None,
) -> Binding:
    """Account for every name of a chain.

    Args:
        elements: callbacks and `over_params` in order.
        given: hypers that the parameter group sets itself.
        state_dtype: what its states are kept in, where they declare no dtype.

    Raises:
        ChainError: a name that nothing provides; a state declared twice, or read before it is
            made; an update that is set and never read; a returned name that is a hyper; two of a kind.
    """
    given, elements = set(given), tuple(elements)
    every = with_count(with_values(elements))
    specs = [s for _, s in every]
    if not specs:
        raise ChainError("a chain needs at least one callback")
    states, made, shared = declared_states(specs)
    over_names = [e.name for e, _ in every if isinstance(e, OverParams)]
    provided = set(states) | made | set(shared) | set(over_names)
    hypers, disputed = _hypers(specs, provided, given)
    owns_step = "step" in states or "step" in made
    known = given | set(hypers) | disputed | provided | set(ORIGINAL_NAMES)
    calls = _calls(every, known, disputed, shared)
    required = _check_reads(calls, given, hypers, owns_step)
    _check_needs(specs, known)
    reads = {r for c in calls for _, r in c.reads}
    hyper_names = set(hypers) | disputed | set(required) | given & reads
    hyper_names -= set(shared) | set(BUILTIN)
    _check_returns(calls, hyper_names | given, set(states) | set(shared))
    _check_given(calls, given, set(states))
    _check_over(over_names, hyper_names | given | set(states) | made | set(shared))
    _check_update(calls)
    check_results(calls, reads.union(*(s.mentions | s.seen.reads for s in specs)))
    check_roles(c.spec for c in calls if c.over is None)
    return Binding(
        elements=elements,
        calls=calls,
        hypers=hypers,
        required=required,
        hyper_names=frozenset(hyper_names | {n for c in calls for n in c.local if n not in made}),
        states=states,
        made=frozenset(made - set(states)),
        kept={**states, **{n: d for s in specs for n, d in s.makes.items()}},
        shared=shared,
        keeps_step=not owns_step and not reads.isdisjoint(("step", GROUP_STEP)),
        owns_step=owns_step,
        reads_loss=any("loss" in s.required for s in specs),
        over=tuple(over_names),
        opaque=any(s.opaque for s in specs),
        writes_p=any(_may_write_p(c) for c in calls),
        ndim=tuple((s, s.ndim) for s in specs if s.ndim is not None),
        state_dtype=state_dtype,
        doubts=tuple(unwritten(calls)),
    )


def _hypers(
    specs: list[Spec], not_hypers: set[str], given: set[str]
) -> tuple[dict[str, Any], set[str]]:
    """The defaults that a group shows, and the names on whose default callbacks disagree.

    Of `momentum` and `betas` a callback that takes either shows the one that is given: a scheduler
    that cycles momentum would write to betas that nobody reads.
    """
    hypers: dict[str, Any] = {}
    disputed: set[str] = set()
    for s in specs:
        for name, default in s.hypers.items():
            if name == "betas" and "momentum" in s.optional and "momentum" in given:
                continue
            if name in BUILTIN:
                raise ChainError(f"{s.where}: {name!r} cannot have a default")
            if name in not_hypers:
                raise ChainError(
                    f"{s.where} has {name!r} as a hyper, by its default {default!r}, and a "
                    f"callback of the chain returns it: rename one of the two, or read it there "
                    f"without a default, or with {name}=None"
                )
            if name in hypers and not same_value(hypers[name], default):
                disputed.add(name)
            hypers.setdefault(name, default)
    return {k: v for k, v in hypers.items() if k not in disputed}, disputed


def same_value(a: Any, b: Any) -> bool:
    """Whether two values of a hyper are one, of one kind."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _takes_param(s: Spec, known: set[str]) -> bool:
    """Whether the first argument gets the parameter: `p`, or such a name that means nothing else."""
    if s.first is None:
        return False
    if s.args.get(s.first) == "p":
        return True
    if s.first in BUILTIN or "p" in s.args.values() or s.args.get(s.first) in known:
        return False
    return s.may_be_param


def _calls(
    every: Sequence[tuple[Any, Spec]], known: set[str], disputed: set[str], shared: Iterable[str]
) -> tuple[Call, ...]:
    """The calls of a chain, in order; `known` are the names that something provides."""
    wanted = {n for _, s in every for n in s.required if n != s.first}
    counted = shared if GROUP_STEP in shared else ()
    return tuple(
        _call(
            s,
            e if isinstance(e, OverParams) else None,
            _takes_param(s, known | wanted),
            disputed,
            counted,
        )
        for e, s in every
    )


def _call(
    s: Spec, over: OverParams | None, takes_param: bool, disputed: set[str], counted: Iterable[str]
) -> Call:
    """One call; what decides one of the values `counted` reads the group's count as its step."""
    reads = tuple(
        (arg, name) for arg, name in s.args.items() if not (takes_param and arg == s.first)
    )
    if mentions_step(s) and decides(s, counted):
        others = tuple((arg, name) for arg, name in reads if name != "step")
        own = [arg for arg, name in reads if name == "step"] or ["step"]
        reads = (*others, (own[0], GROUP_STEP))
    local = {n: v for n, v in s.hypers.items() if n in disputed} | dict.fromkeys(s.makes)
    return Call(s, takes_param, reads, local, over)


def _check_reads(
    calls: Sequence[Call], given: set[str], hypers: dict[str, Any], owns_step: bool
) -> tuple[str, ...]:
    """The hypers that the group has to give; an error for a name read before anything provides it."""
    required: list[str] = []
    later = {n: c for c in reversed(calls) for n in ({c.over.name} if c.over else c.spec.returns)}
    available = set(BUILTIN) | given | set(hypers)
    for c in calls:
        available |= set(c.spec.states) | set(c.spec.shared)
    if owns_step:
        available -= {"step"}
    for c in calls:
        s = c.spec
        if owns_step and "step" in s.states:
            available.add("step")
        for _, name in c.reads:
            if name in available or name in s.optional or name in s.states or name in c.local:
                continue
            if name in s.hypers:
                continue
            if name == "step":
                owner = later.get("step")
                if owner is not None and owner.spec is not s:
                    raise ChainError(
                        f"{s.where} reads 'step' before {owner.spec.where}, which keeps it in this "
                        "chain: move the reader after it"
                    )
                raise ChainError(f"{s.where} keeps 'step' itself: give it an initial value, step=0")
            if name in later and name not in given:
                provider = later[name]
                if provider.over is None and provider.spec is s:
                    raise ChainError(
                        f"{s.where} reads {name!r} before it first returns it: declare it, "
                        f"{name}=weft.zeros or {name}=None"
                    )
                raise ChainError(
                    f"{s.where} reads {name!r} before {provider.spec.where} provides it: move it "
                    f"after, or declare an initial value there ({name}=weft.zeros)"
                )
            if name not in required:
                required.append(name)
        available |= {c.over.name} if c.over else set(s.returns)
    return tuple(required)


def _check_needs(specs: Sequence[Spec], known: set[str]) -> None:
    for s in specs:
        needs = [s.args[n] for n in attribute(s.fn, "needs") or ()]
        if needs and not known.intersection(needs):
            raise ChainError(
                f"nothing provides {' or '.join(map(repr, needs))}, of which {s.where} reads one: put a "
                "callback that returns it before"
            )


def _check_returns(calls: Sequence[Call], hypers: set[str], kept: set[str]) -> None:
    for c in calls:
        for name in c.spec.returns:
            if name == "loss":
                raise ChainError(f"{c.spec.where} returns 'loss', which only the closure gives")
            if name in hypers and name not in kept:
                raise ChainError(
                    f"{c.spec.where} returns {name!r}, which is a hyper of this chain: callbacks do "
                    "not write hypers. Return it under another name, or rename the state: "
                    f'weft.rename({c.spec.name}, {name}="my_{name}")'
                )


def _check_given(calls: Sequence[Call], given: set[str], states: set[str]) -> None:
    for name in sorted(given & states):
        owner = next(c.spec for c in calls if name in c.spec.states)
        raise ChainError(f"{name!r} is state of {owner.where}, and cannot be given as a hyper")


def _check_over(names: Iterable[str], taken: set[str]) -> None:
    for name in names:
        if name in taken | set(BUILTIN):
            raise ChainError(f"over_params({name!r}, ...): the chain has another {name!r}")


def _check_update(calls: Sequence[Call]) -> None:
    setter = None
    for c in calls:
        if any(name == "update" for _, name in c.reads):
            setter = None
        if "update" in c.spec.returns:
            setter = c
    if setter is not None:
        raise ChainError(
            f"{setter.spec.where} sets 'update', and no callback after it reads it: a chain ends "
            "with one that applies the update, such as weft.callbacks.descend"
        )


def _may_write_p(c: Call) -> bool:
    """Whether the callback can change the parameter: it returns `p`, or gets its hands on it."""
    s = c.spec
    if "p" in s.returns or s.opaque:
        return True
    gets_it = c.takes_param or s.var_kw or "p" in s.args.values()
    return c.over is None and gets_it and s.writes_param


def missing_hyper(binding: Binding, name: str, group: Iterable[str]) -> ChainError:
    """The error for a hyper that a callback requires and the group does not give."""
    reader = next(c.spec for c in binding.calls if any(name == r for _, r in c.reads))
    hint = did_you_mean(name, [*BUILTIN, *group, *binding.state_names])
    alone = f" (the parameter is called {', '.join(PARAMETER)})" if reader.first == name else ""
    return ChainError(
        f"nothing provides {name!r}, which {reader.where} reads: give it as a hyper, "
        f"{name}=..., or let a callback before it return it{hint}{alone}"
    )
