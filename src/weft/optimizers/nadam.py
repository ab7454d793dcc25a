"""Adam's other forms: with the infinity norm, and with Nesterov's look-ahead."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.chain import Chain
from weft.optimizers.base import Algorithm, BesideTorchs, OfTheOptimizer

__all__ = ["Adamax", "NAdam", "NAdamW"]


class Adamax(Algorithm):
    r"""Adamax: Adam with the infinity norm.

        g <- g + weight_decay * p
        m <- beta1 * m + (1 - beta1) * g;   n <- max(beta2 * n, |g| + eps)
        p <- p - lr / (1 - beta1^t) * m / n

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of m and n.
        eps: added to |g|, inside the maximum.
        weight_decay: L2 penalty, added to the gradient.
        maximize: ascend.
        foreach: torch's, accepted and ignored.
        capturable: see `weft.Optimizer`.
        differentiable: step under autograd; see `weft.Optimizer`.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    Raises:
        ValueError: for hypers out of range, in torch's words.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Adamax([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Kingma and Ba, 2014, arXiv:1412.6980, algorithm 2. The paper has no eps.
    """

    paper = "Kingma and Ba, 2014, arXiv:1412.6980"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        **optimizer: Unpack[BesideTorchs],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            cb.l2,
            cb.ema,
            cb.debias,
            cb.infinity_norm,
            cb.descend,
            **hypers,
        )


class NAdam(Algorithm):
    r"""NAdam: Adam with Nesterov's look-ahead and a momentum that warms up.

        mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2);   P <- P * mu_t
        u = (1 - mu_t) / (1 - P) * g + mu_{t+1} / (1 - P * mu_{t+1}) * m
        p <- p - lr * u / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: added outside the root.
        weight_decay: L2 penalty, added to the gradient; decoupled with `decoupled_weight_decay`.
        momentum_decay: how fast mu reaches beta1.
        decoupled_weight_decay: AdamW's decay instead of the penalty.
        maximize: ascend.
        foreach: torch's, accepted and ignored.
        capturable: see `weft.Optimizer`.
        differentiable: step under autograd; see `weft.Optimizer`.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    Raises:
        ValueError: for hypers out of range, in torch's words.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.NAdam([p], lr=0.1, betas=(0.5, 0.999))
    >>> opt.step(); p.data
    tensor([0.8867, 0.8867])

    Dozat, 2016. Keras has momentum_decay 1, and optax no warm-up at all: that is `NAdamW`.
    """

    paper = "Dozat, 2016"
    chain_options = ("decoupled_weight_decay", "maximize")

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
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
    def chain(cls, *, decoupled_weight_decay=False, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            cb.weight_decay if decoupled_weight_decay else cb.l2,
            cb.ema,
            cb.ema_sq,
            cb.nesterov_product,
            cb.precondition,
            cb.descend,
            **hypers,
        )


class NAdamW(Algorithm):
    r"""AdamW with Nesterov's look-ahead: each term with the correction of its own age.

        p <- p * (1 - lr * weight_decay);   m, v as in Adam
        u = beta1 * m / (1 - beta1^(t+1)) + (1 - beta1) * g / (1 - beta1^t)
        p <- p - lr * u / (sqrt(v / (1 - beta2^t)) + eps)

    Args: those of `AdamW`, without amsgrad.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.NAdamW([p], lr=0.1, betas=(0.5, 0.999), weight_decay=0.0)
    >>> opt.step(); p.data
    tensor([0.8667, 0.8667])

    Dozat, 2016, in the form of AlgoPerf (Dahl et al., 2023, arXiv:2306.07179) and optax. timm
    corrects both terms with t; Dozat's product of momenta is in `NAdam`.
    """

    paper = "Dozat, 2016; Dahl et al., 2023, arXiv:2306.07179"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
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
            cb.nesterov_debias,
            cb.precondition,
            cb.descend,
            **hypers,
        )
