"""Cutting a graph into phases: what is computed where, and what has to wait for what.

A reduction of a full value is known in the next phase, and so is a value combined over all
parameters. A later phase computes again what it needs: arithmetic is cheaper than memory. Stores
wait for the last pass, unless writing early saves reading more than it costs.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import torch

from weft.engine.ir.graph import Graph, Node, Output, OutputKind
from weft.engine.ir.ops import REDUCED
from weft.engine.plan import vectors
from weft.engine.plan.cut import stays_with_torch
from weft.engine.plan.plan import (
    FULL,
    HOST,
    SCALAR,
    TORCH,
    VECTOR,
    Kind,
    Phase,
    Plan,
    Region,
    Role,
    Slot,
    Spec,
    Unplannable,
)

__all__ = ["make_plan"]

KERNELS = (FULL, VECTOR, SCALAR)  # what is computed without torch


def make_plan(
    graph: Graph,
    shape: tuple[int, ...],
    held: Mapping[str, Spec],
    stores: Mapping[str, Spec],
    lowers: Callable[[Node], bool],
    columns: Collection[int] = (),
    contiguous: bool = True,
    spread: bool = False,
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
        contiguous: whether all memory is in the order of the dims, so that some can be reduced.
        spread: whether the parameter is spread over ranks, and torch's results travel.

    Raises:
        Unplannable: says why.
    """
    plan = Plan(graph, tuple(shape), here=tuple(shape))
    _single_out(graph, tuple(shape), stores)
    live = list(graph.live())
    _classify(plan, live, lowers, contiguous)
    for i in stays_with_torch(plan, live) if spread else ():
        plan.kinds[i] = TORCH
    _load_slots(plan, live, held)
    _levels(plan, live)
    _number(plan, live, columns)
    _count_phases(plan, live)
    _place_stores(plan, held, stores)
    _place_regions(plan, live)
    _store_early(plan)
    return plan


def _is_number(o: Output, stores: Mapping[str, Spec]) -> bool:
    """Whether an output is one number a parameter, and no tensor in memory."""
    if o.kind is OutputKind.STATE:
        return o.name not in stores
    return o.kind in (OutputKind.OVER, OutputKind.SHARED, OutputKind.NORM)


def _single_out(graph: Graph, shape: tuple[int, ...], stores: Mapping[str, Spec]) -> None:
    """Where a parameter of no dimensions gives a number, say so: it is the sum of its one element."""
    for i, o in enumerate(graph.outputs):
        n = o.node
        if _is_number(o, stores) and shape == () == n.shape and n.op not in REDUCED:
            n = graph.add("sum", (n,), shape=(), dtype=n.dtype, dims=(), keepdim=False)
            graph.outputs[i] = Output(o.kind, o.name, n)


# ---------------------------------------------------------------- kinds


def _classify(
    plan: Plan, live: list[Node], lowers: Callable[[Node], bool], contiguous: bool
) -> None:
    for n in live:
        plan.kinds[n.index] = _kind(plan, n, lowers, contiguous)
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
        if plan.kind(n) not in (TORCH, HOST) and any(plan.kind(a) == TORCH for a in n.args):
            plan.kinds[n.index] = _kind(plan, n, lowers, contiguous)
    for i in vectors.only_for_torch(plan, live):
        plan.kinds[i] = TORCH


def _kind(plan: Plan, n: Node, lowers: Callable[[Node], bool], contiguous: bool) -> Kind:
    shape, of = plan.shape, [plan.kind(a) for a in n.args]
    if n.is_host:
        return SCALAR if SCALAR in of else HOST
    side = VECTOR if contiguous and vectors.is_vector(plan, n, of) else TORCH
    if n.is_given:
        return SCALAR if n.numel == 1 else side
    if n.op == "load":
        single = n.shape == () or (n.numel == 1 and n.dtype.is_floating_point)
        return FULL if n.shape == shape else SCALAR if single else side
    if n.op in ("full", "expand") and of[0] in (HOST, SCALAR):  # one value for all elements
        return SCALAR if n.numel == 1 and n.shape != shape else FULL if n.shape == shape else side
    if n.op == "reshape" and of[0] == SCALAR:
        return SCALAR
    if n.op in ("reshape", "expand"):
        if VECTOR not in of:
            return TORCH
    elif not lowers(n):
        return TORCH
    if n.op in REDUCED:
        if n.numel == 1 and (side == VECTOR or of[0] in (FULL, SCALAR)):
            return SCALAR
        return FULL if of[0] == FULL and n.shape == shape else side
    elementwise = [a for k, a in zip(of, n.args, strict=True) if k in (FULL, TORCH)]
    if not elementwise and VECTOR not in of:
        return SCALAR if n.numel == 1 else TORCH
    if n.shape != shape:
        return side
    same = all(a.shape == shape or (a.shape == () and plan.kind(a) == TORCH) for a in elementwise)
    return FULL if same and vectors.fits(n, of) else TORCH


# ---------------------------------------------------------------- levels


def _levels(plan: Plan, live: list[Node]) -> None:
    given = {o.name: o.node for o in plan.graph.outputs if o.kind is OutputKind.OVER}
    combined: dict[int, int] = {}  # the last phase whose combined values a node comes from
    for n in live:
        ready = max((plan.ready_in[a.index] for a in n.args), default=0)
        last = max((combined[a.index] for a in n.args), default=0)
        if n.op == "over":
            own = given.get(n.attr("name"))
            if own is None:
                raise Unplannable(f"nothing contributes to {n.attr('name')!r}")
            if own.index not in plan.ready_in:  # the sum of one element, added behind
                plan.ready_in[own.index] = plan.ready_in[own.args[0].index] + 1
            ready = plan.ready_in[own.index] + 1
            last = combined[own.index] if n.attr("across") else ready  # regions compute these again
        elif _from_pass(plan, n):
            ready += 1
        elif plan.kind(n) == TORCH:  # a region is computed as soon as what was combined is there
            ready = last
        plan.ready_in[n.index] = ready
        combined[n.index] = last


def _from_pass(plan: Plan, n: Node) -> bool:
    """Whether a pass reduces full values to this one."""
    return n.op in REDUCED and plan.kind(n) in (SCALAR, VECTOR) and plan.kind(n.args[0]) == FULL


def _number(plan: Plan, live: list[Node], columns: Collection[int]) -> None:
    """Places for scalars among the values, for host scalars in the row: those that kernels take first."""
    for n in live:
        if plan.kind(n) == SCALAR:
            plan.values[n.index] = len(plan.values)
    by_kernels = {a.index for n in live if plan.kind(n) in KERNELS for a in n.args}
    by_kernels |= {o.node.index for o in plan.graph.outputs}
    by_torch = {a.index for n in live if plan.kind(n) == TORCH for a in n.args}
    numbers = [
        n.index
        for place, n in enumerate(n for n in live if plan.kind(n) != TORCH)
        if plan.kind(n) == HOST and (n.op != "const" or place in columns)
    ]
    first = [i for i in numbers if i in by_kernels]
    then = [i for i in numbers if i in by_torch - by_kernels]
    plan.rows = {i: place for place, i in enumerate(first + then)}
    plan.scalars = len(first)
    for o in plan.graph.outputs:
        if o.kind is OutputKind.OVER:
            plan.barriers.setdefault(plan.ready_in[o.node.index], []).append(o)


def _count_phases(plan: Plan, live: list[Node]) -> None:
    passes = [
        plan.ready_in[o.node.index] + 1 for o in plan.graph.outputs if plan.kind(o.node) == FULL
    ]
    stages = [plan.ready_in[n.index] for n in live if plan.kind(n) in (SCALAR, VECTOR, TORCH)]
    # the scalar stages at the beginning and behind a barrier run twice: none of them stores a vector
    once = VECTOR in plan.kinds.values()
    barriers = [k + 1 + once for k in plan.barriers]
    plan.phases = [Phase() for _ in range(max([once, *passes, *stages, *barriers]))]
    for n in live:
        if _from_pass(plan, n):
            plan.phases[plan.ready_in[n.args[0].index]].reductions.append(n)


# ---------------------------------------------------------------- slots and stores


def _slot(plan: Plan, name: str, role: Role, dtype: torch.dtype, full: bool) -> int:
    new = Slot(name, role, dtype, full)
    if new not in plan.slots:
        plan.slots.append(new)
    return plan.slots.index(new)


def _load_slots(plan: Plan, live: list[Node], held: Mapping[str, Spec]) -> None:
    for n in live:
        if n.op == "load" and plan.kind(n) != TORCH:
            name = n.attr("slot")
            role = Role(name) if name in ("p", "grad") else Role.STATE
            slot = _slot(plan, name, role, held[name][1], plan.kind(n) == FULL)
            plan.loadable_from[n.index] = (slot, -1)


def _place_stores(plan: Plan, held: Mapping[str, Spec], stores: Mapping[str, Spec]) -> None:
    kept: list[tuple[int, Node]] = []
    for o in plan.graph.outputs:
        if _is_number(o, stores):
            continue
        if plan.kind(o.node) == TORCH:
            plan.copies.append(o)
            continue
        if o.kind is OutputKind.STATE:
            name, (shape, dtype) = o.name, stores[o.name]
            role = Role.STATE if held.get(name) == (shape, dtype) else Role.NEW
        else:
            name, role, (shape, dtype) = o.kind, Role(o.kind), held[o.kind]
        full = tuple(shape) == plan.shape
        if not full and plan.kind(o.node) != VECTOR and math.prod(shape) != 1:
            raise Unplannable(f"{name!r} has the shape {tuple(shape)} and is stored from one value")
        slot = _slot(plan, name, role, dtype, full)
        (kept if full else plan.tail).append((slot, o.node))
    if kept:
        passes = [r.args[0] for p in plan.phases for r in p.reductions] + [n for _, n in kept]
        last = max(plan.ready_in[n.index] for n in passes)
        plan.phases += [Phase() for _ in range(last + 1 - len(plan.phases))]
        plan.phases[last].stores = kept


def _store_early(plan: Plan) -> None:
    """Write states in the phase that first knows them, where that saves bytes in the end."""
    last = max((i for i, p in enumerate(plan.phases) if p.stores), default=0)
    if not last or plan.regions:
        return
    before = sum(map(plan.traffic, range(len(plan.phases))))
    stores, memory = list(plan.phases[last].stores), dict(plan.loadable_from)
    for slot, node in stores:
        ready, s = plan.ready_in[node.index], plan.slots[slot]
        is_kept_as_computed = s.role in (Role.STATE, Role.NEW) and s.dtype == node.dtype
        if (
            plan.kind(node) == FULL
            and ready < last
            and is_kept_as_computed
            and node.index not in memory
        ):
            plan.phases[ready].stores.append((slot, node))
            plan.phases[last].stores.remove((slot, node))
            plan.loadable_from[node.index] = (slot, ready)
    if _overwritten(plan) or sum(map(plan.traffic, range(len(plan.phases)))) >= before:
        for p in plan.phases[:last]:
            p.stores = []
        plan.phases[last].stores, plan.loadable_from = stores, memory


def _overwritten(plan: Plan) -> bool:
    """Whether a phase loads the old value of a slot that an earlier one has written."""
    written: dict[int, Node] = {}
    for k, phase in enumerate(plan.phases):
        for n in plan.body(k):
            slot = plan.slot_in(n, k)
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
    for ready in sorted({plan.ready_in[n.index] for n in gives}):
        here = [n for n in gives if plan.ready_in[n.index] == ready]
        plan.regions.append(Region(ready, _closure(plan, here), here))
    if sum(any(n.attr("serial") for n in r.nodes) for r in plan.regions) > 1:
        raise Unplannable("random numbers are drawn before and after a value over all parameters")
    taken = {a.index for n in live if plan.kind(n) in KERNELS for a in n.args}
    for n in gives:
        if n.index in taken:
            slot = _slot(plan, f"t{len(plan.slots)}", Role.TEMP, n.dtype, n.shape == plan.shape)
            plan.loadable_from[n.index] = (slot, plan.ready_in[n.index] - 1)


def _closure(plan: Plan, wanted: list[Node]) -> list[Node]:
    """All that torch needs to compute `wanted` from slots and combined values.

    What is combined over ranks is computed again, as a region has tensors that are whole.
    """
    parts = {o.name: o.node for o in plan.graph.outputs if o.kind is OutputKind.OVER}
    nodes: dict[int, Node] = {}
    todo = list(wanted)
    while todo:
        n = todo.pop()
        if n.index not in nodes:
            if n.op == "over" and n.attr("across"):
                n = replace(n, op="cast", args=(parts[n.attr("name")],), attrs=())
            nodes[n.index] = n
            todo.extend(() if n.op == "over" else n.args)
    return [nodes[i] for i in sorted(nodes) if plan.kinds[i] != HOST]
