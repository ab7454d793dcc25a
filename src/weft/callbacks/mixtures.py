"""Updates made of more than one average: of slow ones, of differences, of the gradients before."""

import math

import torch

from weft.callback import mark, zeros
from weft.callbacks.units import norm

__all__ = [
    "adan",
    "adan_root",
    "add_gradient",
    "add_slow_average",
    "cross_correct",
    "grokfast",
    "optimistic",
    "positive_negative",
    "sum_momentum",
    "variance_reduction",
]


@mark(place="update", bounds={"t_alpha": ">= 0", "t_beta3": ">= 0"})
def add_slow_average(
    update, grad, step, betas=(0.9, 0.999, 0.9999), alpha=5.0, t_alpha=None, t_beta3=None,
    exp_avg_slow=zeros,
):  # fmt: skip
    """Add a second, much slower average of the gradient, uncorrected.

        s <- beta3_t * s + (1 - beta3_t) * g;   u <- u + alpha_t * s

    alpha_t grows linearly over t_alpha steps; beta3_t from beta1 over t_beta3 steps, linearly in its
    half-life to a first approximation. Pagliardini et al., 2024, arXiv:2409.03137.
    """
    beta3 = betas[2]
    if t_alpha:
        alpha = min(alpha * step / t_alpha, alpha)
    if t_beta3 and beta3 > 0:
        way = min(step / t_beta3, 1.0)
        inverse = (1 - way) * inverse_log(betas[0]) + way * inverse_log(beta3)
        beta3 = min(math.exp(1 / inverse), beta3)
    slow = exp_avg_slow.lerp(grad, 1 - beta3)
    return {"exp_avg_slow": slow, "update": update + alpha * slow}


def inverse_log(beta):
    """1 / log(beta): how many steps a decay remembers, but for the sign; none at 0."""
    return 1 / math.log(beta) if beta > 0 else 0.0


@mark(place="statistics")
def sum_momentum(update, betas=(0.9, 0.999), exp_avg=zeros):
    """Momentum as a sum, started at zero.

    m <- beta1 * m + u;  u <- m
    """
    exp_avg = betas[0] * exp_avg + update
    return {"exp_avg": exp_avg, "update": exp_avg}


@mark(place="update")
def add_gradient(update, grad, alpha=0.0):
    """Add the gradient itself: u <- u + alpha * g."""
    return {"update": update + alpha * grad}


@mark(place="statistics")
def adan(
    grad, step, betas=(0.98, 0.92, 0.99),
    exp_avg=zeros, exp_avg_diff=zeros, exp_avg_sq=zeros, previous_grad=zeros,
):  # fmt: skip
    """Averages of the gradient, of its difference d, and of what Nesterov's method would see.

        m, v, n <- averages of g, d = g - g_prev, (g + beta2 * d)^2;   d = 0 in the first step
        u <- m / (1 - beta1^t) + beta2 * v / (1 - beta2^t)

    Xie et al., 2022, arXiv:2208.06677. Betas as in torch: 1 minus the paper's.
    """
    beta1, beta2, beta3 = betas
    diff = torch.zeros_like(grad) if step == 1 else grad - previous_grad
    m, v = exp_avg.lerp(grad, 1 - beta1), exp_avg_diff.lerp(diff, 1 - beta2)
    n = exp_avg_sq.lerp((grad + beta2 * diff) ** 2, 1 - beta3)
    update = m / (1 - beta1**step) + beta2 * v / (1 - beta2**step)
    return {
        "exp_avg": m, "exp_avg_diff": v, "exp_avg_sq": n, "previous_grad": grad, "update": update
    }  # fmt: skip


@mark(place="update", role=("precondition", "correction"))
def adan_root(update, exp_avg_sq, step, betas=(0.98, 0.92, 0.99), eps=1e-8):
    """Divide by the root of the corrected third average: u <- u / (sqrt(n / (1 - beta3^t)) + eps)."""
    return {"update": update / ((exp_avg_sq / (1 - betas[2] ** step)).sqrt() + eps)}


@mark(place="grad", bounds={"gamma": ">= 0"})
def variance_reduction(grad, betas=(0.95, 0.99), gamma=0.025, previous_grad=zeros):
    """MARS' correction by the gradient before, its norm clipped to one.

        c = g + gamma * beta1 / (1 - beta1) * (g - g_prev);   g <- c / max(1, |c|)

    Yuan et al., 2024, arXiv:2411.10438, the approximate variant: g_prev is the gradient that the
    step before had, not one evaluated again; it starts at zero.
    """
    corrected = grad + gamma * betas[0] / (1 - betas[0]) * (grad - previous_grad)
    return {"grad": corrected / norm(corrected).clamp(min=1), "previous_grad": grad}


@mark(place="grad", bounds={"grok_alpha": ">= 0, <= 1", "lamb": ">= 0"})
def grokfast(grad, step, grok_alpha=0.98, lamb=2.0, slow_grad=zeros):
    """Amplify the slow part of the gradient.

        s <- grok_alpha * s + (1 - grok_alpha) * g,  s = g in the first step;   g <- g + lamb * s

    Lee et al., 2024, arXiv:2405.20233 (Grokfast-EMA), whose alpha other chains have a use for.
    """
    slow_grad = grad if step == 1 else slow_grad.lerp(grad, 1 - grok_alpha)
    return {"slow_grad": slow_grad, "grad": grad + lamb * slow_grad}


@mark(place="statistics", bounds={"beta0": ">= 0"})
def positive_negative(
    update, momentum=None, betas=(0.9, 0.999), beta0=1.0, exp_avg=zeros, neg_exp_avg=zeros
):
    """Two averages that take turns; the one of this turn counts more, the other against it.

        m_t = beta1^2 * m_{t-2} + (1 - beta1^2) * u
        u <- ((1 + beta0) * m_t - beta0 * m_{t-1}) / sqrt((1 + beta0)^2 + beta0^2)

    Xie et al., 2021, arXiv:2103.17182. The decay is `momentum`, or the first of
    `betas`.
    """
    keep = (betas[0] if momentum is None else momentum) ** 2
    m = keep * neg_exp_avg + (1 - keep) * update
    mixed = ((1 + beta0) * m - beta0 * exp_avg) / math.sqrt((1 + beta0) ** 2 + beta0**2)
    return {"exp_avg": m, "neg_exp_avg": exp_avg, "update": mixed}


@mark(place="update", bounds={"beta": ">= 0"})
def optimistic(update, step, alpha=1.0, beta=1.0, previous_update=zeros):
    """Go on as the last two updates differ.

        u <- (alpha + beta) * u - beta * u_prev,   u_prev = u in the first step

    Daskalakis et al., 2017, arXiv:1711.00141.
    """
    before = update if step == 1 else previous_update
    return {"update": (alpha + beta) * update - beta * before, "previous_update": update}


@mark(place="update")
def cross_correct(grad, exp_avg, exp_avg_sq, step, betas=(0.9, 0.999), eps=1e-8):
    """EXAdam's corrections: each moment corrected by the other, and the gradient added.

        a = 1 + beta2^t * v / (v + eps),   b = 1 + beta1^t * m^2 / (m^2 + eps)
        u <- (m + g) / (1 - beta1^t) * a / (sqrt(v / (1 - beta2^t) * b) + eps)

    Adly, 2024, arXiv:2412.20302.
    """
    m_sq, decayed1, decayed2 = exp_avg * exp_avg, betas[0] ** step, betas[1] ** step
    by_v = 1 + decayed2 * exp_avg_sq / (exp_avg_sq + eps)
    by_m = 1 + decayed1 * m_sq / (m_sq + eps)
    root = (exp_avg_sq / (1 - decayed2) * by_m).sqrt() + eps
    return {"update": (exp_avg + grad) / (1 - decayed1) * by_v / root}
