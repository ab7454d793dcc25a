"""Adam with its rate bounded or bent."""

from typing import Any, ClassVar, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["AdaBound", "AdaMod", "AdamAtan2", "DiffGrad", "DualAdam", "PAdam", "SAdam"]

bound_largest = rename(cb.bound_rate, exp_avg_sq="max_exp_avg_sq")
partial_largest = rename(cb.partial_root, exp_avg_sq="max_exp_avg_sq")


class AdaBound(Algorithm):
    r"""AdaBound: from Adam to SGD, by bounds on every rate that close in.

        r = lr * sqrt(1 - beta2^t) / (1 - beta1^t) / (sqrt(v) + eps);   f = final_lr * lr / base_lr
        p <- p * (1 - lr * weight_decay)
        p <- p - clip(r, f * (1 - 1 / (gamma * t + 1)), f * (1 + 1 / (gamma * t))) * m

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        final_lr: the rate of SGD at the end.
        gamma: how fast the bounds close in.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        base_lr: the rate of which final_lr is the end; None for lr as the group has it first.
        amsbound: use the largest v so far.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdaBound([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Luo et al., 2019, arXiv:1902.09843. As the authors' code; the paper's algorithm has no
    corrections and divides by sqrt(t).
    """

    paper = "Luo et al., 2019, arXiv:1902.09843"
    chain_options = ("amsbound",)
    follows: ClassVar = {"base_lr": "lr"}

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        base_lr: float | None = None,
        amsbound: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, amsbound=False, **hypers: Any) -> Chain:
        return cls.weave(
            cb.weight_decay,
            cb.ema,
            cb.ema_sq,
            amsbound and cb.max_sq,
            bound_largest if amsbound else cb.bound_rate,
            cb.subtract,
            **hypers,
        )


class AdaMod(Algorithm):
    r"""AdaMod: no rate above its own average.

        r = lr / (sqrt(v / (1 - beta2^t)) + eps);   s <- beta3 * s + (1 - beta3) * r
        p <- p * (1 - lr * weight_decay);   p <- p - min(r, s) * m / (1 - beta1^t)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of m, of v, and of the rates.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdaMod([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9999, 0.9999])

    Ding et al., 2019, arXiv:1910.12249. Algorithm 1; the authors' code has 1 / (1 - beta1^t) in
    the rate that is averaged.
    """

    paper = "Ding et al., 2019, arXiv:1910.12249"
    blocks = (cb.weight_decay, cb.ema, cb.ema_sq, cb.debias, cb.average_rate, cb.subtract)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class PAdam(Algorithm):
    r"""Partially adaptive Adam: between SGD and AMSGrad.

        p <- p - lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(vmax) + eps)^(2 * partial)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        partial: 1/2 is AMSGrad, 0 is SGD.
        eps: added outside the root.
        weight_decay: L2 penalty, added to the gradient.
        amsgrad: use the largest v so far.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.PAdam([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9822, 0.9822])

    Chen et al., 2018, arXiv:1806.06763. Corrected as in the authors' code, not in the paper;
    pytorch_optimizer leaves the maximum out.
    """

    paper = "Chen et al., 2018, arXiv:1806.06763"
    chain_options = ("amsgrad",)

    def __init__(
        self,
        params: Any,
        lr: Any = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        partial: float = 0.25,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = True,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, amsgrad=True, **hypers: Any) -> Chain:
        return cls.weave(
            cb.l2,
            cb.ema,
            cb.ema_sq,
            amsgrad and cb.max_sq,
            cb.debias,
            partial_largest if amsgrad else cb.partial_root,
            cb.descend,
            **hypers,
        )


class SAdam(Algorithm):
    r"""Adam with a softplus in the place of eps.

        p <- p - lr * m / (1 - beta1^t) / softplus(sqrt(v / (1 - beta2^t)))

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        softplus_beta: softplus(x) = log(1 + exp(softplus_beta * x)) / softplus_beta.
        weight_decay: L2 penalty, added to the gradient.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.SAdam([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Tong et al., 2019, arXiv:1908.00700. Corrected, as Adam is; the paper's algorithm is not.
    """

    paper = "Tong et al., 2019, arXiv:1908.00700"
    blocks = (cb.l2, cb.ema, cb.ema_sq, cb.debias, cb.softplus_root, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        softplus_beta: float = 50.0,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class AdamAtan2(Algorithm):
    r"""Adam with an arc tangent in the place of the division.

        p <- p * (1 - lr * weight_decay)
        p <- p - lr * a * atan2(m / (1 - beta1^t), b * sqrt(v / (1 - beta2^t)))

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        a: scale of the step.
        b: scale of the root.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdamAtan2([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9215, 0.9215])

    Everett et al., 2024, arXiv:2407.05872. No eps, and no scale of the gradient. With a of 1.27 a
    step is as long as Adam's.
    """

    paper = "Everett et al., 2024, arXiv:2407.05872"
    blocks = (cb.weight_decay, cb.ema, cb.ema_sq, cb.debias, cb.arctan, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        a: float = 1.0,
        b: float = 1.0,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class DiffGrad(Algorithm):
    r"""diffGrad: Adam that slows down where the gradient stays the same.

        p <- p * (1 - lr * weight_decay)
        p <- p - lr * sigmoid(|g_prev - g|) * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.DiffGrad([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9269, 0.9269])

    Dubey et al., 2019, arXiv:1909.11015. The gradient before the first is zero.
    """

    paper = "Dubey et al., 2019, arXiv:1909.11015"
    blocks = (
        cb.weight_decay,
        cb.ema,
        cb.ema_sq,
        cb.debias,
        cb.precondition,
        cb.friction,
        cb.descend,
    )

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


class DualAdam(Algorithm):
    r"""DualAdam: from multiplying by the root to dividing by it.

        d = sqrt(v / (1 - beta2^t)) + eps;   r = max(0, 1 - t * switch_rate), 0 below switch_rate
        p <- p - lr * m / (1 - beta1^t) * (r * d + (1 - r) / d)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        switch_rate: one over the number of steps that the change takes.
        eps: added outside the root.
        weight_decay: L2 penalty, added to the gradient.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.DualAdam([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    arXiv:2603.07122.
    """

    paper = "arXiv:2603.07122"
    blocks = (cb.l2, cb.ema, cb.ema_sq, cb.debias, cb.dual_root, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        switch_rate: float = 0.01,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
