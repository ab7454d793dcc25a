"""Steps over an estimated diagonal of the Hessian: AdaHessian and Sophia."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer
from weft.wrappers import Hutchinson

__all__ = ["AdaHessian", "Sophia"]


class AdaHessian(Algorithm):
    r"""AdaHessian: Adam with the diagonal of the Hessian in the place of the gradient's square.

        d = |z * (H z)|, its mean over a kernel
        m <- beta1 * m + (1 - beta1) * g;   v <- beta2 * v + (1 - beta2) * d^2
        p <- p * (1 - lr * weight_decay)
        p <- p - lr * m / (1 - beta1^t) / ((v / (1 - beta2^t))^(hessian_power / 2) + eps)

    A step wants a closure that calls `loss.backward(create_graph=True)`: see `weft.Hutchinson`.

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: added outside the root.
        weight_decay: decoupled.
        hessian_power: 1 in the paper; 0 is momentum alone.
        update_period: how many steps apart the Hessian is estimated.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.tensor([1., 2.]))
    >>> opt = weft.AdaHessian([p], lr=0.1)
    >>> def closure():
    ...     opt.zero_grad(); loss = (p**2).sum() / 2; loss.backward(create_graph=True); return loss
    >>> loss = opt.step(closure); p.data
    tensor([0.9000, 1.8000])

    Yao et al., 2020, arXiv:2006.00719. Convolution kernels are averaged as in the authors' code; the
    blocks that the paper has for other layers are not.
    """

    paper = "Yao et al., 2020, arXiv:2006.00719"
    chain_options = ("update_period",)

    def __init__(
        self,
        params: Any,
        lr: Any = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        hessian_power: float = 1.0,
        update_period: int = 1,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, update_period=1, **hypers: Any) -> Chain:
        return cls.weave(
            cb.weight_decay,
            cb.ema,
            cb.ema_curvature_sq,
            cb.debias,
            cb.precondition_curvature,
            cb.descend,
            Hutchinson(every=update_period),
            **hypers,
        )


class Sophia(Algorithm):
    r"""Sophia: momentum over the diagonal of the Hessian, clipped entry by entry.

        m <- beta1 * m + (1 - beta1) * g
        h <- beta2 * h + (1 - beta2) * z * (H z)       at the steps 1, 1 + update_period, ...
        p <- p * (1 - lr * weight_decay) - lr * clip(m / max(gamma * h, eps), -1, 1)

    A step wants a closure; in the steps that estimate the Hessian, it calls
    `loss.backward(create_graph=True)`: see `weft.Hutchinson`.

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and h.
        gamma: the larger, the more entries take Newton's step rather than the clipped one.
        eps: the smallest denominator.
        weight_decay: decoupled.
        update_period: how many steps apart the Hessian is estimated.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.tensor([1., 2.]))
    >>> opt = weft.Sophia([p], lr=0.1)
    >>> def closure():
    ...     opt.zero_grad(); loss = (p**2).sum() / 2; loss.backward(create_graph=True); return loss
    >>> loss = opt.step(closure); p.data
    tensor([0.9000, 1.9000])

    Liu et al., 2023, arXiv:2305.14342: Sophia-H, whose z is drawn from a normal distribution.
    """

    paper = "Liu et al., 2023, arXiv:2305.14342"
    chain_options = ("update_period",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.96, 0.99),
        gamma: float = 0.01,
        eps: float = 1e-12,
        weight_decay: float = 0.0,
        update_period: int = 10,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, update_period=10, **hypers: Any) -> Chain:
        return cls.weave(
            cb.weight_decay,
            cb.ema,
            cb.ema_curvature,
            cb.clip_by_curvature,
            cb.descend,
            Hutchinson(every=update_period, gaussian=True),
            **hypers,
        )
