"""Numbers that a chain is given from outside: hypers, shared values, the loss, the step."""

from typing import Any

import torch

from weft.contract.bind import Binding
from weft.contract.hyperparameters import as_read, is_one
from weft.engine.ir.graph import Node
from weft.engine.ir.traced import Example, Untraceable, is_numpys, static
from weft.engine.storage import computed_in
from weft.engine.trace.rebind import Rebinder
from weft.engine.trace.scalar import Scalar
from weft.engine.trace.tensor import Storage, TensorProxy
from weft.engine.trace.tracer import Tracer

__all__ = ["Outside"]


class Outside:
    """Each of them as a leaf of the graph: a host scalar, or a 0-dim tensor that stays on the device."""

    def __init__(self, t: Tracer, binding: Binding, example: Example, rebinder: Rebinder):
        self.t, self.binding, self.example, self.rebinder = t, binding, example, rebinder
        self.hypers: dict[str, Any] = {}

    def step(self) -> Scalar:
        """The step that this is."""
        if self.example.counted:
            return Scalar(self.t, self.t.leaf("step", self.example.step))
        return Scalar(self.t, self.t.cast(self.count(), torch.float64))

    def count(self) -> Node:
        """The same where the count is on the device: one more than there have been."""
        spec = self.example.state["step"]
        return self.t.pointwise("add", self.t.graph.load("step", (), computed_in(spec.dtype)), 1)

    def hyper(self, name: str) -> Any:
        """A hyper, or a shared value of the group."""
        if name not in self.hypers:
            op = "shared" if name in self.binding.shared else "hyper"
            self.hypers[name] = self._given(op, name, self.example.hypers[name])
        return self.hypers[name]

    def _given(self, op: str, name: str, given: Any) -> Any:
        """A hyper, by the rules of `as_read`; what is a tensor may stay where it is."""
        if self._stays(op, given):
            number = self._resident(op, given, name=name)
            if op == "shared" or not given.is_floating_point():
                return number
            return self._zero_dim(number.node, name)
        if isinstance(given, tuple | list) and any(self._stays(op, v) for v in given):
            return type(given)(
                self._resident(op, v, name=name, index=(i,)) if self._stays(op, v)
                else self.number(op, name, as_read(v), (i,))
                for i, v in enumerate(given)
            )  # fmt: skip
        value = as_read(given)
        symbol = self.number(op, name, value, ())
        if isinstance(given, torch.Tensor) and type(value) is bool:
            raise Untraceable(
                f"the hyper {name!r} is a tensor of a bool, which may change in place"
            )
        if isinstance(given, torch.Tensor) and type(value) is float:
            node = self.t.full(symbol.node, (), computed_in(self.example.dtype))
            return TensorProxy.make(self.t, Storage(node, f"the hyper {name!r}"), (), True)
        return symbol

    def _stays(self, op: str, value: Any) -> bool:
        """Whether a number is a tensor that a step does not read."""
        if not is_one(value) or (op == "hyper" and value.dtype is torch.bool):
            return False
        return op == "shared" or (self.example.resident and value.device == self.example.device)

    def _resident(self, op: str, value: torch.Tensor, **attrs: Any) -> Scalar:
        """A number that stays where it is, in double."""
        wide = torch.float64 if value.is_floating_point() else value.dtype
        return Scalar(self.t, self.t.graph.add(op, shape=(), dtype=wide, **attrs))

    def _zero_dim(self, node: Node, name: str) -> Any:
        """A hyper that is a tensor, in what is computed in."""
        node = self.t.cast(node, computed_in(self.example.dtype))
        return TensorProxy.make(self.t, Storage(node, f"the hyper {name!r}"), (), True)

    def number(self, op: str, name: str, value: Any, index: tuple[int, ...]) -> Any:
        """A number from outside as a leaf; tuples element by element; the rest as it is."""
        t = self.t
        if type(value) is bool or isinstance(value, str | type(None)):
            return value
        attrs: dict[str, Any] = {"index": index} if index else {}
        if is_numpys(value):
            from weft.engine.trace.ufuncs import Number  # only where NumPy is there

            return Number(Scalar(t, t.leaf(op, value.item(), name=name, **attrs)), type(value))
        if isinstance(value, float | int):
            return Scalar(t, t.leaf(op, _plain(value), name=name, **attrs))
        if isinstance(value, tuple) and (op != "number" or not index):
            return tuple(self.number(op, name, v, (*index, i)) for i, v in enumerate(value))
        if isinstance(value, torch.Tensor):
            raise Untraceable(f"the hyper {name!r} is a tensor of {tuple(value.shape)}")
        if isinstance(value, tuple | list | dict):
            raise Untraceable(f"{name!r} is a {type(value).__name__} of {static(value)[:40]}")
        return self.rebinder.rebind(value, name, None)

    def loss(self) -> Any:
        """What the step was given."""
        loss, t = self.example.loss, self.t
        if isinstance(loss, torch.Tensor):
            if loss.numel() != 1:
                raise Untraceable(f"the loss is a tensor of {tuple(loss.shape)}")
            shape, dtype = tuple(loss.shape), computed_in(loss.dtype)
            if self._stays("loss", loss):
                node = t.reshape(t.cast(self._resident("loss", loss).node, dtype), shape)
            else:
                node = t.full(t.leaf("loss", loss.item()), shape, dtype)
            return TensorProxy.make(t, Storage(node, "the loss"), (), True)
        return Scalar(t, t.leaf("loss", _plain(loss)))


def _plain(value: float) -> float | int | bool:
    """A Python number: subclasses of float and int are not."""
    return value if type(value) in (float, int, bool) else float(value)
