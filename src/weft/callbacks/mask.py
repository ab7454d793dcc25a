"""Masks and signs: what the update and the gradient agree on."""

import math
import sys

from weft.callback import mark
from weft.callbacks.decay import decay_for, spared
from weft.callbacks.units import rounding, wide_zeros

__all__ = ["attract", "borrow_sign", "borrow_size", "cautious", "cautious_weight_decay"]


@mark(place="update")
def cautious(update, grad):
    """Keep the update where it agrees with the gradient, scaled for what is left out.

        k = [u and g have one sign];   u <- u * k * n / (sum(k) + 1)

    Liang et al., 2024, arXiv:2411.16085, algorithm 2. timm, and the authors' code, divide by the
    mean of k with a floor of 1e-3.
    """
    agree = (update.sign() * grad.sign() > 0).to(grad.dtype)
    return {"update": update * agree * (grad.numel() / (agree.sum() + 1))}


@mark(place="update", role="decay")
def cautious_weight_decay(p, update, weight_decay=0.01, do_wd=None):
    """Decay where the update points that way too.

        u <- u + weight_decay * [u * p > 0] * p

    Chen et al., 2025, arXiv:2510.12402. In a chain it takes the place of `weight_decay`.
    """
    if spared(do_wd):
        return None
    agree = (update.sign() * p.sign() > 0).to(p.dtype)
    return {"update": update + weight_decay * agree * p}


@mark(place="update")
def borrow_sign(update, grad):
    """Take the sign of the gradient: u <- |u| * sign(g).

    Cao et al., 2024, arXiv:2412.17107 (Grams).
    """
    return {"update": update.abs() * grad.sign()}


@mark(place="update")
def borrow_size(update, grad):
    """Take the size of the gradient: u <- |g| * u, where u is a sign.

    Kegreisz, 2025, arXiv:2508.18258 (Ano).
    """
    return {"update": grad.abs() * update}


@mark(place="update", bounds={"gamma": ">= 0"})
def attract(
    p, update, lr, step, betas=(0.9, 0.999), gamma=0.1, weight_decay=0.0, pbar=wide_zeros,
    do_wd=None,
):  # fmt: skip
    """Be drawn to the average of the parameter, by its sign; the decay is towards zero from there.

        a <- beta2 * a + (1 - beta2) * p,   a' = a / (1 - beta2^t)
        u <- u + weight_decay * a' + gamma * sign(p - lr * weight_decay * a' - a')

    Zheng et al., 2025, arXiv:2501.12243 (FOCUS). Nothing is drawn to an average that it is nearer to
    than rounding can tell: so the average has no less than float32.
    """
    pbar = pbar.lerp(p, 1 - betas[1])
    # 1 - beta2^t as a difference would lose, in the first steps, the digits of double
    average = pbar / -math.expm1(step * math.log(max(betas[1], sys.float_info.min)))
    decay = decay_for(weight_decay, do_wd)
    gap = p - (1 + lr * decay) * average
    apart = (gap.abs() > rounding(average.abs())).to(p.dtype)
    return {"pbar": pbar, "update": update + decay * average + gamma * gap.sign() * apart}
