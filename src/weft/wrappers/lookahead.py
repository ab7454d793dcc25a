"""Lookahead: slow weights that follow the fast ones every k steps."""

from typing import Any, ClassVar

from weft.wrapper import Wrapper

__all__ = ["Lookahead"]


class Lookahead(Wrapper):
    r"""Lookahead: every k steps, slow weights go part of the way, and the fast ones come back to them.

        slow <- slow + alpha * (p - slow);   p <- slow        at every k-th step

    Args:
        k: how many fast steps to one slow step.
        alpha: how far the slow weights go.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Lookahead(weft.SGD([p], lr=0.1), k=2, alpha=0.5)
    >>> opt.step(); opt.step(); p.data
    tensor([0.9000, 0.9000])

    Zhang et al., 2019, arXiv:1907.08610. The slow weights start as a copy of the parameters before
    the first step.
    """

    hypers: ClassVar = {"k": 6, "alpha": 0.5}
    bounds: ClassVar = {"k": ">= 1"}
    numbers: ClassVar = {"step": 0}

    def around_step(self, opt: Any, closure: Any) -> Any:
        """Step, and every k-th time synchronise."""
        slow = self.key("slow")
        for p in self.params(opt):
            if slow not in opt.state[p]:
                opt.state[p][slow] = p.detach().clone()
        loss = opt.step(closure)
        step = self.get(opt, "step") + 1
        self.set(opt, "step", step)
        if step % self.get(opt, "k") == 0:
            alpha = self.get(opt, "alpha")
            for p in self.params(opt):
                held = opt.state[p][slow]
                p.copy_(held.lerp_(p, alpha))
        return loss
