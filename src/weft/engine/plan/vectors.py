"""Vectors: which values of a graph are one number a row or a column, and how the scalar stages make them.

A *vector* has the elements that a reduction of the parameter over a run of dims leaves. Chunks of a
pass reduce into partial results of their own; the scalar stage adds these up in the order of chunks. Other
vectors are computed in the scalar stage, in loops that vectors of one length and descent share.
"""

from collections.abc import Sequence

from weft.engine.ir.graph import Node
from weft.engine.ir.ops import REDUCED
from weft.engine.plan.axes import (
    Run,
    lies_along,
    reduced_run,
    run_of,
)
from weft.engine.plan.plan import FULL, HOST, SCALAR, TORCH, VECTOR, Plan

__all__ = ["fits", "is_vector", "only_for_torch", "run_over"]


def is_vector(plan: Plan, n: Node, of: Sequence[str]) -> bool:
    """Whether a value that is neither full nor a scalar can be a vector; `of`: its arguments' kinds."""
    shape = n.shape or ()
    if n.op == "load":
        stays = all(o.node is not n or o.name == n.attr("slot") for o in plan.graph.outputs)
        return n.dtype.is_floating_point and stays and lies_along(shape, plan.shape)
    if n.op in ("full", "over") or (n.op == "expand" and of[0] in (HOST, SCALAR)):
        return lies_along(shape, plan.shape)
    if n.op in REDUCED:
        return of[0] in (FULL, VECTOR) and run_over(n, n.args[0]) is not None
    return VECTOR in of and not {FULL, TORCH}.intersection(of) and fits(n, of)


def fits(n: Node, of: Sequence[str]) -> bool:
    """Whether all the vectors that an op takes are broadcast over runs of dims."""
    vectors = [a for k, a in zip(of, n.args, strict=True) if k == VECTOR]
    return all(run_over(n, a) is not None for a in vectors)


def only_for_torch(plan: Plan, live: Sequence[Node]) -> set[int]:
    """The vectors that nothing but torch takes: it computes them as well."""
    taken = {o.node.index for o in plan.graph.outputs}
    for n in reversed(live):
        if plan.kind(n) in (FULL, SCALAR) or (plan.kind(n) == VECTOR and n.index in taken):
            taken.update(a.index for a in n.args)
    return {n.index for n in live if plan.kind(n) == VECTOR and n.index not in taken}


def run_over(n: Node, a: Node) -> Run | None:
    """The dims that `n` reduces `a` over, or that it broadcasts `a` over."""
    shape, of = n.shape or (), a.shape or ()
    if n.op in REDUCED:
        return reduced_run(n.attr("dims"), of)
    return (0, 0) if n.op == "reshape" else run_of(of, shape)
