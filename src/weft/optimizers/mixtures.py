"""Adam with more than one average."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["AdEMAMix", "AdaPNM", "Adan", "EXAdam", "SimplifiedAdEMAMix"]

largest = rename(cb.precondition, exp_avg_sq="max_exp_avg_sq")


class AdEMAMix(Algorithm):
    r"""AdEMAMix: Adam with a second, much slower momentum.

        m1, m2 <- averages of g with beta1, beta3;   v <- average of g^2 with beta2
        p <- p * (1 - lr * weight_decay)
        p <- p - lr * (m1 / (1 - beta1^t) + alpha_t * m2) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the fast average, of v, and of the slow average.
        alpha: weight of the slow average.
        t_alpha: steps over which alpha grows to its value; None for none.
        t_beta3: steps over which the slow decay grows from beta1; None for none.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        maximize: ascend.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdEMAMix([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Pagliardini et al., 2024, arXiv:2409.03137. The slow average is not corrected. The paper sets
    both times to the length of training.
    """

    paper = "Pagliardini et al., 2024, arXiv:2409.03137"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 5.0,
        t_alpha: float | None = None,
        t_beta3: float | None = None,
        eps: float = 1e-8,
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
            cb.ema_sq,
            cb.debias,
            cb.add_slow_average,
            cb.precondition,
            cb.descend,
            **hypers,
        )


class SimplifiedAdEMAMix(Algorithm):
    r"""AdEMAMix with the gradient in the place of the fast average.

        m <- beta1 * m + g;   v <- beta2 * v + (1 - beta2) * g^2
        p <- p * (1 - lr * weight_decay)
        p <- p - lr * (m + alpha * g) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the sum m and of v.
        alpha: weight of the gradient.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.SimplifiedAdEMAMix([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Morwani et al., 2025, arXiv:2502.02431. m is a sum, without 1 - beta1: rates are smaller than
    those of AdEMAMix by about that. pytorch_optimizer averages instead.
    """

    paper = "Morwani et al., 2025, arXiv:2502.02431"
    blocks = (
        cb.weight_decay,
        cb.sum_momentum,
        cb.ema_sq,
        cb.add_gradient,
        cb.precondition,
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-4,
        betas: tuple[float, float] = (0.99, 0.95),
        alpha: float = 0.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class Adan(Algorithm):
    r"""Adan: adaptive Nesterov momentum, from the difference of gradients.

        d = g - g_prev,  0 in the first step
        m, v, n <- averages of g, d, (g + beta2 * d)^2, corrected to m', v', n'
        p <- (p - lr * (m' + beta2 * v') / (sqrt(n') + eps)) / (1 + lr * weight_decay)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of m, v and n, 1 minus the paper's.
        eps: added outside the root.
        weight_decay: by a proximal operator after the step.
        no_prox: AdamW's decay instead.
        maximize: ascend.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Adan([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Xie et al., 2022, arXiv:2208.06677. Corrected as in the authors' code; algorithm 1 is not.
    Their clipping of the global norm is a callback of its own. optax weighs the difference
    otherwise.
    """

    paper = "Xie et al., 2022, arXiv:2208.06677"
    chain_options = (
        "no_prox",
        "maximize",
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        no_prox: bool = False,
        *,
        maximize: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, no_prox=False, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            no_prox and cb.weight_decay,
            cb.adan,
            cb.adan_root,
            cb.descend,
            not no_prox and cb.proximal_decay,
            **hypers,
        )


class AdaPNM(Algorithm):
    r"""Adam with positive-negative momentum.

        m_t = beta1^2 * m_{t-2} + (1 - beta1^2) * g
        u = ((1 + beta0) * m_t - beta0 * m_{t-1}) / (1 - beta1^t) / sqrt((1 + beta0)^2 + beta0^2)
        p <- p * (1 - lr * weight_decay);   p <- p - lr * u / (sqrt(vmax / (1 - beta2^t)) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        beta0: how much the other average counts against it.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        amsgrad: divide by the largest v so far.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdaPNM([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.8301, 0.8301])

    Xie et al., 2021, arXiv:2103.17182. Algorithm 2; corrected by 1 - beta1^t, not beta1^2.
    """

    paper = "Xie et al., 2021, arXiv:2103.17182"
    chain_options = ("amsgrad",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        beta0: float = 1.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = True,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, amsgrad=True, **hypers: Any) -> Chain:
        return cls.weave(
            cb.weight_decay,
            cb.positive_negative,
            cb.ema_sq,
            amsgrad and cb.max_sq,
            cb.debias,
            largest if amsgrad else cb.precondition,
            cb.descend,
            **hypers,
        )


class EXAdam(Algorithm):
    r"""EXAdam: moments that correct each other, and the present gradient.

        m, v as in Adam;   a = 1 + beta2^t * v / (v + eps),   b = 1 + beta1^t * m^2 / (m^2 + eps)
        p <- p * (1 - lr * weight_decay)
        p <- p - lr * (m + g) / (1 - beta1^t) * a / (sqrt(v / (1 - beta2^t) * b) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: in the corrections too.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.EXAdam([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([-0.5952, -0.5952])

    Adly, 2024, arXiv:2412.20302.
    """

    paper = "Adly, 2024, arXiv:2412.20302"
    blocks = (cb.weight_decay, cb.ema, cb.ema_sq, cb.cross_correct, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
