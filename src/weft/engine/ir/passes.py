"""Passes over graphs: constants that follow from a shape get a node for each of their uses.

Common subexpressions are found as a graph is built (`Graph.add`), numbers that are known are folded
by the tracer, and dead code is what `Graph.live` leaves out.
"""

from dataclasses import replace

from weft.engine.ir.graph import Graph, Node, Output
from weft.engine.ir.traced import Traced

__all__ = ["uses_apart"]


def uses_apart(traced: Traced) -> Traced:
    """The same trace with a node for each use of a constant.

    Where two sizes happen to be equal, the constants that follow from them would be one node in this
    shape and two in others: another graph, for which another kernel would be built.
    """
    graph = Graph()
    made: dict[int, Node] = {}

    given = {o.node.index for o in traced.graph.outputs}  # what is combined comes before the result

    def own(n: Node) -> Node:
        if n.op != "const":
            return made[n.index]
        use = len(graph.nodes)
        return graph.add("const", dtype=n.dtype, value=n.attr("value"), use=use)

    for n in traced.graph.nodes:
        graph.source = n.source
        if n.op != "const":
            args = tuple(map(own, n.args))
            made[n.index] = graph.add(n.op, args, shape=n.shape, dtype=n.dtype, **dict(n.attrs))
        elif n.index in given:
            made[n.index] = own(n)
    graph.outputs = [Output(o.kind, o.name, made[o.node.index]) for o in traced.graph.outputs]
    return replace(
        traced,
        graph=graph,
        decisions=[(own(n), outcome) for n, outcome in traced.decisions],
        pins=[(own(n), value) for n, value in traced.pins],
    )
