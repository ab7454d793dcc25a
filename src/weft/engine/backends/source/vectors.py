"""What stages say of vectors. `dim` is the tensor's row of sizes."""

from collections.abc import Callable, Sequence
from typing import Any

from weft.engine.backends.source import ops
from weft.engine.backends.source.layout import laid
from weft.engine.ir.graph import Node
from weft.engine.ir.ops import REDUCED
from weft.engine.plan.plan import VECTOR

__all__ = ["loop", "stored", "total"]


def loop(scope: Any, nodes: Sequence[Node], outer: Callable[[Node, Node], str | None]) -> list[str]:
    """The vectors that are computed together: a fold's results, a reduction, or a loop."""
    plan, n = scope.plan, nodes[0]
    length = f"dim[{laid(plan).length[n.index]}]"
    if n.index in laid(plan).folds:
        how, start = ops.COMBINE[n.op]
        to = scope.pointer(plan.loadable_from[n.index][0])
        offset = laid(plan).folds[n.index]
        return [f"    weft_gather_{how}({to}, {length}, dim + {offset}, dim[0], chunks, {start});"]
    if n.op in REDUCED:
        slot = plan.loadable_from[n.index][0]
        text = ops.stored(ops.cast(f"a{n.index}", float, n.dtype), n.dtype, plan.slots[slot].dtype)
        return scope.loop(length, [*total(scope, n, "i"), f"{scope.pointer(slot)}[i] = {text};"])
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
    return scope.loop(length, lines)


def total(
    scope: Any, n: Node, result: str = "0", loop: str = "int64_t r = 0; r < {count}; r++"
) -> list[str]:
    """A vector's reduction to its element `result`, in double: `a` and the number of the value."""
    v, a = laid(scope.plan), n.args[0]
    offset = v.runs[n.index, a.index]
    how, start = ops.COMBINE[n.op]
    period, inner, count = (f"dim[{offset + k}]" for k in range(3))
    element = f"{result} / {inner} * {period} + {result} % {inner} + r * {inner}"
    return [
        f"    double a{n.index} = {start};",
        f"    for ({loop.format(count=count)}) {{",
        f"        const double v = (double){scope.element(a, element)}, a = a{n.index};",
        f"        a{n.index} = {ops.COMBINED[how]};",
        "    }",
    ]


def stored(scope: Any, slot: int, n: Node) -> list[str]:
    """The last stage's copy of a vector into a state."""
    text = ops.stored(scope.element(n, "i"), n.dtype, scope.plan.slots[slot].dtype)
    length = f"dim[{laid(scope.plan).length[n.index]}]"
    return scope.loop(length, [f"{scope.pointer(slot)}[i] = {text};"])


def _element_of(i: str, run: int | None) -> str:
    return i if run is None else f"{i} / dim[{run}] * dim[{run + 1}] + {i} % dim[{run + 1}]"
