"""Host scalars as Python: one function that checks a trace's guards and computes its numbers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from weft.engine.ir.graph import Node
from weft.engine.ir.ops import HOST_SCOPE, host_expression, literal
from weft.engine.ir.traced import Traced

__all__ = ["HostFunction", "host_function", "host_source"]


def host_source(
    traced: Traced, nodes: Iterable[Node], leaf: Callable[[Node], str], failed: str = "return None"
) -> list[str]:
    """Lines that check the guards in order and bind `h<index>` for each of `nodes`.

    Args:
        traced: whose decisions and pins are checked; each comes before what was computed after it.
        nodes: the host scalars that are wanted.
        leaf: the expression that gives a leaf (a hyper, the step, ...).
        failed: the statement for a guard that does not hold.
    """
    lines: list[str] = []
    done: set[int] = set()
    name = lambda n: literal(n.attr("value")) if n.op == "const" else f"h{n.index}"

    def need(n: Node) -> None:
        if n.index in done or n.op == "const":
            return
        done.add(n.index)
        for a in n.args:
            need(a)
        text = leaf(n) if n.is_leaf else host_expression(n.op, [name(a) for a in n.args])
        lines.append(f"h{n.index} = {text}")

    for node, outcome in traced.decisions:
        need(node)
        lines.append(f"if {'not ' if outcome else ''}{name(node)}: {failed}")
    for node, value in traced.pins:
        need(node)
        lines.append(f"if {name(node)} != {literal(value)}: {failed}")
    for node in nodes:
        need(node)
        if node.op == "const" and node.index not in done:
            done.add(node.index)
            lines.append(f"h{node.index} = {name(node)}")
    return lines


@dataclass(frozen=True, slots=True)
class HostFunction:
    """Checks a trace's guards and computes host scalars.

    Attributes:
        leaves: what it is called with, in this order.
        nodes: what it returns the values of, in this order.
        source: its code.
    """

    leaves: tuple[Node, ...]
    nodes: tuple[Node, ...]
    source: str
    fn: Callable[..., tuple[Any, ...] | None]

    def __call__(self, *values: Any) -> tuple[Any, ...] | None:
        """The values of `nodes`, or None where a guard does not hold."""
        return self.fn(*values)


def host_function(traced: Traced, nodes: Iterable[Node]) -> HostFunction:
    """One Python function from the values of the leaves to those of `nodes`, guards checked."""
    nodes = tuple(nodes)
    leaves: dict[int, Node] = {}

    def leaf(n: Node) -> str:
        leaves[n.index] = n
        return f"v{n.index}"

    body = host_source(traced, nodes, leaf)
    returned = "".join(f"h{n.index}, " for n in nodes)
    parameters = ", ".join(f"v{i}" for i in leaves)
    lines = [f"def host({parameters}):", *(f"    {x}" for x in body), f"    return ({returned})"]
    source = "\n".join(lines)
    scope: dict[str, Any] = dict(HOST_SCOPE)
    exec(source, scope)
    return HostFunction(tuple(leaves.values()), nodes, source, scope["host"])
