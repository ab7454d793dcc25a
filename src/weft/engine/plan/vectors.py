"""Vectors: which values of a graph are one number a row or a column, and how the scalar stages make them.

A *vector* has the elements that a reduction of the parameter over a run of dims leaves. Chunks of a
pass reduce into partial results of their own; the scalar stage adds these up in the order of chunks. Other
vectors are computed in the scalar stage, in loops that vectors of one length and descent share.
"""

import math
from collections.abc import Mapping, Sequence

import torch

from weft.engine.ir.graph import Node
from weft.engine.ir.ops import REDUCED
from weft.engine.plan.axes import (
    Run,
    chunk_length,
    lies_along,
    period_inner,
    reduced_run,
    run_of,
)
from weft.engine.plan.plan import FULL, HOST, SCALAR, TORCH, VECTOR, Plan, Slot, Vectors

__all__ = ["fits", "is_vector", "only_for_torch", "place"]


def is_vector(plan: Plan, n: Node, of: Sequence[str]) -> bool:
    """Whether a value that is neither full nor a scalar can be a vector; `of`: its arguments' kinds."""
    shape = n.shape or ()
    if n.op == "load":
        stays = all(o.node is not n or o.name == n.attr("slot") for o in plan.graph.outputs)
        return n.dtype.is_floating_point and stays and lies_along(shape, plan.shape)
    if n.op == "full" or (n.op == "expand" and of[0] in (HOST, SCALAR)):
        return lies_along(shape, plan.shape)
    if n.op in REDUCED:
        return of[0] in (FULL, VECTOR) and _run(n, n.args[0]) is not None
    return VECTOR in of and not {FULL, TORCH}.intersection(of) and fits(n, of)


def fits(n: Node, of: Sequence[str]) -> bool:
    """Whether all the vectors that an op takes are broadcast over runs of dims."""
    vectors = [a for k, a in zip(of, n.args, strict=True) if k == VECTOR]
    return all(_run(n, a) is not None for a in vectors)


def only_for_torch(plan: Plan, live: Sequence[Node]) -> set[int]:
    """The vectors that nothing but torch takes: it computes them as well."""
    taken = {o.node.index for o in plan.graph.outputs}
    for n in reversed(live):
        if plan.kind(n) in (FULL, SCALAR) or (plan.kind(n) == VECTOR and n.index in taken):
            taken.update(a.index for a in n.args)
    return {n.index for n in live if plan.kind(n) == VECTOR and n.index not in taken}


def _run(n: Node, a: Node) -> Run | None:
    """The dims that `n` reduces `a` over, or that it broadcasts `a` over."""
    shape, of = n.shape or (), a.shape or ()
    if n.op in REDUCED:
        return reduced_run(n.attr("dims"), of)
    return (0, 0) if n.op == "reshape" else run_of(of, shape)


# ---------------------------------------------------------------- places


def place(plan: Plan, live: Sequence[Node]) -> None:
    """Give each vector its sizes, its memory and its place in a scalar stage."""
    v = plan.vectors
    if VECTOR in plan.kinds.values():
        sizes = _Sizes(v)
        for n in live:
            if plan.kind(n) == VECTOR:
                _measure(plan, n, sizes)
            if plan.kind(n) in (FULL, VECTOR, SCALAR):
                for a in n.args:
                    if plan.kind(a) == VECTOR:
                        _read(plan, n, a, sizes)
        v.sizes[0] = chunk_length([(v.sizes[at], v.sizes[at + 1]) for at in v.folds.values()])
    for n in live:
        if n.index in v.folds:
            _keep_partials(plan, n)
    for at in range(len(plan.phases) + 1):
        v.stages[at] = _turns(plan, live, at)
    _keep(plan, live)


class _Sizes:
    """The row of sizes, with a place for each thing that is asked for, whatever its numbers are."""

    def __init__(self, vectors: Vectors):
        self.row, self.known = vectors.sizes, {}
        self.row.append(0)  # the length of a chunk

    def place(self, key: tuple[object, ...], *numbers: int) -> int:
        """The place of the first of some numbers."""
        if key not in self.known:
            self.known[key] = len(self.row)
            self.row.extend(numbers)
        return self.known[key]

    def run(self, key: tuple[object, ...], shape: tuple[int, ...], run: Run) -> int:
        """The place of a run: its period, its inner size, how many elements it reduces."""
        return self.place((key, run), *period_inner(shape, run), math.prod(shape[slice(*run)]))


def _measure(plan: Plan, n: Node, sizes: _Sizes) -> None:
    """The place of a vector's length: that of an argument of as many elements, if there is one."""
    v = plan.vectors
    alike = [a for a in n.args if plan.kind(a) == VECTOR and a.numel == n.numel]
    alike = sorted(alike, key=lambda a: a.op == "load")  # what comes from memory shares no loop
    if n.op in REDUCED:
        run, full = _run(n, n.args[0]), plan.kind(n.args[0]) == FULL
        origin = "p" if full else n.args[0].index
        at = sizes.place(("reduced", origin, run), n.numel)
        if full:
            assert run is not None
            v.folds[n.index] = sizes.place(
                ("fold", run), *period_inner(plan.shape, run), 0, 0
            )  # the last two: see _keep_partials
    elif alike and n.op != "expand":
        at = v.length[alike[0].index]
    else:
        at = sizes.place(("node", n.index), n.numel)
    v.length[n.index] = at


def _read(plan: Plan, n: Node, a: Node, sizes: _Sizes) -> None:
    """The place of the run that an op reads or reduces a vector over, where elements do not pair."""
    run = _run(n, a)
    assert run is not None
    if n.op in REDUCED:
        plan.vectors.runs[n.index, a.index] = sizes.run(("of", a.index), a.shape or (), run)
    elif run != (0, 0):
        loop = "p" if plan.kind(n) == FULL else n.index
        plan.vectors.runs[n.index, a.index] = sizes.run(("in", loop), n.shape or (), run)


# ---------------------------------------------------------------- memory


def _scratch(plan: Plan, n: Node, dtype: torch.dtype, elements: int) -> None:
    slot = len(plan.slots)
    plan.slots.append(Slot(f"v{slot}", "scratch", dtype, False))
    plan.loadable_from[n.index] = (slot, -1)
    plan.vectors.scratch[slot] = elements


def _keep_partials(plan: Plan, n: Node) -> None:
    """Memory for a fold: its results, then what each chunk adds to them.

    Element `e` of chunk `c` is at `apart + e + c * shift`: neighbours share no more than one period.
    Chunks of whole periods share nothing, and leave the results themselves.
    """
    v = plan.vectors
    at, chunk = v.folds[n.index], v.sizes[0]
    period, inner = v.sizes[at], v.sizes[at + 1]
    apart, chunks = n.numel, -(-math.prod(plan.shape) // chunk)
    if chunk % period == 0:
        inner = apart = 0
    v.sizes[at + 2 : at + 4] = [inner, apart]
    _scratch(plan, n, torch.float64, n.numel + apart + chunks * inner)


def _keep(plan: Plan, live: Sequence[Node]) -> None:
    """Memory for the vectors that are read outside of the loop that makes them."""
    turn = {
        n.index: (at, i)
        for at, turns in plan.vectors.stages.items()
        for i, nodes in enumerate(turns)
        for n in nodes
    }
    wanted = {n.index for _, n in plan.tail}
    for n in live:
        if plan.kind(n) in (FULL, VECTOR, SCALAR):
            mine = turn.get(n.index)
            alone = n.op in REDUCED
            if alone and plan.kind(n) == VECTOR:
                wanted.add(n.index)
            wanted.update(a.index for a in n.args if alone or turn.get(a.index) != mine)
    for n in live:
        if plan.kind(n) == VECTOR and n.index in wanted and n.index not in plan.loadable_from:
            _scratch(plan, n, n.dtype, n.numel)


# ---------------------------------------------------------------- turns


def _turns(plan: Plan, live: Sequence[Node], at: int) -> list[list[Node]]:
    """What scalar stage `at` computes, in order; a vector joins the last loop of its length, if it can."""
    turns: list[list[Node]] = []
    when: dict[int, int] = {}
    last: dict[int, int] = {}  # length -> its last loop
    for n in live:
        kind = plan.kind(n)
        if kind not in (SCALAR, VECTOR) or plan.ready_in[n.index] != at or n.op == "over":
            continue
        if n.op == "load" and kind == VECTOR:
            continue
        joins = kind == VECTOR and n.op not in REDUCED
        loop = last.get(plan.vectors.length[n.index], -1) if joins else -1
        if loop >= 0 and all(_before(n, a, loop, when, plan.vectors.runs) for a in n.args):
            turns[loop].append(n)
        else:
            loop = len(turns)
            turns.append([n])
            if joins:
                last[plan.vectors.length[n.index]] = loop
        when[n.index] = loop
    return turns


def _before(
    n: Node, a: Node, loop: int, when: Mapping[int, int], runs: Mapping[tuple[int, int], int]
) -> bool:
    """Whether an argument is there when a loop computes the element that takes it."""
    made = when.get(a.index, -1)
    return made < loop or (made == loop and (n.index, a.index) not in runs)
