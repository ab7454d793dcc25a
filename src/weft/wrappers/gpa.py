"""Generalized primal averaging: train between an average of the weights and the weights."""

from typing import Any, ClassVar

import torch

from weft.wrappers.averaging import Averaged

__all__ = ["GPA"]


class GPA(Averaged):
    r"""Generalized primal averaging: step z with the gradient at y, evaluate at x.

        z <- the optimizer's step from z, with the gradient at y
        x <- mu_x * x + (1 - mu_x) * z;   y <- mu_y * x + (1 - mu_y) * z

    The parameters are y while training, and x after `opt.eval()`.

    Args:
        mu_x: decay of the average x.
        mu_y: how close to x the gradient is taken; 0 is an average of the weights alone.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.GPA(weft.SGD([p], lr=0.1), mu_x=0.5, mu_y=0.5)
    >>> opt.step(); p.data
    tensor([0.9250, 0.9250])

    Defazio et al., 2025, arXiv:2512.17131. It keeps two copies of the weights.
    """

    hypers: ClassVar = {"mu_x": 0.9967, "mu_y": 0.8}
    numbers: ClassVar = {}

    def around_step(self, opt: Any, closure: Any) -> Any:
        """Evaluate at y, step from z, and move x and y."""
        loss = opt.loss
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        params = [p for p in self.params(opt) if p.grad is not None]
        fast, slow = self.key("fast"), self.key("average")
        for p in params:
            own = opt.state[p]
            if fast not in own:
                own[fast], own[slow] = p.detach().clone(), p.detach().clone()
            p.copy_(own[fast])
        loss = opt.step(loss=loss)
        for p in params:
            z, x = opt.state[p][fast].copy_(p), opt.state[p][slow]
            x.lerp_(z, 1 - self.get(opt, "mu_x"))
            p.copy_(z.lerp(x, self.get(opt, "mu_y")))
        return loss
