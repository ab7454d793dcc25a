"""Updates that look at the size of a whole tensor or of its output units."""

import math

import torch

from weft.callback import mark, zeros
from weft.callbacks.decay import decay_for
from weft.callbacks.units import (
    centered,
    grad_sq_norm,
    norm,
    quotient,
    rms,
    scalar_inf,
    scalar_zero,
    sum_sq,
    unit_dims,
    unit_norm,
)

__all__ = [
    "clip_to_average",
    "debiased_ema",
    "debiased_ema_sq",
    "first_snr",
    "fromage_shrink",
    "neuron_normalize",
    "normalize_by_ema",
    "project",
    "project_damped",
    "restart_moments",
    "seeded_ema",
    "shrink_peaks",
    "stabilize",
    "start_on_sphere",
    "unit_sphere",
    "warm_average",
]


@mark(place="statistics")
def debiased_ema(update, step, betas=(0.9, 0.99), exp_avg=zeros):
    """An average whose decay itself is corrected, so that it is never biased.

        w = (1 - beta1) / (1 - beta1^t);   m <- (1 - w) m + w * u;   u <- m

    Shazeer and Stern, 2018, arXiv:1804.04235, section 7.1.
    """
    exp_avg = exp_avg.lerp(update, (1 - betas[0]) / (1 - betas[0] ** step))
    return {"exp_avg": exp_avg, "update": exp_avg}


@mark(place="statistics")
def debiased_ema_sq(grad, step, betas=(0.9, 0.99), exp_avg_sq=zeros):
    """The average of the squared gradient with a corrected decay.

    w = (1 - beta2) / (1 - beta2^t);   v <- (1 - w) v + w * g^2
    """
    weight = (1 - betas[1]) / (1 - betas[1] ** step)
    return {"exp_avg_sq": exp_avg_sq.lerp(grad * grad, weight)}


@mark(place="update")
def stabilize(update, grad, exp_avg_sq, eps=1e-6):
    """Slow down where gradients outgrow their second moment.

        u <- u / max(1, sqrt(mean(g^2 / max(v, eps^2))))

    Wortsman et al., 2023, arXiv:2304.13013: Adafactor's clipping, for AdamW.
    """
    return {"update": update / rms(grad / exp_avg_sq.clamp(min=eps * eps).sqrt()).clamp(min=1.0)}


@mark(place="statistics")
def normalize_by_ema(grad, betas=(0.95, 0.98), eps=1e-8, norm_sq=scalar_zero):
    """Divide each tensor's gradient by the root of its averaged squared norm.

        v <- beta2 * v + (1 - beta2) * |g|^2   (|g|^2 where v is 0);   u <- g / (sqrt(v) + eps)

    Ginsburg et al., 2019, arXiv:1905.11286. v starts with the first gradient that is not zero.
    """
    sq = sum_sq(grad)
    norm_sq = torch.where(norm_sq > 0, betas[1] * norm_sq + (1 - betas[1]) * sq, sq)
    return {"norm_sq": norm_sq, "update": grad / (norm_sq.sqrt() + eps)}


@mark(place="statistics")
def seeded_ema(update, betas=(0.95, 0.98), grad_averaging=False, exp_avg=None):
    """Momentum that starts as the first update.

        m <- beta1 * m + u;  u <- m       (grad_averaging: (1 - beta1) * u)

    Ginsburg et al., 2019, arXiv:1905.11286.
    """
    weight = 1 - betas[0] if grad_averaging else 1.0
    avg = update if exp_avg is None else betas[0] * exp_avg + weight * update
    return {"exp_avg": avg, "update": avg}


def tangent(p, grad, update, delta, eps):
    """The update without its part along `p` where the gradient is nearly orthogonal to `p`.

    It is asked of every output unit at once, the largest cosine counting, then of the tensor.
    Returns the update and whether it was projected.
    """
    out, projected = update, torch.zeros_like(update.sum()) > 0
    for rows in (1, p.shape[0]):
        w, g, u = (x.reshape(rows, -1) for x in (p, grad, update))
        unit = w / (norm(w, dim=1, keepdim=True) + eps)
        cosine = (unit * g).sum(dim=1) / (norm(g, dim=1) + eps)
        near = cosine.abs().amax() < delta / math.sqrt(w.shape[1])
        inside = u - unit * (unit * u).sum(dim=1, keepdim=True)
        out, projected = torch.where(near, inside.reshape(p.shape), out), near | projected
    return out, projected


@mark(place="update", bounds={"delta": ">= 0", "wd_ratio": ">= 0"})
def project(p, grad, update, delta=0.1, wd_ratio=0.1, weight_decay=0.0, eps=1e-8, do_wd=None):
    """Drop the radial part of a scale-invariant weight's update, and most of its decay.

        u <- u - <p, u> p / |p|^2 + weight_decay * wd_ratio * p   where cos(p, g) < delta / sqrt(n)
        u <- u + weight_decay * p                                 elsewhere, and for vectors

    Heo et al., 2020, arXiv:2006.08217. Scale invariance is asked of units first, then of the tensor.
    """
    decay = decay_for(weight_decay, do_wd)
    if p.ndim < 2:
        return {"update": update + decay * p}
    update, projected = tangent(p, grad, update, delta, eps)
    ratio = torch.where(projected, wd_ratio, 1.0).to(p.dtype)
    return {"update": update + decay * ratio * p}


@mark(place="update", bounds={"momentum": "< 1", "delta": ">= 0", "wd_ratio": ">= 0"})
def project_damped(
    p, grad, update, momentum=0.9, delta=0.1, wd_ratio=0.1, weight_decay=0.0, eps=1e-8, do_wd=None
):
    """`project` for SGD: the decay is divided by 1 - momentum, to last as long as a gradient does."""
    decay = weight_decay / (1 - momentum)
    return {"update": project(p, grad, update, delta, wd_ratio, decay, eps, do_wd)["update"]}


@mark(
    place="grad",
    bounds={
        "beta": ">= 0, <= 1",
        "lambda_rel": ">= 0",
        "lambda_abs": ">= 0",
        "warmup_steps": ">= 0",
    },
)
def clip_to_average(
    grad, step, grad_sq_norm=grad_sq_norm, clip_avg=scalar_inf,
    beta=0.98, lambda_rel=1.05, lambda_abs=1.0, warmup_steps=100, eps=1e-8,
):  # fmt: skip
    """Clip each tensor to the average of its clipped norms; all together during a warm-up.

        t < warmup_steps:  g <- g * min(1, lambda_abs / (|all g| + eps));   a <- min(a, |g|)
        later:             g <- g * min(1, lambda_rel * a / |g|);   a <- beta * a + (1 - beta) * |g|

    Wang et al., 2025, arXiv:2502.11034. Gradients of zero leave a as it is.
    """
    if step < warmup_steps or step == 1:
        grad = grad * (lambda_abs / (grad_sq_norm.sqrt() + eps)).clamp(max=1.0)
        size, average = norm(grad), clip_avg.minimum(norm(grad))
    else:
        grad = grad * (lambda_rel * clip_avg / norm(grad).clamp(min=eps)).clamp(max=1.0)
        size = norm(grad)
        average = torch.where(clip_avg == math.inf, size, beta * clip_avg + (1 - beta) * size)
    return {"grad": grad, "clip_avg": torch.where(size > 0, average, clip_avg)}


@mark(place="update")
def shrink_peaks(update, grad):
    """Gravity: shrink the entries that come near the largest one.

        u <- g / (1 + (g * max|g|)^2)

    Bahrami and Zadeh, 2021, arXiv:2101.09192.
    """
    return {"update": grad / (1 + (grad * grad.abs().max()).square())}


@mark(place="statistics", bounds={"beta": ">= 0, <= 1"})
def warm_average(update, step, lr, alpha=0.01, beta=0.9, velocity=None):
    """Gravity's average, which starts at random, and forgets faster in early steps.

        V ~ N(0, (alpha / lr)^2);   b = (beta t + 1) / (t + 2);   V <- b * V + (1 - b) * u;   u <- V

    Bahrami and Zadeh, 2021, arXiv:2101.09192.
    """
    if velocity is None:
        velocity = torch.randn_like(update) * (alpha / lr if lr > 0 else 0.0)
    velocity = velocity.lerp(update, 1 - (beta * step + 1) / (step + 2))
    return {"velocity": velocity, "update": velocity}


@mark(place="update")
def first_snr(update, grad, eps=1e-8, snr=scalar_zero):
    """Scale each tensor's update by the signal-to-noise ratio of its first gradient but zero.

        s = |g_1| / (std(g_1) + eps),   |g_1| where there is no deviation;   u <- s * u

    Xu et al., 2024, arXiv:2412.11768. The deviation is the unbiased one.
    """
    spread = norm(centered(grad)) / math.sqrt(max(grad.numel() - 1, 1))
    first = norm(grad) / torch.where(spread > 0, spread + eps, torch.ones_like(spread))
    snr = torch.where(snr > 0, snr, first)
    return {"snr": snr, "update": update * snr}


@mark(place="statistics", bounds={"reset_interval": ">= 1"})
def restart_moments(step, exp_avg, exp_avg_sq, since=0, reset_interval=1000):
    """Start Adam's averages again every so often; `since` counts for their corrections.

    every reset_interval steps:  m, v <- 0,  since <- 1

    Huang et al., 2025, arXiv:2501.06842 (SPAM).
    """
    if step % reset_interval:
        return {"since": since + 1}
    return {"exp_avg": exp_avg * 0, "exp_avg_sq": exp_avg_sq * 0, "since": 1}


@mark(place="after")
def fromage_shrink(p, grad, lr):
    """Undo the growth of orthogonal steps: p <- p / sqrt(1 + lr^2), where there was a step.

    Bernstein et al., 2020, arXiv:2002.03432.
    """
    return {"p": torch.where(norm(grad) > 0, p / math.sqrt(1 + lr * lr), p)}


def on_sphere(p, eps):
    """Every output unit with zero mean and norm one."""
    p = centered(p, unit_dims(p))
    return quotient(p, unit_norm(p) + eps)


@mark(place="after")
def unit_sphere(p, constraints=True, eps=1e-8):
    """Put every output unit of a matrix on the sphere: zero mean, norm one.

        p <- p - mean(p);   p <- p / (|p| + eps)      over each row or kernel

    Liu et al., 2021, arXiv:2102.07227. Vectors stay free.
    """
    return {"p": on_sphere(p, eps)} if p.ndim > 1 and constraints else None


@mark(place="grad")
def start_on_sphere(p, step, constraints=True, eps=1e-8):
    """`unit_sphere` before the first step only."""
    return {"p": on_sphere(p, eps)} if p.ndim > 1 and constraints and step == 1 else None


@mark(place="update", bounds={"beta": ">= 0, < 1", "scale": ">= 0"})
def neuron_normalize(p, grad, step, beta=0.999, eps=1e-8, neuron_sq=None, scale=None):
    """Divide by an averaged norm of each neuron, and restore the weights' own scale.

        v <- beta * v + (1 - beta) * |g|^2 of each unit,   s = the mean |p| of units at the start
        u <- s * g / (sqrt(v / (1 - beta^t)) + eps)

    Liu et al., 2021, arXiv:2102.07227. A vector's neurons are its entries; s is 0.01 where it is 0.
    """
    size = unit_norm if p.ndim > 1 else torch.abs
    if scale is None:
        scale = size(p).mean()
        scale = torch.where(scale > 0, scale, torch.full_like(scale, 0.01))
    sq = size(grad).square()
    neuron_sq = (1 - beta) * sq if neuron_sq is None else neuron_sq.lerp(sq, 1 - beta)
    root = (neuron_sq / (1 - beta**step)).sqrt() + eps
    return {"neuron_sq": neuron_sq, "scale": scale, "update": scale * grad / root}
