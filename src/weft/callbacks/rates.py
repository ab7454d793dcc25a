"""Bounding, bending and replacing Adam's rate."""

import math

import torch

from weft.callback import mark, zeros
from weft.callbacks.decay import spared
from weft.callbacks.units import norm, quotient, scalar_zero

__all__ = [
    "arctan",
    "average_rate",
    "bound_rate",
    "cap_rate",
    "corrected_decay",
    "dual_root",
    "friction",
    "golden_step",
    "lift_norm",
    "partial_root",
    "sit_out",
    "softplus_root",
    "times_lr",
]


@mark(
    place="update",
    role=("precondition", "correction", "rate"),
    bounds={"gamma": "> 0", "final_lr": ">= 0"},
)
def bound_rate(
    update, exp_avg_sq, lr, step, betas=(0.9, 0.999), final_lr=0.1, gamma=1e-3, eps=1e-8,
    base_lr=None,
):  # fmt: skip
    """Clip each element's rate to bounds that close in on SGD's; the rate is in the update then.

        r = lr * sqrt(1 - beta2^t) / (1 - beta1^t) / (sqrt(v) + eps);   f = final_lr * lr / base_lr
        u <- u * clip(r, f * (1 - 1 / (gamma * t + 1)), f * (1 + 1 / (gamma * t)))

    Luo et al., 2019, arXiv:1902.09843. Without base_lr, f is final_lr.
    """
    final = final_lr * lr / base_lr if base_lr else final_lr
    rate = lr * math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)
    low, high = final * (1 - 1 / (gamma * step + 1)), final * (1 + 1 / (gamma * step))
    return {"update": update * (rate / (exp_avg_sq.sqrt() + eps)).clamp(min=low, max=high)}


@mark(place="update", role=("precondition", "correction", "rate"))
def average_rate(
    update, exp_avg_sq, lr, step, betas=(0.9, 0.999, 0.999), eps=1e-8, exp_avg_lr=zeros
):
    """Keep each element's rate under its own average; the rate is in the update then.

        r = lr / (sqrt(v / (1 - beta2^t)) + eps);   s <- beta3 * s + (1 - beta3) * r
        u <- u * min(r, s)

    Ding et al., 2019, arXiv:1910.12249 (AdaMod).
    """
    rate = lr / ((exp_avg_sq / (1 - betas[1] ** step)).sqrt() + eps)
    average = exp_avg_lr.lerp(rate, 1 - betas[2])
    return {"update": update * rate.minimum(average), "exp_avg_lr": average}


@mark(place="update", role=("precondition", "correction"), bounds={"partial": ">= 0, <= 1"})
def partial_root(update, exp_avg_sq, step, betas=(0.9, 0.999), partial=0.25, eps=1e-8):
    """Divide by a power of the root: from SGD (0) to Adam (1/2).

        u <- u * sqrt(1 - beta2^t) / (sqrt(v) + eps)^(2 * partial)

    Chen et al., 2018, arXiv:1806.06763 (Padam).
    """
    scale = math.sqrt(1 - betas[1] ** step)
    return {"update": update * scale / (exp_avg_sq.sqrt() + eps) ** (2 * partial)}


@mark(place="update", role=("precondition", "correction"), bounds={"softplus_beta": "> 0"})
def softplus_root(update, exp_avg_sq, step, betas=(0.9, 0.999), softplus_beta=50.0):
    """Divide by the softplus of the corrected root, which is never small.

        u <- u / softplus(sqrt(v / (1 - beta2^t))),   softplus(x) = log(1 + exp(b * x)) / b

    Tong et al., 2019, arXiv:1908.00700 (SAdam).
    """
    x = softplus_beta * (exp_avg_sq / (1 - betas[1] ** step)).sqrt()
    return {"update": update / ((x + (-x).exp().log1p()) / softplus_beta)}


@mark(place="update", role=("precondition", "correction"), bounds={"a": ">= 0", "b": ">= 0"})
def arctan(update, exp_avg_sq, step, betas=(0.9, 0.999), a=1.0, b=1.0):
    """An arc tangent in the place of the division: no eps, and no scale of the gradient.

        u <- a * atan2(u, b * sqrt(v / (1 - beta2^t)))

    Everett et al., 2024, arXiv:2407.05872.
    """
    root = (exp_avg_sq / (1 - betas[1] ** step)).sqrt()
    return {"update": a * torch.atan2(update, b * root)}


@mark(place="update", role=("precondition", "correction"), bounds={"switch_rate": ">= 0"})
def dual_root(update, exp_avg_sq, step, betas=(0.9, 0.999), switch_rate=0.01, eps=1e-8):
    """From multiplying by the root to dividing by it.

        d = sqrt(v / (1 - beta2^t)) + eps;   r = max(0, 1 - t * switch_rate), 0 below switch_rate
        u <- u * (r * d + (1 - r) / d)

    arXiv:2603.07122 (DualAdam).
    """
    rest = max(0.0, 1 - step * switch_rate)
    share = rest if rest >= switch_rate else 0.0
    d = (exp_avg_sq / (1 - betas[1] ** step)).sqrt() + eps
    return {"update": update * (share * d + (1 - share) / d)}


@mark(place="update")
def friction(update, grad, previous_grad=zeros):
    """Slow down where the gradient stays the same.

        u <- u * sigmoid(|g_prev - g|),   g_prev starting at 0

    Dubey et al., 2019, arXiv:1909.11015 (diffGrad).
    """
    return {"update": update * (previous_grad - grad).abs().sigmoid(), "previous_grad": grad}


@mark(place="statistics", bounds={"P": ">= 0", "Q": ">= 0"})
def golden_step(grad, exp_avg_sq, betas=(0.95, 0.999, 0.95), P=0.2, Q=0.24, golden=zeros):
    """Scale the gradient by an average of the golden step size.

        r <- beta3 * r + (1 - beta3) * P * v^Q;   u <- r * g

    Pan et al., 2024, arXiv:2405.04376 (AdamG).
    """
    golden = golden.lerp(P * exp_avg_sq**Q, 1 - betas[2])
    return {"golden": golden, "update": golden * grad}


@mark(place="update")
def cap_rate(update, lr, step):
    """Let the rate be at most 1 / sqrt(t): u <- u * min(1, 1 / (lr * sqrt(t)))."""
    return {"update": update / max(1.0, lr * math.sqrt(step))}


@mark(place="decay", role="decay", bounds={"max_lr": ">= 0"})
def corrected_decay(p, lr, weight_decay=0.01, max_lr=None, do_wd=None):
    """Decoupled decay that falls with the square of the schedule.

        p <- p * (1 - lr^2 / max_lr * weight_decay)

    Defazio, 2025, arXiv:2506.02285 (AdamC). max_lr is the schedule's peak; without one, or with
    one of zero, the decay is that of `weight_decay`.
    """
    if spared(do_wd):
        return None
    return {"p": p * (1 - lr * (lr / max_lr if max_lr else 1.0) * weight_decay)}


@mark(place="statistics", bounds={"r": ">= 0, <= 1"})
def lift_norm(update, r=0.95, exp_grad_norm=scalar_zero):
    """Lift the norm of what enters the first moment to its average, where it is below.

        e <- r * e + (1 - r) * |u|;   u <- u * e / |u|   where e > |u|

    Dubey et al., 2022, arXiv:2210.06364 (AdamNorm). The second moment sees the gradient as it is.
    """
    size = norm(update)
    average = r * exp_grad_norm + (1 - r) * size
    return {
        "exp_grad_norm": average,
        "update": torch.where(average > size, quotient(update, size) * average, update),
    }


@mark(place="update")
def sit_out(update, step):
    """Stand still in the first step, where statistics are only filled."""
    return {"update": torch.zeros_like(update) if step == 1 else update}


@mark(place="update", role="rate")
def times_lr(update, lr):
    """Take the rate into the update, so that momentum keeps the rates of the past: u <- lr * u."""
    return {"update": lr * update}
