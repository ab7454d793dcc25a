"""Rates from the loss: Polyak's, ALI-G's, MoMo's; and GrokAdamW's slow gradients."""

import math
from typing import Any

from weft.callback import mark, over_params, shared, zeros
from weft.callbacks.decay import decay_for
from weft.callbacks.units import grad_sq_norm, inner, quotient

__all__ = ["alig", "deep_ema", "grok", "momo", "momo_adam", "plain_ema", "polyak_rate"]


@mark(place="update", bounds={"max_lr": ">= 0"})
def polyak_rate(update, loss, grad_sq_norm=grad_sq_norm, max_lr=1.0, f_min=0.0, eps=0.0):
    """Polyak's rate: as far as a line along the gradient needs to reach the smallest loss.

        u <- u * min((loss - f_min) / (|all g|^2 + eps), max_lr)

    Polyak, 1969; with the maximum, Loizou et al., 2020, arXiv:2002.10542.
    """
    return {"update": update * quotient(loss - f_min, grad_sq_norm + eps).clamp(max=max_lr)}


@mark(place="descend")
def alig(
    p, grad, loss, lr, momentum=0.9, eps=1e-6, grad_sq_norm=grad_sq_norm, momentum_buffer=zeros
):
    """ALI-G: Polyak's rate for a smallest loss of 0, at most lr, with Nesterov's momentum.

        r = min(loss / (|all g|^2 + eps), lr);   b <- momentum * b - r * g
        p <- p - r * g + momentum * b

    Berrada, Zisserman and Kumar, 2019, arXiv:1906.05661.
    """
    pull = quotient(loss, grad_sq_norm + eps).clamp(max=lr) * grad
    buffer = momentum * momentum_buffer - pull
    return {"momentum_buffer": buffer, "p": p - pull + momentum * buffer}


# ---------------------------------------------------------------- MoMo


def grad_at(p, grad):
    """The inner product of gradient and parameter."""
    return inner(grad, p)


def average_at(p, exp_avg):
    """The inner product of averaged gradient and parameter."""
    return inner(exp_avg, p)


def average_in_norm(exp_avg, update):
    """The inner product of averaged gradient and update: a squared norm."""
    return inner(exp_avg, update)


grad_dot: Any = over_params("grad_dot", grad_at)
average_dot: Any = over_params("average_dot", average_at)
average_norm: Any = over_params("average_norm", average_in_norm)


@mark(place="statistics", bounds={"beta": ">= 0, <= 1"})
def plain_ema(update, step, beta=0.9, exp_avg=zeros):
    """An average that starts at its first value: m <- beta * m + (1 - beta) * u;   u <- m."""
    exp_avg = exp_avg.lerp(update, 1 - beta) if step > 1 else update
    return {"exp_avg": exp_avg, "update": exp_avg}


@mark(place="descend", bounds={"beta": ">= 0, <= 1"})
def momo(
    p, update, loss, lr, step, beta=0.9, f_min=0.0, weight_decay=0.0, loss_avg=shared(0.0),
    dot_avg=shared(0.0), grad_dot=grad_dot, average_dot=average_dot, average_norm=average_norm,
    do_wd=None,
):  # fmt: skip
    """As far as a linear model of the averaged loss goes down to f_min, at most lr.

        f, c <- averages of the loss and of <g, p>;   k = 1 + lr * weight_decay
        t = min(lr, max(k (f - f_min - c) + <m, p>, 0) / |m|^2);   p <- p / k - t * m

    Schaipp et al., 2023, arXiv:2305.07583. The update is m.
    """
    keep, shrink = (beta if step > 1 else 0.0), 1 + lr * decay_for(weight_decay, do_wd)
    loss_avg, dot_avg = keep * loss_avg + (1 - keep) * loss, keep * dot_avg + (1 - keep) * grad_dot
    above = (shrink * (loss_avg - f_min - dot_avg) + average_dot).clamp(min=0.0)
    moved = p / shrink - quotient(above, average_norm).clamp(max=lr) * update
    return {"p": moved, "loss_avg": loss_avg, "dot_avg": dot_avg}


@mark(place="descend")
def momo_adam(
    p, update, loss, lr, step, betas=(0.9, 0.999), f_min=0.0, weight_decay=0.0,
    loss_avg=shared(0.0), dot_avg=shared(0.0), grad_dot=grad_dot, average_dot=average_dot,
    average_norm=average_norm, do_wd=None,
):  # fmt: skip
    """MoMo in Adam's norm, its averages started at zero: f_min and lr are weighed alike.

        k = 1 + lr * weight_decay;   b = 1 - beta1^t;   D = sqrt(v / (1 - beta2^t)) + eps
        t = min(lr / b, max(k (f - b f_min - c) + <m, p>, 0) / <m, m / D>);   p <- p / k - t * m / D

    Schaipp et al., 2023, arXiv:2305.07583, algorithm 4. The update is m / D.
    """
    b, rest = 1 - betas[0] ** step, 1 - betas[0]
    shrink = 1 + lr * decay_for(weight_decay, do_wd)
    loss_avg, dot_avg = betas[0] * loss_avg + rest * loss, betas[0] * dot_avg + rest * grad_dot
    above = (shrink * (loss_avg - b * f_min - dot_avg) + average_dot).clamp(min=0.0)
    moved = p / shrink - quotient(above, average_norm).clamp(max=lr / b) * update
    return {"p": moved, "loss_avg": loss_avg, "dot_avg": dot_avg}


# ---------------------------------------------------------------- GrokAdamW


@mark(
    place="grad",
    bounds={"alpha_init": ">= 0, <= 1", "lamb": ">= 0", "grokking_signal_decay_rate": ">= 0"},
)
def grok(
    grad, loss: Any = None, eval_loss: Any = None, alpha_init=0.98, lamb=2.0,
    grokking_signal_decay_rate=0.1, slow_grad=zeros,
):  # fmt: skip
    """Add the slow part of the gradient, slower where the model generalizes.

        s = max(0, eval_loss - loss) / max(eval_loss, loss),   0 where one of them is unknown
        a = alpha_init * exp(-rate * s);   h <- a * h + (1 - a) * g;   g <- g + lamb * h

    Hartford, 2024; Lee et al., 2024, arXiv:2405.20233.
    """
    signal = 0.0
    if loss is not None and eval_loss is not None and eval_loss > 0 and eval_loss > loss:
        signal = (eval_loss - loss) / eval_loss
    alpha = alpha_init * math.exp(-grokking_signal_decay_rate * signal)
    slow_grad = alpha * slow_grad + (1 - alpha) * grad
    return {"slow_grad": slow_grad, "grad": grad + lamb * slow_grad}


@mark(place="statistics", bounds={"gamma": ">= 0", "depth": ">= 0"})
def deep_ema(update, betas=(0.9, 0.999), gamma=0.1, depth=0, exp_avg=zeros):
    """An average that forgets faster the deeper its layer: `depth` is a hyper of the group.

    b = beta1 * (1 - gamma)^depth;   m <- b * m + (1 - b) * u;   u <- m
    """
    exp_avg = exp_avg.lerp(update, 1 - betas[0] * (1 - gamma) ** depth)
    return {"exp_avg": exp_avg, "update": exp_avg}
