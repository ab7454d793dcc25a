"""A GradScaler that leaves the scale to the optimizer."""

import sys
from collections.abc import Callable
from typing import Any

import torch

from weft.errors import StepError

__all__ = ["found_inf", "guarded", "unscale"]

FRAMES = 16  # how far up a scaler is looked for: hooks and schedulers lie between
SCALED = (
    "scaler.step(optimizer, closure), and the closure calls backward: the scaler has unscaled before, so "
    "that the step would be with scaled grads. Call optimizer.step(closure) instead, with a closure that "
    "divides the grads by the scale after backward and an optimizer with on_nonfinite='skip'; or train "
    "in bfloat16, which needs no scaler. Nothing has been stepped; see docs/limits.md#gradscaler"
)


def guarded(opt: Any, closure: Callable[[], Any]) -> Callable[[], Any]:
    """The closure of a step of `opt`; one that refuses scaled grads where a GradScaler takes it."""
    if getattr(opt, "found_inf", None) is None and not _called_by_scaler():
        return closure

    def checked() -> Any:
        before = _grads(opt)
        loss = closure()
        pairs = zip(before, _grads(opt), strict=True)
        if any(was is not now or n != m for (was, n), (now, m) in pairs):
            for name in ("grad_scale", "found_inf"):  # the scaler does not, after an error
                vars(opt).pop(name, None)
            raise StepError(SCALED)
        return loss

    return checked


def _called_by_scaler() -> bool:
    """Whether torch's GradScaler is what calls: by default it tells an optimizer nothing."""
    code = torch.amp.GradScaler._maybe_opt_step.__code__
    frame = sys._getframe(1)
    for _ in range(FRAMES):
        if frame is None or frame.f_code is code:
            return frame is not None
        frame = frame.f_back
    return False


def _grads(opt: Any) -> list[tuple[Any, int]]:
    """The grads, and how often each was written."""
    grads = (p.grad for group in opt.param_groups for p in group["params"])
    return [(g, 0 if g is None else g._version) for g in grads]


def found_inf(opt: Any) -> torch.Tensor | None:
    """What a GradScaler says of a step of `opt`: one that is not 0 is to be left out.

    An optimizer with `_step_supports_amp_scaling` set gets `grad_scale` (None where the user has
    unscaled already) and `found_inf` from torch's GradScaler before each step. Without it the
    scaler unscales and skips by itself: both ways write the grads, and come to the same bits.
    """
    return getattr(opt, "found_inf", None)


def unscale(opt: Any) -> None:
    """Divide the grads by the scale that a GradScaler has left."""
    scale = getattr(opt, "grad_scale", None)
    if scale is not None:
        inverse = scale.double().reciprocal().float()
        for group in opt.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.mul_(inverse.to(p.grad.device))
