"""Gradient descent that is accelerated, optimistic or averaged."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["SRMM", "AccSGD", "OptimisticAdam", "OptimisticGD"]


class AccSGD(Algorithm):
    r"""Accelerated gradient descent for noisy gradients.

        a = 1 - c^2 * xi / kappa
        w <- a * w + (1 - a) * (p - kappa * lr / c * g)
        p <- (c * (p - lr * g) + (1 - a) * w) / (c + 1 - a)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        kappa: ratio of the long step to the short.
        xi: statistical advantage.
        constant: c, below 1.
        weight_decay: L2 penalty, added to the gradient.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AccSGD([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.8958, 0.8958])

    Jain et al., 2017, arXiv:1704.08227; Kidambi et al., 2018, arXiv:1803.05591. w starts at the
    parameter.
    """

    paper = "Jain et al., 2017, arXiv:1704.08227; Kidambi et al., 2018, arXiv:1803.05591"
    blocks = (cb.l2, cb.accelerate)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        kappa: float = 1000.0,
        xi: float = 10.0,
        constant: float = 0.7,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class OptimisticGD(Algorithm):
    r"""Optimistic gradient descent, for games.

        p <- p - lr * ((alpha + beta) * g - beta * g_prev)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        alpha: weight of the gradient.
        beta: weight of its change.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.OptimisticGD([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Daskalakis et al., 2017, arXiv:1711.00141. The gradient before the first is the first, as in
    optax.
    """

    paper = "Daskalakis et al., 2017, arXiv:1711.00141"
    blocks = (cb.optimistic, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: float = 1.0,
        beta: float = 1.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class OptimisticAdam(Algorithm):
    r"""Optimistic Adam, for games.

        u = Adam's step
        p <- p - lr * ((alpha + beta) * u - beta * u_prev)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: added outside the root.
        alpha: weight of the step.
        beta: weight of its change.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.OptimisticAdam([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Daskalakis et al., 2017, arXiv:1711.00141. The step before the first is the first.
    """

    paper = "Daskalakis et al., 2017, arXiv:1711.00141"
    blocks = (cb.ema, cb.ema_sq, cb.debias, cb.precondition, cb.optimistic, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        alpha: float = 1.0,
        beta: float = 1.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class SRMM(Algorithm):
    r"""Regularised majorization-minimization: averages of parameters and gradients.

        w = n^-beta,   n = 1, 2, ..., memory_length, 1, ...
        g' <- (1 - w) * g' + w * g;   p' <- (1 - w) * p' + w * p - lr * g';   p <- p'

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        beta: the power by which the weight falls.
        memory_length: after how many steps the weight is 1 again.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.SRMM([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Lyu, 2022, arXiv:2201.01652. pytorch_optimizer counts from 2, so that its first step shrinks
    the parameter.
    """

    paper = "Lyu, 2022, arXiv:2201.01652"
    blocks = (cb.srmm,)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        beta: float = 0.5,
        memory_length: int = 100,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
