"""`x[mask]`: how many elements there are is not known, but which they are.

All elements are computed, and those of the mask are what is written back by `x[mask] = ...`, or
summed. Nothing else can be done with them.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch

from weft.engine.ir.graph import Node
from weft.engine.ir.traced import Untraceable
from weft.engine.trace.tensor import TensorProxy

__all__ = ["Selected"]

ELEMENTWISE = frozenset(
    ("abs", "add", "clamp", "div", "exp", "log", "mul", "neg", "pow", "reciprocal", "sign", "sqrt",
     "square", "sub", "tanh")
)  # fmt: skip
OPERATORS = ("add", "sub", "mul", "truediv", "pow", "eq", "ne", "lt", "le", "gt", "ge")
MIRRORED = OPERATORS[:5]


class Selected:
    """The elements of a tensor where a mask of its shape holds."""

    def __init__(self, values: TensorProxy, mask: Node):
        self.values, self.mask = values, mask

    def _others(self, x: Any) -> Any:
        """The other operand as it meets all elements."""
        if isinstance(x, Selected):
            if x.mask is not self.mask:
                raise Untraceable("it works on the elements of two masks together")
            return x.values
        if isinstance(x, torch.Tensor) and x.ndim:
            raise Untraceable("x[mask] has a shape that depends on values: use where")
        return x

    def _with(self, values: Any) -> "Selected":
        return Selected(values, self.mask)

    def sum(self) -> torch.Tensor:
        """The sum of the selected elements."""
        t = self.values.tracer
        return TensorProxy.fresh(t, t.where(self.mask, self.values.read(), 0)).sum()

    def mean(self) -> torch.Tensor:
        """Their mean: NaN where there are none."""
        return self.sum() / TensorProxy.fresh(self.values.tracer, self.mask).sum()

    def __abs__(self) -> "Selected":
        return self._with(abs(self.values))

    def __neg__(self) -> "Selected":
        return self._with(-self.values)

    def __getattr__(self, name: str) -> Callable:
        if name not in ELEMENTWISE:
            raise Untraceable(f"x[mask] has a shape that depends on values: use where ({name})")
        method = getattr(self.values, name)
        return lambda *args, **kw: self._with(
            method(*map(self._others, args), **{k: self._others(v) for k, v in kw.items()})
        )

    def _refuse(self, *args: Any) -> Any:
        raise Untraceable("x[mask] has a shape that depends on values: use where")

    __bool__ = __iter__ = __len__ = __getitem__ = __setitem__ = __str__ = __format__ = _refuse
    __hash__ = _refuse  # type: ignore[assignment]


def _operator(name: str, mirrored: bool) -> Callable:
    op = getattr(operator, name)

    def method(self: Selected, other: Any) -> Selected:
        other = self._others(other)
        return self._with(op(other, self.values) if mirrored else op(self.values, other))

    return method


for _name in OPERATORS:
    setattr(Selected, f"__{_name}__", _operator(_name, False))
for _name in MIRRORED:
    setattr(Selected, f"__r{_name}__", _operator(_name, True))
