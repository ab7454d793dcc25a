"""The original's interface: parameters by group, hypers for all, freezing, forgetting."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from weft.callback import number
from weft.contract import hyperparameters
from weft.contract.groups import ALIASES, BoundGroup, Hypers
from weft.errors import did_you_mean

__all__ = ["Original"]

KEPT_BY_CLEAR = ("force_train", "do_wd")  # what the original's Learner writes into the state


class Original:
    """What fastai's Learner asks of an optimizer, so that it drives this one unchanged."""

    if TYPE_CHECKING:  # what an optimizer brings
        state: Any
        param_groups: list[dict[str, Any]]
        frozen_idx: int

        def _current(self) -> list[BoundGroup]: ...

    def all_params(
        self, n: slice | int = slice(None), with_grad: bool = False
    ) -> Iterator[tuple[torch.Tensor, list, dict, Hypers]]:
        """Yield `(p, pg, state, hyper)` for every parameter of the groups `n`.

        Args:
            n: which groups: a slice or an index.
            with_grad: only the parameters that have a grad.
        """
        bounds = self._current()[n] if isinstance(n, slice) else [self._current()[n]]
        for bound in bounds:
            hyper = Hypers(bound)
            for p in bound.params:
                if not with_grad or p.grad is not None:
                    yield p, bound.params, self.state[p], hyper

    @property
    def hypers(self) -> list[Hypers]:
        """The hypers of each group, live: what is written into them is used by the next step."""
        return [Hypers(b) for b in self._current()]

    def set_hypers(self, **hypers: Any) -> None:
        """Set several hypers; see `set_hyper`."""
        spread = {k: self._spread(k, v) for k, v in hypers.items()}
        for name, values in spread.items():
            self._assign(name, values)

    def set_hyper(self, name: str, value: Any) -> None:
        """Set a hyper of all groups.

        Args:
            name: a hyper of the chain; `lr`, `mom`, `sqr_mom` and `wd` are always taken.
            value: a number for all; a list or array, one a group; `slice(a, b)`, spread
                geometrically from the first group to the last; `slice(b)`, `b / 10` for all but
                the last. A tuple is one value where the hyper is a tuple.

        Raises:
            ValueError: for a list of another length than there are groups, or an unknown name.
        """
        self._assign(name, self._spread(name, value))

    def _spread(self, name: str, value: Any) -> list[Any]:
        """One value a group."""
        views, n = self.hypers, len(self.param_groups)
        if (
            name not in ALIASES
            and name != "lr"
            and not any(name in v or v.bound.binding.knows_hyper(name) for v in views)
        ):
            known = {k for v in views for k in v}
            raise ValueError(f"unknown hyper {name!r}{did_you_mean(name, known)}")
        if isinstance(value, slice):
            values = hyperparameters.spread(value, n)
        elif getattr(value, "ndim", 0) and not (
            isinstance(value, torch.Tensor) and len(value) == 1
        ):
            values = value.tolist()  # an array, or a tensor that is more than one number
        elif isinstance(value, tuple) and any(isinstance(v.get(name), tuple) for v in views):
            nested = len(value) == n and all(isinstance(v, tuple) for v in value)
            values = list(value) if nested else [value] * n
        elif isinstance(value, Sequence) and not isinstance(value, str):
            values = list(value)
        else:
            values = [value] * n
        if len(values) != n:
            raise ValueError(
                f"hyper {name!r} got {len(values)} values for {n} parameter groups: give one a "
                "group, or a single one for all"
            )
        return [number(v) for v in values]

    def _assign(self, name: str, values: Sequence[Any]) -> None:
        for view, value in zip(self.hypers, values, strict=True):
            view[name] = value

    def freeze_to(self, n: int) -> None:
        """Train only the groups from `n` on; parameters whose state says `force_train` stay."""
        count = len(self.param_groups)
        if not -count <= n < count:
            raise ValueError(f"freeze_to({n}): there are only {count} parameter groups")
        self.frozen_idx = n % count
        for i, group in enumerate(self.param_groups):
            for p in group["params"]:
                forced = p in self.state and self.state[p].get("force_train", False)
                p.requires_grad_(i >= self.frozen_idx or forced)

    def freeze(self) -> None:
        """Train only the last group."""
        if len(self.param_groups) < 2:
            raise ValueError("freeze() needs more than one parameter group: give a list of lists")
        self.freeze_to(-1)

    def unfreeze(self) -> None:
        """Train all groups."""
        self.freeze_to(0)

    def clear_state(self) -> None:
        """Forget all state but `force_train` and `do_wd`, and what the groups share."""
        for p in list(self.state):
            kept = {k: v for k, v in self.state[p].items() if k in KEPT_BY_CLEAR}
            if kept:
                self.state[p] = kept
            else:
                del self.state[p]
        for bound in self._current():
            for name, declared in bound.binding.shared.items():
                bound.group[name] = declared.init
