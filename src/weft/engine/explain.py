"""A plan in words: what each callback reads, writes and keeps, and what it costs."""

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

import torch

from weft.groups import BoundGroup

__all__ = ["Explanation", "explain"]


@dataclass
class Explanation:
    """What a step does; prints as a table.

    Attributes:
        callbacks: a row for each element: name, place, what it reads, what it returns.
        builds: kernels built so far.
        variants: graphs traced so far, one for each outcome of the chain's conditions.
        fallbacks: `(callback name, file, line, reason)` of what runs eagerly.
        kernels: names of the kernels.
        phases: what runs in order, in words; empty before the first step of kernels.
        eager: no kernel is ever going to run.
        bytes_per_parameter: read and written in one step, for one element of a parameter.
        state_bytes_per_parameter: kept between steps, for one element of a parameter.
    """

    callbacks: list[tuple[str, str, str, str]]
    builds: int = 0
    variants: int = 0
    fallbacks: list[tuple[str, str, int, str]] = field(default_factory=list)
    kernels: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    bytes_per_parameter: float = 0.0
    state_bytes_per_parameter: float = 0.0
    eager: bool = True

    def __str__(self) -> str:
        head = ("callback", "place", "reads", "returns")
        rows = [head, *self.callbacks]
        widths = [max(len(r[i]) for r in rows) for i in range(3)]
        lines = [
            "  ".join([*(c.ljust(w) for c, w in zip(r, widths, strict=False)), r[3]]) for r in rows
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        lines.append("")
        unknown = (
            "the eager loop" if self.eager else "known after the first step, which builds kernels"
        )
        lines.append("phases: " + (" -> ".join(self.phases) or unknown))
        lines.append(
            f"{self.state_bytes_per_parameter:.4g} state bytes a parameter"
            + (f", {self.bytes_per_parameter:.4g} bytes moved" if self.bytes_per_parameter else "")
            + f"; {self.builds} builds, {self.variants} variants"
        )
        lines += [f"runs eagerly: {n} ({f}:{ln}): {why}" for n, f, ln, why in self.fallbacks]
        return "\n".join(lines)

    __repr__ = __str__


def callback_rows(groups: list[BoundGroup]) -> list[tuple[str, str, str, str]]:
    """A row for each callback of each different chain."""
    rows: dict[Any, tuple[str, str, str, str]] = {}
    for bound in groups:
        for c in bound.binding.calls:
            reads = ["p"] * c.takes_param + [name for _, name in c.reads]
            returns = [c.over.name] if c.over else sorted(c.spec.returns)
            rows.setdefault(
                c.over or c.spec.cb,
                (c.name, c.spec.place, ", ".join(reads), ", ".join(returns) or "(in place)"),
            )
    return list(rows.values())


def state_bytes(groups: list[BoundGroup], state: MutableMapping) -> float:
    """Bytes of state for one element of a parameter, averaged over the elements."""
    elements = held = 0
    for bound in groups:
        for p in bound.params:
            elements += p.numel()
            held += _held(bound, p, state)
    return held / elements if elements else 0.0


def _held(bound: BoundGroup, p: torch.Tensor, state: MutableMapping) -> int:
    own = state.get(p) if p in state else None
    if own:
        values = [v for k, v in own.items() if k != "step"]
    else:
        meta = p.detach().to("meta")
        values = [s.make(meta) for s in bound.binding.states.values() if not s.is_number]
    return sum(v.numel() * v.element_size() for v in values if isinstance(v, torch.Tensor))


def explain(groups: list[BoundGroup], state: MutableMapping) -> Explanation:
    """The plan of a step that runs eagerly."""
    return Explanation(callback_rows(groups), state_bytes_per_parameter=state_bytes(groups, state))
