"""TRAC: how far from the first weights to go, without a rate to tune."""

import math
from typing import Any, ClassVar

import torch

from weft.wrapper import Wrapper
from weft.wrappers.sharpness import gradient

__all__ = ["TRAC"]

BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


class TRAC(Wrapper):
    r"""TRAC: scale the whole way from the start, by a tuner that has no parameters.

        D = (p - p_0) / (S + eps);   h = <g, D>
        for each beta b:  v <- b^2 v + h^2;   r <- b r - h
        S <- s_0 / erfi(1 / sqrt(2)) * sum of erfi(r / (sqrt(2 v) + eps))
        p <- p_0 + max(S, 0) * (D + u),   u the step inside

    Args:
        betas: the decays that are mixed.
        s_0: the scale at the start.
        eps: against a division by zero.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.TRAC(weft.SGD([p], lr=1.), s_0=0.01)
    >>> opt.step(); bool((p < 1).all())
    True

    Muppidi, Zhang and Yang, 2024, arXiv:2405.16642. S starts at 0 and r at 1e-8, as in the authors'
    code, whose erfi is an approximation. Sums are over all parameters.
    """

    hypers: ClassVar = {"betas": BETAS, "s_0": 1e-8, "eps": 1e-8}
    numbers: ClassVar[dict[str, Any]] = {"scale": 0.0, "sums": (), "squares": ()}

    def around_step(self, opt: Any, closure: Any) -> Any:
        """Step, and scale the way there by what it earned so far."""
        loss = opt.loss
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        params, start = [p for p in self.params(opt) if p.grad is not None], self.key("start")
        if not params:
            return opt.step(loss=loss)
        for p in params:
            if start not in opt.state[p]:
                opt.state[p][start] = p.detach().clone()
        old = [p.detach().clone() for p in params]
        rate = self.get(opt, "scale") + self.get(opt, "eps") or 1.0
        way = [(x - opt.state[p][start]) / rate for x, p in zip(old, params, strict=True)]
        gains = [
            (d.double() * gradient(p).double()).sum() for d, p in zip(way, params, strict=True)
        ]
        self._tune(opt, float(sum(g.to(gains[0].device) for g in gains)))
        loss = opt.step(loss=loss)
        scale = max(self.get(opt, "scale"), 0.0)
        for p, before, d in zip(params, old, way, strict=True):
            p.copy_(opt.state[p][start] + scale * (d + p - before))
        return loss

    def _tune(self, opt: Any, h: float) -> None:
        """Let every decay see <g, D>, and with it the scale."""
        betas, eps = self.get(opt, "betas"), self.get(opt, "eps")
        sums = self.get(opt, "sums") or (1e-8,) * len(betas)
        squares = self.get(opt, "squares") or (0.0,) * len(betas)
        squares = tuple(b * b * v + h * h for b, v in zip(betas, squares, strict=True))
        sums = tuple(b * r - h for b, r in zip(betas, sums, strict=True))
        sizes = [math.sqrt(2 * v) + eps for v in squares]
        bets = [erfi(r / size) if size else 0.0 for r, size in zip(sums, sizes, strict=True)]
        self.set(opt, "squares", squares)
        self.set(opt, "sums", sums)
        self.set(opt, "scale", self.get(opt, "s_0") / erfi(1 / math.sqrt(2)) * sum(bets))


def erfi(x: float) -> float:
    """The imaginary error function, -i erf(i x), by its Taylor series."""
    power, total, n = x, x, 0
    while abs(power) > 1e-18 * abs(total):
        n += 1
        power *= x * x / n
        total += power / (2 * n + 1)
    return 2 / math.sqrt(math.pi) * total
