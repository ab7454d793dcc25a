"""How the C of a plan lies in memory: chunks, the row of sizes, partial results, loops of scalars.

A pass reduces a chunk at a time: partial results are of one chunk, and added up in the order of chunks.
Vectors of one length share a loop of a scalar stage, where none waits for another.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from weft.engine.ir.graph import Node
from weft.engine.ir.ops import REDUCED
from weft.engine.plan.axes import Run
from weft.engine.plan.plan import FULL, SCALAR, VECTOR, Plan, Role, Slot
from weft.engine.plan.vectors import run_over

__all__ = ["CHUNK", "ChunkLayout", "lay_out"]

CHUNK = 16384  # elements; a partial result is of one chunk, so this is part of the arithmetic
ROWS = 16  # of a wide matrix that a chunk has at least: else its partial results outgrow it


@dataclass(slots=True)
class ChunkLayout:
    """How the vectors of a plan are made, and where in a tensor's row of sizes the kernel looks.

    Attributes:
        sizes: the row for the plan's shape, the length of a chunk first; code has places in it only.
        length: vector -> the place of its number of elements; vectors of one place share a loop.
        runs: (value, its argument) -> the place of the run that it reads or reduces its vector over;
            without one, elements correspond.
        folds: a full value's reduction over a run -> the place of the run and of its partial results.
        stages: what each scalar stage computes, in order: a scalar alone, or vectors that share a loop.
        scratch: slot -> how many elements this shape needs.
    """

    sizes: list[int] = field(default_factory=list)
    length: dict[int, int] = field(default_factory=dict)
    runs: dict[tuple[int, int], int] = field(default_factory=dict)
    folds: dict[int, int] = field(default_factory=dict)
    stages: dict[int, list[list[Node]]] = field(default_factory=dict)
    scratch: dict[int, int] = field(default_factory=dict)

    def key(self, place: Mapping[int, int]) -> tuple[object, ...]:
        """The places in the row, whatever the sizes there are."""
        return (
            tuple((place[i], offset) for i, offset in self.length.items()),
            tuple((place[i], place[a], offset) for (i, a), offset in self.runs.items()),
            tuple((place[i], offset) for i, offset in self.folds.items()),
        )


def laid(plan: Plan) -> ChunkLayout:
    """The layout that this backend has given a plan."""
    assert isinstance(plan.layout, ChunkLayout)
    return plan.layout


def lay_out(plan: Plan, most: int | None = None) -> None:
    """Give each vector its sizes, its memory and its place in a scalar stage.

    `most` chunks share a result, where the order in which they are added takes its time.
    """
    v = plan.layout = ChunkLayout()
    live = list(plan.graph.live())
    if VECTOR in plan.kinds.values():
        sizes = _Sizes(v)
        for n in live:
            if plan.kind(n) == VECTOR:
                _measure(plan, n, sizes)
            if plan.kind(n) in (FULL, VECTOR, SCALAR):
                for a in n.args:
                    if plan.kind(a) == VECTOR:
                        _read(plan, n, a, sizes)
        folds = [(v.sizes[offset], v.sizes[offset + 1]) for offset in v.folds.values()]
        v.sizes[0] = chunk_length(folds, most)
    for n in live:
        if n.index in v.folds:
            _keep_partials(plan, n)
    for number in range(len(plan.phases) + 1):
        v.stages[number] = _loops(plan, live, number)
    _keep(plan, live)


class _Sizes:
    """The row of sizes, with a place for each thing that is asked for, whatever its numbers are."""

    def __init__(self, layout: ChunkLayout):
        self.row, self.known = layout.sizes, {}
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
    v = laid(plan)
    alike = [a for a in n.args if plan.kind(a) == VECTOR and a.numel == n.numel]
    alike = sorted(alike, key=lambda a: a.op == "load")  # what comes from memory shares no loop
    if n.op in REDUCED:
        run, full = run_over(n, n.args[0]), plan.kind(n.args[0]) == FULL
        origin = "p" if full else n.args[0].index
        offset = sizes.place(("reduced", origin, run), elements(plan, n))
        if full:
            assert run is not None
            v.folds[n.index] = sizes.place(
                ("fold", run), *period_inner(plan.here, run), 0, 0
            )  # the last two: see _keep_partials
    elif alike and n.op != "expand":
        offset = v.length[alike[0].index]
    else:
        offset = sizes.place(("node", n.index), elements(plan, n))
    v.length[n.index] = offset


def _read(plan: Plan, n: Node, a: Node, sizes: _Sizes) -> None:
    """The place of the run that an op reads or reduces a vector over, where elements do not pair."""
    run = run_over(n, a)
    assert run is not None
    if n.op in REDUCED:
        laid(plan).runs[n.index, a.index] = sizes.run(("of", a.index), plan.shape_here(a), run)
    elif run != (0, 0):
        loop = "p" if plan.kind(n) == FULL else n.index
        laid(plan).runs[n.index, a.index] = sizes.run(("in", loop), plan.shape_here(n), run)


# ---------------------------------------------------------------- sizes


def elements(plan: Plan, n: Node) -> int:
    """How many elements of a value there are here."""
    return math.prod(plan.shape_here(n))


def period_inner(shape: Sequence[int], run: Run) -> tuple[int, int]:
    """The period and the inner size of a run, as divisors: at least 1."""
    begin, end = run
    return max(1, math.prod(shape[begin:])), max(1, math.prod(shape[end:]))


def chunk_length(folds: Sequence[tuple[int, int]], most: int | None = None) -> int:
    """Elements of a chunk, for the (period, inner) of what is reduced over dims.

    Whole periods where they fit, so that no result is made in two chunks; else some rows, and of a
    long period so many that `most` chunks make a result.
    """
    long = [(period, inner) for period, inner in folds if period > CHUNK]
    length = max(
        [CHUNK, *(max(ROWS * inner, period // (most or period)) for period, inner in long)]
    )
    fitting = [size for pair in folds for size in pair if size <= length]
    return length - length % max([1, *fitting])


# ---------------------------------------------------------------- memory


def _scratch(plan: Plan, n: Node, dtype: torch.dtype, elements: int) -> None:
    slot = len(plan.slots)
    plan.slots.append(Slot(f"v{slot}", Role.SCRATCH, dtype, False))
    plan.loadable_from[n.index] = (slot, -1)
    laid(plan).scratch[slot] = elements


def _keep_partials(plan: Plan, n: Node) -> None:
    """Memory for a fold: its results, then what each chunk adds to them.

    Element `e` of chunk `c` is at `apart + e + c * shift`: neighbours share no more than one period.
    Chunks of whole periods share nothing, and leave the results themselves.
    """
    v = laid(plan)
    offset, chunk = v.folds[n.index], v.sizes[0]
    period, inner = v.sizes[offset], v.sizes[offset + 1]
    apart, chunks = elements(plan, n), -(-math.prod(plan.here) // chunk)
    if chunk % period == 0:
        inner = apart = 0
    v.sizes[offset + 2 : offset + 4] = [inner, apart]
    _scratch(plan, n, torch.float64, elements(plan, n) + apart + chunks * inner)


def _keep(plan: Plan, live: Sequence[Node]) -> None:
    """Memory for the vectors that are read outside of the loop that makes them."""
    loop_of = {
        n.index: (number, i)
        for number, loops in laid(plan).stages.items()
        for i, nodes in enumerate(loops)
        for n in nodes
    }
    wanted = {n.index for _, n in plan.tail}
    for n in live:
        if plan.kind(n) in (FULL, VECTOR, SCALAR):
            mine = loop_of.get(n.index)
            alone = n.op in REDUCED
            if alone and plan.kind(n) == VECTOR:
                wanted.add(n.index)
            apart = alone or mine is None  # a pass takes what it reads from memory
            wanted.update(a.index for a in n.args if apart or loop_of.get(a.index) != mine)
    for n in live:
        if plan.kind(n) == VECTOR and n.index in wanted and n.index not in plan.loadable_from:
            _scratch(plan, n, n.dtype, elements(plan, n))


# ---------------------------------------------------------------- loops of stages


def _loops(plan: Plan, live: Sequence[Node], number: int) -> list[list[Node]]:
    """What a scalar stage computes, in order; a vector joins the last loop of its length, if it can."""
    loops: list[list[Node]] = []
    when: dict[int, int] = {}
    last: dict[int, int] = {}  # length -> its last loop
    for n in live:
        kind = plan.kind(n)
        if kind not in (SCALAR, VECTOR) or plan.ready_in[n.index] != number or n.is_given:
            continue
        if n.op == "load" and kind == VECTOR:
            continue
        joins = kind == VECTOR and n.op not in REDUCED
        loop = last.get(laid(plan).length[n.index], -1) if joins else -1
        if loop >= 0 and all(_before(n, a, loop, when, laid(plan).runs) for a in n.args):
            loops[loop].append(n)
        else:
            loop = len(loops)
            loops.append([n])
            if joins:
                last[laid(plan).length[n.index]] = loop
        when[n.index] = loop
    return loops


def _before(
    n: Node, a: Node, loop: int, when: Mapping[int, int], runs: Mapping[tuple[int, int], int]
) -> bool:
    """Whether an argument is there when a loop computes the element that takes it."""
    made = when.get(a.index, -1)
    return made < loop or (made == loop and (n.index, a.index) not in runs)
