"""Dividing by uncorrected roots: RMSprop's directions, and quasi-hyperbolic Adam's."""

import torch

from weft.callback import mark, zeros

__all__ = [
    "centred_root",
    "centred_root_within",
    "conditional_root",
    "quasi_hyperbolic_root",
    "root",
    "root_within",
    "seeded_average",
    "seeded_root",
]


@mark(place="update", sparse="entries", role="precondition")
def root(update, square_avg, eps=1e-8):
    """Divide by the root of the mean square: u <- u / (sqrt(v) + eps)."""
    return {"update": update / (square_avg.sqrt() + eps)}


@mark(place="update", role="precondition")
def centred_root(update, square_avg, grad_avg, eps=1e-8):
    """Divide by the standard deviation: u <- u / (sqrt(v - a^2) + eps).

    Graves, 2013, arXiv:1308.0850. v - a^2 can fall slightly below zero; like torch, this takes the
    root as it comes.
    """
    return {"update": update / ((square_avg - grad_avg * grad_avg).sqrt() + eps)}


@mark(place="update", role="precondition")
def root_within(update, square_avg, eps=1e-10):
    """Divide by the root, eps inside, as TensorFlow has it: u <- u / sqrt(v + eps)."""
    return {"update": update / (square_avg + eps).sqrt()}


@mark(place="update", role="precondition")
def centred_root_within(update, square_avg, grad_avg, eps=1e-10):
    """Divide by the standard deviation, eps inside the root: u <- u / sqrt(v - a^2 + eps)."""
    return {"update": update / (square_avg - grad_avg * grad_avg + eps).sqrt()}


@mark(place="update", role=("precondition", "correction"), bounds={"nus": ">= 0, <= 1"})
def quasi_hyperbolic_root(
    update, grad, exp_avg_sq, step, betas=(0.995, 0.999), nus=(0.7, 1.0), eps=1e-8
):
    """Mix the squared gradient into its corrected average before the root.

        u <- u / (sqrt((1 - nu2) * g^2 + nu2 * v / (1 - beta2^t)) + eps)

    Ma and Yarats, 2018, arXiv:1810.06801.
    """
    v = exp_avg_sq / (1 - betas[1] ** step)
    return {"update": update / (((1 - nus[1]) * grad * grad + nus[1] * v).sqrt() + eps)}


@mark(place="statistics", bounds={"beta": ">= 0, <= 1"})
def seeded_average(update, step, beta=0.9, exp_avg=zeros):
    """An average that starts at its first value: m <- beta * m + (1 - beta) * u;  u <- m."""
    average = update if step == 1 else exp_avg.lerp(update, 1 - beta)
    return {"exp_avg": average, "update": average}


@mark(place="update", role=("precondition", "correction"), bounds={"beta": ">= 0, <= 1"})
def seeded_root(update, beta=0.9, eps=1e-6, exp_avg_sq=zeros):
    """Divide by the root of the update's own mean square, which starts at its first value but 0.

    v <- beta * v + (1 - beta) * u^2;   u <- u / (sqrt(v) + eps)
    """
    square = update * update
    average = torch.where(exp_avg_sq > 0, exp_avg_sq.lerp(square, 1 - beta), square)
    return {"exp_avg_sq": average, "update": update / (average.sqrt() + eps)}


@mark(place="update", role=("precondition", "correction"), bounds={"beta": ">= 0, <= 1"})
def conditional_root(update, step, beta=0.9, eps=1e-6, exp_avg=zeros):
    """Divide an average by the root of the mean square that its last value and the gradient imply.

        v = (3 b^2 - 2 b^3) m^2 + (1 - b)^2 u^2 + 2 b (1 - b)^2 m u
        m <- b * m + (1 - b) * u;   u <- m / (sqrt(v) + eps)

    Jiang et al., 2025, arXiv:2507.08963. m starts at the first gradient.
    """
    m, rest = update if step == 1 else exp_avg, (1 - beta) ** 2
    v = (3 * beta**2 - 2 * beta**3) * m * m + rest * update * (update + 2 * beta * m)
    m = m.lerp(update, 1 - beta)
    return {"exp_avg": m, "update": m / (v.sqrt() + eps)}
