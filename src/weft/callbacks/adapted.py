"""Learning the distance to the solution, d, as D-Adaptation and Prodigy do.

d is one number for all parameters, kept in the groups; it starts at d0 and never falls. Callbacks
before the one that moves d see it as the step before left it. What is averaged begins as 1e-6 of the
gradient, which is below what float16 has: the averages have no less than float32.
"""

import math
from typing import Any

from weft.callback import mark, over_params, shared, start
from weft.callbacks.decay import spared
from weft.callbacks.units import quotient, wide_zeros

__all__ = [
    "dadapt_distance",
    "dadapt_ema",
    "dadapt_sign",
    "distance_decay",
    "distance_proximal_decay",
    "prodigy_distance",
    "prodigy_ema",
]


def rate_of(lr, d, d0, step=1, betas=(0.0, 0.0), corrected=False):
    """lr * d, with Adam's corrections where they are wanted."""
    rate = lr * max(d, d0)
    return rate * math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step) if corrected else rate


def l1(grad_sum):
    """The sum of the magnitudes of weighted gradients."""
    return grad_sum.abs().sum()


grad_sum_l1: Any = over_params("grad_sum_l1", l1)


@mark(place="decay", role="decay")
def distance_decay(
    p, lr, d, step, betas=(0.9, 0.999), weight_decay=0.0, d0=1e-6, use_bias_correction=False,
    do_wd=None,
):  # fmt: skip
    """Decoupled decay at the adapted rate: p <- p * (1 - lr * d * weight_decay)."""
    if spared(do_wd):
        return None
    rate = rate_of(lr, d, d0, step, betas, use_bias_correction)
    return {"p": p * (1 - rate * weight_decay)}


@mark(place="after", role="decay")
def distance_proximal_decay(p, lr, d, weight_decay=0.0, d0=1e-6, do_wd=None):
    """Decay after the step, by a proximal operator: p <- p / (1 + lr * d * weight_decay)."""
    if spared(do_wd):
        return None
    return {"p": p / (1 + rate_of(lr, d, d0) * weight_decay)}


# ---------------------------------------------------------------- Prodigy


def prodigy_progress(
    p, grad, lr, step, x0, d, betas=(0.9, 0.999), d0=1e-6, use_bias_correction=False
):
    """How far downhill the way from the start has led, as this gradient sees it."""
    rate = rate_of(lr, d, d0, step, betas, use_bias_correction)
    return max(d, d0) / d0 * rate * (grad * (x0 - p)).sum()


prodigy_gain: Any = over_params("progress", prodigy_progress)


@mark(place="statistics", bounds={"d0": "> 0", "beta3": ">= 0, <= 1"})
def prodigy_ema(
    grad, lr, step, d, betas=(0.9, 0.999), beta3=None, d0=1e-6, use_bias_correction=False,
    safeguard_warmup=False, x0=start, exp_avg=wide_zeros, exp_avg_sq=wide_zeros, grad_sum=wide_zeros,
    progress=prodigy_gain,
):  # fmt: skip
    """Prodigy's averages: Adam's of d * g, and a sum of weighted gradients.

        m, v <- averages of d g and (d g)^2;   s <- beta3 * s + d / d0 * lr * d * g;   u <- m

    Mishchenko and Defazio, 2023, arXiv:2306.06101. beta3 is sqrt(beta2) where it is None.
    """
    b1, b2 = betas
    now, b3 = max(d, d0), math.sqrt(b2) if beta3 is None else beta3
    weight = now if safeguard_warmup else rate_of(lr, d, d0, step, betas, use_bias_correction)
    exp_avg = b1 * exp_avg + (1 - b1) * now * grad
    exp_avg_sq = b2 * exp_avg_sq + (1 - b2) * now * now * grad * grad
    grad_sum = b3 * grad_sum + now / d0 * weight * grad
    return {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq, "grad_sum": grad_sum, "update": exp_avg}


@mark(place="update", bounds={"d_coef": "> 0", "growth_rate": ">= 0", "beta3": ">= 0, <= 1"})
def prodigy_distance(
    update, exp_avg_sq, step, progress, betas=(0.9, 0.999), beta3=None, eps=1e-8, d0=1e-6,
    d_coef=1.0, growth_rate=math.inf, use_bias_correction=False, d=shared(0.0), d_max=shared(0.0),
    numerator=shared(0.0), grad_sum_l1=grad_sum_l1,
):  # fmt: skip
    """Prodigy's d, and its step: the old d is its rate, the new one stands beside eps.

        r <- beta3 * r + progress;   d_max <- max(d_max, d_coef * r / |s|_1)
        d <- min(d_max, d * growth_rate);   u <- d_old * u / (sqrt(v) + d * eps)

    Mishchenko and Defazio, 2023, arXiv:2306.06101, and the authors' code for the two d.
    """
    old = max(d, d0)
    numerator = (math.sqrt(betas[1]) if beta3 is None else beta3) * numerator + progress
    d_hat = quotient(d_coef * numerator, grad_sum_l1)
    d_max = d_hat.clamp(min=max(d_max, d0))
    d = d_max.minimum((d_hat.clamp(min=old) if old == d0 else d_max * 0 + old) * growth_rate)
    rate = rate_of(1.0, old, d0, step, betas, use_bias_correction)
    scaled = rate * update / (exp_avg_sq.sqrt() + d * eps)
    return {"d": d, "d_max": d_max, "numerator": numerator, "update": scaled}


# ---------------------------------------------------------------- D-Adaptation: Adam and Lion


def adam_progress(
    grad, grad_sum, exp_avg_sq, lr, step, d, betas=(0.9, 0.999), eps=1e-8, d0=1e-6,
    use_bias_correction=False,
):  # fmt: skip
    """The rate times how the gradient agrees with the sum of those before, in Adam's norm."""
    rate = rate_of(lr, d, d0, step, betas, use_bias_correction)
    return rate * quotient(grad * grad_sum, exp_avg_sq.sqrt() + eps).sum()


def sign_progress(grad, exp_avg, grad_sum, lr, d, betas=(0.9, 0.999), d0=1e-6):
    """The rate times how Lion's sign agrees with the sum of those before."""
    sign = (betas[0] * exp_avg + (1 - betas[0]) * grad).sign()
    return rate_of(lr, d, d0) * (sign * grad_sum).sum()


adam_gain: Any = over_params("progress", adam_progress)
sign_gain: Any = over_params("progress", sign_progress)


@mark(place="statistics", bounds={"d0": "> 0"})
def dadapt_ema(
    grad, lr, step, d, betas=(0.9, 0.999), d0=1e-6, use_bias_correction=False, exp_avg=wide_zeros,
    exp_avg_sq=wide_zeros, grad_sum=wide_zeros, progress=adam_gain,
):  # fmt: skip
    """D-Adapt Adam's averages, the rate lr * d inside them.

        m <- beta1 * m + (1 - beta1) * lr d g;   v as Adam's;   u <- m
        s <- q * s + (1 - q) * lr d g,   q = sqrt(beta2)

    Defazio and Mishchenko, 2023, arXiv:2301.07733.
    """
    rate, q = rate_of(lr, d, d0, step, betas, use_bias_correction), math.sqrt(betas[1])
    exp_avg = betas[0] * exp_avg + (1 - betas[0]) * rate * grad
    exp_avg_sq = betas[1] * exp_avg_sq + (1 - betas[1]) * grad * grad
    grad_sum = q * grad_sum + (1 - q) * rate * grad
    return {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq, "grad_sum": grad_sum, "update": exp_avg}


@mark(place="statistics", bounds={"d0": "> 0"})
def dadapt_sign(
    grad,
    lr,
    d,
    betas=(0.9, 0.999),
    d0=1e-6,
    exp_avg=wide_zeros,
    grad_sum=wide_zeros,
    progress=sign_gain,
):
    """D-Adapt Lion's update, sums and rate.

        u = sign(beta1 * m + (1 - beta1) * g);   m <- beta2 * m + (1 - beta2) * lr d g
        s <- q * s + (1 - q) * lr d u,   q = sqrt(beta2);   u <- lr d u

    Defazio and Mishchenko, 2023, arXiv:2301.07733. m carries lr * d and the g beside it does not, as
    in the authors' code.
    """
    rate, q = rate_of(lr, d, d0), math.sqrt(betas[1])
    update = rate * (betas[0] * exp_avg + (1 - betas[0]) * grad).sign()
    exp_avg = betas[1] * exp_avg + (1 - betas[1]) * rate * grad
    return {"exp_avg": exp_avg, "grad_sum": q * grad_sum + (1 - q) * update, "update": update}


@mark(place="after", bounds={"growth_rate": ">= 0"})
def dadapt_distance(
    progress, betas=(0.9, 0.999), d0=1e-6, growth_rate=math.inf, d=shared(0.0),
    numerator=shared(0.0), grad_sum_l1=grad_sum_l1,
):  # fmt: skip
    """The lower bound on the distance, from averages.

        r <- q * r + (1 - q) * progress;   d <- max(d, min(r / ((1 - q) |s|_1), d * growth_rate))

    Defazio and Mishchenko, 2023, arXiv:2301.07733.
    """
    q, old = math.sqrt(betas[1]), max(d, d0)
    numerator = q * numerator + (1 - q) * progress
    d_hat = quotient(numerator, (1 - q) * grad_sum_l1)
    return {"numerator": numerator, "d": d_hat.clamp(max=old * growth_rate).clamp(min=old)}
