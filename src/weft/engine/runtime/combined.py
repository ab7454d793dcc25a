"""Values over all parameters: the members' parts, combined, and put where chains read the result.

What is asked of a plan is asked once: a step that repeats the last one only computes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from weft.contract.groups import BoundGroup
from weft.engine.runtime.cohort import Cohort
from weft.engine.storage import given_to

__all__ = ["Combined"]

OPS = {"sum": torch.sum, "max": torch.amax, "min": torch.amin}

Which = slice | torch.Tensor


@dataclass
class Scope:
    """Whose parts are combined: a parameter group's, or all."""

    op: str
    wide: bool = False
    of: list[tuple[Cohort, Which]] = field(default_factory=list)
    members: list[int] = field(default_factory=list)  # their places in the active set

    @cached_property
    def order(self) -> torch.Tensor | None:
        """That of the parameters; None where the parts are in it."""
        order = sorted(range(len(self.members)), key=self.members.__getitem__)
        if order == list(range(len(order))):
            return None
        return given_to(self.device, torch.tensor(order, device="cpu"))

    @property
    def device(self) -> torch.device:
        """Where it is combined."""
        return self.of[0][0].values.device

    def value(self, parts: dict[Cohort, torch.Tensor]) -> torch.Tensor:
        """The combined value: in double, and rounded."""
        several = [parts[w][which].to(self.device) for w, which in self.of]
        values = several[0] if len(several) == 1 else torch.cat(several)
        value = OPS[self.op](values if self.order is None else values[self.order])
        return value if self.wide else value.to(torch.float32)


class Combined:
    """A value over the members of some cohorts, which all wait for it."""

    def __init__(self, name: str, cohorts: Sequence[Cohort]):
        self.name = name
        self.parts = {w: w.combines[name] for w in cohorts}
        self.takers: list[tuple[Any, BoundGroup, Cohort, Which]] = []
        scopes: dict[Any, Scope] = {}
        for w, o in self.parts.items():
            for bound, some in w.by_group:
                over = next(c.over for c in bound.binding.calls if c.over and c.over.name == name)
                scope = bound.index if over.scope == "group" else None
                which = slice(None) if len(w.by_group) == 1 else some
                held = scopes.setdefault(scope, Scope(over.op))
                held.wide = held.wide or o.node.dtype is torch.float64
                held.of.append((w, which))
                held.members += [
                    i
                    for i, m in zip(w.indices, w.members, strict=True)
                    if m.bound.index == bound.index
                ]
                self.takers.append((scope, bound, w, which))
        self.scopes = scopes

    def run(self, over: dict[Cohort, dict[tuple[int, str], torch.Tensor]]) -> None:
        """Combine the parts of all members; give every cohort the result."""
        parts = {w: w.parts(o) for w, o in self.parts.items()}
        values = {scope: of.value(parts) for scope, of in self.scopes.items()}
        for scope, bound, w, which in self.takers:
            value = values[scope].to(w.values.device)
            over[w][bound.index, self.name] = value
            for place in w.taken_at.get(self.name, ()):
                w.values[which, place] = value.double()
