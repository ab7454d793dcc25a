"""From a graph to phases: what one pass over memory can do, and what has to wait for another.

Every node is of a kind. A *full* value has the parameter's elements and lives in registers while a
phase passes over them. A *scalar* has one element and is computed once a tensor, in the *knot*
before a phase. A *torch* value is what kernels cannot compute: a region of torch calls makes it,
one tensor at a time, from slots and combined values. A *host* value is a number of the row.

A reduction of a full value is a scalar of the next phase, and so is a value combined over all
parameters. A later phase computes again what it needs: arithmetic is cheaper than memory. Stores
wait for the last pass, unless writing early saves reading more than it costs.

    knot 0 | phase 0 | knot 1 | phase 1 | ... | knot n       (the last knot stores the scalars)
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch

from weft.engine.graph import Graph, Node, Output

__all__ = [
    "FULL",
    "HOST",
    "SCALAR",
    "TORCH",
    "Phase",
    "Plan",
    "Region",
    "Slot",
    "Unplannable",
    "make_plan",
]

FULL, SCALAR, TORCH, HOST = "full", "scalar", "torch", "host"
REDUCED = frozenset(("sum", "prod", "amax", "amin", "any", "all"))


Spec = tuple[tuple[int, ...], torch.dtype]  # a shape and a storage dtype


class Unplannable(Exception):
    """A graph that has no plan; the chain runs eagerly."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Memory that kernels reach by a pointer for each tensor.

    `role` is "p", "grad", "state", "new" (a state that the step makes) or "temp" (what a region
    gives to kernels).
    """

    name: str
    role: str
    dtype: torch.dtype  # as it is stored
    full: bool  # as many elements as the parameter has, or one


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


@dataclass(slots=True)
class Plan:
    """What a kernel is rendered from, and what a runtime follows.

    Attributes:
        level: of a full value, the first phase that can compute it; of a scalar, its knot; of a
            torch value, the phase before which its region runs.
        memory: value -> (slot, the last phase that cannot load it from there yet).
        values: scalar -> its place among the values of a tensor.
        rows: host scalar -> its place in the row; kernels take the first `scalars`.
        barriers: phase -> outputs that are combined over all parameters after it.
        tail: scalars that the last knot stores, with their slots.
        copies: torch values that are outputs: torch stores them.
    """

    graph: Graph
    shape: tuple[int, ...]
    slots: list[Slot] = field(default_factory=list)
    kinds: dict[int, str] = field(default_factory=dict)
    level: dict[int, int] = field(default_factory=dict)
    phases: list[Phase] = field(default_factory=list)
    memory: dict[int, tuple[int, int]] = field(default_factory=dict)
    values: dict[int, int] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    scalars: int = 0
    barriers: dict[int, list[Output]] = field(default_factory=dict)
    regions: list[Region] = field(default_factory=list)
    tail: list[tuple[int, Node]] = field(default_factory=list)
    copies: list[Output] = field(default_factory=list)

    def kind(self, n: Node) -> str:
        """Where the value is computed."""
        return self.kinds[n.index]

    @property
    def reductions(self) -> int:
        """How many partial results a chunk leaves, at most."""
        return max((len(p.reductions) for p in self.phases), default=0)

    def slot_in(self, n: Node, at: int) -> int | None:
        """The slot that phase `at` loads a full value from, or None: it is computed."""
        slot, after = self.memory.get(n.index, (0, at))
        return slot if after < at else None

    def body(self, at: int) -> list[Node]:
        """The full values that phase `at` loads or computes, in order."""
        phase = self.phases[at]
        todo = [n for _, n in phase.stores] + [r.args[0] for r in phase.reductions]
        needed: set[int] = set()
        while todo:
            n = todo.pop()
            in_loop = self.kind(n) == FULL or self._comes_full(n)
            if n.index in needed or not in_loop:
                continue
            needed.add(n.index)
            if self.slot_in(n, at) is None:
                todo.extend(n.args)
        return [n for n in self.graph.nodes if n.index in needed]

    def _comes_full(self, n: Node) -> bool:
        """Whether a torch value is taken element by element."""
        return self.kind(n) == TORCH and self.slots[self.memory[n.index][0]].full

    def traffic(self, at: int) -> int:
        """Bytes that phase `at` reads and writes for one element of a parameter."""
        read = {s for n in self.body(at) if (s := self.slot_in(n, at)) is not None}
        written = {s for s, _ in self.phases[at].stores}
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
                own = self.memory.get(n.index)
            elif n.op == "const":
                own = n.attrs if n.index in exponents else n.index in by_torch
            elif n.op in ("load", "over") or n.is_host:
                own = n.attrs
            op = "torch" if kind == TORCH else n.op
            args = () if kind == TORCH else tuple(place[a.index] for a in n.args)
            nodes.append((op, kind, n.dtype, repr(own), self.level[n.index], args))
        stores = tuple(
            (
                tuple((s, place[n.index]) for s, n in p.stores),
                tuple(place[n.index] for n in p.reductions),
            )
            for p in self.phases
        )
        memory = tuple((place[i], *m) for i, m in self.memory.items() if i in place)
        tail = tuple((s, place[n.index]) for s, n in self.tail)
        outputs = tuple((o.kind, o.name, place[o.node.index]) for o in self.graph.outputs)
        regions = tuple(r.before for r in self.regions)
        rows = tuple((place[i], r) for i, r in self.rows.items() if r < self.scalars)
        key = (tuple(nodes), tuple(self.slots), stores, memory, tail, outputs, regions, rows)
        return key, constants


def make_plan(
    graph: Graph,
    shape: tuple[int, ...],
    held: Mapping[str, Spec],
    stores: Mapping[str, Spec],
    lowers: Callable[[Node], bool],
    columns: Collection[int] = (),
) -> Plan:
    """Cut a graph into phases.

    Args:
        graph: of one chain, for one shape of parameter.
        shape: the parameter's.
        held: the (shape, storage dtype) of "p", "grad" and each state that is a tensor.
        stores: the same of each state that is kept as a tensor, after the step.
        lowers: whether the backend has code for a pointwise op or a full reduction.
        columns: places of constants, among the live nodes, that go into the row: they depend on
            the shape, and one kernel serves all shapes.

    Raises:
        Unplannable: says why.
    """
    plan = Plan(graph, tuple(shape))
    _single_out(graph, tuple(shape), stores)
    live = list(graph.live())
    _classify(plan, live, lowers)
    _load_slots(plan, live, held)
    _levels(plan, live)
    _number(plan, live, columns)
    _count_phases(plan, live)
    _place_stores(plan, held, stores)
    _place_regions(plan, live)
    _store_early(plan)
    return plan


def _single_out(graph: Graph, shape: tuple[int, ...], stores: Mapping[str, Spec]) -> None:
    """Where a parameter of no dimensions gives a number, say so: it is the sum of its one element."""
    for i, o in enumerate(graph.outputs):
        number = o.kind in ("over", "shared", "norm") or (
            o.kind == "state" and o.name not in stores
        )
        n = o.node
        if number and shape == () == n.shape and n.op not in REDUCED:
            n = graph.add("sum", (n,), shape=(), dtype=n.dtype, dims=(), keepdim=False)
            graph.outputs[i] = Output(o.kind, o.name, n)


# ---------------------------------------------------------------- kinds


def _classify(plan: Plan, live: list[Node], lowers: Callable[[Node], bool]) -> None:
    for n in live:
        plan.kinds[n.index] = _kind(plan, n, lowers)
    # what lies between torch values stays with them: one region instead of many
    feeds: set[int] = set()
    for n in reversed(live):
        if plan.kind(n) == TORCH or n.index in feeds:
            feeds.update(a.index for a in n.args)
    from_torch: set[int] = set()
    for n in live:
        if any(a.index in from_torch or plan.kind(a) == TORCH for a in n.args):
            from_torch.add(n.index)
            if n.index in feeds and not n.is_host:
                plan.kinds[n.index] = TORCH
    for n in live:
        if plan.kind(n) in (FULL, SCALAR) and any(plan.kind(a) == TORCH for a in n.args):
            plan.kinds[n.index] = _kind(plan, n, lowers)


def _kind(plan: Plan, n: Node, lowers: Callable[[Node], bool]) -> str:
    shape, of = plan.shape, [plan.kind(a) for a in n.args]
    if n.is_host:
        return SCALAR if n.op == "over" or SCALAR in of else HOST
    if n.op == "load":
        return FULL if n.shape == shape else SCALAR if n.shape == () else TORCH
    if n.op == "over":
        return SCALAR
    if n.op in ("full", "expand"):  # one value for all elements
        if of[0] not in (HOST, SCALAR):
            return TORCH
        return SCALAR if n.numel == 1 and n.shape != shape else FULL if n.shape == shape else TORCH
    if n.op == "reshape" and of[0] == SCALAR:
        return SCALAR
    if not lowers(n):
        return TORCH
    if n.op in REDUCED:
        whole = len(n.attr("dims", ())) == len(n.args[0].shape or ())
        return SCALAR if whole and of[0] in (FULL, SCALAR) else TORCH
    elementwise = [a for k, a in zip(of, n.args, strict=True) if k in (FULL, TORCH)]
    if not elementwise:
        return SCALAR if n.numel == 1 else TORCH
    same = all(a.shape == shape or (a.shape == () and plan.kind(a) == TORCH) for a in elementwise)
    return FULL if n.shape == shape and same else TORCH


# ---------------------------------------------------------------- levels


def _levels(plan: Plan, live: list[Node]) -> None:
    given = {o.name: o.node for o in plan.graph.outputs if o.kind == "over"}
    for n in live:
        at = max((plan.level[a.index] for a in n.args), default=0)
        if n.op == "over":
            own = given.get(n.attr("name"))
            if own is None:
                raise Unplannable(f"nothing contributes to {n.attr('name')!r}")
            if own.index not in plan.level:  # the sum of one element, added behind
                plan.level[own.index] = plan.level[own.args[0].index] + 1
            at = plan.level[own.index] + 1
        elif n.op in REDUCED and plan.kind(n) == SCALAR and plan.kind(n.args[0]) == FULL:
            at += 1
        elif plan.kind(n) == TORCH:
            at = _behind(plan, n)
        plan.level[n.index] = at


def _behind(plan: Plan, n: Node) -> int:
    """The phase before which a region can compute a value: after what was combined for it."""
    todo, seen, at = [n], set(), 0
    while todo:
        x = todo.pop()
        if x.index in seen:
            continue
        seen.add(x.index)
        if x.op == "over":
            at = max(at, plan.level[x.index])
        else:
            todo.extend(x.args)
    return at


def _number(plan: Plan, live: list[Node], columns: Collection[int]) -> None:
    """Places for scalars among the values, for host scalars in the row: those that kernels take first."""
    for n in live:
        if plan.kind(n) == SCALAR:
            plan.values[n.index] = len(plan.values)
    by_kernels = {a.index for n in live if plan.kind(n) in (FULL, SCALAR) for a in n.args}
    by_kernels |= {o.node.index for o in plan.graph.outputs}
    by_torch = {a.index for n in live if plan.kind(n) == TORCH for a in n.args}
    for taken in (by_kernels, by_torch):
        for place, n in enumerate(n for n in live if plan.kind(n) != TORCH):
            wanted = n.index in taken and n.index not in plan.rows
            if wanted and plan.kind(n) == HOST and (n.op != "const" or place in columns):
                plan.rows[n.index] = len(plan.rows)
        plan.scalars = plan.scalars or len(plan.rows)
    for o in plan.graph.outputs:
        if o.kind == "over":
            plan.barriers.setdefault(plan.level[o.node.index], []).append(o)


def _count_phases(plan: Plan, live: list[Node]) -> None:
    passes = [plan.level[o.node.index] + 1 for o in plan.graph.outputs if plan.kind(o.node) == FULL]
    knots = [plan.level[n.index] for n in live if plan.kind(n) in (SCALAR, TORCH)]
    barriers = [at + 1 for at in plan.barriers]
    plan.phases = [Phase() for _ in range(max([0, *passes, *knots, *barriers]))]
    for n in live:
        if n.op in REDUCED and plan.kind(n) == SCALAR and plan.kind(n.args[0]) == FULL:
            plan.phases[plan.level[n.args[0].index]].reductions.append(n)


# ---------------------------------------------------------------- slots and stores


def _slot(plan: Plan, name: str, role: str, dtype: torch.dtype, full: bool) -> int:
    new = Slot(name, role, dtype, full)
    if new not in plan.slots:
        plan.slots.append(new)
    return plan.slots.index(new)


def _load_slots(plan: Plan, live: list[Node], held: Mapping[str, Spec]) -> None:
    for n in live:
        if n.op == "load" and plan.kind(n) != TORCH:
            name = n.attr("slot")
            role = name if name in ("p", "grad") else "state"
            slot = _slot(plan, name, role, held[name][1], plan.kind(n) == FULL)
            plan.memory[n.index] = (slot, -1)


def _place_stores(plan: Plan, held: Mapping[str, Spec], stores: Mapping[str, Spec]) -> None:
    kept: list[tuple[int, Node]] = []
    for o in plan.graph.outputs:
        if o.kind in ("over", "shared", "norm") or (o.kind == "state" and o.name not in stores):
            continue
        if plan.kind(o.node) == TORCH:
            plan.copies.append(o)
            continue
        name = o.name if o.kind == "state" else o.kind
        shape, dtype = stores[name] if o.kind == "state" else held[name]
        role = (
            o.kind if o.kind != "state" else "state" if held.get(name) == (shape, dtype) else "new"
        )
        full = tuple(shape) == plan.shape
        if not full and tuple(shape) != ():
            raise Unplannable(f"{name!r} has the shape {tuple(shape)} and is stored from one value")
        slot = _slot(plan, name, role, dtype, full)
        (kept if full else plan.tail).append((slot, o.node))
    if kept:
        passes = [r.args[0] for p in plan.phases for r in p.reductions] + [n for _, n in kept]
        last = max(plan.level[n.index] for n in passes)
        plan.phases += [Phase() for _ in range(last + 1 - len(plan.phases))]
        plan.phases[last].stores = kept


def _store_early(plan: Plan) -> None:
    """Write states in the phase that first knows them, where that saves bytes in the end."""
    last = max((i for i, p in enumerate(plan.phases) if p.stores), default=0)
    if not last or plan.regions:
        return
    before = sum(map(plan.traffic, range(len(plan.phases))))
    stores, memory = list(plan.phases[last].stores), dict(plan.memory)
    for slot, node in stores:
        at, s = plan.level[node.index], plan.slots[slot]
        is_kept_as_computed = s.role in ("state", "new") and s.dtype == node.dtype
        if (
            plan.kind(node) == FULL
            and at < last
            and is_kept_as_computed
            and node.index not in memory
        ):
            plan.phases[at].stores.append((slot, node))
            plan.phases[last].stores.remove((slot, node))
            plan.memory[node.index] = (slot, at)
    if _overwritten(plan) or sum(map(plan.traffic, range(len(plan.phases)))) >= before:
        for p in plan.phases[:last]:
            p.stores = []
        plan.phases[last].stores, plan.memory = stores, memory


def _overwritten(plan: Plan) -> bool:
    """Whether a phase loads the old value of a slot that an earlier one has written."""
    written: dict[int, Node] = {}
    for at, phase in enumerate(plan.phases):
        for n in plan.body(at):
            slot = plan.slot_in(n, at)
            if slot in written and written[slot] is not n:
                return True
        written.update(phase.stores)
    return False


# ---------------------------------------------------------------- regions


def _place_regions(plan: Plan, live: list[Node]) -> None:
    """The torch values that others take, and what torch computes to get them."""
    wanted = {o.node.index for o in plan.graph.outputs}
    wanted |= {a.index for n in live if plan.kind(n) != TORCH for a in n.args}
    gives = [n for n in live if plan.kind(n) == TORCH and n.index in wanted and n.op != "load"]
    gives += [n for n in live if plan.kind(n) == TORCH and n.index in wanted and n.op == "load"]
    for at in sorted({plan.level[n.index] for n in gives}):
        here = [n for n in gives if plan.level[n.index] == at]
        plan.regions.append(Region(at, _closure(plan, here), here))
    if sum(any(n.attr("serial") for n in r.nodes) for r in plan.regions) > 1:
        raise Unplannable("random numbers are drawn before and after a value over all parameters")
    taken = {a.index for n in live if plan.kind(n) in (FULL, SCALAR) for a in n.args}
    for n in gives:
        if n.index in taken:
            slot = _slot(plan, f"t{n.index}", "temp", n.dtype, n.shape == plan.shape)
            plan.memory[n.index] = (slot, plan.level[n.index] - 1)


def _closure(plan: Plan, wanted: list[Node]) -> list[Node]:
    """All that torch needs to compute `wanted` from slots and combined values."""
    needed: set[int] = set()
    todo = list(wanted)
    while todo:
        n = todo.pop()
        if n.index not in needed:
            needed.add(n.index)
            if n.op != "over":
                todo.extend(n.args)
    return [n for n in plan.graph.nodes if n.index in needed and plan.kind(n) != HOST]
