"""Steps of parameters whose grad is sparse."""

from collections.abc import Mapping, MutableMapping
from typing import Any

import torch

from weft.contract.groups import BoundGroup
from weft.engine.eager.param_step import ParamStep

__all__ = ["DenseStep", "EntriesStep"]


class DenseStep(ParamStep):
    """A step on the gradient made dense, for chains that move what has none."""

    __slots__ = ()

    def _open(self) -> None:
        grad = self.p.grad
        assert grad is not None
        self.p.grad = grad.to_dense()
        super()._open()
        self.user_grad = grad
        if self.work is not self.p:
            self.p.grad = grad


class EntriesStep(ParamStep):
    """A step of the entries that have a gradient, as a parameter of their own.

    Only where state is filled, in the first step, is it a step of the whole: of the parameter, then,
    the same entries are taken.
    """

    __slots__ = ("fills", "own_of_all", "parameter", "where")

    def __init__(
        self,
        bound: BoundGroup,
        i: int,
        p: torch.Tensor,
        state: MutableMapping[torch.Tensor, dict[str, Any]],
        loss: Any,
        shared: dict[tuple[int, str], Any],
        known: Mapping[str, Any],
    ):
        assert p.grad is not None
        grad = p.grad.coalesce()
        self.parameter, self.where, self.own_of_all = p, tuple(grad.indices()), state.get(p, {})
        self.fills = bound.binding.keeps_step and not self.own_of_all["step"]
        own = {k: self._entries(v) for k, v in self.own_of_all.items()}
        entries = p.detach().clone() if self.fills else p.detach()[self.where]
        entries.grad = grad.to_dense() if self.fills else grad.values()
        super().__init__(bound, i, entries, {entries: own}, loss, shared, known)

    def _entries(self, value: Any) -> Any:
        return value[self.where] if self._is_entries(value) else value

    def _is_entries(self, held: Any) -> bool:
        """Whether this step takes the entries of a state."""
        like = isinstance(held, torch.Tensor) and held.shape == self.parameter.shape
        return like and not self.fills

    def _store(self) -> None:
        super()._store()
        self.parameter.detach()[self.where] = self.p[self.where] if self.fills else self.p
        for name, value in self.own.items():
            if self._is_entries(self.own_of_all.get(name)):
                self.own_of_all[name][self.where] = value
            else:
                self.own_of_all[name] = value
