"""References for what steps over the diagonal of the Hessian.

`step_fn(grad_fn)` as in `wrapper`, with gradients that can be differentiated: for a random z,
`z * (H z)` has the diagonal of H as its mean.
"""

# ruff: noqa: C408, RUF012  (hypers read best as keywords, and nobody changes them)
from __future__ import annotations

import torch

from .base import Reference, reference


class Curvature(Reference):
    """Estimates the diagonal at steps 1, 1 + update_period, ..., with `self.draw(shape)` for z."""

    def init(self):
        self.m, self.v, self.hessian = self.zeros(), self.zeros(), self.zeros()
        generator = torch.Generator().manual_seed(0)
        own = lambda shape: torch.randn(shape, generator=generator, dtype=torch.float64)
        self.draw = self.h.draw or own

    @torch.no_grad()
    def step_fn(self, grad_fn, **changed_hypers):
        vars(self.h).update(changed_hypers)
        self.t += 1
        with torch.enable_grad():
            params = [p.clone().requires_grad_() for p in self.params]
            loss, grads = grad_fn(params)
        self.fresh = (self.t - 1) % self.h.update_period == 0
        if self.fresh:
            zs = [self.draw(p.shape) for p in params]
            hzs = torch.autograd.grad(grads, params, grad_outputs=zs)
            self.hessian = [z * hz for z, hz in zip(zs, hzs)]
        self.update([g.detach() for g in grads])
        return float(loss)


@reference("adahessian")
class AdaHessian(Curvature):
    """m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) D^2; D is |z * H z|, averaged over the last two
    axes of a tensor of four.
    p <- p - lr (m / (1-b1^t) / ((v / (1-b2^t))^(k/2) + eps) + decay p).

    As in the authors' code, which averages over kernels alone; z is +-1. pytorch_optimizer does
    not average unless told to.
    """

    paper = "Yao et al. 2020, 2006.00719"
    defaults = dict(
        lr=0.1, betas=(0.9, 0.999), eps=1e-4, weight_decay=0.0, hessian_power=1.0,
        update_period=1, draw=None,
    )  # fmt: skip

    def update(self, grads):
        h, t = self.h, self.t
        b1, b2 = h.betas
        for p, g, m, v, d in zip(self.params, grads, self.m, self.v, self.hessian):
            d = d.abs()
            if d.ndim == 4:
                d = d.mean(dim=(2, 3), keepdim=True).expand_as(d)
            m.copy_(b1 * m + (1 - b1) * g)
            v.copy_(b2 * v + (1 - b2) * d**2)
            size = (v / (1 - b2**t)).pow(h.hessian_power / 2)
            p -= h.lr * (m / (1 - b1**t) / (size + h.eps) + h.weight_decay * p)


@reference("sophia", "sophia_h")
class Sophia(Curvature):
    """m <- b1 m + (1-b1) g; h <- b2 h + (1-b2) z * H z at the steps that estimate, else h;
    p <- p - lr decay p; p <- p - lr clip(m / max(gamma h, eps), 1). z is normal.

    No debiasing: m and h start at zero, as in the paper's algorithm 3.
    """

    paper = "Liu et al. 2023, 2305.14342"
    defaults = dict(
        lr=1e-3, betas=(0.96, 0.99), gamma=0.01, eps=1e-12, weight_decay=0.0, update_period=10,
        draw=None,
    )  # fmt: skip

    def update(self, grads):
        hy = self.h
        b1, b2 = hy.betas
        for p, g, m, h, d in zip(self.params, grads, self.m, self.v, self.hessian):
            m.copy_(b1 * m + (1 - b1) * g)
            if self.fresh:
                h.copy_(b2 * h + (1 - b2) * d)
            p -= hy.lr * hy.weight_decay * p
            ratio = m / torch.where(
                hy.gamma * h > hy.eps, hy.gamma * h, torch.tensor(hy.eps).double()
            )
            p -= hy.lr * ratio.clamp(-1, 1)
