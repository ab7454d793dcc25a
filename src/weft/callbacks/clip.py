"""Clipping: of values, of norms by tensor, by output unit and over all, of updates."""

import torch

from weft.callback import mark
from weft.callbacks.units import grad_sq_norm, norm, quotient, rms, scalar_zero, unit_norm

__all__ = [
    "adapt_norm",
    "clip_global_norm",
    "clip_norm",
    "clip_unit",
    "clip_update_rms",
    "clip_value",
    "cut_spikes",
]


@mark(place="grad", sparse="entries", bounds={"clip_value": ">= 0"})
def clip_value(grad, clip_value=1.0):
    """Clip every entry of the gradient.

    g <- min(max(g, -clip_value), clip_value)
    """
    return {"grad": grad.clamp(min=-clip_value, max=clip_value)}


@mark(place="grad", sparse="entries", bounds={"max_norm": ">= 0"})
def clip_norm(grad, max_norm=1.0):
    """Clip the norm of each tensor's gradient.

        g <- g * min(1, max_norm / (|g| + 1e-6))

    Pascanu et al., 2013, arXiv:1211.5063, with torch's 1e-6; optax has none.
    """
    return {"grad": grad * (max_norm / (norm(grad) + 1e-6)).clamp(max=1.0)}


@mark(place="grad", sparse="entries", bounds={"max_norm": ">= 0"})
def clip_global_norm(grad, grad_sq_norm=grad_sq_norm, max_norm=1.0):
    """Clip the norm of all gradients together.

        g <- g * min(1, max_norm / (|all g| + 1e-6))

    Pascanu et al., 2013, arXiv:1211.5063, with torch's 1e-6; optax has none. The norm is that of all
    groups whose chain clips.
    """
    return {"grad": grad * (max_norm / (grad_sq_norm.sqrt() + 1e-6)).clamp(max=1.0)}


@mark(place="grad", bounds={"clipping": ">= 0", "agc_eps": ">= 0"})
def clip_unit(p, grad, clipping=0.01, agc_eps=1e-3):
    """Adaptive gradient clipping: no output unit's gradient is large beside its weights.

        limit = clipping * max(|p|, agc_eps);   g <- g * limit / |g|   where |g| > limit

    Brock et al., 2021, arXiv:2102.06171. Norms are those of rows and kernels; a vector is one unit.
    Leave the last linear layer out: give it a group of its own.
    """
    limit, size = clipping * unit_norm(p).clamp(min=agc_eps), unit_norm(grad)
    return {"grad": torch.where(size > limit, grad * (limit / size), grad)}


@mark(place="update", bounds={"d": "> 0"})
def clip_update_rms(update, d=1.0):
    """Clip the root mean square of each tensor's update.

        u <- u / max(1, rms(u) / d)

    Shazeer and Stern, 2018, arXiv:1804.04235.
    """
    return {"update": update / (rms(update) / d).clamp(min=1.0)}


@mark(place="grad", bounds={"theta": ">= 0, < 1"})
def cut_spikes(grad, step, theta=0.999, max_abs=scalar_zero):
    """Scale down the entries that stand out above the average of the largest entry.

        M <- theta * M + (1 - theta) * max|g|,   M' = M / (1 - theta^t)
        g <- g / max|g| * M'   where |g| > M'

    Huang et al., 2025, arXiv:2502.17055 (AdaClip).
    """
    size, largest = grad.abs(), grad.abs().max()
    max_abs = theta * max_abs + (1 - theta) * largest
    limit = max_abs / (1 - theta**step)
    return {"max_abs": max_abs, "grad": torch.where(size > limit, grad / largest * limit, grad)}


@mark(place="grad", bounds={"gammas": ">= 0, < 1"})
def adapt_norm(
    grad, step, gammas=(0.7, 0.9), eps=1e-8, norm_avg=scalar_zero, norm_sq_avg=scalar_zero
):
    """Give the gradient an averaged norm, over the root of the averaged squared norm.

        a, b <- averages of |g| and |g|^2, corrected to a', b';   g <- g / |g| * a' / (sqrt(b') + eps)

    Huang et al., 2025, arXiv:2502.17055 (AdaGN).
    """
    size = norm(grad)
    a = gammas[0] * norm_avg + (1 - gammas[0]) * size
    b = gammas[1] * norm_sq_avg + (1 - gammas[1]) * size.double() ** 2
    scale = a / (1 - gammas[0] ** step) / ((b / (1 - gammas[1] ** step)).sqrt() + eps)
    return {"norm_avg": a, "norm_sq_avg": b, "grad": quotient(grad, size) * scale}
