"""Geometry of a tensor and its output units: norms, means, and what is orthogonal to the weights."""

import math
from typing import Any

import torch

from weft.callback import mark, over_params, state

__all__ = [
    "centralize",
    "grad_sq_norm",
    "orthograd",
    "rms",
    "scalar_inf",
    "scalar_zero",
    "unit_dims",
    "unit_norm",
]


def rms(x: torch.Tensor) -> torch.Tensor:
    """The root of the mean square of all entries."""
    return x.norm() / math.sqrt(x.numel())


def unit_dims(x: torch.Tensor) -> tuple[int, ...]:
    """The dimensions of one output unit: a row, a kernel; all of a vector."""
    return tuple(range(1, x.ndim)) or tuple(range(x.ndim))


def unit_norm(x: torch.Tensor) -> torch.Tensor:
    """The norm of each output unit, shaped to broadcast against `x`."""
    return x.norm() if x.ndim < 2 else x.square().sum(dim=unit_dims(x), keepdim=True).sqrt()


# state of one number for each parameter, in double whatever the parameter
scalar_zero: Any = state(0.0, dtype=torch.float64)
scalar_inf: Any = state(math.inf, dtype=torch.float64)


@mark(sparse="entries")
def sq_norm(grad):
    """The squared norm of a gradient."""
    return grad.square().sum()


grad_sq_norm: Any = over_params("grad_sq_norm", sq_norm)  # the squared norm of all gradients


@mark(place="grad")
def centralize(grad):
    """Take the mean out of every output unit's gradient; vectors stay as they are.

        g <- g - mean(g)    over all dimensions but the first

    Yong et al., 2020, arXiv:2004.01461.
    """
    return {"grad": grad - grad.mean(dim=unit_dims(grad), keepdim=True)} if grad.ndim > 1 else None


@mark(place="grad")
def orthograd(p, grad):
    """Take out of the gradient its part along the parameter, and restore its norm.

        g' = g - <p, g> / <p, p> p;   g <- g' * |g| / |g'|

    What is left of a gradient along the parameter is zero, as that of a single element always is:
    the rounding errors in its place are not scaled up.

    Prieto et al., 2025, arXiv:2501.04697. The tensor is one vector; their eps is 1e-30.
    """
    rest = grad - (p * grad).sum() / (p.square().sum() + 1e-30) * p
    norm, left = grad.norm(), rest.norm()
    noise = 8 * torch.finfo(grad.dtype).eps * norm
    return {"grad": rest * torch.where(left > noise, norm / left, 0.0)}
