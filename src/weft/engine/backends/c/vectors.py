"""The C of vectors: their loops in scalar stages, and how passes read them and reduce to them.

`dim` is the tensor's row of sizes. A pass reads a vector through a *window*: a block's elements of
it, one for each element of the parameter, so that the loop over them divides nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

from weft.engine.backends.c import ops
from weft.engine.backends.c.layout import laid
from weft.engine.ir.graph import Node
from weft.engine.ir.ops import REDUCED
from weft.engine.plan.plan import VECTOR, Plan

__all__ = ["begin_fold", "fill", "fold", "stored", "total", "turn", "window", "windows"]


# ---------------------------------------------------------------- scalar stages


def turn(scope: Any, nodes: Sequence[Node], outer: Callable[[Node, Node], str | None]) -> list[str]:
    """The vectors that are computed together: a fold's results, a reduction, or a loop."""
    plan, n = scope.plan, nodes[0]
    length = f"dim[{laid(plan).length[n.index]}]"
    if n.index in laid(plan).folds:
        how, start = ops.COMBINE[n.op]
        to = scope.pointer(plan.loadable_from[n.index][0])
        at = laid(plan).folds[n.index]
        return [f"    weft_gather_{how}({to}, {length}, dim + {at}, dim[0], chunks, {start});"]
    if n.op in REDUCED:
        slot = plan.loadable_from[n.index][0]
        text = ops.stored(ops.cast(f"a{n.index}", float, n.dtype), n.dtype, plan.slots[slot].dtype)
        return _loop(length, [*total(scope, n, "i"), f"{scope.pointer(slot)}[i] = {text};"])
    inside = {x.index for x in nodes}

    def local(x: Node, a: Node) -> str | None:
        if plan.kind(a) != VECTOR:
            return outer(x, a)
        run = laid(plan).runs.get((x.index, a.index))
        here = run is None and a.index in inside
        return f"x{a.index}" if here else scope.element(a, _element_of("i", run))

    lines = []
    for x in nodes:
        lines.append(f"const {ops.CTYPE[x.dtype]} x{x.index} = {scope.compute(x, local)};")
        if x.index in plan.loadable_from:
            slot = plan.loadable_from[x.index][0]
            text = ops.stored(f"x{x.index}", x.dtype, plan.slots[slot].dtype)
            lines.append(f"{scope.pointer(slot)}[i] = {text};")
    return _loop(length, lines)


def _loop(length: str, lines: Sequence[str]) -> list[str]:
    return [
        f"    for (int64_t i = 0; i < {length}; i++) {{", *("        " + x for x in lines), "    }",
    ]  # fmt: skip


def total(scope: Any, n: Node, result: str = "0") -> list[str]:
    """A vector's reduction to its element `result`, in double: `a` and the number of the value."""
    v, a = laid(scope.plan), n.args[0]
    at = v.runs[n.index, a.index]
    how, start = ops.COMBINE[n.op]
    period, inner, count = (f"dim[{at + k}]" for k in range(3))
    element = f"{result} / {inner} * {period} + {result} % {inner} + r * {inner}"
    return [
        f"    double a{n.index} = {start};",
        f"    for (int64_t r = 0; r < {count}; r++) {{",
        f"        const double v = (double){scope.element(a, element)}, a = a{n.index};",
        f"        a{n.index} = {ops.COMBINED[how]};",
        "    }",
    ]


def stored(scope: Any, slot: int, n: Node) -> str:
    """The last scalar stage's copy of a vector into a state."""
    text = ops.stored(scope.element(n, "i"), n.dtype, scope.plan.slots[slot].dtype)
    length = f"dim[{laid(scope.plan).length[n.index]}]"
    return f"    for (int64_t i = 0; i < {length}; i++) {scope.pointer(slot)}[i] = {text};"


def _element_of(i: str, run: int | None) -> str:
    return i if run is None else f"{i} / dim[{run}] * dim[{run + 1}] + {i} % dim[{run + 1}]"


# ---------------------------------------------------------------- passes


def window(plan: Plan, n: Node, a: Node) -> str:
    """The name of the window through which an op sees a vector."""
    run = laid(plan).runs.get((n.index, a.index))
    return f"w{a.index}" if run is None else f"w{a.index}along{run}"


def windows(plan: Plan, body: Sequence[Node]) -> dict[str, tuple[Node, Node]]:
    """The windows of a pass: name -> (an op that looks through it, the vector)."""
    return {
        window(plan, n, a): (n, a) for n in body for a in n.args if plan.kind(a) == VECTOR
    }  # fmt: skip


def fill(scope: Any, n: Node, a: Node) -> str:
    """A window's elements for the block at hand."""
    run, name = laid(scope.plan).runs.get((n.index, a.index)), window(scope.plan, n, a)
    if run is None:
        text = scope.element(a, "start + b + i")
        return f"        for (int64_t i = 0; i < m; i++) {name}[i] = {text};"
    return f"        WEFT_SPREAD({name}, {scope.element(a, 'c')}, start + b, m, dim + {run});"


def begin_fold(scope: Any, n: Node) -> list[str]:
    """The partial results of this chunk, at their start."""
    at = laid(scope.plan).folds[n.index]
    memory = scope.pointer(scope.plan.loadable_from[n.index][0])
    start = ops.COMBINE[n.op][1]
    return [
        f"    double *f{n.index} = {memory} + dim[{at + 3}] + start / dim[0] * dim[{at + 2}];",
        f"    weft_begin(f{n.index}, start, n, dim + {at}, {start});",
    ]


def fold(plan: Plan, n: Node, function: str, buffer: str) -> str:
    """A block's part in a reduction over a run."""
    at = laid(plan).folds[n.index]
    return f"        {function}(f{n.index}, {buffer}, start + b, m, dim + {at});"
