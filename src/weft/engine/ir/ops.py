"""The one table of ops: what a graph can say. What a backend says of each is its own dialect.

A pointwise op and a full reduction of tensors are torch's by name. A host scalar's op has its Python
text here, which is what it means; backends that compute one too are held to it.
"""

import math
from collections.abc import Callable, Sequence
from ctypes import c_float
from typing import Any

__all__ = [
    "HOST_OPS",
    "HOST_SCOPE",
    "LEAVES",
    "POINTWISE",
    "PREDICATES",
    "REDUCED",
    "VIEWS",
    "evaluate",
    "host_expression",
    "literal",
]

# pointwise op -> number of arguments; comparisons and predicates give torch.bool
POINTWISE = {
    "add": 2, "sub": 2, "mul": 2, "div": 2, "pow": 2, "atan2": 2, "fmod": 2, "remainder": 2,
    "maximum": 2, "minimum": 2, "copysign": 2,  # maximum and minimum keep NaN, as torch's do
    "neg": 1, "abs": 1, "sign": 1, "sqrt": 1, "rsqrt": 1, "reciprocal": 1, "exp": 1, "exp2": 1,
    "log": 1, "log2": 1, "log10": 1, "log1p": 1, "expm1": 1, "sin": 1, "cos": 1, "tan": 1,
    "asin": 1, "acos": 1, "atan": 1, "sinh": 1, "cosh": 1, "tanh": 1, "sigmoid": 1, "erf": 1,
    "floor": 1, "ceil": 1, "round": 1, "trunc": 1,
    "lt": 2, "le": 2, "gt": 2, "ge": 2, "eq": 2, "ne": 2, "isnan": 1, "isinf": 1, "isfinite": 1,
    "and": 2, "or": 2, "xor": 2, "not": 1, "where": 3, "cast": 1,
}  # fmt: skip
REDUCED = frozenset(("sum", "prod", "amax", "amin", "any", "all"))
VIEWS = ("reshape", "permute", "expand", "slice", "flip", "diagonal")
PREDICATES = frozenset(
    ("lt", "le", "gt", "ge", "eq", "ne", "isnan", "isinf", "isfinite", "any", "all")
)

LEAVES = frozenset(("hyper", "step", "loss", "number", "shared"))  # host scalars from outside
# host op -> its Python over `{0}`, `{1}`, `{2}`; any other is a function of `math`
HOST_OPS = {
    "+": "({0} + {1})", "-": "({0} - {1})", "*": "({0} * {1})", "/": "({0} / {1})",
    "//": "({0} // {1})", "%": "({0} % {1})", "**": "({0} ** {1})", "&": "({0} & {1})",
    "|": "({0} | {1})", "^": "({0} ^ {1})", "<<": "({0} << {1})", ">>": "({0} >> {1})",
    "lt": "({0} < {1})", "le": "({0} <= {1})", "gt": "({0} > {1})", "ge": "({0} >= {1})",
    "eq": "({0} == {1})", "ne": "({0} != {1})", "neg": "(-{0})", "not": "(not {0})",
    "and": "({0} and {1})", "or": "({0} or {1})", "invert": "(~{0})",
    "select": "({1} if {0} else {2})", "bit_length": "{0}.bit_length()",
    "mantissa": "math.frexp({0})[0]", "exponent": "math.frexp({0})[1]",
    **{f: f + "({0})" for f in ("abs", "float", "int", "bool", "float32")},
}  # fmt: skip
OF_SEVERAL = frozenset(("min", "max", "round"))  # Python's own, of as many arguments as there are


def float32(x: float) -> float:
    """A number rounded to single precision."""
    return c_float(x).value


HOST_SCOPE: dict[str, Any] = {"math": math, "float32": float32}  # what host expressions see


def host_expression(op: str, args: Sequence[str]) -> str:
    """One host op as a Python expression over the texts of its arguments."""
    if op in HOST_OPS:
        return HOST_OPS[op].format(*args)
    return f"{'' if op in OF_SEVERAL else 'math.'}{op}({', '.join(args)})"


def literal(value: Any) -> str:
    """A number as source that gives the same number."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    return repr(value)


def evaluate(op: str, values: Sequence[Any]) -> Any:
    """The value of a host op on numbers."""
    key = (op, len(values))
    if key not in _evaluators:
        names = [f"a{i}" for i in range(len(values))]
        text = f"lambda {', '.join(names)}: {host_expression(op, names)}"
        _evaluators[key] = eval(text, dict(HOST_SCOPE))
    return _evaluators[key](*values)


_evaluators: dict[tuple[str, int], Callable[..., Any]] = {}
