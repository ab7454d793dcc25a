"""From Adam to SGD, when the rate that Adam's steps imply has settled."""

import math

import torch

from weft.callback import mark, shared, zeros
from weft.callbacks.units import quotient, scalar_zero, sum_sq

__all__ = ["adam_then_sgd", "project_rate", "settled_rate", "switch"]


@mark(place="update")
def adam_then_sgd(
    update, grad, exp_avg_sq, lr, step, sgd_lr, betas=(0.9, 0.999), eps=1e-9, momentum_buffer=zeros
):
    """Adam's step from its average, or SGD's with momentum once sgd_lr is found; the rate is in it.

    u <- lr * sqrt(1 - beta2^t) / (1 - beta1^t) * u / (sqrt(v) + eps)
    b <- beta1 * b + g;   u <- (1 - beta1) * sgd_lr * b     where sgd_lr > 0
    """
    if sgd_lr > 0:
        buffer = betas[0] * momentum_buffer + grad
        return {"momentum_buffer": buffer, "update": (1 - betas[0]) * sgd_lr * buffer}
    rate = lr * math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)
    return {"update": rate * update / (exp_avg_sq.sqrt() + eps)}


def _projection(update, grad):
    """The rate at which SGD's step would project on the update, and whether there is one."""
    along = (update * grad).sum()
    return quotient(sum_sq(update), along), along != 0


@mark(place="update")
def project_rate(update, grad, betas=(0.9, 0.999), rate_avg=scalar_zero):
    """The average of the rate that the update implies: a <- beta2 * a + (1 - beta2) * |u|^2 / <u, g>."""
    rate, known = _projection(update, grad)
    average = betas[1] * rate_avg + (1 - betas[1]) * rate
    return {"rate_avg": torch.where(known, average, rate_avg)}


def settled_rate(update, grad, rate_avg, step, betas=(0.9, 0.999), eps=1e-9):
    """The corrected average, where it is within eps of the rate that the update implies; else 0."""
    if step == 1:
        return 0.0
    rate, known = _projection(update, grad)
    average = rate_avg / (1 - betas[1] ** step)
    settled = known & (average > 0) & ((average - rate).abs() < eps)
    return torch.where(settled, average, torch.zeros_like(average))


@mark(place="update")
def switch(settled_rate, sgd_lr=shared(0.0)):
    """Let the first rate that settles be SGD's, for all parameters, from the next step on."""
    return {"sgd_lr": sgd_lr if sgd_lr > 0 else settled_rate}
