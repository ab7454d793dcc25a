"""D-Adaptation on sums: SGD, AdaGrad and Adan."""

import math
from typing import Any

import torch

from weft.callback import mark, over_params, shared, state, zeros
from weft.callbacks.adapted import grad_sum_l1, rate_of
from weft.callbacks.units import grad_sq_norm, quotient, sum_sq, wide_zeros

__all__ = [
    "dadapt_adagrad",
    "dadapt_adagrad_distance",
    "dadapt_adan",
    "dadapt_adan_distance",
    "dadapt_first_norm",
    "dadapt_sum",
    "dadapt_sum_distance",
]


def sq_of_sum(grad_sum):
    """The sum of the squares of weighted gradients."""
    return sum_sq(grad_sum)


def agreement(grad, grad_sum, lr, d, first_norm, d0=1e-6):
    """The rate times how the gradient agrees with the sum of those before."""
    return rate_of(lr, d, d0) / (first_norm or 1.0) * (grad * grad_sum).sum()


grad_sum_sq: Any = over_params("grad_sum_sq", sq_of_sum)
agreed: Any = over_params("progress", agreement)


@mark(place="grad")
def dadapt_first_norm(grad_sq_norm=grad_sq_norm, first_norm=shared(0.0)):
    """Remember the norm of all gradients of the first step that has one."""
    return {"first_norm": first_norm if first_norm > 0 else grad_sq_norm.sqrt()}


@mark(place="statistics", bounds={"d0": "> 0"})
def dadapt_sum(grad, lr, d, first_norm, d0=1e-6, grad_sum=wide_zeros, progress=agreed):
    """The sum of weighted gradients: s <- s + lr d / |g_1| * g;   u <- s."""
    grad_sum = grad_sum + rate_of(lr, d, d0) / (first_norm or 1.0) * grad
    return {"grad_sum": grad_sum, "update": grad_sum}


@mark(place="after", bounds={"growth_rate": ">= 0"})
def dadapt_sum_distance(
    progress, d0=1e-6, growth_rate=math.inf, d=shared(0.0), numerator=shared(0.0),
    grad_sum_sq=grad_sum_sq,
):  # fmt: skip
    """The lower bound on the distance, for SGD.

        r <- r + progress;   d <- max(d, min(2 r / |s|, d * growth_rate))

    Defazio and Mishchenko, 2023, arXiv:2301.07733.
    """
    old, numerator = max(d, d0), numerator + progress
    d_hat = quotient(2 * numerator, grad_sum_sq.sqrt())
    return {"numerator": numerator, "d": d_hat.clamp(max=old * growth_rate).clamp(min=old)}


# ---------------------------------------------------------------- in AdaGrad's norm


def sum_in_norm(grad_sum, grad_sq, eps=0.0):
    """The squared norm of the sum of gradients, in the norm of their squares' root."""
    return quotient(grad_sum * grad_sum, grad_sq.sqrt() + eps).sum()


def grad_in_norm(grad, grad_sq, lr, d, eps=0.0, d0=1e-6):
    """The squared norm of the weighted gradient, in the norm of the squares' root."""
    rate = rate_of(lr, d, d0)
    return rate * rate * quotient(grad * grad, grad_sq.sqrt() + eps).sum()


sum_norm: Any = over_params("sum_norm", sum_in_norm)
grad_norm: Any = over_params("grad_norm", grad_in_norm)


def _start(p):
    return torch.full_like(p, 1e-6)


@mark(place="statistics", bounds={"d0": "> 0"})
def dadapt_adagrad(grad, lr, d, eps=0.0, d0=1e-6, grad_sum=wide_zeros, grad_sq=state(_start)):
    """AdaGrad's sums: a <- a + g^2;   s <- s + lr d * g;   u <- s / (sqrt(a) + eps)."""
    grad_sq, grad_sum = grad_sq + grad * grad, grad_sum + rate_of(lr, d, d0) * grad
    update = grad_sum / (grad_sq.sqrt() + eps)
    return {"grad_sum": grad_sum, "grad_sq": grad_sq, "update": update}


@mark(place="after", bounds={"growth_rate": ">= 0"})
def dadapt_adagrad_distance(
    d0=1e-6, growth_rate=math.inf, d=shared(0.0), weighted_sq=shared(0.0),
    grad_sum_l1=grad_sum_l1, sum_norm=sum_norm, grad_norm=grad_norm,
):  # fmt: skip
    """The lower bound on the distance, in AdaGrad's norm.

        w <- w + sum of (lr d g)^2 / root;   d <- max(d, min((sum of s^2 / root - w) / |s|_1, ...))

    Defazio and Mishchenko, 2023, arXiv:2301.07733.
    """
    old, weighted_sq = max(d, d0), weighted_sq + grad_norm
    d_hat = quotient(sum_norm - weighted_sq, grad_sum_l1)
    return {"weighted_sq": weighted_sq, "d": d_hat.clamp(max=old * growth_rate).clamp(min=old)}


@mark(place="statistics", bounds={"d0": "> 0"})
def dadapt_adan(
    grad, lr, d, step, betas=(0.98, 0.92, 0.99), d0=1e-6, eps=1e-8,
    exp_avg=wide_zeros, exp_avg_diff=wide_zeros, grad_sq=wide_zeros, grad_sum=wide_zeros,
    previous_grad=zeros,
):  # fmt: skip
    """Adan's averages, the rate inside them, without corrections.

    m, v, n <- averages of lr d g, lr d (g - g_prev), (g + beta2 (g - g_prev))^2
    s <- beta3 * s + (1 - beta3) * lr d g;   u <- (m + beta2 * v) / (sqrt(n) + eps)
    """
    b1, b2, b3 = betas
    rate = rate_of(lr, d, d0)
    diff = grad - previous_grad if step > 1 else grad * 0
    m, v = exp_avg.lerp(rate * grad, 1 - b1), exp_avg_diff.lerp(rate * diff, 1 - b2)
    n, s = grad_sq.lerp((grad + b2 * diff).square(), 1 - b3), grad_sum.lerp(rate * grad, 1 - b3)
    return {
        "exp_avg": m, "exp_avg_diff": v, "grad_sq": n, "grad_sum": s, "previous_grad": grad,
        "update": (m + b2 * v) / (n.sqrt() + eps),
    }  # fmt: skip


@mark(place="after", bounds={"growth_rate": ">= 0"})
def dadapt_adan_distance(
    betas=(0.98, 0.92, 0.99), d0=1e-6, growth_rate=math.inf, d=shared(0.0),
    weighted_sq=shared(0.0), grad_sum_l1=grad_sum_l1, sum_norm=sum_norm, grad_norm=grad_norm,
):  # fmt: skip
    """The lower bound on the distance, in Adan's norm, from averages.

    w <- beta3 * w + (1 - beta3) * sum of (lr d g)^2 / root
    d <- max(d, min((sum of s^2 / root / (1 - beta3) - w) / |s|_1, d * growth_rate))
    """
    old, b3 = max(d, d0), betas[2]
    weighted_sq = b3 * weighted_sq + (1 - b3) * grad_norm
    d_hat = quotient(sum_norm / (1 - b3) - weighted_sq, grad_sum_l1)
    return {"weighted_sq": weighted_sq, "d": d_hat.clamp(max=old * growth_rate).clamp(min=old)}
