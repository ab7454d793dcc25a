"""An outer optimizer over the steps of an inner one."""

from typing import Any, ClassVar

from weft.wrapper import Wrapper

__all__ = ["OuterNesterov"]


class OuterNesterov(Wrapper):
    r"""Nesterov's momentum on what k inner steps did: Snoo, DiLoCo on one worker.

        s = slow - p;   b <- momentum * b + s
        slow <- slow - lr * (momentum * b + s);   p <- slow        at every k-th step

    Args:
        k: inner steps to one outer step.
        lr: of the outer step.
        momentum: of the outer step; with 0 this is Lookahead.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.OuterNesterov(weft.SGD([p], lr=0.1), k=2, lr=0.5, momentum=0.)
    >>> opt.step(); opt.step(); p.data
    tensor([0.9000, 0.9000])

    Kallusky et al., 2025, arXiv:2510.15830; Douillard et al., 2023, arXiv:2311.08105.
    """

    hypers: ClassVar = {"k": 20, "lr": 0.7, "momentum": 0.9}
    bounds: ClassVar = {"k": ">= 1"}
    numbers: ClassVar = {"step": 0}

    def around_step(self, opt: Any, closure: Any) -> Any:
        """Step, and every k-th time take the outer step."""
        slow, buffer = self.key("slow"), self.key("buffer")
        for p in self.params(opt):
            own = opt.state[p]
            if slow not in own:
                own[slow] = p.detach().clone()
                own[buffer] = p.detach().new_zeros(p.shape)
        loss = opt.step(closure)
        step = self.get(opt, "step") + 1
        self.set(opt, "step", step)
        if step % self.get(opt, "k") == 0:
            lr, momentum = self.get(opt, "lr"), self.get(opt, "momentum")
            for p in self.params(opt):
                held, b = opt.state[p][slow], opt.state[p][buffer]
                s = held - p
                b.mul_(momentum).add_(s)
                p.copy_(held.sub_(lr * (momentum * b + s)))
        return loss
