"""SAM's kin: the ascent along another direction, or a gradient mixed from two points."""

from typing import Any, ClassVar

import torch

from weft.callbacks.units import centered, quotient, rounding, unit_dims
from weft.callbacks.units import norm as norm_of
from weft.contract.hyperparameters import as_read
from weft.wrappers.sharpness import SAM, gradient, norm, scaled, set_gradient

__all__ = ["GCSAM", "GSAM", "WSAM", "FriendlySAM", "LookSAM"]


class GCSAM(SAM):
    r"""SAM that climbs along the centralized gradient.

        e = rho * (g - mean(g)) / |g|,   the mean over all dimensions but the first

    Args:
        rho: how far to climb.

    >>> import torch, weft
    >>> opt = weft.GCSAM(weft.SGD([torch.nn.Parameter(torch.ones(2, 2))], lr=0.1), rho=0.05)
    >>> opt.needs_closure
    True

    2025, arXiv:2501.11584. |g| is the norm before the mean is taken out, as in pytorch_optimizer.
    """

    def ascent(self, opt: Any, params: list[torch.Tensor]) -> list[torch.Tensor]:
        climb = super().ascent(opt, params)
        return [centered(e, unit_dims(e)) if e.ndim > 1 else e for e in climb]


class FriendlySAM(SAM):
    r"""SAM that climbs along the noise of the batch: the gradient less its average.

        d = g - sigma * m;   m <- decay * m + (1 - decay) * g;   e = rho * d / |d|

    Args:
        rho: how far to climb.
        sigma: how much of the average is taken out.
        decay: of the average, which starts as the first gradient; the first step is SAM's.

    >>> import torch, weft
    >>> opt = weft.FriendlySAM(weft.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1), sigma=1.)
    >>> opt.needs_closure
    True

    Li et al., 2024, arXiv:2403.12350; m is that of before the step, as in the authors' code.
    """

    hypers: ClassVar = {"rho": 0.05, "sigma": 1.0, "decay": 0.9}

    def ascent(self, opt: Any, params: list[torch.Tensor]) -> list[torch.Tensor]:
        key, noise = self.key("average"), []
        for p in params:
            g, own = gradient(p), opt.state[p]
            average = own[key].to(g.dtype) if key in own else None
            noise.append(g if average is None else g - self.get(opt, "sigma") * average)
            after = g if average is None else average.lerp(g, 1 - self.get(opt, "decay"))
            own[key] = after.to(p.dtype)  # as a checkpoint keeps it
        return scaled(noise, norm(noise), self.get(opt, "rho"))


class GSAM(SAM):
    r"""SAM that also closes the gap between the worst loss nearby and the loss itself.

        h = SAM's gradient;   g <- h - alpha * (g - <g, h> h / |h|^2)

    Args:
        rho: how far to climb; the paper schedules it.
        alpha: how much of the part of g that is orthogonal to h is climbed.

    >>> import torch, weft
    >>> opt = weft.GSAM(weft.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1), alpha=0.4)
    >>> opt.needs_closure
    True

    Zhuang et al., 2022, arXiv:2203.08065. Norms and products are over all parameters.
    """

    hypers: ClassVar = {"rho": 0.05, "alpha": 0.4}

    def replace_gradient(self, opt: Any, params: list[torch.Tensor], closure: Any) -> None:
        """SAM's gradient, less what is left of the plain one."""
        plain = [gradient(p) for p in params]
        super().replace_gradient(opt, params, closure)
        worst = [gradient(p) for p in params]
        size, alpha = norm(worst), self.get(opt, "alpha")
        unit = scaled(worst, size, 1.0)
        along = sum((g * e).sum().to(size.device) for g, e in zip(plain, unit, strict=True))
        for p, g, h, e in zip(params, plain, worst, unit, strict=True):
            set_gradient(p, h - alpha * (g - along * e))


class LookSAM(SAM):
    r"""SAM every k steps; in between, its direction from memory and one evaluation.

        steps 1, 1 + k, ...   g <- h, SAM's gradient;   v <- h - <g, h> g / |g|^2
        other steps           g <- g + alpha * |g| / |v| * v

    Args:
        rho: how far to climb.
        k: how many steps apart SAM's are.
        alpha: how much of the remembered direction is added.

    >>> import torch, weft
    >>> opt = weft.LookSAM(weft.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1), k=5)
    >>> opt.needs_closure
    True

    Liu et al., 2022, arXiv:2203.02714. The norms and products of v are each tensor's own.
    """

    hypers: ClassVar = {"rho": 0.05, "k": 5, "alpha": 0.7}
    bounds: ClassVar = {"k": ">= 1"}
    numbers: ClassVar = {"step": 0}

    def replace_gradient(self, opt: Any, params: list[torch.Tensor], closure: Any) -> None:
        """SAM's gradient, or the plain one and the direction that SAM's last had besides."""
        step, key = self.get(opt, "step"), self.key("direction")
        self.set(opt, "step", step + 1)
        plain = [gradient(p) for p in params]
        if step % self.get(opt, "k") == 0:
            super().replace_gradient(opt, params, closure)
            for p, g in zip(params, plain, strict=True):
                unit, h = quotient(g, norm_of(g)), gradient(p)
                v = h - (unit * h).sum() * unit
                apart = norm_of(v) > rounding(norm_of(h).to(p.dtype))
                opt.state[p][key] = (v * apart).to(p.dtype)  # as a checkpoint keeps it
            return
        for p, g in zip(params, plain, strict=True):
            v = opt.state[p].get(key)
            if v is not None:
                v = v.to(g.dtype)
                set_gradient(p, g + self.get(opt, "alpha") * quotient(v, norm_of(v)) * norm_of(g))


class WSAM(SAM):
    r"""SAM with a weight: sharpness is a term of its own, beside the loss.

        h = SAM's gradient;   w = gamma / (1 - gamma)
        the optimizer's step with g;   p <- p - lr * w * (h - g)

    Args:
        rho: how far to climb.
        gamma: the weight of the sharpness; 0.5 is SAM where the optimizer is SGD.
        decouple: with False, the optimizer's step is with g + w * (h - g).

    >>> import torch, weft
    >>> opt = weft.WSAM(weft.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1), gamma=0.9)
    >>> opt.needs_closure
    True

    Yue et al., 2023, arXiv:2305.15817.
    """

    hypers: ClassVar = {"rho": 0.05, "gamma": 0.9, "decouple": True}

    def around_step(self, opt: Any, closure: Any) -> Any:
        """SAM's two evaluations and the step, then the way down the sharpness."""
        self.sharpness: list[tuple[torch.Tensor, torch.Tensor]] = []
        skipped = opt.skipped_steps
        loss = super().around_step(opt, closure)
        if opt.skipped_steps > skipped:
            self.sharpness = []
        rates = {p: as_read(g["lr"]) for g in opt.param_groups for p in g["params"]}
        for p, slope in self.sharpness:
            p.sub_(rates[p] * slope)
        self.sharpness = []
        return loss

    def replace_gradient(self, opt: Any, params: list[torch.Tensor], closure: Any) -> None:
        """The plain gradient, with the sharpness in it or beside it."""
        plain = [gradient(p) for p in params]
        super().replace_gradient(opt, params, closure)
        gamma = self.get(opt, "gamma")
        for p, g in zip(params, plain, strict=True):
            slope = gamma / (1 - gamma) * (gradient(p) - g)
            if self.get(opt, "decouple"):
                self.sharpness.append((p, slope))
                slope = 0
            set_gradient(p, g + slope)
