"""A step under autograd: what it computes has a graph, and nothing that a graph needs is written over.

What a callback does outside of autograd would be a wrong derivative without a word: it is refused.
"""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from weft.contract.bind import Call
from weft.contract.hyperparameters import has_history
from weft.engine.eager.param_step import Barrier, ParamStep
from weft.engine.storage import LOW
from weft.errors import StepError

__all__ = ["GraphStep"]

# what takes a tensor's number, or its memory, out of the graph; a comparison's outcome has no derivative
CUTS = {
    **{getattr(torch.Tensor, name): f".{name}()" for name in ("item", "tolist", "numpy", "detach")},
    **{getattr(torch.Tensor, name): f".{name}()" for name in ("detach_", "requires_grad_")},
    torch.Tensor.__float__: "float(), or a function of math",
    torch.Tensor.__int__: "int()",
    torch.Tensor.data.__get__: ".data",  # pyright: ignore[reportAttributeAccessIssue]
    torch.Tensor.data.__set__: ".data",  # pyright: ignore[reportAttributeAccessIssue]
}


class GraphStep(ParamStep):
    """One parameter's way through its chain, out of place; only the parameter is written, at the end.

    States are replaced rather than written, so that they keep their graph from step to step, as in
    torch.
    """

    __slots__ = ()

    def check(self) -> None:
        """Refuse a leaf, into which autograd lets nobody write."""
        super().check()
        if self.p.is_leaf and self.p.requires_grad:
            raise StepError(
                f"parameter {self.name} is a leaf that requires grad, and with differentiable=True "
                "a step is written into it under autograd: give the optimizer a clone of it, "
                "p.clone(), as torch.optim wants too (see docs/limits.md#gradients-through-steps)"
            )

    def advance(self, value: Any) -> Barrier | None:
        with torch.enable_grad():
            return super().advance(value)

    def _plain(self, t: torch.Tensor) -> torch.Tensor:
        return t

    def _as_read(self, value: Any) -> Any:
        """A tensor with a history stays one, for it is asked for derivatives."""
        if isinstance(value, tuple | list):
            return type(value)(map(self._as_read, value))
        return value.reshape(()) if has_history(value) else super()._as_read(value)

    def _open(self) -> None:
        p, grad = self.p, self.p.grad
        assert grad is not None
        self.user_grad, self.grad_before = grad, None
        self.work = self._readable(p.clone())
        self.work.grad = self.work_grad = self._readable(grad).to(self.work.dtype)
        if self.binding.keeps_step:
            self.step = int(self.own["step"]) + 1

    def _call(self, call: Call) -> Any:
        with _Watch(call, self.name):
            return super()._call(call)

    def _set_p(self, value: Any) -> None:
        self._check_shape("p", value)
        if value is not self.work:
            grad, self.work = self.work.grad, value.to(self.work.dtype)
            self.work.grad = grad
            self.owners.hold("p", self.work)

    def _set_shared(self, name: str, value: Any) -> None:
        if not has_history(value):
            super()._set_shared(name, value)
            return
        value = self.shared.setdefault((self.bound.index, name), value)
        self.values[name] = self.known[name] = value

    def _set_state(self, name: str, value: Any) -> None:
        held = self.own.get(name)
        if isinstance(value, int | float) and isinstance(held, torch.Tensor) and not held.ndim:
            value = torch.full_like(held, value)
        if isinstance(value, torch.Tensor) and (self.p.dtype in LOW or self.p.is_complex()):
            self._read_as(name, self._kept(name, value, "read"))
        else:
            self._forget_read(name)
            self.own[name] = self._stored(name, value)
            self.owners.hold(name, self.own[name])

    def _stored(self, name: str, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and not value.ndim:
            return value  # a number is not rounded: what is compared with its derivative would be
        return super()._stored(name, value)

    def _store(self) -> None:
        for name, value in self.values.items():
            if name not in self.binding.over and name not in self.binding.shared:
                self.own[name] = self._stored(name, value)
        if self.binding.keeps_step:
            self.own["step"] = self.own["step"] + 1
        if self.own and self.p not in self.state:
            self.state[self.p] = self.own
        self.p.copy_(torch.view_as_complex(self.work) if self.p.is_complex() else self.work)


class _Watch(TorchFunctionMode):
    """Refuses what a callback computes outside of the graph."""

    def __init__(self, call: Call, name: str):
        super().__init__()
        self.call, self.name = call, name

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        cut = CUTS.get(func)
        if not torch.is_grad_enabled() and func not in GRAD_MODES:
            cut = "torch.no_grad()"
        if cut and any(map(has_history, (*args, *kwargs.values()))):
            raise StepError(
                f"callback {self.call.spec.where} cannot run with differentiable=True, for parameter "
                f"{self.name}: it uses {cut} on a value that has a derivative, which would be lost. "
                "Compute with tensors, and return what changes (see docs/limits.md#gradients-through-steps)"
            )
        return func(*args, **kwargs)


GRAD_MODES = (torch._C._set_grad_enabled, torch.is_grad_enabled)
