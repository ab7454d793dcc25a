"""Host scalars as instructions for numbers.c: a step that repeats the last asks Python for nothing."""

from array import array
from collections.abc import Callable, Iterable
from typing import Any

from weft.engine.graph import Node
from weft.engine.trace import Traced, is_leaf

__all__ = ["Code", "assemble"]

# in the order of the enum in numbers.c; "guard" and "pin" check what a trace has found
OPS = {
    op: i
    for i, op in enumerate(
        ("guard", "pin", "+", "-", "*", "/", "**", "neg", "abs", "min", "max",
         "lt", "le", "gt", "ge", "eq", "ne", "not", "and", "or", "select", "float", "bool",
         "sqrt", "exp", "log", "sin", "cos", "tanh", "floor", "ceil")
    )
}  # fmt: skip
ARITY = {"select": 3} | dict.fromkeys(
    ("neg", "abs", "not", "float", "bool", "sqrt", "exp", "log", "sin", "cos", "tanh", "floor", "ceil"),
    1,
)  # fmt: skip
WHOLE = 2**53  # integers beyond it are not all doubles


class Code:
    """The instructions for one row.

    Attributes:
        leaves: (register, hyper, item) of each hyper that is read, in one array.
        codes: (op, whole, to, a, b, c) of each instruction, in one array.
        output: the register of each number of the row.
        registers: their first values, constants in place.
        step: the register of the step, or -1.
    """

    def __init__(self) -> None:
        self.leaves, self.codes, self.output = array("i"), array("i"), array("i")
        self.registers = array("d")
        self.step = -1

    def register(self, value: float = 0.0) -> int:
        """A new one."""
        self.registers.append(value)
        return len(self.registers) - 1


def assemble(
    traced: Traced, row: Iterable[Node], place: Callable[[str], int | None]
) -> Code | None:
    """The code that checks a trace's guards and computes `row`; None where C cannot do what Python does.

    Args:
        traced: whose decisions and pins are checked, each before what was computed after it.
        row: the host scalars that are wanted, in order.
        place: the name of a hyper -> its place among all that are looked at.
    """
    code, known = Code(), dict[int, int]()

    def need(n: Node) -> int:
        if n.index not in known:
            known[n.index] = _leaf(code, n, place) if is_leaf(n) else _computed(code, n, need)
        return known[n.index]

    try:
        for node, outcome in traced.decisions:
            _emit(code, "guard", 0, False, need(node), code.register(float(outcome)))
        for node, value in traced.pins:
            _emit(code, "pin", 0, False, need(node), code.register(_number(value)))
        code.output.extend([need(n) for n in row])
    except _Beyond:
        return None
    return code


class _Beyond(Exception):
    """What C does not compute as Python does."""


def _number(value: Any) -> float:
    if (isinstance(value, int) and abs(value) >= WHOLE) or not isinstance(value, int | float):
        raise _Beyond
    return float(value)


def _leaf(code: Code, n: Node, place: Callable[[str], int | None]) -> int:
    if n.op == "step":
        code.step = code.register()
        return code.step
    at = place(n.attr("name")) if n.op in ("hyper", "shared") else None
    index = n.attr("index", ())
    if at is None or len(index) > 1:
        raise _Beyond
    to = code.register()
    code.leaves.extend((to, at, index[0] if index else -1))
    return to


def _computed(code: Code, n: Node, need: Callable[[Node], int]) -> int:
    if n.op == "const":
        return code.register(_number(n.attr("value")))
    if n.op not in OPS or len(n.args) != ARITY.get(n.op, 2):
        raise _Beyond
    if n.op == "**" and all(a.dtype is int for a in n.args):
        raise _Beyond
    args = [need(a) for a in n.args]
    to = code.register()
    _emit(code, n.op, to, n.dtype is int, *args)
    return to


def _emit(code: Code, op: str, to: int, whole: bool, *args: int) -> None:
    code.codes.extend((OPS[op], whole, to, *args, *[0] * (3 - len(args))))
