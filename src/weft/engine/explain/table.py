"""A plan in words: what each callback reads, writes and keeps, and what it costs."""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from textwrap import wrap
from typing import Any

import torch

from weft.contract.bind import Call
from weft.contract.groups import BoundGroup

__all__ = ["Explanation", "callback_rows", "counted", "explain"]

UNKNOWN = "?"
WIDEST = 40  # characters of a cell

HEAD = ("callback", "place", "reads", "returns", "reduces")
Row = tuple[str, str, str, str, str]


@dataclass
class Explanation:
    """What a step does; prints as a table.

    Attributes:
        callbacks: a row for each element: name, place, what it reads, returns and reduces; "?" where
            it has not been traced.
        wrappers: what runs around the step, from the outside in: name with options, what it does.
        builds: kernels built so far.
        variants: graphs traced so far, one for each outcome of the chain's conditions.
        fallbacks: `(callback name, file, line, reason)` of what runs eagerly.
        kernels: names of the kernels.
        phases: what runs in order, in words; empty where no kernel runs.
        ahead: the phases are those of a first step to come.
        eager: no kernel is ever going to run.
        replaced: which modifiers took the place of what, in words.
        bytes_per_parameter: read and written in one step, for one element of a parameter.
        state_bytes_per_parameter: kept between steps, for one element of a parameter.
    """

    callbacks: list[Row]
    wrappers: list[tuple[str, str]] = field(default_factory=list)
    builds: int = 0
    variants: int = 0
    fallbacks: list[tuple[str, str, int, str]] = field(default_factory=list)
    kernels: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    bytes_per_parameter: float = 0.0
    state_bytes_per_parameter: float = 0.0
    ahead: bool = False
    eager: bool = True
    replaced: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(
            [*self._table(), *self.replaced, "", *self._around(), *self._order(), *self._costs()]
        )

    __repr__ = __str__

    def _table(self) -> list[str]:
        rows = [line for row in (HEAD, *self.callbacks) for line in _wrapped(row)]
        widths = [max(len(r[i]) for r in rows) for i in range(len(HEAD))]
        lines = ["  ".join(map(str.ljust, r, widths)).rstrip() for r in rows]
        lines.insert(1, "-" * max(map(len, lines)))
        if any(r[-1] == UNKNOWN for r in self.callbacks):
            lines.append(f"{UNKNOWN}: not traced")
        return lines

    def _around(self) -> list[str]:
        return [f"around the step: {name}\n    {what}".rstrip() for name, what in self.wrappers]

    def _order(self) -> list[str]:
        if not self.phases:
            unknown = "the eager loop" if self.eager else "known after the first step"
            return [f"phases: {unknown}"]
        when = " of the first step, which will build kernels" if self.ahead else ""
        return [f"phases{when}:", *(f"  {i}. {words}" for i, words in enumerate(self.phases, 1))]

    def _costs(self) -> list[str]:
        moved = f", {self.bytes_per_parameter:.4g} bytes moved" if self.bytes_per_parameter else ""
        inside = " by the step inside" if moved and self.wrappers else ""
        return [
            f"{self.state_bytes_per_parameter:.4g} state bytes a parameter{moved}{inside}"
            f"; {counted(self.builds, 'build')}, {counted(self.variants, 'variant')}",
            *(f"runs eagerly: {n} ({f}:{ln}): {why}" for n, f, ln, why in self.fallbacks),
        ]


def _wrapped(row: Row) -> Iterable[tuple[str, ...]]:
    """The lines of a row, whose cells are no wider than is easily read."""
    return zip_longest(
        *(wrap(cell, WIDEST, break_long_words=False) or [""] for cell in row), fillvalue=""
    )


def counted(n: int, what: str) -> str:
    """A number of things: "1 build", "2 builds"."""
    return f"{n} {what}" + "s" * (n != 1)


def callback_rows(
    groups: list[BoundGroup], reduced: Sequence[Mapping[str, Iterable[str]] | None] = ()
) -> list[Row]:
    """A row for each callback of each different chain.

    Args:
        groups: the chains.
        reduced: for each of them, callback -> what it reduces; None where it is not traced.
    """
    rows: dict[Any, Row] = {}
    for bound, known in zip_longest(groups, reduced):
        for c in bound.binding.calls:
            reads = ["p"] * c.takes_param + [name for _, name in c.reads]
            returns = [c.over.name] if c.over else sorted(c.spec.returns)
            row = (
                c.name, c.spec.place, ", ".join(reads), ", ".join(returns) or "(in place)",
                ", ".join(_reduces(c, known)),
            )  # fmt: skip
            rows.setdefault(c.over or c.spec.cb, row)
    return list(rows.values())


def _reduces(c: Call, known: Mapping[str, Iterable[str]] | None) -> list[str]:
    own = [UNKNOWN] if known is None else [*known.get(c.name, ())]
    if c.over is None:
        return own
    where = "all parameters" + " of the group" * (c.over.scope == "group")
    return [*own, f"{c.over.op} over {where}"]


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
        states, chosen = bound.binding.states.values(), bound.binding.state_dtype
        values = [s.make(meta, chosen) for s in states if not s.is_number]
    return sum(v.numel() * v.element_size() for v in values if isinstance(v, torch.Tensor))


def explain(groups: list[BoundGroup], state: MutableMapping) -> Explanation:
    """The plan of a step that runs eagerly."""
    return Explanation(callback_rows(groups), state_bytes_per_parameter=state_bytes(groups, state))
