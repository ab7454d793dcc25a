"""Adam and its nearest kin: AdamW, AMSGrad, rectified and quasi-hyperbolic Adam."""

from typing import Any, ClassVar, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.chain import Chain
from weft.optimizers.base import Algorithm, BesideTorchs, OfTheOptimizer
from weft.wrappers import Lookahead

__all__ = ["Adam", "AdamW", "QHAdam", "RAdam", "Ranger"]

largest = rename(cb.precondition, exp_avg_sq="max_exp_avg_sq")


class Adam(Algorithm):
    r"""Adam: steps along the mean gradient, over the root of the mean squared gradient.

        g <- g + weight_decay * p
        m <- beta1 * m + (1 - beta1) * g;   v <- beta2 * v + (1 - beta2) * g^2
        p <- p - lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: added outside the root.
        weight_decay: L2 penalty, added to the gradient; decoupled with `decoupled_weight_decay`.
        amsgrad: divide by the largest v so far.
        maximize: ascend.
        decoupled_weight_decay: AdamW's decay instead of the penalty.
        foreach, fused: torch's, accepted and ignored.
        capturable: see `weft.Optimizer`.
        differentiable: step under autograd; see `weft.Optimizer`.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    Raises:
        ValueError: for hypers out of range, in torch's words.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Adam([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Kingma and Ba, 2014, arXiv:1412.6980. AMSGrad takes the maximum of the uncorrected v, as torch
    and Keras do; optax takes that of the corrected one. Keras folds the corrections into the rate.
    """

    paper = "Kingma and Ba, 2014, arXiv:1412.6980"
    chain_options = ("amsgrad", "maximize", "decoupled_weight_decay")

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        **optimizer: Unpack[BesideTorchs],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(
        cls, *, amsgrad=False, maximize=False, decoupled_weight_decay=False, **hypers: Any
    ) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            cb.weight_decay if decoupled_weight_decay else cb.l2,
            cb.ema,
            cb.ema_sq,
            amsgrad and cb.max_sq,
            cb.debias,
            largest if amsgrad else cb.precondition,
            cb.descend,
            **hypers,
        )


class AdamW(Adam):
    r"""Adam with decoupled weight decay.

        p <- p * (1 - lr * weight_decay)
        m <- beta1 * m + (1 - beta1) * g;   v <- beta2 * v + (1 - beta2) * g^2
        p <- p - lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    Args: those of `Adam`, with `weight_decay=0.01` decoupled.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdamW([p], lr=0.1, weight_decay=0.1)
    >>> opt.step(); p.data
    tensor([0.8900, 0.8900])

    Loshchilov and Hutter, 2017, arXiv:1711.05101. The decay is times the learning rate, as in every
    framework; the paper's schedule multiplier is what a scheduler does to lr.
    """

    paper = "Loshchilov and Hutter, 2017, arXiv:1711.05101"
    fixed: ClassVar = {"decoupled_weight_decay": True}

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **optimizer: Unpack[BesideTorchs],
    ):
        Algorithm.__init__(self, params, locals())

    @classmethod
    def chain(
        cls, *, amsgrad=False, maximize=False, decoupled_weight_decay=True, **hypers: Any
    ) -> Chain:
        return super().chain(
            amsgrad=amsgrad,
            maximize=maximize,
            decoupled_weight_decay=decoupled_weight_decay,
            **hypers,
        )


class RAdam(Algorithm):
    r"""Rectified Adam: momentum until the variance of the adaptive rate is tractable, then Adam.

        m, v as in Adam;   rho = rho_inf - 2 t beta2^t / (1 - beta2^t)
        p <- p - lr * m / (1 - beta1^t) * r(rho) * sqrt(1 - beta2^t) / (sqrt(v) + eps)  where rho > 5
        p <- p - lr * m / (1 - beta1^t)                                                 elsewhere

    Args: those of `Adam`, without amsgrad.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.RAdam([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Liu et al., 2019, arXiv:1908.03265. The paper's threshold is 4; torch's, and this one's, 5.
    """

    paper = "Liu et al., 2019, arXiv:1908.03265"
    chain_options = ("maximize", "decoupled_weight_decay")

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        **optimizer: Unpack[BesideTorchs],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, maximize=False, decoupled_weight_decay=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            cb.weight_decay if decoupled_weight_decay else cb.l2,
            cb.ema,
            cb.ema_sq,
            cb.debias,
            cb.rectify,
            cb.descend,
            **hypers,
        )


class QHAdam(Algorithm):
    r"""Quasi-hyperbolic Adam: the gradient mixed into both of Adam's averages.

        m, v as in Adam, corrected to m', v'
        p <- p - lr * ((1 - nu1) g + nu1 m') / (sqrt((1 - nu2) g^2 + nu2 v') + eps)

    Args:
        nus: how much of the averages is used; (1, 1) is Adam.
        weight_decay: L2 penalty, added to the gradient; decoupled with `decoupled_weight_decay`.
        others: those of `Adam`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.QHAdam([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Ma and Yarats, 2018, arXiv:1810.06801, with the paper's recommended nus and beta1.
    """

    paper = "Ma and Yarats, 2018, arXiv:1810.06801"
    chain_options = ("decoupled_weight_decay",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.995, 0.999),
        nus: tuple[float, float] = (0.7, 1.0),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, decoupled_weight_decay=False, **hypers: Any) -> Chain:
        return cls.weave(
            cb.weight_decay if decoupled_weight_decay else cb.l2,
            cb.ema,
            cb.ema_sq,
            cb.debias,
            cb.quasi_hyperbolic,
            cb.quasi_hyperbolic_root,
            cb.descend,
            **hypers,
        )


class Ranger(RAdam):
    r"""Ranger: rectified Adam inside Lookahead.

        RAdam's step; every k steps  slow <- slow + alpha * (p - slow);   p <- slow

    Args:
        k, alpha: Lookahead's.
        others: those of `RAdam`; the decay is decoupled.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Ranger([p], lr=0.1, k=2, weight_decay=0.)
    >>> opt.step(); opt.step(); p.data
    tensor([0.9000, 0.9000])

    Wright, 2019, with fastai's defaults: beta1 0.95, eps 1e-6, weight_decay 0.01.
    """

    paper = "Wright, 2019; Liu et al., 2019, arXiv:1908.03265; Zhang et al., 2019, arXiv:1907.08610"
    chain_options = ("k", "alpha")

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        k: int = 6,
        alpha: float = 0.5,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        Algorithm.__init__(self, params, locals())

    @classmethod
    def chain(cls, *, k=6, alpha=0.5, **hypers: Any) -> Chain:
        """RAdam's chain with decoupled decay, and Lookahead around it."""
        return super().chain(decoupled_weight_decay=True, **hypers) + Lookahead(k=k, alpha=alpha)
