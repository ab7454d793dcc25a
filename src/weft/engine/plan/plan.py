"""A plan: what one pass over memory does, and what is computed between two of them.

Every node is of a kind. A *full* value has the parameter's elements and lives in registers while a
phase passes over them. A *scalar* has one element and is computed once a tensor, in the *scalar stage*
before a phase, and so is a *vector*, which a reduction over some dims has left. A *torch* value is
what kernels cannot compute: a region of torch calls makes it, one tensor at a time, from slots and
combined values. A *host* value is a number of the row.

    scalars 0 | phase 0 | scalars 1 | phase 1 | ... | scalars n   (the last stage stores them)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import torch

from weft.engine.fallback import Fallback
from weft.engine.ir.graph import Graph, Node, Output

__all__ = [
    "FULL",
    "HOST",
    "SCALAR",
    "TORCH",
    "VECTOR",
    "Kind",
    "Layout",
    "Phase",
    "Plan",
    "Region",
    "Role",
    "Slot",
    "Spec",
    "Unplannable",
]


class Kind(StrEnum):
    """Where a value is computed."""

    FULL, VECTOR, SCALAR, TORCH, HOST = "full", "vector", "scalar", "torch", "host"


FULL, VECTOR, SCALAR, TORCH, HOST = Kind

Spec = tuple[tuple[int, ...], torch.dtype]  # a shape and a storage dtype


class Unplannable(Fallback):
    """A graph that has no plan; the chain runs eagerly."""


class Role(StrEnum):
    """What is in a slot."""

    P = "p"
    GRAD = "grad"
    STATE = "state"
    NEW = "new"  # a state that the step makes
    TEMP = "temp"  # what a region gives to kernels
    SCRATCH = "scratch"  # a backend's own, between the phases of a step


@dataclass(frozen=True, slots=True)
class Slot:
    """Memory that kernels reach by a pointer for each tensor.

    Attributes:
        full: as many elements as the parameter has; else a vector's, or one.
    """

    name: str
    role: Role
    dtype: torch.dtype  # as it is stored
    full: bool


@dataclass(slots=True)
class Phase:
    """One pass over memory: what it stores and what it reduces."""

    stores: list[tuple[int, Node]] = field(default_factory=list)  # (slot, value)
    reductions: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Region:
    """What torch computes before phase `before`: `nodes` in order, of which `gives` are needed."""

    before: int
    nodes: list[Node] = field(default_factory=list)
    gives: list[Node] = field(default_factory=list)

    @property
    def draws(self) -> bool:
        """Whether random numbers are drawn: then the order of parameters counts."""
        return any(n.attr("serial") for n in self.nodes)


class Layout(Protocol):
    """How a backend lays out what a plan computes between passes."""

    def key(self, place: Mapping[int, int]) -> tuple[object, ...]:
        """What rendered code depends on of it; `place` gives each node its own among the live ones."""
        ...


@dataclass(slots=True)
class Plan:
    """What a kernel is rendered from, and what a runtime follows.

    Attributes:
        ready_in: of a full value, the first phase that can compute it; of a scalar or a vector, its
            scalar stage; of a torch value, the phase before which its region runs.
        loadable_from: value -> (slot, the last phase that cannot load it from there yet).
        values: scalar -> its place among the values of a tensor.
        rows: host scalar -> its place in the row; kernels take the first `scalars`.
        barriers: phase -> outputs that are combined over all parameters after it.
        tail: scalars and vectors that the last scalar stage stores, with their slots.
        copies: torch values that are outputs: torch stores them.
        layout: a backend's own.
        here: what this process has of the parameter's shape.
        local: value -> what this process has of its shape, where that is not all.
    """

    graph: Graph
    shape: tuple[int, ...]
    slots: list[Slot] = field(default_factory=list)
    kinds: dict[int, Kind] = field(default_factory=dict)
    ready_in: dict[int, int] = field(default_factory=dict)
    phases: list[Phase] = field(default_factory=list)
    loadable_from: dict[int, tuple[int, int]] = field(default_factory=dict)
    values: dict[int, int] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    scalars: int = 0
    barriers: dict[int, list[Output]] = field(default_factory=dict)
    regions: list[Region] = field(default_factory=list)
    tail: list[tuple[int, Node]] = field(default_factory=list)
    copies: list[Output] = field(default_factory=list)
    layout: Layout | None = None
    here: tuple[int, ...] = ()
    local: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def kind(self, n: Node) -> Kind:
        """Where the value is computed."""
        return self.kinds[n.index]

    def shape_here(self, n: Node) -> tuple[int, ...]:
        """What this process has of a value's shape."""
        return self.local.get(n.index, n.shape or ())

    def across(self) -> dict[str, Node]:
        """The values that are combined over the ranks of a sharded parameter, by their names."""
        over = (n for n in self.graph.live() if n.op == "over" and n.attr("across"))
        return {n.attr("name"): n for n in over}

    @property
    def reductions(self) -> int:
        """How many partial results a chunk leaves, at most."""
        return max((len(p.reductions) for p in self.phases), default=0)

    def slot_in(self, n: Node, k: int) -> int | None:
        """The slot that phase `k` loads a full value from, or None: it is computed."""
        slot, after = self.loadable_from.get(n.index, (0, k))
        return slot if after < k else None

    def body(self, k: int) -> list[Node]:
        """The full values that phase `k` loads or computes, in order."""
        phase = self.phases[k]
        todo = [n for _, n in phase.stores] + [r.args[0] for r in phase.reductions]
        needed: set[int] = set()
        while todo:
            n = todo.pop()
            in_loop = self.kind(n) == FULL or self._comes_full(n)
            if n.index in needed or not in_loop:
                continue
            needed.add(n.index)
            if self.slot_in(n, k) is None:
                todo.extend(n.args)
        return [n for n in self.graph.nodes if n.index in needed]

    def _comes_full(self, n: Node) -> bool:
        """Whether a torch value is taken element by element."""
        return self.kind(n) == TORCH and self.slots[self.loadable_from[n.index][0]].full

    def traffic(self, k: int) -> int:
        """Bytes that phase `k` reads and writes for one element of a parameter."""
        read = {s for n in self.body(k) if (s := self.slot_in(n, k)) is not None}
        written = {s for s, _ in self.phases[k].stores}
        return sum(self.slots[s].dtype.itemsize for s in (*read, *written) if self.slots[s].full)

    def skeleton(self) -> tuple[tuple[object, ...], list[object]]:
        """What the rendered code depends on, and apart from it the constants, in order.

        Plans of equal skeletons share a kernel, whatever the shapes; constants that differ between
        them become columns.
        """
        place: dict[int, int] = {}
        nodes: list[object] = []
        constants: list[object] = []
        exponents = {n.args[1].index for n in self.graph.nodes if n.op == "pow"}
        given = {a.index: a for r in self.regions for a in r.gives}
        by_torch = {a.index for n in self.graph.live() if self.kind(n) == TORCH for a in n.args}
        for n in self.graph.live():
            kind = self.kind(n)
            if kind == TORCH and n.index not in given:
                continue
            if kind == HOST and n.op == "const":
                constants.append(n.attr("value"))
            place[n.index] = len(place)
            own: object = ()
            if kind == TORCH:
                own = self.loadable_from.get(n.index)
            elif n.op == "const":
                own = n.attrs if n.index in exponents else n.index in by_torch
            elif n.op == "load" or n.is_given or n.is_host:
                own = n.attrs
            op = "torch" if kind == TORCH else n.op
            args = () if kind == TORCH else tuple(place[a.index] for a in n.args)
            nodes.append((op, kind, n.dtype, repr(own), self.ready_in[n.index], args))
        stores = tuple(
            (
                tuple((s, place[n.index]) for s, n in p.stores),
                tuple(place[n.index] for n in p.reductions),
            )
            for p in self.phases
        )
        memory = tuple((place[i], *m) for i, m in self.loadable_from.items() if i in place)
        tail = tuple((s, place[n.index]) for s, n in self.tail)
        outputs = tuple((o.kind, o.name, place[o.node.index]) for o in self.graph.outputs)
        regions = tuple(r.before for r in self.regions)
        rows = tuple((place[i], r) for i, r in self.rows.items() if r < self.scalars)
        own = self.layout.key(place) if self.layout else ()
        key = (tuple(nodes), tuple(self.slots), stores, memory, tail, outputs, regions, rows, own)
        return key, constants
