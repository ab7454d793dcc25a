"""Hutchinson's estimate of the diagonal of the Hessian, for chains that read it."""

from typing import Any, ClassVar

import torch

from weft.errors import StepError
from weft.wrapper import Wrapper

__all__ = ["Hutchinson"]


class Hutchinson(Wrapper):
    r"""Give a chain the state `hessian`, an estimate of the Hessian's diagonal.

        hessian = z * (H z),   z random, H z the gradient of <g, z>

    The closure calls `loss.backward(create_graph=True)` in the steps that estimate, which are the
    steps 1, 1 + every, ...; a plain `loss.backward()` will do in the others. A callback declares the
    state (`hessian=weft.zeros`), and sees in the hyper `hutchinson_fresh` whether it is new.

    Args:
        every: how many steps apart the estimates are; `hessian` stays as it is in between.
        gaussian: draw z from a normal distribution; otherwise from -1 and 1.

    Raises:
        StepError: from a step that estimates, without a closure or where its graph is gone.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.tensor([1., 2.]))
    >>> opt = weft.Hutchinson(weft.SGD([p], lr=0.1))
    >>> def closure():
    ...     opt.zero_grad(); loss = (p**3).sum(); loss.backward(create_graph=True); return loss
    >>> loss = opt.step(closure); opt.state[p]["hessian"]
    tensor([ 6., 12.])

    Hutchinson, 1990; Yao et al., 2020, arXiv:2006.00719. The numbers come from torch's generator, in
    the order of the parameters.
    """

    needs_closure: ClassVar = True
    gives: ClassVar = ("hessian",)
    hypers: ClassVar = {"every": 1, "gaussian": False}
    bounds: ClassVar = {"every": ">= 1"}
    numbers: ClassVar = {"step": 0, "fresh": True}

    def around_step(self, opt: Any, closure: Any) -> Any:
        """Evaluate, estimate if it is time, let go of the graph and step."""
        step = self.get(opt, "step")
        loss = opt.loss
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        params = [p for p in self.params(opt) if p.grad is not None]
        fresh = step % self.get(opt, "every") == 0
        if params:
            self.set(opt, "step", step + 1)
            self.set(opt, "fresh", fresh)
        if params and fresh:
            self._estimate(opt, params)
        for p in params:
            p.grad = None if p.grad is None else p.grad.detach()
        return opt.step(loss=loss.detach() if isinstance(loss, torch.Tensor) else loss)

    def _estimate(self, opt: Any, params: list[torch.Tensor]) -> None:
        draws = [self._draw(opt, p) for p in params]
        grads = [(p.grad, z) for p, z in zip(params, draws, strict=True) if p.grad is not None]
        curved = [(g, z) for g, z in grads if g.requires_grad]  # the others are constant
        if not curved:
            raise StepError(
                f"{type(self).__name__} differentiates the gradient: call step(closure), with a "
                "closure that calls loss.backward(create_graph=True); see docs/limits.md#closures"
            )
        gs, zs = zip(*curved, strict=True)
        products = torch.autograd.grad(gs, params, grad_outputs=zs, materialize_grads=True)
        for p, z, hz in zip(params, draws, products, strict=True):
            own = opt.state[p]
            if "hessian" not in own:
                own["hessian"] = torch.zeros_like(p)
            own["hessian"].copy_(z * hz)

    def _draw(self, opt: Any, p: torch.Tensor) -> torch.Tensor:
        if self.get(opt, "gaussian"):
            return torch.randn_like(p)
        return torch.randint_like(p, 2) * 2 - 1
