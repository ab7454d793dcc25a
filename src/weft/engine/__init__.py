"""What runs a bound chain: the eager loop, and the kernels that are held to it."""

import textwrap
import warnings
from collections.abc import Callable, MutableMapping
from typing import Any

import torch

from weft.contract.bind import Binding
from weft.contract.groups import BoundGroup
from weft.contract.sparse import check_grads, has_sparse
from weft.engine.eager import loop
from weft.engine.eager.infer_state import init_state
from weft.engine.eager.norms import Norms
from weft.engine.empty import norms_of_empty
from weft.engine.explain.table import Explanation, explain
from weft.errors import NoNumber, SparseGrads, StepError, WeftWarning, depth_of_user

__all__ = ["Engine", "Explanation", "engine_named"]

NAMES = ("auto", "fused", "eager")
MOST_SAID = 400  # characters of a reason


class Engine:
    """Runs the steps of one optimizer.

    Attributes:
        fallen: `(callback, file, line, reason)` of each chain that runs eagerly.
        norms: those of the last step, where they are collected; None where they are not.
    """

    def __init__(self, name: str):
        self.name = name
        self.fused: Any = None
        self.norms: dict[torch.Tensor, Norms] | None = None
        self.fallbacks: dict[Any, tuple[str, str, int, str]] = {}
        self._pending_warnings: list[str] = []
        self._warned: set[str] = set()  # why single steps ran eagerly
        self._disabled_reason = ""  # why no chain at all runs fused
        self._sparse = False  # whether there have been sparse grads, which kernels do not take

    @property
    def _fuses(self) -> bool:
        return self.name != "eager"

    def again(
        self, groups: list[dict[str, Any]], state: MutableMapping, reselects: Callable[[], bool]
    ) -> bool:
        """The last step once more, where that is all there is to do; False where `step` has to look.

        `reselects` says whether hypers that were replaced select another chain.
        """
        fused = self.fused
        if (
            fused is None
            or self.norms is not None
            or self.fallbacks
            or self._disabled_reason
            or self._sparse
        ):
            return False
        replay = fused.replay
        return replay is not None and replay.run(groups, state, reselects)

    @property
    def leaves_out(self) -> bool:
        """Whether the device itself can leave a step like the last one out."""
        fused = self.fused
        return fused is not None and fused.leaves_out and not self.fallbacks

    def step(
        self,
        groups: list[BoundGroup],
        state: MutableMapping,
        loss: Any,
        left_out: torch.Tensor | None = None,
    ) -> None:
        """One step of every parameter that has a grad; state is made first where it is missing.

        Where `left_out` is not 0 nothing changes.
        """
        if self.norms is not None:
            self.norms.clear()
            self.norms.update(norms_of_empty(groups))
        if not self._fuses or any(g.differentiable for g in groups):
            if left_out is not None and left_out:
                return
            check_grads(groups)
            init_state(groups, state)
            loop.step(groups, state, loss, self.norms)
            return
        before = self.fallbacks.copy(), self._disabled_reason
        slow = self._step_fused(groups, state, loss, left_out)
        if slow and (left_out is None or not left_out):
            init_state(slow, state)
            try:
                loop.step(_only(groups, slow), state, loss, self.norms)
            except Exception:  # what fails eagerly too may run fused once that is mended
                self.fallbacks, self._disabled_reason = before
                self._warned.clear()
                self._pending_warnings.clear()
                raise
        while (
            self._pending_warnings
        ):  # after the step: a chain that fails eagerly too has an error to tell
            warnings.warn(WeftWarning(self._pending_warnings.pop()), stacklevel=depth_of_user())

    def _step_fused(
        self,
        groups: list[BoundGroup],
        state: MutableMapping,
        loss: Any,
        left_out: torch.Tensor | None,
    ) -> list[BoundGroup]:
        """Step what kernels can; gives the groups that are left to the eager loop."""
        if self.fused is None:
            from weft.engine.runtime.fused import Fused  # the eager loop needs none of it

            self.fused = Fused()
        while True:
            fast = groups
            if self.fallbacks or self._disabled_reason or self._sparse:
                fast = [] if self._disabled_reason else self._fused_groups(groups)
                check_grads(groups)  # all of them: kernels look at their own only
            if not fast:
                break
            try:
                self.fused.step(groups, fast, state, loss, self.norms, left_out)
                break
            except SparseGrads:
                self._sparse = True
            except NoNumber as e:
                if self.name == "fused":
                    raise StepError(f"a number of this step cannot be computed: {e}") from e
                self._warn_once(str(e))
                return groups  # the eager loop says which callback it was, or gets by
            except self.fused.reasons as e:
                self._record_fallback(e, fast)
        return [g for g in groups if g not in fast]

    def _warn_once(self, reason: str) -> None:
        """Have it said, once for each reason, that a step ran eagerly."""
        if reason not in self._warned:
            self._warned.add(reason)
            self._pending_warnings.append(
                f"a number of this step cannot be computed ({reason}): it ran eagerly"
            )

    def _fused_groups(self, groups: list[BoundGroup]) -> list[BoundGroup]:
        """The groups that run fused, and that share no value over all with one that does not."""
        chain_key, fallbacks = self.fused.chain_key, self.fallbacks
        slow = [
            g
            for g in groups
            if chain_key(g.binding) in fallbacks or (self._sparse and has_sparse(g))
        ]
        names = {
            c.over.name
            for g in slow
            for c in g.binding.calls
            if c.over and c.over.scope == "optimizer"
        }
        return [g for g in groups if g not in slow and not names.intersection(g.binding.over)]

    def _record_fallback(self, e: Exception, groups: list[BoundGroup]) -> None:
        """Note why a chain runs eagerly from now on, to be said once."""
        binding: Binding | None = getattr(e, "binding", None)
        first = (binding or groups[0].binding).calls[0].spec
        name = getattr(e, "callback", "") or first.name
        file, line = getattr(e, "file", "") or first.file, getattr(e, "line", 0) or first.line
        reason = getattr(e, "reason", "") or str(e) or type(e).__name__
        reason = textwrap.shorten(reason, MOST_SAID, placeholder=" ...")
        if self.name == "fused":
            raise StepError(
                f"{name} ({file}:{line}) cannot run fused: {reason}; see "
                "docs/limits.md#only-on-some-engines"
            ) from e
        if binding is None:
            self._disabled_reason = reason
            binding = groups[0].binding
        self.fallbacks[self.fused.chain_key(binding)] = (name, file, line, reason)
        self._pending_warnings.append(
            f"{name} ({file}:{line}) runs eagerly, one parameter at a time: {reason}"
        )

    def explain(self, groups: list[BoundGroup], state: MutableMapping) -> Explanation:
        """The plan in words."""
        out = explain(groups, state)
        out.fallbacks = list(self.fallbacks.values())
        out.eager = not self._fuses or bool(self.fallbacks or self._disabled_reason)
        if self._fuses:
            from weft.engine.explain.kernels import describe  # the eager loop needs none of it

            describe(out, groups, state, self.fused)
        return out

    def kernel_source(self, groups: list[BoundGroup], state: MutableMapping) -> str:
        """The generated code."""
        return self.fused.source() if self.fused is not None else ""


def _only(groups: list[BoundGroup], some: list[BoundGroup]) -> list[BoundGroup]:
    """All groups in their places, those that are not among `some` without parameters."""
    return [g if g in some else _emptied(g) for g in groups]


def _emptied(bound: BoundGroup) -> BoundGroup:
    return BoundGroup(bound.index, {**bound.group, "params": []}, bound.binding, bound.given)


def engine_named(name: str) -> Engine:
    """The engine called "auto", "fused" or "eager".

    Raises:
        ValueError: for another name.
    """
    if name not in NAMES:
        raise ValueError(f"engine must be one of {NAMES}, not {name!r}")
    return Engine(name)
