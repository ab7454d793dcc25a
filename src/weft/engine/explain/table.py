"""A plan in words: what each callback reads, writes and keeps, and what it costs."""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from textwrap import wrap
from typing import Any

import torch

from weft.contract.bind import Call
from weft.contract.groups import BoundGroup
from weft.engine.explain import html

__all__ = ["ChainRows", "Explanation", "chain_rows", "counted", "explain"]

UNKNOWN = "?"
WIDEST = 80  # characters of a line

HEAD = ("callback", "place", "reads", "returns", "reduces")
Row = tuple[str, str, str, str, str]


@dataclass
class ChainRows:
    """One chain of an optimizer.

    Attributes:
        groups: the parameter groups that run it.
        rows: of each element its name, place, what it reads, returns and reduces; "?" where it has
            not been traced.
    """

    groups: list[int]
    rows: list[Row]


@dataclass
class Explanation:
    """What a step does; prints as a table.

    Attributes:
        chains: what each different chain is made of, in its order.
        wrappers: what runs around the step, from the outside in: name with options, what it does.
        builds: kernels built so far.
        variants: graphs traced so far, one for each outcome of the chain's conditions.
        example: the shape of a parameter that this is told of, where there is none yet.
        fallbacks: `(callback name, file, line, reason)` of what runs eagerly.
        kernels: names of the kernels.
        phases: what runs in order, in words; empty where no kernel runs.
        launches: where each kernel ran last, how its work was split, and what it moved.
        owners: who computes the matrices of parameters that are spread over ranks, rank by rank.
        ahead: the phases are those of a first step to come.
        eager: no kernel is ever going to run.
        replaced: which modifiers took the place of what, in words.
        bytes_per_parameter: read and written in one step, for one element of a parameter.
        state_bytes_per_parameter: kept between steps, for one element of a parameter.
    """

    chains: list[ChainRows]
    wrappers: list[tuple[str, str]] = field(default_factory=list)
    builds: int = 0
    variants: int = 0
    fallbacks: list[tuple[str, str, int, str]] = field(default_factory=list)
    kernels: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    launches: list[str] = field(default_factory=list)
    owners: Sequence[Any] = ()
    bytes_per_parameter: float = 0.0
    state_bytes_per_parameter: float = 0.0
    ahead: bool = False
    eager: bool = True
    replaced: list[str] = field(default_factory=list)
    example: tuple[int, ...] = ()

    @property
    def callbacks(self) -> list[Row]:
        """The rows of all chains, one after the other."""
        return [row for chain in self.chains for row in chain.rows]

    def __str__(self) -> str:
        return "\n".join(
            [
                *self._table(),
                *self.replaced,
                "",
                *self._around(),
                *self._order(),
                *self._owned(),
                *self._costs(),
            ]
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The same as tables, which notebooks show."""
        many = len(self.chains) > 1
        parts = [
            html.table(HEAD, c.rows, f"groups {_list(c.groups)}" if many else "")
            for c in self.chains
        ]
        phases = [f"{i}. {words}" for i, words in enumerate(self.phases, 1)]
        parts.append(html.paragraph([*self.replaced, *self._around(), self._order()[0], *phases]))
        return "".join([*parts, html.paragraph([*self._owned(), *self._costs()])])

    def _table(self) -> list[str]:
        widths = _widths([HEAD, *self.callbacks])
        lines = _wrapped(HEAD, widths)
        lines.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
        for chain in self.chains:
            if len(self.chains) > 1:
                lines.append(f"group{'s' * (len(chain.groups) > 1)} {_list(chain.groups)}:")
            lines += [line for row in chain.rows for line in _wrapped(row, widths)]
        if any(r[-1] == UNKNOWN for r in self.callbacks):
            lines.append(f"{UNKNOWN}: not traced")
        return lines

    def _around(self) -> list[str]:
        lines = []
        for name, what in self.wrappers:
            lines.append(f"around the step: {name}")
            lines += wrap(what, WIDEST, initial_indent=" " * 4, subsequent_indent=" " * 4)
        return lines

    def _order(self) -> list[str]:
        if not self.phases:
            unknown = "the eager loop" if self.eager else "known after the first step"
            return [f"phases: {unknown}"]
        of = f" of a parameter of {' x '.join(map(str, self.example))}" if self.example else ""
        when = f" of the first step{of}, which will build kernels" if self.ahead else ""
        return [f"phases{when}:", *self._numbered()]

    def _numbered(self) -> list[str]:
        return [
            line
            for i, words in enumerate(self.phases, 1)
            for line in wrap(f"  {i}. {words}", WIDEST, subsequent_indent=" " * 5)
        ]

    def _owned(self) -> list[str]:
        return ["matrices, over ranks:", *(f"  {o}" for o in self.owners)] if self.owners else []

    def _costs(self) -> list[str]:
        moved = f", {self.bytes_per_parameter:.4g} bytes moved" if self.bytes_per_parameter else ""
        inside = " by the step inside" if moved and self.wrappers else ""
        return [
            f"{self.state_bytes_per_parameter:.4g} state bytes a parameter{moved}{inside}",
            *self._built(),
            *(
                line
                for words in self.launches
                for line in wrap(words, WIDEST, subsequent_indent="    ")
            ),
            *(f"runs eagerly: {n} ({f}:{ln}): {why}" for n, f, ln, why in self.fallbacks),
        ]

    def _built(self) -> list[str]:
        if not self.variants:
            return []
        return [
            f"{counted(self.builds, 'build')}: kernels, built or taken from disk",
            f"{counted(self.variants, 'variant')}: traces, one for each chain and each way that its "
            "conditions went",
        ]


def _widths(rows: Sequence[Row]) -> list[int]:
    """The width of each column: narrowed, where it costs the fewest lines, until a line fits."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    least = [
        max(len(word) for cell in column for word in cell.split() or [""]) for column in columns
    ]
    while sum(widths) + 2 * (len(widths) - 1) > WIDEST:
        tried = [
            ([w - (i == k) for k, w in enumerate(widths)], i)
            for i in range(len(widths))
            if widths[i] > least[i]
        ]
        if not tried:
            break
        widths, _ = min(
            tried, key=lambda t: (sum(len(_wrapped(r, t[0])) for r in rows), -widths[t[1]])
        )
    return widths


def _wrapped(row: Row, widths: Sequence[int]) -> list[str]:
    """The lines of a row."""
    cells = [
        wrap(cell, width, break_long_words=False) or [""]
        for cell, width in zip(row, widths, strict=True)
    ]
    lines = zip_longest(*cells, fillvalue="")
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def counted(n: int, what: str) -> str:
    """A number of things: "1 build", "2 builds"."""
    return f"{n} {what}" + "s" * (n != 1)


def chain_rows(
    groups: list[BoundGroup], reduced: Sequence[Mapping[str, Iterable[str]] | None] = ()
) -> list[ChainRows]:
    """Each different chain once, with the groups that run it.

    Args:
        groups: the chains.
        reduced: for each of them, callback -> what it reduces; None where it is not traced.
    """
    found: dict[tuple[Any, ...], ChainRows] = {}
    for bound, known in zip_longest(groups, reduced):
        calls = bound.binding.calls
        key = tuple(c.over or c.spec.cb for c in calls)
        if key in found:
            found[key].groups.append(bound.index)
        else:
            found[key] = ChainRows([bound.index], [_row(c, known) for c in calls])
    return list(found.values())


def _row(c: Call, known: Mapping[str, Iterable[str]] | None) -> Row:
    reads = ["p"] * c.takes_param + [name for _, name in c.reads]
    returns = [c.over.name] if c.over else sorted(c.spec.returns)
    return (
        c.name, c.spec.place, ", ".join(reads), ", ".join(returns) or "(in place)",
        ", ".join(_reduces(c, known)),
    )  # fmt: skip


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
    return Explanation(chain_rows(groups), state_bytes_per_parameter=state_bytes(groups, state))
