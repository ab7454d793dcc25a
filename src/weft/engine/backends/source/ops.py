"""The text of each op: `{0}` and `{1}` are the arguments, `{f}` the suffix of the C type."""

import math
import struct

import torch

from weft.engine.ir.graph import Node
from weft.engine.ir.ops import REDUCED

__all__ = [
    "COMBINE",
    "COMBINED",
    "CTYPE",
    "HALF",
    "expression",
    "literal",
    "loaded",
    "lowers",
    "rounded",
    "stored",
]

CTYPE = {
    torch.float32: "float", torch.float64: "double", torch.bool: "int", torch.int8: "int8_t",
    torch.uint8: "uint8_t", torch.int16: "int16_t", torch.int32: "int32_t", torch.int64: "int64_t",
    float: "double", int: "double", bool: "int",
    torch.bfloat16: "float", torch.float16: "float",  # in a register: rounded already
}  # fmt: skip
HALF = {torch.bfloat16: "bf16", torch.float16: "f16"}
STORED = CTYPE | {torch.bool: "uint8_t", torch.bfloat16: "uint16_t", torch.float16: "uint16_t"}

# reduction -> the operation that combines, and what it starts from
COMBINE = {
    "sum": ("sum", "0"), "prod": ("prod", "1"), "amax": ("amax", "-INFINITY"),
    "amin": ("amin", "INFINITY"), "any": ("amax", "0"), "all": ("amin", "1"),
}  # fmt: skip
COMBINED = {"sum": "a + v", "prod": "a * v", "amax": "WEFT_MAX(v, a)", "amin": "WEFT_MIN(v, a)"}

ARITHMETIC = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "neg": "-{0}",
    "maximum": "WEFT_MAX({0}, {1})", "minimum": "WEFT_MIN({0}, {1})",
    "lt": "{0} < {1}", "le": "{0} <= {1}", "gt": "{0} > {1}", "ge": "{0} >= {1}",
    "eq": "{0} == {1}", "ne": "{0} != {1}", "where": "{0} ? {1} : {2}", "sign": "({0} > 0) - ({0} < 0)",
}  # fmt: skip
FLOATING = {
    "div": "{0} / {1}", "sqrt": "sqrt{f}({0})", "rsqrt": "1{s} / sqrt{f}({0})", "abs": "fabs{f}({0})",
    "reciprocal": "1{s} / {0}", "copysign": "copysign{f}({0}, {1})", "fmod": "fmod{f}({0}, {1})",
    "remainder": "weft_remainder{f}({0}, {1})", "sigmoid": "1{s} / (1{s} + exp{f}(-{0}))",
    "round": "rint{f}({0})", "isnan": "{0} != {0}", "isinf": "fabs{f}({0}) == INFINITY",
    "isfinite": "fabs{f}({0}) < INFINITY",
    **{op: op + "{f}({0}, {1})" for op in ("pow", "atan2")},
    **{op: op + "{f}({0})" for op in (
        "exp", "exp2", "log", "log2", "log10", "log1p", "expm1", "sin", "cos", "tan", "asin", "acos",
        "atan", "sinh", "cosh", "tanh", "erf", "floor", "ceil", "trunc",
    )},
}  # fmt: skip
LOGICAL = {
    "and": "{0} & {1}", "or": "{0} | {1}", "xor": "{0} ^ {1}", "not": "!{0}", "where": "{0} ? {1} : {2}",
    "eq": "{0} == {1}", "ne": "{0} != {1}", "lt": "{0} < {1}", "le": "{0} <= {1}", "gt": "{0} > {1}",
    "ge": "{0} >= {1}", "maximum": "{0} | {1}", "minimum": "{0} & {1}",
}  # fmt: skip
# host scalars that depend on a value over all parameters are computed here, in double
HOSTED = ARITHMETIC | FLOATING | LOGICAL | {
    "+": "{0} + {1}", "-": "{0} - {1}", "*": "{0} * {1}", "/": "{0} / {1}", "**": "pow({0}, {1})",
    "//": "floor({0} / {1})", "%": "weft_remainder({0}, {1})", "min": "{1} < {0} ? {1} : {0}",
    "max": "{1} > {0} ? {1} : {0}", "select": "{0} ? {1} : {2}", "float": "{0}", "int": "trunc({0})",
    "bool": "{0} != 0",
}  # fmt: skip
# torch computes these powers without pow
POWERS = {
    0.5: "sqrt{f}({0})", 2: "{0} * {0}", 3: "{0} * {0} * {0}", -0.5: "1{s} / sqrt{f}({0})",
    -1: "1{s} / {0}", -2: "1{s} / ({0} * {0})",
}  # fmt: skip


def operand_dtype(n: Node) -> object:
    """The type that a pointwise op's arguments have: its host scalars take it."""
    return next((a.dtype for a in n.args if not a.is_host), n.dtype)


def _table(n: Node) -> dict[str, str]:
    if n.is_host:
        return HOSTED
    dtype = operand_dtype(n) if n.op != "where" else n.dtype
    if dtype is torch.bool:
        return LOGICAL
    return ARITHMETIC | FLOATING if dtype in (torch.float32, torch.float64) else ARITHMETIC


def lowers(n: Node) -> bool:
    """Whether there is C for a pointwise op or a full reduction."""
    if n.dtype not in CTYPE or any(a.dtype not in CTYPE for a in n.args):
        return False
    if n.op != "cast" and (n.dtype in HALF or any(a.dtype in HALF for a in n.args)):
        return False  # how torch's 16-bit arithmetic rounds is its own affair
    if n.op in REDUCED:
        return True
    if n.op == "cast":
        return True
    return n.op in _table(n)


def expression(n: Node, args: list[str]) -> str:
    """One op on the texts of its arguments."""
    if n.op == "cast":
        text, source, through = args[0], n.args[0].dtype, n.attr("through", n.dtype)
        if through in HALF:
            text, source = rounded(cast(text, source, torch.float32), through), torch.float32
        return cast(text, source, n.dtype)
    text = _table(n)[n.op]
    if n.op == "pow" and n.args[1].op == "const":
        text = POWERS.get(n.args[1].attr("value"), text)
    single = operand_dtype(n) is torch.float32 or (n.op == "where" and n.dtype is torch.float32)
    return "(" + text.format(*args, f="f" if single else "", s=".0f" if single else ".0") + ")"


def cast(text: str, source: object, target: object) -> str:
    """A value in another type."""
    if target is torch.bool or target is bool:
        return text if source in (torch.bool, bool) else f"({text} != 0)"
    return text if CTYPE[source] == CTYPE[target] else f"({CTYPE[target]}){text}"


def rounded(text: str, to: torch.dtype) -> str:
    """A float as a 16-bit type keeps it, if that is what it is for."""
    return loaded(stored(text, torch.float32, to), to, torch.float32) if to in HALF else text


def loaded(text: str, stored: torch.dtype, dtype: torch.dtype) -> str:
    """What is in memory, in the type that is computed in."""
    if stored in HALF:
        text, stored = f"weft_from_{HALF[stored]}({text})", torch.float32
    return cast(text, stored, dtype)


def stored(text: str, dtype: object, to: torch.dtype) -> str:
    """What is computed, in the type that is kept; 16-bit types are rounded to nearest."""
    if to in HALF:
        return f"weft_to_{HALF[to]}({cast(text, dtype, torch.float32)})"
    return cast(text, dtype, to)


def literal(value: float | int | bool, dtype: object) -> str:
    """A constant that is exactly this number in this type."""
    ctype = CTYPE[dtype]
    if dtype in (torch.bool, bool):
        return str(int(bool(value)))
    if ctype not in ("float", "double"):
        return (
            f"({ctype}){int(value)}LL" if abs(int(value)) < 2**63 else f"({ctype}){int(value)}ULL"
        )
    x = float(value)
    if ctype == "float" and math.isfinite(x):
        x = _single(x)
    if math.isnan(x):
        return "NAN"
    if math.isinf(x):
        return "INFINITY" if x > 0 else "(-INFINITY)"
    text = x.hex() + ("f" if ctype == "float" else "")
    return f"({text})" if text.startswith("-") else text


def _single(x: float) -> float:
    try:
        return struct.unpack("f", struct.pack("f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)
