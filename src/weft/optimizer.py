"""Optimizer: groups, state, step. The original class, as a `torch.optim.Optimizer`."""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch

from weft import hyperparameters, nonfinite, scaler
from weft.binding import ORIGINAL_NAMES, Binding, bind
from weft.callback import number
from weft.engine import engine_named
from weft.errors import ChainError, StepError, WeftWarning, depth_of_user, did_you_mean
from weft.groups import (
    NOT_HYPERS,
    BoundGroup,
    Group,
    as_groups,
    check_grads,
    check_loss,
    check_rank,
    describe,
    refuse_twice,
)
from weft.hooks import hooked
from weft.original import Original
from weft.state_dict import load
from weft.stats import Watched
from weft.wrapper import Wrapper, around

__all__ = ["Optimizer"]


class Optimizer(Original, Watched, torch.optim.Optimizer):
    """A generic optimizer: its step is a list of small callbacks.

    Args:
        params: an iterable of tensors, of `(name, tensor)` pairs or of dicts, or the original's list
            of lists. A dict may carry its own `"cbs"`, so that several algorithms share one
            optimizer, one step and one state dict.
        cbs: the callbacks, `over_params` and wrappers of the step, in order; or a `weft.chain`.
        engine: "auto" runs kernels where it can and the eager loop where it cannot; "fused" raises
            where it cannot; "eager" is the original loop. `WEFT_ENGINE` overrides it.
        on_nonfinite: what a step does where a grad has an infinity or a NaN: "keep" takes it and
            does not look; "skip" leaves the whole step out, and counts it in `skipped_steps`;
            "raise" raises `NonFiniteError`. Looking reads every grad once more. It is an
            attribute, to be changed at any time.
        **hypers: hyperparameters for all groups, such as `lr=0.1`.

    Raises:
        ChainError: where a name of the chain has no provider, a state two, and so on; and for an
            unknown hyper.
        ValueError: torch's own, for an empty list of parameters or one given twice.

    >>> import torch, weft
    >>> def sgd_cb(p, lr, **kwargs): p.data.add_(p.grad.data, alpha=-lr)
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Optimizer([p], cbs=[sgd_cb], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    The idea is fastai's generic optimizer: Howard and Gugger, 2020, arXiv:2002.04688.
    """

    # options of a subclass that select callbacks: a group may set its own, at any time
    chain_options: ClassVar[tuple[str, ...]] = ()
    # whether the same parameter twice in a group is an error; torch's own optimizers warn of it
    refuses_twice: ClassVar[bool] = True

    _on_nonfinite = "keep"
    skipped_steps = 0  # how many steps on_nonfinite="skip" has left out
    nonfinite: tuple[str, ...] = ()  # the parameters for which it left out the last of them

    def __init__(
        self,
        params: Any,
        cbs: Iterable[Any] = (),
        *,
        engine: str = "auto",
        on_nonfinite: str = "keep",
        **hypers: Any,
    ):
        self.on_nonfinite = on_nonfinite
        self._engine = engine_named(os.environ.get("WEFT_ENGINE") or engine)
        self._bound: list[BoundGroup] = []
        self._wrappers: list[Wrapper] = []
        self._lent: set[str] = set()  # defaults that only groups with chains of their own have
        self._default_chain = self._split(cbs)
        self._explicit = {k: number(v) for k, v in hypers.items()}
        self.frozen_idx = 0
        self._training = True
        defaults = {**getattr(cbs, "defaults", {}), **self._explicit}
        hyperparameters.validate(defaults)
        super().__init__(as_groups(params), defaults)
        self._check_hypers(self._explicit)
        for wrapper in self._wrappers:
            self._give_group_defaults(wrapper)

    # ------------------------------------------------------------ chains and groups

    def _split(self, cbs: Iterable[Any]) -> tuple[Any, ...]:
        """The callbacks of a chain; its wrappers go around the optimizer."""
        elements = tuple(cbs)
        self._wrappers += [e for e in elements if isinstance(e, Wrapper)]
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
        hyperparameters.validate(given)
        group = {k: v for k, v in param_group.items() if k in NOT_HYPERS} | given
        own = param_group.get("cbs")
        explicit = set(given)
        if own is not None:
            chain_defaults = dict(getattr(own, "defaults", {}))
            for name, value in chain_defaults.items():
                group.setdefault(name, number(value))
            elements = self._split(own)
        else:
            chain_defaults = {}
            for name, value in {**self.defaults, **self._explicit}.items():
                if name not in self._lent:
                    group.setdefault(name, value)
            elements = self._chain_for(group)
        explicit |= set(self._explicit) | set(chain_defaults)
        for name in self._explicit:
            group.setdefault(name, self._explicit[name])
        if scale is not None and "lr" in group and "lr" not in given:
            group["lr"] = group["lr"] * scale
        bound = BoundGroup(len(self.param_groups), group, bind(elements, group), explicit)
        bound.own_chain = own is not None
        if own is None:
            for name, length in self._lengths().items():
                hyperparameters.check_length(name, group.get(name), length, length)
        bound.fill_defaults()
        self._add(group, bound)
        for name in group:  # schedulers look for lr, betas and momentum in the defaults
            if name not in (*NOT_HYPERS, *self.defaults):
                self.defaults[name] = group[name]
                if own is not None:
                    self._lent.add(name)
            elif own is None:
                self._lent.discard(name)
        if "betas" in self.defaults:
            self.param_groups[:] = [
                g if "betas" in g or isinstance(g, Group) else Group(g) for g in self.param_groups
            ]
            self._current()

    def _add(self, group: dict[str, Any], bound: BoundGroup) -> None:
        """torch's own check and registration, undone where the chain does not fit a parameter."""
        ours = {"lr", "differentiable", *group}
        ours |= {name for w in self._wrappers for name in w.group_defaults()}
        if self.refuses_twice:
            refuse_twice(group, len(self.param_groups))
        try:
            super().add_param_group(group)
        except ValueError as e:
            raise ValueError(f"{e}{self._given_before(group)}") from e
        bound.group = added = self.param_groups[-1]
        # torch gives every group all defaults: other chains' too
        for name in set(self.defaults) & set(added) - ours:
            if not bound.binding.knows_hyper(name):
                del added[name]
        try:
            check_rank(bound)
        except ChainError:
            self.param_groups.pop()
            raise
        self._bound.append(bound)
        if not bound.binding.writes_p:
            warnings.warn(_nothing_written(bound.binding), stacklevel=depth_of_user())

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
        chosen = [bound.group[name] for name in self.chain_options]
        if bound.chosen and all(map(_selects_alike, chosen, bound.chosen)):
            return
        elements = self._chain_for(bound.group)
        if elements != bound.elements:
            bound.binding = bind(elements, bound.group)
            bound.fill_defaults()
        in_place = any(isinstance(c, torch.Tensor) for c in chosen)  # its number may change unseen
        bound.chosen = [] if in_place else chosen

    def _check_hypers(self, hypers: Mapping[str, Any]) -> None:
        """Refuse a hyper that no chain of this optimizer can read."""
        known: set[str] = set()
        for b in self._bound:
            known |= {*b.binding.hyper_names, *b.binding.shared}
        for name in hypers:
            if name in ORIGINAL_NAMES or name in self._accepted():
                continue
            if not any(b.binding.knows_hyper(name) for b in self._bound):
                raise ChainError(
                    f"unknown hyper {name!r}: no callback of the chain reads it"
                    f"{did_you_mean(name, known)}; the chain reads {sorted(known)}"
                )

    def _lengths(self) -> Mapping[str, int]:
        """How long the hypers are that are tuples, as far as the constructor declares them."""
        return {}

    def _accepted(self) -> tuple[str, ...]:
        """Keywords that the constructor takes though no callback reads them."""
        return self.chain_options

    # ------------------------------------------------------------ the step

    @hooked
    def step(self, closure: Callable[[], Any] | None = None, *, loss: Any = None) -> Any:
        """Take one step of every parameter that has a grad.

        Args:
            closure: evaluates the model again and returns the loss.
            loss: the loss, for chains that read it and have no closure.

        Returns:
            The closure's loss, or `loss`.

        Raises:
            StepError: names the callback, the parameter, and how many had already stepped.
            NonFiniteError: with on_nonfinite="raise"; nothing has been stepped.
        """
        run: Callable[..., Any] = self._step
        for wrapper in reversed(self._wrappers):
            run = around(wrapper, self, run)
        was = torch.is_grad_enabled()
        try:  # around both: an interrupt may come as soon as the first has returned
            torch._C._set_grad_enabled(False)  # torch.no_grad() takes 2 us
            return loss if scaler.skips(self) else run(closure, loss)
        finally:
            torch._C._set_grad_enabled(was)

    def _step(self, closure: Callable[[], Any] | None, loss: Any) -> Any:
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        plain = loss is None and self._on_nonfinite == "keep"
        if plain and self._engine.again(self.param_groups, self.state, self._reselects):
            return None
        groups = self._current()
        if loss is None:
            check_loss(groups, loss)
        if self._on_nonfinite == "keep" or self._finite(groups):
            self._engine.step(groups, self.state, loss)
        return loss

    def _finite(self, groups: list[BoundGroup]) -> bool:
        """Whether to take this step, as far as its grads go."""
        check_grads(groups)
        names = nonfinite.culprits(groups)
        if names and self._on_nonfinite == "raise":
            raise nonfinite.refusal(names)
        if names:
            self.nonfinite, self.skipped_steps = tuple(names), self.skipped_steps + 1
        return not names

    @property
    def on_nonfinite(self) -> str:
        """What a step does about grads that are not finite: "keep", "skip" or "raise"."""
        return self._on_nonfinite

    @on_nonfinite.setter
    def on_nonfinite(self, name: str) -> None:
        self._on_nonfinite = nonfinite.policy(name)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the grads; with `set_to_none=False`, detach and zero them in place."""
        super().zero_grad(set_to_none)

    def train(self) -> None:
        """Put the weights to train with in place: a no-op unless a wrapper swaps weights."""
        self._swap(True)

    def eval(self) -> None:
        """Put the weights to evaluate with in place: a no-op unless a wrapper swaps weights."""
        self._swap(False)

    def _swap(self, training: bool) -> None:
        if training != self._training:
            with torch.no_grad():
                for wrapper in self._wrappers:
                    (wrapper.train if training else wrapper.eval)(self)
        self._training = training

    def wrap(self, wrapper: Wrapper) -> "Optimizer":
        """Put a wrapper around this optimizer's step, outside those that it has; returns itself."""
        self._wrappers.insert(0, wrapper)
        self._give_group_defaults(wrapper)
        return self

    @property
    def needs_closure(self) -> bool:
        """Whether `step` has to be given a closure, because a wrapper evaluates the gradient."""
        return any(w.needs_closure for w in self._wrappers)

    def _give_group_defaults(self, wrapper: Wrapper) -> None:
        for name, value in wrapper.group_defaults().items():
            self.defaults.setdefault(name, value)
            for group in self.param_groups:
                group.setdefault(name, value)

    # ------------------------------------------------------------ what it does, in words

    def explain(self) -> Any:
        """The plan: each callback's reads and writes, the kernels, bytes moved, what falls back."""
        return self._engine.explain(self._current(), self.state)

    def kernel_source(self) -> str:
        """The generated code; empty where nothing is generated."""
        return self._engine.kernel_source(self._current(), self.state)

    # ------------------------------------------------------------ state dicts, copies, pickles

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True) -> None:
        """Load what `state_dict` gave, here or in torch.optim.

        Args:
            state_dict: it is copied from, never kept or changed.
            strict: with False, states that are missing are made anew at the next step, and those
                that the chain does not have are left out.

        Raises:
            StateError: names what is missing, unexpected or misshapen; nothing has been loaded.
        """
        load(self, self._current(), state_dict, strict)

    def __getstate__(self) -> dict[str, Any]:
        kept = (
            "_default_chain",
            "_explicit",
            "_lent",
            "_wrappers",
            "_training",
            "frozen_idx",
            "_on_nonfinite",
        )
        extra = {k: self.__dict__[k] for k in self.__dict__ if k not in NOT_PICKLED and k[0] != "_"}
        return {
            **extra,
            **{k: getattr(self, k) for k in kept},
            **super().__getstate__(),
            "_engine_name": self._engine.name,
            "_bound_as": [(b.given, b.own_chain, b.elements) for b in self._bound],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        engine, bound = state.pop("_engine_name", None), state.pop("_bound_as", None)
        super().__setstate__(state)
        if engine is not None:
            self._engine = engine_named(engine)
        if bound is not None:
            self._bound = []
            for i, (given, own_chain, elements) in enumerate(bound):
                group = self.param_groups[i]
                self._bound.append(BoundGroup(i, group, bind(elements, group), set(given)))
                self._bound[-1].own_chain = own_chain

    def __repr__(self) -> str:
        chains = [", ".join(c.name for c in b.binding.calls) for b in self._bound]
        lines = super().__repr__().split("\n")
        for i, chain in enumerate(chains):
            at = lines.index(f"Parameter Group {i}")
            lines.insert(at + 1, f"    callbacks: {chain}")
        return "\n".join(lines)


def _selects_alike(a: Any, b: Any) -> bool:
    """Whether two values of an option certainly select the same chain: numbers by being zero or not."""
    return a is b or (type(a) is type(b) is float and (a != 0) is (b != 0))


NOT_PICKLED = ("defaults", "state", "param_groups", "step")  # schedulers put a patched step there


def _nothing_written(binding: Binding) -> WeftWarning:
    """The warning for a chain that cannot change a parameter."""
    names = ", ".join(c.name for c in binding.calls)
    return WeftWarning(
        f"no callback of this chain writes the parameter ({names}): nothing is subtracted "
        "implicitly; end it with one that applies the update, such as weft.callbacks.descend"
    )
