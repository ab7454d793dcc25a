"""AdamW with its gradient corrected, or its steps chosen."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["MARS", "CautiousAdamW", "GrokfastAdamW"]


class CautiousAdamW(Algorithm):
    r"""AdamW that takes only the steps that the gradient agrees with.

        u = Adam's step;   k = [u * g > 0]
        p <- p * (1 - lr * weight_decay);   p <- p - lr * u * k * n / (sum(k) + 1)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        maximize: ascend.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.CautiousAdamW([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9323, 0.9323])

    Liang et al., 2024, arXiv:2411.16085. Scaled as in the paper's algorithm 2; timm and the
    authors' code divide by the mean of k, at least 1e-3. `weft.AdamW.chain() +
    weft.callbacks.cautious` is the same.
    """

    paper = "Liang et al., 2024, arXiv:2411.16085"
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
            cb.debias,
            cb.precondition,
            cb.cautious,
            cb.descend,
            **hypers,
        )


class GrokfastAdamW(Algorithm):
    r"""AdamW on gradients whose slow part is amplified.

        s <- alpha * s + (1 - alpha) * g,  s = g in the first step;   g <- g + lamb * s
        AdamW's step on g

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        alpha: decay of the slow part.
        lamb: how much of it is added.
        maximize: ascend.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.GrokfastAdamW([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.8990, 0.8990])

    Lee et al., 2024, arXiv:2405.20233. Grokfast-EMA; `weft.callbacks.grokfast` does it to any
    chain. pytorch_optimizer divides lr by 1 + lamb.
    """

    paper = "Lee et al., 2024, arXiv:2405.20233"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        alpha: float = 0.98,
        lamb: float = 2.0,
        *,
        maximize: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            rename(cb.grokfast, grok_alpha="alpha"),
            cb.weight_decay,
            cb.ema,
            cb.ema_sq,
            cb.debias,
            cb.precondition,
            cb.descend,
            **hypers,
        )


class MARS(Algorithm):
    r"""MARS: AdamW on gradients corrected by the gradients before.

        c = g + gamma * beta1 / (1 - beta1) * (g - g_prev);   c <- c / max(1, |c|)
        AdamW's step on c

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        gamma: strength of the correction.
        maximize: ascend.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.MARS([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Yuan et al., 2024, arXiv:2411.10438. MARS-AdamW, the approximate variant: g_prev is the
    gradient that the step before had. The authors' code gives vectors plain AdamW with other
    betas: give them a group with `AdamW.chain()`.
    """

    paper = "Yuan et al., 2024, arXiv:2411.10438"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 3e-3,
        betas: tuple[float, float] = (0.95, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        gamma: float = 0.025,
        *,
        maximize: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            cb.variance_reduction,
            cb.weight_decay,
            cb.ema,
            cb.ema_sq,
            cb.debias,
            cb.precondition,
            cb.descend,
            **hypers,
        )
