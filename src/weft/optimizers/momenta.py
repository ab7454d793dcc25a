"""Gradient descent with momentum of other kinds."""

from functools import cache, partial
from typing import Any

from weft import callbacks as cb
from weft.callback import rename
from weft.chain import Chain
from weft.optimizers.base import Algorithm

__all__ = ["PID", "PNM", "QHM", "SGDW", "SRMM", "AccSGD", "AggMo", "OptimisticAdam", "OptimisticGD"]


@cache
def _momenta(n: int) -> tuple[Any, ...]:
    """AggMo's momenta, each under its own name."""
    return tuple(
        rename(partial(cb.aggregate, k=k), momentum_buffer=f"momentum_buffer_{k}") for k in range(n)
    )


class SGDW(Algorithm):
    r"""Gradient descent with momentum and decoupled weight decay.

        p <- p * (1 - lr * weight_decay)
        b <- momentum * b + (1 - dampening) * g      (the first step: b = g)
        p <- p - lr * b                              (nesterov: p - lr * (g + momentum * b))

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        momentum: of the sum of gradients.
        dampening: of what enters the buffer.
        weight_decay: decoupled, as in AdamW.
        nesterov: look ahead along the momentum.
        maximize: ascend.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.SGDW([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.8990, 0.8990])

    Loshchilov and Hutter, 2017, arXiv:1711.05101. The paper has the rate inside the buffer and the
    base rate not in the decay; here, as in timm, optimi and pytorch_optimizer, lr multiplies both.
    """

    paper = "Loshchilov and Hutter, 2017, arXiv:1711.05101"
    chain_options = (
        "nesterov",
        "maximize",
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0.9,
        dampening: float = 0.0,
        weight_decay: float = 1e-2,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        engine: str = "auto",
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, nesterov=False, maximize=False, **hypers: Any) -> Chain:
        """[ascend], weight_decay, heavy_ball, [nesterov], descend."""
        return cls.weave(
            maximize and cb.ascend,
            cb.weight_decay,
            cb.heavy_ball,
            nesterov and cb.nesterov,
            cb.descend,
            **hypers,
        )


class AggMo(Algorithm):
    r"""Aggregated momentum: the mean of several momenta.

        b_k <- beta_k * b_k + g   for each beta
        p <- p - lr * mean(b_k)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: one a momentum; there may be any number of them, the same throughout.
        weight_decay: L2 penalty, added to the gradient.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AggMo([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Lucas et al., 2018, arXiv:1804.00325.
    """

    paper = "Lucas et al., 2018, arXiv:1804.00325"
    chain_options = ("betas",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, ...] = (0.0, 0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        engine: str = "auto",
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, betas=(0.0, 0.9, 0.99), **hypers: Any) -> Chain:
        """l2, aggregate for each of betas, descend."""
        return cls.weave(cb.l2, *_momenta(len(betas)), cb.descend, betas=betas, **hypers)


class QHM(Algorithm):
    r"""Quasi-hyperbolic momentum: the gradient mixed into its average.

        b <- momentum * b + (1 - momentum) * g
        p <- p - lr * ((1 - nu) * g + nu * b)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        momentum: of the average.
        nu: how much of the average is used; 1 is momentum.
        weight_decay: L2 penalty, added to the gradient.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.QHM([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9699, 0.9699])

    Ma and Yarats, 2018, arXiv:1810.06801.
    """

    paper = "Ma and Yarats, 2018, arXiv:1810.06801"

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0.999,
        nu: float = 0.7,
        weight_decay: float = 0.0,
        *,
        engine: str = "auto",
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, **hypers: Any) -> Chain:
        """l2, average, mix_gradient, descend."""
        return cls.weave(cb.l2, cb.average, cb.mix_gradient, cb.descend, **hypers)


class PID(Algorithm):
    r"""A PID controller: the gradient, its sum and its change.

        I <- momentum * I + (1 - dampening) * g
        D <- momentum * D + (1 - momentum) * (g - g_prev)
        p <- p - lr * (g + integral * I + derivative * D)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        momentum: of I and D.
        dampening: of what enters I.
        integral: weight of I.
        derivative: weight of D.
        weight_decay: L2 penalty, added to the gradient.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.PID([p], lr=0.01)
    >>> opt.step(); p.data
    tensor([0.9400, 0.9400])

    An et al., 2018, CVPR. Three terms as in the authors' code; the paper has the first two in one.
    The first difference is 0.
    """

    paper = "An et al., 2018, CVPR"

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0.9,
        dampening: float = 0.0,
        integral: float = 5.0,
        derivative: float = 10.0,
        weight_decay: float = 0.0,
        *,
        engine: str = "auto",
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, **hypers: Any) -> Chain:
        """l2, pid, descend."""
        return cls.weave(cb.l2, cb.pid, cb.descend, **hypers)


class PNM(Algorithm):
    r"""Positive-negative momentum: two averages that take turns, one against the other.

        m_t = momentum^2 * m_{t-2} + (1 - momentum^2) * g
        p <- p * (1 - lr * weight_decay)
        p <- p - lr * ((1 + beta0) * m_t - beta0 * m_{t-1})
            / sqrt((1 + beta0)^2 + beta0^2)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        momentum: decay of the averages; an average meets every second gradient.
        beta0: how much the other average counts against it.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.PNM([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9830, 0.9830])

    Xie et al., 2021, arXiv:2103.17182.
    """

    paper = "Xie et al., 2021, arXiv:2103.17182"

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0.9,
        beta0: float = 1.0,
        weight_decay: float = 0.0,
        *,
        engine: str = "auto",
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, **hypers: Any) -> Chain:
        """weight_decay, positive_negative, descend."""
        return cls.weave(cb.weight_decay, cb.positive_negative, cb.descend, **hypers)


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

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AccSGD([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.8958, 0.8958])

    Jain et al., 2017, arXiv:1704.08227; Kidambi et al., 2018, arXiv:1803.05591. w starts at the
    parameter.
    """

    paper = "Jain et al., 2017, arXiv:1704.08227; Kidambi et al., 2018, arXiv:1803.05591"

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        kappa: float = 1000.0,
        xi: float = 10.0,
        constant: float = 0.7,
        weight_decay: float = 0.0,
        *,
        engine: str = "auto",
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, **hypers: Any) -> Chain:
        """l2, accelerate."""
        return cls.weave(cb.l2, cb.accelerate, **hypers)


class OptimisticGD(Algorithm):
    r"""Optimistic gradient descent, for games.

        p <- p - lr * ((alpha + beta) * g - beta * g_prev)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        alpha: weight of the gradient.
        beta: weight of its change.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.OptimisticGD([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Daskalakis et al., 2017, arXiv:1711.00141. The gradient before the first is the first, as in
    optax.
    """

    paper = "Daskalakis et al., 2017, arXiv:1711.00141"

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: float = 1.0,
        beta: float = 1.0,
        *,
        engine: str = "auto",
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, **hypers: Any) -> Chain:
        """optimistic, descend."""
        return cls.weave(cb.optimistic, cb.descend, **hypers)


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

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.OptimisticAdam([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Daskalakis et al., 2017, arXiv:1711.00141. The step before the first is the first.
    """

    paper = "Daskalakis et al., 2017, arXiv:1711.00141"

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        alpha: float = 1.0,
        beta: float = 1.0,
        *,
        engine: str = "auto",
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, **hypers: Any) -> Chain:
        """ema, ema_sq, debias, precondition, optimistic, descend."""
        return cls.weave(
            cb.ema, cb.ema_sq, cb.debias, cb.precondition, cb.optimistic, cb.descend, **hypers
        )


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

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.SRMM([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Lyu, 2022, arXiv:2201.01652. pytorch_optimizer counts from 2, so that its first step shrinks
    the parameter.
    """

    paper = "Lyu, 2022, arXiv:2201.01652"

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        beta: float = 0.5,
        memory_length: int = 100,
        *,
        engine: str = "auto",
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, **hypers: Any) -> Chain:
        """srmm."""
        return cls.weave(cb.srmm, **hypers)
