"""A GradScaler that leaves the scale to the optimizer."""

from typing import Any

__all__ = ["skips"]


def skips(opt: Any) -> bool:
    """Whether a step of `opt` is to be left out; where it is not, the grads are unscaled.

    An optimizer with `_step_supports_amp_scaling` set gets `grad_scale` (None where the user has
    unscaled already) and `found_inf` from torch's GradScaler before each step. Without it the
    scaler unscales and skips by itself: both ways write the grads, and come to the same bits.
    """
    scale, found_inf = getattr(opt, "grad_scale", None), getattr(opt, "found_inf", None)
    if found_inf is not None and float(found_inf) != 0:
        return True
    if scale is not None:
        inverse = scale.double().reciprocal().float()
        for group in opt.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.mul_(inverse.to(p.grad.device))
    return False
