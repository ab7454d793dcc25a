"""Host scalars as instructions for scalars.c: a step that repeats the last asks Python for nothing."""

import re
from array import array
from collections.abc import Callable, Iterable
from typing import Any

from weft.engine.ir.graph import Node
from weft.engine.ir.traced import Traced

__all__ = ["INSTRUCTIONS", "Code", "assemble", "cases"]

# op -> its C: `a` and `b` are registers, `x` the result; what returns 0 is left to Python. "guard" and
# "pin" check what a trace has found
INSTRUCTIONS = {
    "guard": "return (a != 0) == (b != 0);",
    "pin": "return a == b;",
    "+": "x = a + b;",
    "-": "x = a - b;",
    "*": "x = a * b;",
    "/": "if (b == 0) return 0; x = a / b;",
    "**": "if ((a < 0 && b != floor(b)) || (a == 0 && b < 0)) return 0; x = pow(a, b);",
    "neg": "x = -a;",
    "abs": "x = fabs(a);",
    "min": "x = b < a ? b : a;",
    "max": "x = b > a ? b : a;",
    "lt": "x = a < b;",
    "le": "x = a <= b;",
    "gt": "x = a > b;",
    "ge": "x = a >= b;",
    "eq": "x = a == b;",
    "ne": "x = a != b;",
    "not": "x = a == 0;",
    "and": "x = a != 0 ? b : a;",
    "or": "x = a != 0 ? a : b;",
    "select": "x = a != 0 ? b : reg[k->c];",
    "float": "x = a;",
    "bool": "x = a != 0;",
    **{op: f"x = {op}(a);" for op in ("sqrt", "exp", "log", "sin", "cos", "tanh", "floor", "ceil")},
}
OPS = {op: number for number, op in enumerate(INSTRUCTIONS)}
WHOLE = 2**53  # integers beyond it are not all doubles


def cases() -> str:
    """The instructions as the cases of a C switch."""
    return "".join(f"case {i}: {INSTRUCTIONS[op]} break;\n" for op, i in OPS.items())


def _arity(op: str) -> int:
    """How many registers an instruction reads."""
    return sum(
        bool(re.search(pattern, INSTRUCTIONS[op])) for pattern in (r"\ba\b", r"\bb\b", r"k->c")
    )


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
            known[n.index] = _leaf(code, n, place) if n.is_leaf else _computed(code, n, need)
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
    if n.op not in OPS or len(n.args) != _arity(n.op):
        raise _Beyond
    if n.op == "**" and all(a.dtype is int for a in n.args):
        raise _Beyond
    args = [need(a) for a in n.args]
    to = code.register()
    _emit(code, n.op, to, n.dtype is int, *args)
    return to


def _emit(code: Code, op: str, to: int, whole: bool, *args: int) -> None:
    code.codes.extend((OPS[op], whole, to, *args, *[0] * (3 - len(args))))
