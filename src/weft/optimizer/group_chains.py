"""Which chain each group runs: bound when the group is added, and again where an option selects another."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch

from weft.callback import number
from weft.contract import hyperparameters
from weft.contract.bind import ORIGINAL_NAMES, Binding, bind
from weft.contract.declare import as_dtype
from weft.contract.groups import (
    NOT_HYPERS,
    TORCHS_FLAGS,
    BoundGroup,
    Group,
    check_complex,
    check_rank,
    describe,
    refuse_twice,
)
from weft.contract.roles import merge_wrappers
from weft.errors import ChainError, StepError, WeftWarning, depth_of_user, did_you_mean, slip_of
from weft.wrapper import Wrapper

__all__ = ["Chained"]


class Chained(torch.optim.Optimizer):
    """Parameter groups, each with the chain that it runs."""

    # options of a subclass that select callbacks: a group may set its own, at any time
    chain_options: ClassVar[tuple[str, ...]] = ()
    # hypers that start as another one does, in each group: where they are None
    follows: ClassVar[Mapping[str, str]] = {}
    # whether the same parameter twice in a group is an error; torch's own optimizers warn of it
    refuses_twice: ClassVar[bool] = True

    _bound: list[BoundGroup]
    _wrappers: list[Wrapper]
    _default_chain: tuple[Any, ...]
    _explicit: dict[str, Any]  # the hypers that the constructor was given
    _replaced: tuple[str, ...] = ()  # which modifiers took the place of what
    _lent: set[str]  # defaults that only groups with chains of their own have
    _state_dtype: torch.dtype | None = None  # what states are kept in that declare no dtype

    def _split(self, cbs: Iterable[Any]) -> tuple[Any, ...]:
        """The callbacks of a chain; its wrappers go around the optimizer."""
        elements = tuple(cbs)
        self._wrappers[:] = merge_wrappers(
            self._wrappers, [e for e in elements if isinstance(e, Wrapper)]
        )
        self._replaced = (*self._replaced, *getattr(cbs, "replaced", ()))
        return tuple(e for e in elements if not isinstance(e, Wrapper))

    def _chain_for(self, group: Mapping[str, Any]) -> tuple[Any, ...]:
        """The elements that a group without `"cbs"` of its own runs."""
        return self._default_chain

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; it may bring hypers and a chain (`"cbs"`) of its own.

        Raises:
            ChainError: where the chain cannot be bound to the group's hypers.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        given = {k: number(v) for k, v in param_group.items() if k not in (*NOT_HYPERS, "cbs")}
        scale = given.pop("lr_scale", None)  # of param_groups(layer_decay=...), and timm's
        kept_in = as_dtype(given.pop("state_dtype", None))
        hyperparameters.validate(given)
        hyperparameters.refuse_nan(given)
        group = {k: v for k, v in param_group.items() if k in NOT_HYPERS} | given
        own = param_group.get("cbs")
        defaults = dict(getattr(own, "defaults", {}))
        if own is not None:
            kept_in = kept_in or as_dtype(defaults.pop("state_dtype", None))
            for name, value in defaults.items():
                group.setdefault(name, number(value))
            elements = self._split(own)
        else:
            for name, value in {**self.defaults, **self._explicit}.items():
                if name not in self._lent:
                    group.setdefault(name, value)
            elements = self._chain_for(group)
        for name in self._explicit:
            group.setdefault(name, self._explicit[name])
        if scale is not None and "lr" in group and "lr" not in given:
            group["lr"] = group["lr"] * scale
        for name, leader in self.follows.items():
            if name in group and group[name] is None:
                group[name] = hyperparameters.as_read(group[leader])
        explicit = {*given, *self._explicit, *defaults}
        binding = bind(elements, group, kept_in or self._state_dtype)
        bound = BoundGroup(len(self.param_groups), group, binding, explicit)
        bound.own_chain = own is not None
        if own is None:
            self._check_declared(group)
        self._check_slips(bound, (*given, *defaults))
        bound.fill_defaults()
        self._add(group, bound)
        self._lend(group, own is not None)

    def _check_declared(self, group: dict[str, Any]) -> None:
        """See that hypers are of the kind, and tuples of the length, that the optimizer declares."""
        for name, default in self._declared().items():
            value = group.get(name, default)
            hyperparameters.check_kind(name, value, default)
            if isinstance(default, tuple):
                hyperparameters.check_length(name, value, len(default), len(default))

    def _lend(self, group: dict[str, Any], own_chain: bool) -> None:
        """Have the defaults name a group's hypers: schedulers look for lr, betas and momentum there."""
        for name in group:
            if name not in (*NOT_HYPERS, *TORCHS_FLAGS, *self.defaults):
                self.defaults[name] = group[name]
                if own_chain:
                    self._lent.add(name)
            elif not own_chain:
                self._lent.discard(name)
        if "betas" in self.defaults:
            self.param_groups[:] = [
                g if "betas" in g or isinstance(g, Group) else Group(g) for g in self.param_groups
            ]
            self._current()

    def _add(self, group: dict[str, Any], bound: BoundGroup) -> None:
        """torch's own check and registration, undone where the chain does not fit a parameter."""
        ours = {"lr", *TORCHS_FLAGS, *group}
        ours |= {name for w in self._wrappers for name in w.group_defaults()}
        self._check_differentiable(bound, self._wrappers)
        if self.refuses_twice:
            refuse_twice(group, len(self.param_groups))
        defaults = self.defaults
        if bound.differentiable:  # torch looks there whether parameters have to be leaves
            self.defaults = {**defaults, "differentiable": True}
        try:
            super().add_param_group(group)
        except ValueError as e:
            raise ValueError(f"{e}{self._given_before(group)}") from e
        finally:
            self.defaults = defaults
        bound.group = added = self.param_groups[-1]
        # torch gives every group all defaults: other chains' too
        for name in set(self.defaults) & set(added) - ours:
            if not bound.binding.knows_hyper(name):
                del added[name]
        try:
            check_rank(bound)
            check_complex(bound)
        except ChainError:
            self.param_groups.pop()
            raise
        too_coarse = _too_coarse(bound) if not any(map(_too_coarse, self._bound)) else ""
        self._bound.append(bound)
        if too_coarse:
            warnings.warn(WeftWarning(too_coarse), stacklevel=depth_of_user())
        if not bound.binding.writes_p:
            warnings.warn(_nothing_written(bound.binding), stacklevel=depth_of_user())
        for doubt in bound.binding.doubts if not self._wrappers else ():  # these write states too
            warnings.warn(WeftWarning(doubt), stacklevel=depth_of_user())

    def _given_before(self, group: dict[str, Any]) -> str:
        """The first parameter of `group` that another group has, in words."""
        held = {p for g in self.param_groups for p in g["params"]}
        for i, p in enumerate(group["params"]):
            if isinstance(p, torch.Tensor) and p in held:
                return f": parameter {describe(group, len(self.param_groups), i)}"
        return ""

    def _current(self) -> list[BoundGroup]:
        """The groups with their chains, bound again where an option that selects callbacks changed."""
        if len(self._bound) != len(self.param_groups):
            raise StepError(
                f"{len(self.param_groups)} param_groups, but chains for {len(self._bound)}: add a "
                "group with add_param_group, not by appending to the list"
            )
        for i, (bound, group) in enumerate(zip(self._bound, self.param_groups, strict=True)):
            bound.group, bound.index = group, i
            if self.chain_options and not bound.own_chain:
                self._select(bound)
        return self._bound

    def _reselects(self) -> bool:
        """Whether an option that was set since the last step selects another chain."""
        if not self.chain_options:
            return False
        for bound in self._bound:
            if not bound.own_chain:
                was = bound.binding
                self._select(bound)
                if bound.binding is not was:
                    return True
        return False

    def _loaded(self, bound: BoundGroup, group: dict[str, Any]) -> BoundGroup:
        """`bound` as it is once `group` has been loaded: its options may select another chain."""
        new = BoundGroup(bound.index, group, bound.binding, bound.given)
        new.had |= bound.had
        new.left |= bound.left
        if self.chain_options and not bound.own_chain:
            self._select(new)
        return new

    def _select(self, bound: BoundGroup) -> None:
        chosen, was = [bound.group[name] for name in self.chain_options], bound.chosen
        if was and all(a is b or _selects_alike(a, b) for a, b in zip(chosen, was, strict=True)):
            return
        elements = self._chain_for(bound.group)
        if elements != bound.elements:
            bound.binding = bind(elements, bound.group, bound.binding.state_dtype)
            bound.fill_defaults()
        in_place = any(isinstance(c, torch.Tensor) for c in chosen)  # its number may change unseen
        bound.chosen = [] if in_place else chosen

    def _check_hypers(self, hypers: Mapping[str, Any]) -> None:
        """Refuse a hyper that no chain of this optimizer can read."""
        known: set[str] = set()
        for b in self._bound:
            known |= {*b.binding.hyper_names, *b.binding.shared}
        for name in hypers:
            if name in (*ORIGINAL_NAMES, *TORCHS_FLAGS) or name in self._accepted():
                continue
            if not any(b.binding.knows_hyper(name) for b in self._bound):
                raise ChainError(
                    f"unknown hyper {name!r}: no callback of the chain reads it"
                    f"{did_you_mean(name, known)}; the chain reads {sorted(known)}; see "
                    "docs/limits.md#names-that-nobody-reads"
                )

    @staticmethod
    def _check_differentiable(bound: BoundGroup, wrappers: list[Wrapper]) -> None:
        """Refuse wrappers where steps run under autograd: they write, or swap, what graphs need."""
        if wrappers and bound.differentiable:
            name = type(wrappers[0]).__name__
            raise ChainError(
                f"{name} works around the step, outside of autograd, so that gradients through it "
                "would be wrong: leave differentiable=True, or the wrapper, out; "
                "see docs/limits.md#gradients-through-steps"
            )

    def _check_slips(self, bound: BoundGroup, given: Iterable[str]) -> None:
        """Refuse what a group or its chain gives where it misses a hyper by a letter.

        Other keys that no callback reads are the user's own: schedulers and trainers add some.
        """
        known = {*bound.binding.hyper_names, *bound.binding.shared, *ORIGINAL_NAMES}
        known |= {name for w in self._wrappers for name in w.group_defaults()}
        if not bound.own_chain:
            known |= {*self._accepted(), *self._explicit}
        for name in given:
            if name not in known and not bound.binding.knows_hyper(name):
                meant = slip_of(name, known)
                if meant is not None:
                    raise ChainError(
                        f"group {bound.index} has {name!r}, which no callback of its chain reads: "
                        f"did you mean {meant!r}? The chain reads {sorted(bound.binding.hyper_names)}; "
                        "see docs/limits.md#names-that-nobody-reads"
                    )

    def _declared(self) -> Mapping[str, Any]:
        """The hypers whose kind and length the constructor declares, with its defaults."""
        return {}

    def _accepted(self) -> tuple[str, ...]:
        """Keywords that the constructor takes though no callback reads them."""
        return self.chain_options


def _selects_alike(a: Any, b: Any) -> bool:
    """Whether two values of an option certainly select the same chain: numbers by being zero or not."""
    return type(a) is type(b) is float and (a != 0) is (b != 0)


def _too_coarse(bound: BoundGroup) -> str:
    """The warning for states that 16 bits are too few for; empty where there is none."""
    states, chosen = bound.binding.states, bound.binding.state_dtype
    names = [n for n, s in states.items() if s.outgrows_16_bits]
    kept = {chosen or p.dtype for p in bound.params} & {torch.bfloat16, torch.float16}
    if not names or not kept:
        return ""
    owner = next(c.spec for c in bound.binding.calls if names[0] in c.spec.states)
    return (
        f"{owner.where} measures by {names[0]!r}, in {kept.pop()}, how far parameters have come: first "
        "steps are rounded away in 16 bits. state_dtype=torch.float32 keeps states in float32, and a "
        "larger first distance moves 16-bit parameters: see docs/limits.md#16-bits"
    )


def _nothing_written(binding: Binding) -> WeftWarning:
    """The warning for a chain that cannot change a parameter."""
    names = ", ".join(c.name for c in binding.calls)
    return WeftWarning(
        f"no callback of this chain writes the parameter ({names}): nothing is subtracted "
        "implicitly; end it with one that applies the update, such as weft.callbacks.descend"
    )
