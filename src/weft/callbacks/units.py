"""Geometry of a tensor and its output units: norms, means, and what is orthogonal to the weights.

What is squared is summed in double: float32 holds no square of 1e-30 or 1e20.
"""

import math
from typing import Any

import torch

from weft.callback import mark, over_params, state

__all__ = ["centralize", "orthograd"]

wide_zeros: Any = state(torch.zeros_like, least=torch.float32)


def quotient(a: Any, b: torch.Tensor, otherwise: float = 0.0) -> torch.Tensor:
    """a / b, and `otherwise` where b is zero: there is nothing to go by."""
    return torch.where(b == 0, otherwise, a / b)


def rounding(x: torch.Tensor) -> torch.Tensor:
    """What may be left of a difference of two values of this size that are equal."""
    return 8 * torch.finfo(x.dtype).eps * x


def wide(x: torch.Tensor) -> torch.dtype:
    """What squares are summed in: double, where the device has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def norm(x: torch.Tensor, dim: Any = None, keepdim: bool = False) -> torch.Tensor:
    """The norm of all entries, or along dims."""
    return torch.linalg.vector_norm(x, dim=dim, keepdim=keepdim, dtype=wide(x)).to(x.dtype)


def sum_sq(x: torch.Tensor) -> torch.Tensor:
    """The sum of all squares, in double."""
    return torch.linalg.vector_norm(x, dtype=wide(x)).square()


def inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The inner product, in double."""
    return (a.to(wide(a)) * b).sum()


def mean(x: torch.Tensor, dim: Any = None, keepdim: bool = False) -> torch.Tensor:
    """The mean of all entries, or along dims."""
    return x.mean(dim=dim, keepdim=keepdim, dtype=wide(x)).to(x.dtype)


def centered(x: torch.Tensor, dim: Any = None) -> torch.Tensor:
    """Without its mean, of all entries or along dims; entries that differ by rounding are alike."""
    middle = mean(x, dim=dim, keepdim=dim is not None)
    rest = x - middle
    return torch.where(rest.abs() <= rounding(middle.abs()), 0.0, rest)


def rms(x: torch.Tensor) -> torch.Tensor:
    """The root of the mean square of all entries."""
    return norm(x) / math.sqrt(x.numel())


def unit_dims(x: torch.Tensor) -> tuple[int, ...]:
    """The dimensions of one output unit: a row, a kernel; all of a vector."""
    return tuple(range(1, x.ndim)) or tuple(range(x.ndim))


def unit_norm(x: torch.Tensor) -> torch.Tensor:
    """The norm of each output unit, shaped to broadcast against `x`."""
    return norm(x) if x.ndim < 2 else norm(x, dim=unit_dims(x), keepdim=True)


# state of one number for each parameter, in double whatever the parameter
scalar_zero: Any = state(0.0, dtype=torch.float64)
scalar_inf: Any = state(math.inf, dtype=torch.float64)


@mark(sparse="entries")
def sq_norm(grad):
    """The squared norm of a gradient."""
    return sum_sq(grad)


grad_sq_norm: Any = over_params("grad_sq_norm", sq_norm)  # the squared norm of all gradients


@mark(place="grad")
def centralize(grad):
    """Take the mean out of every output unit's gradient; vectors stay as they are.

        g <- g - mean(g)    over all dimensions but the first

    Yong et al., 2020, arXiv:2004.01461.
    """
    return {"grad": centered(grad, unit_dims(grad))} if grad.ndim > 1 else None


@mark(place="grad")
def orthograd(p, grad):
    """Take out of the gradient its part along the parameter, and restore its norm.

        g' = g - <p, g> / <p, p> p;   g <- g' * |g| / |g'|

    What is left of a gradient along the parameter is zero, as that of a single element always is:
    the rounding errors in its place are not scaled up.

    Prieto et al., 2025, arXiv:2501.04697. The tensor is one vector; their eps is 1e-30.
    """
    rest = grad - (p * grad).sum() / (p.square().sum() + 1e-30) * p
    whole, left = norm(grad), norm(rest)
    return {"grad": rest * torch.where(left > rounding(whole), whole / left, 0.0)}
