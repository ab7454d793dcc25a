"""What the parameter's stand-in says of itself, and what is assigned to its grad."""

from typing import TYPE_CHECKING, Any

import torch

from weft.engine.ir.traced import Example, Untraceable
from weft.engine.storage import LOW
from weft.engine.trace.tensor import TensorProxy
from weft.engine.trace.views import as_proxy

if TYPE_CHECKING:
    from weft.engine.trace.chain import ChainTrace

__all__ = ["Owner"]


class Owner:
    """Answers for the parameter; where 16 bits are read as float32, for the copy that is read."""

    def __init__(self, chain: "ChainTrace", example: Example):
        self.chain = chain
        copied = example.dtype in LOW or example.grad_dtype in LOW
        self.kind = torch.Tensor if copied else example.kind
        self.trains = example.requires_grad and not copied

    def requires_grad(self) -> bool:
        """`p.requires_grad` now; another step may find another answer."""
        self.chain.out.asked = True
        return self.trains

    def grad(self) -> TensorProxy:
        """`p.grad` now."""
        return self.chain.grad

    def set_grad(self, value: Any) -> None:
        """`p.grad = value`: the tensor itself, as it is in torch, for this callback and later ones."""
        chain = self.chain
        if not isinstance(value, torch.Tensor):
            raise Untraceable(f"it assigns a {type(value).__name__} to .grad")
        if value.shape != chain.work.shape or value.dtype is not chain.work.dtype:
            raise Untraceable("it assigns a tensor of another shape or dtype to .grad")
        chain.grad = as_proxy(chain.t, value)
