"""Mechanic: the scale of all steps, learned."""

from typing import Any, ClassVar

import torch

from weft.wrapper import Wrapper

__all__ = ["Mechanic"]


class Mechanic(Wrapper):
    r"""Mechanic: scale the whole way from the start, by bets on how far downhill it leads.

        D = (p - p_0) / (S + eps);   h = <g + weight_decay S |g| / (|p| + eps) p, -D>
        for n decays b:  r <- b r + clip(h, -m, m) s;   m <- max(b m, |h| + eps);   v <- b^2 v + h^2
                         s <- (s_init / n * m + max(r, 0)) / (sqrt(v) + eps)
        S <- sum of s;   p <- p_0 + S * (D + u),   u the step inside

    Args:
        weight_decay: of the bets, relative to the gradient.
        eps: against a division by zero.
        s_init: the scale at the start.
        num_betas: how many decays, 1 - 0.1^i, bet.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Mechanic(weft.SGD([p], lr=1.), s_init=0.01, num_betas=1)
    >>> opt.step(); float(opt.param_groups[0]["mechanic_scales"][0]) > 0
    True

    Cutkosky, Defazio and Mehta, 2023, arXiv:2306.00144, as in optax: h is clipped, which the first
    version of the paper does not have, and D is found again from p. Sums are over all parameters.
    """

    hypers: ClassVar = {"weight_decay": 1e-2, "eps": 1e-8, "s_init": 1e-6, "num_betas": 6}
    bounds: ClassVar = {"num_betas": ">= 1"}
    numbers: ClassVar[dict[str, Any]] = {"rewards": (), "largest": (), "energies": (), "scales": ()}

    def around_step(self, opt: Any, closure: Any) -> Any:
        """Step, and scale the way there by what it earned so far."""
        if closure is not None:
            with torch.enable_grad():
                opt.loss = closure()
        params, start = [p for p in self.params(opt) if p.grad is not None], self.key("start")
        if not params:
            return opt.step(loss=opt.loss)
        for p in params:
            if start not in opt.state[p]:
                opt.state[p][start] = p.detach().clone()
        n, s_init, eps = (self.get(opt, k) for k in ("num_betas", "s_init", "eps"))
        total = sum(self.get(opt, "scales") or (s_init,) * n)
        old = [p.detach().clone() for p in params]
        way = [(p - opt.state[p][start]) / (total + eps or 1.0) for p in params]
        self._bet(opt, float(self._gain(opt, params, way, total)))
        loss = opt.step(loss=opt.loss)
        scale = sum(self.get(opt, "scales"))
        for p, before, d in zip(params, old, way, strict=True):
            p.copy_(opt.state[p][start] + scale * (d + p - before))
        return loss

    def _gain(self, opt: Any, params: list, way: list, total: float) -> torch.Tensor:
        """<g + decay * p, -D> over all parameters."""
        products = [_products(p, p.grad, d) for p, d in zip(params, way, strict=True)]
        gd, pd, gg, pp = torch.stack([x.to(products[0].device) for x in products]).sum(dim=0)
        decay = self.get(opt, "weight_decay") * total
        return -gd - decay * gg.sqrt() / (pp.sqrt() + self.get(opt, "eps")) * pd

    def _bet(self, opt: Any, gain: float) -> None:
        """Let every decay move its stake, and with it its scale."""
        n, s_init, eps = (self.get(opt, k) for k in ("num_betas", "s_init", "eps"))
        columns = [self.get(opt, k) or (0.0,) * n for k in ("rewards", "largest", "energies")]
        scales = self.get(opt, "scales") or (s_init,) * n
        out = []
        for i, (r, m, v, s) in enumerate(zip(*columns, scales, strict=True)):
            b = 1 - 0.1 ** (i + 1)
            r = b * r + min(max(gain, -m), m) * s
            m, v = max(b * m, abs(gain) + eps), b * b * v + gain * gain
            wealth, energy = s_init / n * m + max(r, 0.0), v**0.5 + eps
            out.append((r, m, v, wealth / energy if energy else 0.0))
        for name, column in zip(self.numbers, zip(*out, strict=True), strict=True):
            self.set(opt, name, column)


def _products(p: Any, grad: Any, d: torch.Tensor) -> torch.Tensor:
    """<g, D>, <p, D>, <g, g> and <p, p>, in double."""
    g, x, d = (t.detach().double() for t in (grad, p, d))
    return torch.stack([(g * d).sum(), (x * d).sum(), (g * g).sum(), (x * x).sum()])
