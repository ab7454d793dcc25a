"""What training looks like from the optimizer: norms of parameters, grads and updates."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from weft.engine.eager.norms import Norms, norms_now

__all__ = ["Watched"]


class Watched:
    """The part of an optimizer that tells what its steps do."""

    if TYPE_CHECKING:  # what an optimizer brings
        param_groups: list[dict[str, Any]]
        _engine: Any

    def collect_stats(self, on: bool = True) -> None:
        """Have each step compute its norms, in the pass that it makes anyway; or stop that.

        Args:
            on: whether to; a copy or a pickle of the optimizer starts without.
        """
        if on != self.collects_stats:
            self._engine.norms = {} if on else None

    @property
    def collects_stats(self) -> bool:
        """Whether steps compute their norms."""
        return self._engine.norms is not None

    def stats(self) -> dict[Any, dict[str, float]]:
        """The norms of the last step, in double.

        Returns:
            For each parameter that the step updated, by its name where the optimizer was given
            names and by its index otherwise, and for all of them together under "global":
            `param_norm` after the step, `grad_norm` as the step found the grad, and `update_norm`
            of what the step changed. Where no step has been seen, because nothing was collected so
            far, it is what can be said now: `update_norm` is nan; from here on steps collect.

        >>> import torch, weft
        >>> p = torch.nn.Parameter(torch.tensor([3.0, 4.0])); p.grad = torch.ones(2) / 2**0.5
        >>> opt = weft.SGD([("w", p)], lr=0.5)
        >>> opt.collect_stats(); opt.step()
        >>> {k: round(v, 3) for k, v in opt.stats()["w"].items()}
        {'param_norm': 4.506, 'grad_norm': 1.0, 'update_norm': 0.5}
        """
        self.collect_stats()
        seen: dict[torch.Tensor, Norms] = self._engine.norms
        if not seen:
            seen = {p: norms_now(p) for _, p in self._named() if p.grad is not None}
        out: dict[Any, dict[str, float]] = {}
        for key, p in self._named():
            if p in seen:
                out[key] = dict(zip(Norms._fields, map(float, seen[p]), strict=True))
        rows = list(out.values())
        out["global"] = {name: math.hypot(*(r[name] for r in rows)) for name in Norms._fields}
        return out

    def _named(self) -> Iterator[tuple[Any, torch.Tensor]]:
        """Every parameter, with its name or, where there are none, its place among all."""
        index = 0
        for group in self.param_groups:
            names = group.get("param_names")
            for i, p in enumerate(group["params"]):
                yield (names[i] if names else index), p
                index += 1
