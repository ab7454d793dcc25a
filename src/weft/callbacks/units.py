"""Geometry of a tensor and its output units: norms, means, and what is orthogonal to the weights."""

import functools
import math
from typing import Any

import torch

from weft.callback import mark, state

__all__ = ["centralize", "orthograd", "rms", "scalar_inf", "scalar_zero", "unit_dims", "unit_norm"]


def rms(x: torch.Tensor) -> torch.Tensor:
    """The root of the mean square of all entries."""
    return x.norm() / math.sqrt(x.numel())


def unit_dims(x: torch.Tensor) -> tuple[int, ...]:
    """The dimensions of one output unit: a row, a kernel; all of a vector."""
    return tuple(range(1, x.ndim)) or tuple(range(x.ndim))


def unit_norm(x: torch.Tensor) -> torch.Tensor:
    """The norm of each output unit, shaped to broadcast against `x`."""
    return x.norm() if x.ndim < 2 else x.square().sum(dim=unit_dims(x), keepdim=True).sqrt()


def _full(value: float, p: torch.Tensor) -> torch.Tensor:
    dtype = torch.float64 if p.dtype == torch.float64 else torch.float32
    return torch.full((), value, dtype=dtype, device=p.device)


# state of one number for each parameter, never less precise than float32
scalar_zero: Any = state(functools.partial(_full, 0.0))
scalar_inf: Any = state(functools.partial(_full, math.inf))


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

    Prieto et al., 2025, arXiv:2501.04697. The tensor is one vector; their eps is 1e-30.
    """
    rest = grad - (p * grad).sum() / (p.square().sum() + 1e-30) * p
    return {"grad": rest * (grad.norm() / (rest.norm() + 1e-30))}
