"""Host scalars as Python: one function that checks a trace's guards and computes its numbers."""

import math
from collections.abc import Callable, Iterable
from ctypes import c_float
from dataclasses import dataclass
from typing import Any

from weft.engine.graph import Node
from weft.engine.trace.api import Traced

__all__ = ["HOST_SCOPE", "HostFunction", "evaluate", "host_function", "host_source", "is_leaf"]

LEAVES = frozenset(("hyper", "step", "loss", "number", "shared"))
INFIX = {
    "+": "+", "-": "-", "*": "*", "/": "/", "//": "//", "%": "%", "**": "**",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
    "&": "&", "|": "|", "^": "^", "<<": "<<", ">>": ">>",
}  # fmt: skip
OTHER = {
    "neg": "(-{0})", "not": "(not {0})", "and": "({0} and {1})", "or": "({0} or {1})",
    "select": "({1} if {0} else {2})", "invert": "(~{0})", "bit_length": "{0}.bit_length()",
    "mantissa": "math.frexp({0})[0]", "exponent": "math.frexp({0})[1]",
}  # fmt: skip
BARE = frozenset(("abs", "min", "max", "float", "int", "bool", "round", "float32"))


def float32(x: float) -> float:
    """A number rounded to single precision."""
    return c_float(x).value


HOST_SCOPE: dict[str, Any] = {
    "math": math,
    "float32": float32,
}  # what the code of a host function sees


def is_leaf(node: Node) -> bool:
    """Whether a host scalar comes from outside: a hyper, the step, the loss, a number of state."""
    return node.op in LEAVES


def expression(node: Node, name: Callable[[Node], str]) -> str:
    """One host scalar as a Python expression over the names of its arguments."""
    a = [name(x) for x in node.args]
    if node.op == "const":
        return literal(node.attr("value"))
    if node.op in INFIX:
        return f"({a[0]} {INFIX[node.op]} {a[1]})"
    if node.op in OTHER:
        return OTHER[node.op].format(*a)
    if node.op in BARE:
        return f"{node.op}({', '.join(a)})"
    return f"math.{node.op}({', '.join(a)})"


def literal(value: Any) -> str:
    """A number as source that gives the same number."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    return repr(value)


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
        lines.append(f"h{n.index} = {leaf(n) if is_leaf(n) else expression(n, name)}")

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


def evaluate(op: str, values: list[Any]) -> Any:
    """The value of a host op on numbers."""
    key = (op, len(values))
    if key not in _evaluators:
        args = tuple(Node("hyper", (), (), None, float, i) for i in range(len(values)))
        text = expression(Node(op, args, (), None, float, len(args)), lambda x: f"a{x.index}")
        names = ", ".join(f"a{i}" for i in range(len(args)))
        _evaluators[key] = eval(f"lambda {names}: {text}", dict(HOST_SCOPE))
    return _evaluators[key](*values)


_evaluators: dict[tuple[str, int], Callable[..., Any]] = {}
