"""Adam with a second moment of another kind."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["AdaBelief", "Aida", "FAdam", "Yogi"]

by_variance = rename(cb.precondition, exp_avg_sq="exp_avg_var")


class AdaBelief(Algorithm):
    r"""AdaBelief: steps are large where the gradient is as expected.

        m <- beta1 * m + (1 - beta1) * g;   s <- beta2 * s + (1 - beta2) * (g - m)^2 + eps
        p <- p * (1 - lr * weight_decay)
        p <- p - lr * m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and s.
        eps: added to s in every step, and outside the root.
        weight_decay: decoupled, as in AdamW.
        maximize: ascend.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdaBelief([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.8889, 0.8889])

    Zhuang et al., 2020, arXiv:2010.07468. optax adds an eps_root inside; the decay is decoupled,
    as in the authors' code.
    """

    paper = "Zhuang et al., 2020, arXiv:2010.07468"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            cb.weight_decay,
            cb.ema,
            cb.residual_sq,
            cb.debias,
            by_variance,
            cb.descend,
            **hypers,
        )


class Aida(Algorithm):
    r"""AdaBelief on gradient and momentum projected on each other.

        g', m' = g and m, projected on each other k times;   s <- average of (m' - g')^2, plus eps
        p <- p - lr * m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and s.
        k: how many projections.
        xi: added to the squared norms.
        eps: added to s in every step, and outside the root.
        weight_decay: L2 penalty, added to the gradient.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Aida([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.8889, 0.8889])

    Zhang et al., 2022, arXiv:2203.13273. A layer is a tensor here.
    """

    paper = "Zhang et al., 2022, arXiv:2203.13273"
    blocks = (cb.l2, cb.ema, cb.projected_residual_sq, cb.debias, by_variance, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        k: int = 2,
        xi: float = 1e-20,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class Yogi(Algorithm):
    r"""Yogi: a second moment that moves by a bounded amount.

        m <- beta1 * m + (1 - beta1) * g;   v <- v - (1 - beta2) * sign(v - g^2) * g^2
        p <- p * (1 - lr * weight_decay)
        p <- p - lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        initial_accumulator: where m and v start.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Yogi([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9001, 0.9001])

    Zaheer et al., 2018, NeurIPS. Both corrected, as in TensorFlow and optax; algorithm 2 of the
    paper is not.
    """

    paper = "Zaheer et al., 2018, NeurIPS"
    blocks = (cb.weight_decay, cb.yogi, cb.debias, cb.precondition, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-3,
        weight_decay: float = 0.0,
        initial_accumulator: float = 1e-6,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class FAdam(Algorithm):
    r"""FAdam: Adam as natural gradient descent, clipped and with natural decay.

        F <- average of g^2 with corrected beta2;   e = min(eps, eps2 * rms(g))
        u = clip(g / (F^power + e^(2 power)));   m <- beta1 * m + (1 - beta1) * u
        p <- p - lr * (m + weight_decay * clip(p / (F^power + e^(2 power))))

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and F.
        weight_decay: in the natural direction.
        clip: largest root mean square of what is divided.
        power: of F; 1/2 is a root.
        eps: largest e.
        eps2: of e beside the gradient.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.FAdam([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9800, 0.9800])

    Hwang, 2024, arXiv:2405.12807.
    """

    paper = "Hwang, 2024, arXiv:2405.12807"
    blocks = (cb.fisher, cb.natural, cb.ema, cb.natural_decay, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.1,
        clip: float = 1.0,
        power: float = 0.5,
        eps: float = 1e-8,
        eps2: float = 1e-2,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
