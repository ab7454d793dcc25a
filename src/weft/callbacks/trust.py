"""Scaling a parameter's update by how large the parameter is."""

import math

import torch

from weft.callback import mark
from weft.callbacks.decay import decay_for
from weft.callbacks.units import norm, quotient

__all__ = ["lars_scale", "trust_ratio"]


@mark(
    place="update", role=(), bounds={"max_ratio": ">= 0"}
)  # a norm that is given twice is given once
def trust_ratio(p, update, max_ratio=math.inf):
    """Give the update the norm of the parameter.

        u <- u * min(|p| / |u|, max_ratio),   1 where either norm is 0

    You et al., 2019, arXiv:1904.00962. The paper's phi is the identity; fastai caps the ratio at 10.
    """
    p_norm, u_norm = norm(p), norm(update)
    length = torch.where(p_norm > 0, p_norm, u_norm)
    if max_ratio < math.inf:
        length = length.minimum(max_ratio * u_norm)
    return {"update": quotient(update, u_norm) * length}


@mark(place="decay", bounds={"trust_coefficient": ">= 0"})
def lars_scale(
    p, grad, lr, weight_decay=0.0, trust_coefficient=0.001, eps=1e-8, clip=False, do_wd=None
):
    """LARS' layer-wise rate, times the decayed gradient.

        r = trust_coefficient * |p| / (|g| + weight_decay * |p| + eps)
        g <- r * (g + weight_decay * p),   r = 1 where a norm is 0

    You et al., 2017, arXiv:1708.03888. With `clip` (LARC), lr * r is at most lr.
    """
    p_norm, g_norm = norm(p), norm(grad)
    decay = decay_for(weight_decay, do_wd)
    ratio = trust_coefficient * p_norm / (g_norm + decay * p_norm + eps)
    ratio = torch.where((p_norm > 0) & (g_norm > 0), ratio, torch.ones_like(ratio))
    if clip:
        ratio = (ratio / lr).clamp(max=1.0)
    return {"grad": (grad + decay * p) * ratio}
