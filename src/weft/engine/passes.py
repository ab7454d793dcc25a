"""Passes over graphs: what is the same for parameters of different shapes becomes one graph.

Common subexpressions are found as a graph is built (`Graph.add`), numbers that are known are folded
by the tracer, and dead code is what `Graph.live` leaves out. What is left to do is to see that two
shapes run the same program, with a few constants that differ.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from weft.engine.graph import Graph, Node, Output
from weft.engine.trace.api import Traced

__all__ = ["Family", "merge", "structure", "uses_apart"]


@dataclass(frozen=True)
class Family:
    """Graphs that differ in their shapes and in some constants only.

    Attributes:
        graph: the first member's; a constant that differs is a `column(key)`.
        members: which of the graphs that `merge` was given belong to it.
        columns: key -> the constant's value for each member.
    """

    graph: Graph
    members: tuple[int, ...]
    columns: dict[int, tuple[Any, ...]]


def structure(graph: Graph) -> tuple[Any, ...]:
    """What a graph does, whatever its sizes: equal for graphs that one kernel can run.

    A constant counts at each of its uses, by its kind and not by its value, so that a number that
    happens to equal another in one shape does not make a difference.
    """
    sizes = _parameter_shape(graph)
    at = {n.index: i for i, n in enumerate(_steps(graph))}
    use = lambda a: ("const", a.dtype) if a.op == "const" else at[a.index]
    steps = tuple(
        (n.op, tuple(map(use, n.args)), _attrs(n), _pattern(n, sizes), n.dtype)
        for n in _steps(graph)
    )
    return steps, tuple((o.kind, o.name, use(o.node)) for o in graph.outputs)


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


def merge(graphs: Sequence[Graph]) -> list[Family]:
    """Put together the graphs that are one program; in the order of their first members."""
    alike: dict[Any, list[int]] = {}
    for i, graph in enumerate(graphs):
        alike.setdefault(structure(graph), []).append(i)
    return [_family(graphs, tuple(members)) for members in alike.values()]


def _family(graphs: Sequence[Graph], members: tuple[int, ...]) -> Family:
    """One graph for several of one structure: constants are compared use by use."""
    merged = Graph()
    columns: dict[tuple[Any, ...], Node] = {}
    first = [list(_steps(graphs[i])) for i in members]
    made: dict[int, Node] = {}

    def constant(uses: Iterable[Node]) -> Node:
        values = tuple(n.attr("value") for n in uses)
        if len({repr(v) for v in values}) == 1:
            return merged.const(values[0])
        key = tuple(map(repr, values))
        if key not in columns:
            columns[key] = merged.add("column", dtype=type(values[0]), key=len(columns))
            tables[len(columns) - 1] = values
        return columns[key]

    tables: dict[int, tuple[Any, ...]] = {}
    for same in zip(*first, strict=True):
        n = same[0]
        merged.source = n.source
        args = tuple(
            constant(s.args[k] for s in same) if a.op == "const" else made[a.index]
            for k, a in enumerate(n.args)
        )
        made[n.index] = merged.add(n.op, args, shape=n.shape, dtype=n.dtype, **dict(n.attrs))
    for k, o in enumerate(graphs[members[0]].outputs):
        nodes = [graphs[i].outputs[k].node for i in members]
        merged.output(
            o.kind, o.name, constant(nodes) if o.node.op == "const" else made[o.node.index]
        )
    merged.verify()
    return Family(merged, members, tables)


def _steps(graph: Graph) -> Iterable[Node]:
    """The live nodes without the constants, which count where they are used."""
    return (n for n in graph.live() if n.op != "const")


def _attrs(n: Node) -> Any:
    return tuple((k, type(v).__name__, repr(v)) for k, v in n.attrs)


def _parameter_shape(graph: Graph) -> tuple[int, ...]:
    loads = [n for n in graph.nodes if n.op == "load" and n.attr("slot") in ("p", "grad")]
    return (loads[0].shape or ()) if loads else ()


def _pattern(n: Node, sizes: tuple[int, ...]) -> Any:
    """A shape in terms of the parameter's: which of its dimensions each one is."""
    if n.shape is None:
        return None
    same_rank = len(n.shape) == len(sizes)

    def dimension(i: int, size: int) -> Any:
        if size == 1:
            return "one"
        if same_rank and sizes[i] == size:
            return ("p", i)
        return ("p", sizes.index(size)) if size in sizes else size

    total = 1
    for s in sizes:
        total *= s
    if len(n.shape) == 1 and n.shape[0] == total and n.shape != sizes:
        return "flat"
    return tuple(dimension(i, size) for i, size in enumerate(n.shape))
