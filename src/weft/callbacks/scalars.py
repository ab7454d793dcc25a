"""Numbers over all parameters: mean moments, adaptive rates from global norms."""

import math
from typing import Any

import torch

from weft.callback import copy_of_param, mark, over_params, shared, zeros
from weft.callbacks.decay import spared
from weft.callbacks.units import grad_sq_norm, quotient, sum_sq, wide

__all__ = [
    "adagrad_norm",
    "curvature_rate",
    "normalize_global",
    "stable_decay",
]


def size_of(p):
    """How many entries a parameter has."""
    return float(p.numel())


def total(exp_avg_sq):
    """The sum of a second moment."""
    return exp_avg_sq.sum(dtype=wide(exp_avg_sq))


n_entries: Any = over_params("n_entries", size_of)
exp_avg_sq_sum: Any = over_params("exp_avg_sq_sum", total)


@mark(place="decay", role="decay")
def stable_decay(
    p, step, lr, betas=(0.9, 0.999), weight_decay=1e-4,
    exp_avg_sq_sum=exp_avg_sq_sum, n_entries=n_entries, do_wd=None,
):  # fmt: skip
    """Decay relative to the mean step: divided by the root of the mean second moment of all.

        p <- p * (1 - lr * weight_decay / sqrt(mean over all of v / (1 - beta2^t)))

    Xie et al., 2020, arXiv:2011.11152. Not beyond zero, where the moment is next to nothing.
    """
    if spared(do_wd):
        return None
    mean = exp_avg_sq_sum / n_entries / (1 - betas[1] ** step)
    return {"p": p * (1 - lr * quotient(weight_decay, mean.sqrt())).clamp(min=0.0)}


@mark(place="update")
def normalize_global(update, grad_sq_norm=grad_sq_norm, eps=0.0):
    """Divide by the norm of all gradients together: u <- u / (|all g| + eps)."""
    return {"update": quotient(update, grad_sq_norm.sqrt() + eps)}


@mark(place="update", bounds={"b0": ">= 0"})
def adagrad_norm(update, grad_sq_norm=grad_sq_norm, b0=0.1, sq_sum=shared(0.0)):
    """AdaGrad with one sum for all parameters.

        B <- B + |all g|^2;   u <- u / sqrt(b0^2 + B)

    Ward, Wu and Bottou, 2018, arXiv:1806.01811.
    """
    sq_sum = sq_sum + grad_sq_norm
    return {"sq_sum": sq_sum, "update": quotient(update, (b0 * b0 + sq_sum).sqrt())}


def moved_sq(p, previous_param):
    """How far a parameter is from where it was, squared."""
    return sum_sq(p - previous_param)


def bent_sq(grad, previous_grad):
    """How far a gradient is from the one before, squared."""
    return sum_sq(grad - previous_grad)


moved_sq_norm: Any = over_params("moved_sq_norm", moved_sq)
bent_sq_norm: Any = over_params("bent_sq_norm", bent_sq)


@mark(place="update")
def curvature_rate(
    p, grad, lr, previous_param=copy_of_param, previous_grad=zeros, rate=shared(0.0),
    growth=shared(math.inf), moved_sq_norm=moved_sq_norm, bent_sq_norm=bent_sq_norm,
):  # fmt: skip
    """The rate that the local curvature allows, over all parameters.

        l_t = min(sqrt(1 + l_{t-1} / l_{t-2}) * l_{t-1}, |p - p_prev| / (2 |g - g_prev|));   u <- l_t g

    Malitsky and Mishchenko, 2019, arXiv:1910.09529. lr is the first step's rate, and only that. The
    rate stays where nothing has moved, or nothing bounds it.
    """
    before = rate if rate > 0 else lr
    bend = quotient(0.5 * moved_sq_norm.sqrt(), bent_sq_norm.sqrt(), math.inf)
    new = bend.clamp(max=before * math.sqrt(1 + growth))
    known = (moved_sq_norm > 0) & (new < math.inf)
    new = torch.where(known, new, before)
    growth = torch.where(known, new / before, growth)
    return {
        "rate": new, "growth": growth, "update": new * grad,
        "previous_param": p, "previous_grad": grad,
    }  # fmt: skip
