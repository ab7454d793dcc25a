"""Optimizer: groups, state, step. The original class, as a `torch.optim.Optimizer`."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch

from weft.callback import number
from weft.contract import hyperparameters
from weft.contract.bind import bind
from weft.contract.declare import as_dtype
from weft.contract.groups import (
    BoundGroup,
    as_groups,
    check_loss,
)
from weft.contract.roles import check_wrappers
from weft.contract.sparse import check_grads
from weft.engine import engine_named
from weft.engine.explain import html
from weft.errors import StepError
from weft.optimizer import amp, nonfinite, older
from weft.optimizer.fastai_api import Original
from weft.optimizer.group_chains import Chained
from weft.optimizer.hooks import hooked
from weft.optimizer.state_dict import load
from weft.optimizer.stats import Watched
from weft.wrapper import TRAIN_MODE, Wrapper, around, in_words

__all__ = ["Optimizer"]


class LeftOut(Exception):
    """A step that on_nonfinite="skip" leaves out, on its way out of the wrappers."""


class Optimizer(Original, Watched, Chained):
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
        differentiable: the step runs under autograd, eagerly and out of place, for gradients through
            steps: to hypers that are tensors, to grads, to earlier parameters. The parameters are
            then clones, not leaves; a group may set its own. A wrapper is refused, and so is a
            callback that leaves autograd.
        capturable: steps can be captured in a CUDA graph: the count of steps is kept on the GPU, and
            so is an lr that is a tensor there. Changes of hypers that are Python's numbers are not
            seen by a graph. On a CPU it changes nothing.
        state_dtype: what states are kept in that declare no dtype of their own, such as
            `torch.float32` beside bfloat16 parameters; the parameter's where it is None. A group
            may have its own.
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

    _on_nonfinite = "keep"

    def __init__(
        self,
        params: Any,
        cbs: Iterable[Any] = (),
        *,
        engine: str = "auto",
        on_nonfinite: str = "keep",
        differentiable: bool = False,
        capturable: bool = False,
        state_dtype: torch.dtype | str | None = None,
        **hypers: Any,
    ):
        self.on_nonfinite = on_nonfinite
        self._skips = nonfinite.Skips()
        self._engine = engine_named(os.environ.get("WEFT_ENGINE") or engine)
        self._bound: list[BoundGroup] = []
        self._wrappers: list[Wrapper] = []
        self._lent: set[str] = set()  # defaults that only groups with chains of their own have
        self._default_chain = self._split(cbs)
        given = dict(getattr(cbs, "defaults", {}))
        chosen = given.pop("state_dtype", None)
        self._state_dtype = as_dtype(chosen if state_dtype is None else state_dtype)
        for name, flag in (("differentiable", differentiable), ("capturable", capturable)):
            if flag or name in self._accepted():
                hypers[name] = flag
        self._explicit = {k: number(v) for k, v in hypers.items()}
        self.frozen_idx = 0
        defaults = {**given, **self._explicit}
        hyperparameters.validate(defaults)
        hyperparameters.refuse_nan(defaults)
        super().__init__(as_groups(params), defaults)
        self._check_hypers(self._explicit)
        for bound in self._bound:
            if not bound.own_chain:
                self._check_slips(bound, getattr(cbs, "defaults", ()))
        for wrapper in self._wrappers:
            self._give_group_defaults(wrapper)

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
            StepError: names the callback, the parameter, and how many had already stepped; or in
                evaluation mode, where a wrapper is around the step; or where a GradScaler takes the
                step and the closure calls backward.
            NonFiniteError: with on_nonfinite="raise"; nothing has been stepped.
        """
        run: Callable[..., Any] = self._step
        if self._wrappers and not self.training:
            raise StepError(EVALUATING)
        for wrapper in reversed(self._wrappers):
            run = around(wrapper, self, run)
        was = torch.is_grad_enabled()
        try:  # around both: an interrupt may come as soon as the first has returned
            torch._C._set_grad_enabled(False)  # torch.no_grad() takes 2 us
            if closure is not None:
                closure = amp.guarded(self, closure)
            found_inf = amp.found_inf(self)
            if found_inf is not None and not self._leaves_out and found_inf:
                return loss
            amp.unscale(self)
            if self._wrappers and self._on_nonfinite != "keep":
                return self._looked(run, closure, loss)
            return run(closure, loss)
        finally:
            torch._C._set_grad_enabled(was)

    def _step(self, closure: Callable[[], Any] | None, loss: Any) -> Any:
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        left_out = amp.found_inf(self)
        if left_out is not None and not self._leaves_out:
            left_out = None
        plain = loss is None and left_out is None and self._on_nonfinite == "keep"
        if plain and self._engine.again(self.param_groups, self.state, self._reselects):
            return None
        groups = self._current()
        if loss is None:
            check_loss(groups, loss)
        if self._on_nonfinite == "skip" and self._leaves_out:
            bad = self._skips.decide(groups)
            left_out = bad if left_out is None or bad is None else torch.maximum(left_out, bad)
        elif self._on_nonfinite != "keep" and not self._finite(groups):  # also after wrappers
            return loss
        self._engine.step(groups, self.state, loss, left_out)
        return loss

    @property
    def _leaves_out(self) -> bool:
        """Whether the device may leave a step out without the host's knowing."""
        return not self._wrappers and self._engine.leaves_out

    def _looked(self, run: Callable[..., Any], closure: Callable[[], Any] | None, loss: Any) -> Any:
        """A step inside wrappers; of grads that are not finite no wrapper sees anything."""
        losses: list[Any] = []  # of all evaluations; a step's is that of the first

        def evaluated() -> Any:
            assert closure is not None
            losses.append(closure())
            with torch.no_grad():
                if not self._finite(self._current()):
                    raise LeftOut
            return losses[-1]

        if closure is None:
            return run(None, loss) if self._finite(self._current()) else loss
        try:
            return run(evaluated, loss)
        except LeftOut:
            return losses[0]

    def _finite(self, groups: list[BoundGroup]) -> bool:
        """Whether to take this step, as far as its grads go."""
        check_grads(groups)
        names = nonfinite.culprits(groups)
        if names and self._on_nonfinite == "raise":
            raise nonfinite.refusal(names)
        if names:
            self._skips.add(tuple(names))
        return not names

    @property
    def skipped_steps(self) -> int:
        """How many steps on_nonfinite="skip" has left out."""
        return self._skips.steps

    @skipped_steps.setter
    def skipped_steps(self, steps: int) -> None:
        self._skips = nonfinite.Skips(steps, self._skips.names)

    @property
    def nonfinite(self) -> tuple[str, ...]:
        """The parameters for which it left out the last of them."""
        return self._skips.names

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
        """Put the weights to train with in place: a no-op unless a wrapper is around the step."""
        if not self.training:
            with torch.no_grad():
                for wrapper in reversed(self._wrappers):  # the last to swap is the first to undo it
                    wrapper.train(self)
            self._note_mode(True)

    def eval(self) -> None:
        """Put the weights to evaluate with in place: a no-op unless a wrapper is around the step.

        The mode is part of the state dict. A step in it is an error, until `train()`.
        """
        if self.training:
            with torch.no_grad():
                for wrapper in self._wrappers:
                    wrapper.eval(self)
            self._note_mode(False)

    @property
    def training(self) -> bool:
        """Whether the weights in place are those to train with."""
        return all(group.get(TRAIN_MODE, True) for group in self.param_groups)

    def _note_mode(self, training: bool) -> None:
        for group in self.param_groups if self._wrappers else ():
            group[TRAIN_MODE] = training

    def wrap(self, wrapper: Wrapper) -> "Optimizer":
        """Put a wrapper around this optimizer's step, outside those that it has; returns itself.

        Raises:
            ChainError: where one of its kind is there.
        """
        check_wrappers([wrapper, *self._wrappers])
        for bound in self._bound:
            self._check_differentiable(bound, [wrapper])
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
        """The plan: what callbacks read, write and reduce, kernels, bytes moved, what falls back.

        Before the first step it traces the chain, without a step.
        """
        plan = self._engine.explain(self._current(), self.state)
        plan.replaced = list(self._replaced)
        plan.wrappers = [in_words(w, self.param_groups[0]) for w in self._wrappers]
        return plan

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
            "_replaced",
            "_wrappers",
            "frozen_idx",
            "skipped_steps",
            "nonfinite",
            "_on_nonfinite",
            "_state_dtype",
        )
        extra = {k: self.__dict__[k] for k in self.__dict__ if k not in NOT_PICKLED and k[0] != "_"}
        return {
            **extra,
            **{k: getattr(self, k) for k in kept},
            **super().__getstate__(),
            "_engine_name": self._engine.name,
            "_bound_as": [
                (b.given, b.own_chain, b.elements, b.binding.state_dtype) for b in self._bound
            ],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = {k: v for k, v in state.items() if k != "_training"}  # as older pickles have it
        skipped = state.pop("skipped_steps", 0), state.pop("nonfinite", ())
        self._skips = nonfinite.Skips(*skipped)
        engine, bound = state.pop("_engine_name", None), state.pop("_bound_as", None)
        super().__setstate__(state)
        if engine is not None:
            self._engine = engine_named(engine)
        if bound is not None:
            self._bound = []
            for i, (given, own_chain, elements, *kept_in) in enumerate(bound):
                group = self.param_groups[i]
                binding = bind(elements, set(group).difference(older.MOVED), *kept_in)
                self._bound.append(BoundGroup(i, group, binding, set(given)))
                self._bound[-1].own_chain = own_chain
        for bound in self._current():
            owns = [self.state[p] for p in bound.params if p in self.state]
            older.complete(bound.binding, bound.group, owns, self._wrappers)

    def __repr__(self) -> str:
        chains = [", ".join(c.name for c in b.binding.calls) for b in self._bound]
        lines = super().__repr__().split("\n")
        for i, chain in enumerate(chains):
            at = lines.index(f"Parameter Group {i}")
            lines.insert(at + 1, f"    callbacks: {chain}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """A table of the groups, which notebooks show."""
        hypers = [dict(own) for own in self.hypers]
        names = list(dict.fromkeys(name for own in hypers for name in own))
        rows = [
            (
                b.index,
                ", ".join(c.name for c in b.binding.calls),
                f"{len(b.params)} of {sum(p.numel() for p in b.params):,} elements",
                *(own.get(name, "") for name in names),
            )
            for b, own in zip(self._bound, hypers, strict=True)
        ]
        around = "".join(f", in {wrapper!r}" for wrapper in reversed(self._wrappers))
        head = ("group", "chain", "parameters", *names)
        return html.table(head, rows, type(self).__name__ + around)


EVALUATING = (
    "the parameters are those to evaluate at: call opt.train() before the next step, as you called "
    "opt.eval() before evaluating; a state dict holds the mode too. Nothing has been stepped; see "
    "docs/limits.md#evaluation-mode"
)
NOT_PICKLED = ("defaults", "state", "param_groups", "step")  # schedulers put a patched step there
