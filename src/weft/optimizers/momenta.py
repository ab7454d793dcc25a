"""Gradient descent with momentum of other kinds."""

from functools import cache, partial
from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["PID", "PNM", "QHM", "SGDW", "AggMo"]


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
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

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
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, nesterov=False, maximize=False, **hypers: Any) -> Chain:
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
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

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
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, betas=(0.0, 0.9, 0.99), **hypers: Any) -> Chain:
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
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.QHM([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9699, 0.9699])

    Ma and Yarats, 2018, arXiv:1810.06801.
    """

    paper = "Ma and Yarats, 2018, arXiv:1810.06801"
    blocks = (cb.l2, cb.average, cb.mix_gradient, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0.999,
        nu: float = 0.7,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


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
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.PID([p], lr=0.01)
    >>> opt.step(); p.data
    tensor([0.9400, 0.9400])

    An et al., 2018, CVPR. Three terms as in the authors' code; the paper has the first two in one.
    The first difference is 0.
    """

    paper = "An et al., 2018, CVPR"
    blocks = (cb.l2, cb.pid, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0.9,
        dampening: float = 0.0,
        integral: float = 5.0,
        derivative: float = 10.0,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


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
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.PNM([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9830, 0.9830])

    Xie et al., 2021, arXiv:2103.17182.
    """

    paper = "Xie et al., 2021, arXiv:2103.17182"
    blocks = (cb.weight_decay, cb.positive_negative, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0.9,
        beta0: float = 1.0,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
