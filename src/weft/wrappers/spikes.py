"""Leaving out the steps whose loss or gradient spikes."""

import math
import statistics
from typing import Any, ClassVar

import torch

from weft.wrapper import Wrapper

__all__ = ["SkipSpikes"]


class SkipSpikes(Wrapper):
    r"""Skip a step whose loss or global gradient norm stands out above those before it.

        skip where x > mean + sigmas * deviation of the last `window` values of x before

    A skipped step changes nothing, step counts included; its values do enter the history. A norm or
    a loss that is not finite is skipped and forgotten. Nothing is asked until half a window is
    known. One number is read back from the device at each step.

    Args:
        window: how many values, this one included, are looked at.
        sigmas: how many (unbiased) standard deviations are too many.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(1))
    >>> opt = weft.SkipSpikes(weft.SGD([p], lr=0.1), window=6, sigmas=3.)
    >>> for g in (1., 1.1, 0.9, 100.):
    ...     p.grad = torch.full((1,), g); opt.step()
    >>> p.data
    tensor([0.7000])

    As OLMo trains; Walsh et al., 2024, arXiv:2501.00656. Without a loss only the norm is looked at.
    """

    hypers: ClassVar = {"window": 128, "sigmas": 6.0}
    bounds: ClassVar = {"window": ">= 1"}
    numbers: ClassVar[dict[str, Any]] = {"norms": (), "losses": (), "skipped": 0}

    def around_step(self, opt: Any, closure: Any) -> Any:
        """Evaluate the closure, look at what came out, and step or not."""
        loss = opt.loss
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        spike = self._spikes(opt, "norms", _global_norm(opt))
        if loss is not None:
            spike = self._spikes(opt, "losses", float(loss)) or spike
        if spike:
            self.set(opt, "skipped", self.get(opt, "skipped") + 1)
            return loss
        return opt.step(loss=loss)

    def _spikes(self, opt: Any, name: str, value: float) -> bool:
        """Whether `value` stands out among those before it; it joins them."""
        if not math.isfinite(value):
            return True
        window, before = int(self.get(opt, "window")), self.get(opt, name)
        self.set(opt, name, (*before, value)[-window:])
        if len(before) + 1 < max(2, window // 2) or not before:
            return False
        deviation = statistics.stdev(before) if len(before) > 1 else math.nan
        return value - statistics.fmean(before) > self.get(opt, "sigmas") * deviation


def _global_norm(opt: Any) -> float:
    """The norm of all gradients together."""
    grads = [p.grad for g in opt.param_groups for p in g["params"] if p.grad is not None]
    norms = [torch.linalg.vector_norm(g).double() for g in grads]
    return float(torch.stack([n.to(norms[0].device) for n in norms]).norm()) if norms else 0.0
