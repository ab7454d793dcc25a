"""Values on the stack: each is the set of its possible origins."""

from types import CodeType
from typing import NamedTuple

__all__ = [
    "ANYTHING", "NOTHING", "NO_DICT", "Function", "Origin", "Value", "arg", "constant", "flat", "items",
]  # fmt: skip

Origin = tuple  # (kind, ...)
Value = frozenset[Origin]

ANYTHING: Value = frozenset([("anything",)])
NO_DICT: Value = frozenset([("no dict",)])
NOTHING: Value = frozenset()  # the empty place beside what is called


class Function(NamedTuple):
    """A function as far as its bytecode and the names around it go; it keeps no object alive."""

    code: CodeType
    around: tuple[tuple[str, Origin], ...]  # its globals, free variables, and defaults as "name="


def arg(name: str) -> Value:
    """The argument `name`, or what shares memory with it."""
    return frozenset([("arg", name)])


def constant(value: object) -> Value:
    """A constant of the code."""
    return frozenset([("const", value)])


def flat(value: Value) -> Value:
    """A value's origins, with those of what it holds as a tuple or list."""
    held = [o[1] for o in value if o[0] == "items"]
    return value if not held else frozenset().union(value, *held)


def items(*values: Value) -> Value:
    """A tuple or a list."""
    held = flat(frozenset().union(*values))
    return frozenset([("items", frozenset(o for o in held if o[0] != "items"))])
