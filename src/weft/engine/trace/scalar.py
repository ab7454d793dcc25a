"""The number that a callback gets: a float whose every use is written down.

It holds NaN, so that it passes wherever torch wants a number, and so that a value that escapes the
tracer shows. Arithmetic gives new proxies; a branch is decided on the value of now and recorded;
where Python insists on a concrete number, the value is pinned.
"""

import math
from typing import Any

import torch

from weft.engine.ir.graph import Node
from weft.engine.ir.ops import POINTWISE
from weft.engine.ir.traced import Untraceable
from weft.engine.trace.tracer import Tracer, Wrapped

__all__ = ["Scalar", "choose", "combine", "is_number"]

# a Python operator -> the host op and, for numbers read out of tensors, the tensor op
OPERATORS = {
    "add": ("+", "add"), "sub": ("-", "sub"), "mul": ("*", "mul"), "truediv": ("/", "div"),
    "floordiv": ("//", None), "mod": ("%", "remainder"), "pow": ("**", "pow"),
    "lt": ("lt", "lt"), "le": ("le", "le"), "gt": ("gt", "gt"), "ge": ("ge", "ge"),
    "eq": ("eq", "eq"), "ne": ("ne", "ne"), "and": ("&", "and"), "or": ("|", "or"),
    "xor": ("^", "xor"), "lshift": ("<<", None), "rshift": (">>", None),
}  # fmt: skip
BITS = ("&", "|", "^", "<<", ">>")
MIRRORED = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow",
            "and", "or", "xor", "lshift", "rshift")  # fmt: skip
TENSOR_OPS = dict(OPERATORS.values()) | {"not": "not", "neg": "neg", "abs": "abs", "fabs": "abs"}


class Scalar(float):
    """A symbolic number: a host scalar, or a number read out of a tensor."""

    __slots__ = ("node", "tracer")
    node: Node
    tracer: Tracer

    def __new__(cls, tracer: Tracer, node: Node) -> "Scalar":
        """A proxy for the value of `node`."""
        self = float.__new__(cls, math.nan)
        self.tracer, self.node = tracer, node
        return self

    @property
    def kind(self) -> type:
        """float, int or bool: what the callback would find."""
        d = self.node.dtype
        if self.node.is_host:
            return d
        return bool if d is torch.bool else float if d.is_floating_point else int

    def stored_as(self) -> type:
        """The type that the number has as state."""
        return self.kind

    def __bool__(self) -> bool:
        return self.tracer.decide(self.node) if self.node.is_host else self.tracer.branch(self.node)

    def __neg__(self):
        return combine("neg", self)

    def __pos__(self):
        return self

    def __abs__(self):
        return combine("abs", self)

    def _pin(self, to: type) -> Any:
        if not self.node.is_host:
            raise Untraceable("it needs the value of a number read out of a tensor (an index?)")
        return self.tracer.pin(self.node, to)

    def __index__(self) -> int:
        if self.kind is float:
            raise TypeError("'float' object cannot be interpreted as an integer")
        return self._pin(int)

    def __int__(self) -> int:
        return self._pin(int)

    __trunc__ = __int__

    def __float__(self) -> float:
        return self._pin(float)

    def __round__(self, digits: Any = None) -> Any:
        if not self.node.is_host:
            raise Untraceable("round of a number read out of a tensor")
        return combine("round", self) if digits is None else combine("round", self, digits)

    def __floor__(self):
        return combine("floor", self)

    def __ceil__(self):
        return combine("ceil", self)

    def __invert__(self):
        if self.kind is float:
            raise TypeError("bad operand type for unary ~: 'float'")
        return combine("invert", self)

    def bit_length(self) -> Any:
        """Of an integer."""
        if self.kind is float:
            raise AttributeError("'float' object has no attribute 'bit_length'")
        return combine("bit_length", self)

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **options: Any) -> Any:
        return self.tracer.calls.numpy(ufunc, method, args, options)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __hash__(self) -> int:
        return hash(self._pin(self.kind))  # as a key: another value is another variant

    def __str__(self) -> str:
        raise Untraceable("a number is turned into text")

    def __format__(self, spec: str) -> str:
        raise Untraceable("a number is turned into text")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise Untraceable("a number is copied or pickled")

    def __copy__(self) -> "Scalar":
        return self

    def __deepcopy__(self, memo: Any) -> "Scalar":
        return self

    def __repr__(self) -> str:
        return f"<number {self.node!r}>"

    def is_integer(self) -> Any:
        """Whether the number is whole."""
        return self == combine("floor", self)

    def hex(self) -> str:
        """Not for symbolic numbers."""
        raise Untraceable("float.hex of a number")

    def as_integer_ratio(self) -> Any:
        """Not for symbolic numbers."""
        raise Untraceable("as_integer_ratio of a number")

    @property
    def real(self) -> Any:
        """Itself."""
        return self

    def conjugate(self) -> Any:
        """Itself."""
        return self


def is_number(x: Any) -> bool:
    """Whether `x` works in arithmetic with numbers."""
    return isinstance(x, float | int)


def _operator(name: str, mirrored: bool):
    op = OPERATORS[name][0]

    def method(self: Scalar, other: Any, *modulus: Any) -> Any:
        if isinstance(other, torch.Tensor) or not is_number(other) or modulus:
            return NotImplemented
        if type(other).__module__ == "numpy":  # it decides: `__array_ufunc__`
            return NotImplemented
        if op in BITS and float in (self.kind, getattr(other, "kind", type(other))):
            return NotImplemented
        return combine(op, other, self) if mirrored else combine(op, self, other)

    return method


for _name in OPERATORS:
    setattr(Scalar, f"__{_name}__", _operator(_name, False))
    if _name in MIRRORED:
        setattr(Scalar, f"__r{_name}__", _operator(_name, True))


def combine(op: str, *numbers: Any) -> Any:
    """A host op on numbers, at least one of them symbolic; a tensor op where one is from a tensor."""
    tracer = next(x.tracer for x in numbers if isinstance(x, Scalar))
    operands = [tracer.lift(x) for x in numbers]
    nodes = [x for x in operands if isinstance(x, Node)]
    if len(nodes) == len(operands):
        return Scalar(tracer, tracer.host(op, *nodes))
    return Scalar(tracer, _on_tensors(tracer, op, operands))


def _on_tensors(tracer: Tracer, op: str, operands: list[Node | Wrapped]) -> Node:
    """The op in double (or int64) on 0-dim tensors, as Python does it on numbers."""
    if op == "float":
        return tracer.cast(tracer.tensor(operands[0]), torch.float64)
    if op == "int":
        return tracer.cast(tracer.tensor(operands[0]), torch.int64)
    if op == "//":
        return tracer.pointwise("floor", _on_tensors(tracer, "/", operands))
    if op == "float32":
        single = tracer.cast(tracer.tensor(operands[0]), torch.float32)
        return tracer.cast(single, torch.float64)
    name = TENSOR_OPS.get(op, op)
    if POINTWISE.get(name or "") != len(operands):
        raise Untraceable(f"{op} of a number read out of a tensor")
    if name in ("and", "or", "xor", "not") and all(_kind(x) is bool for x in operands):
        return tracer.pointwise(name, *operands, dtype=torch.bool)
    floats = name in ("div", "pow") or any(_kind(x) is float for x in operands)
    ints = not floats and name not in FLOAT_FUNCTIONS
    return tracer.pointwise(name, *operands, dtype=torch.int64 if ints else torch.float64)


FLOAT_FUNCTIONS = frozenset(
    [
        "sqrt",
        "exp",
        "exp2",
        "log",
        "log2",
        "log10",
        "log1p",
        "expm1",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "atan2",
        "sinh",
        "cosh",
        "tanh",
        "erf",
    ]
)


def _kind(x: Node | Wrapped) -> type:
    if isinstance(x, Wrapped):
        return float if x.node.dtype.is_floating_point else int
    return x.dtype


def choose(cond: Any, a: Any, b: Any) -> Any:
    """`a if cond else b` without a branch."""
    if not isinstance(cond, Scalar):
        return a if cond else b
    tracer = cond.tracer
    operands = [tracer.lift(x) for x in (cond, a, b)]
    if all(isinstance(x, Node) for x in operands):
        return Scalar(tracer, tracer.host("select", *operands))  # type: ignore[arg-type]
    both = {_kind(x) for x in operands[1:]}
    dtype = torch.float64 if float in both else torch.int64
    return Scalar(tracer, tracer.where(*operands, dtype=dtype))
