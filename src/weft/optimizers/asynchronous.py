"""Adam that divides at another time, and rates and momenta relative to all parameters."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import over_params
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["ADOPT", "ACProp", "Adai", "AvaGrad", "LaProp"]

energy = over_params("eta_energy", cb.eta_energy)
moment = over_params("second_moment_sum", cb.second_moment_sum)
size = over_params("size", cb.size)


class ADOPT(Algorithm):
    r"""ADOPT: Adam that converges with any beta2, dividing before it averages.

        u = clip(g / max(sqrt(v), eps), +-(t - 1)^(1/4));   m <- beta1 * m + (1 - beta1) * u
        p <- p - lr * (m + weight_decay * p);   v <- beta2 * v + (1 - beta2) * g^2

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: least value of the root.
        weight_decay: decoupled, as in AdamW.
        clip: whether the quotient is clipped.
        maximize: ascend.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.ADOPT([p], lr=0.1)
    >>> opt.step(); opt.step(); p.data
    tensor([0.9900, 0.9900])

    Taniguchi et al., 2024, arXiv:2411.02853. Algorithm 2. The first step only fills v: nothing
    moves, nor decays. pytorch_optimizer clips one step further on and decays at once; optax moves
    at once.
    """

    paper = "Taniguchi et al., 2024, arXiv:2411.02853"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.9999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        clip: bool = True,
        *,
        maximize: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            cb.adopt,
            cb.ema,
            cb.decay_update,
            cb.sit_out,
            cb.descend,
            **hypers,
        )


class LaProp(Algorithm):
    r"""LaProp: Adam that divides before it averages.

        v <- beta2 * v + (1 - beta2) * g^2
        m <- beta1 * m + (1 - beta1) * g / (sqrt(v / (1 - beta2^t)) + eps)
        p <- p * (1 - lr * weight_decay);   p <- p - lr * m / (1 - beta1^t)

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
    >>> opt = weft.LaProp([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Ziyin et al., 2020, arXiv:2002.04839. The rate is outside the average, as in the paper; the
    authors' code has it inside.
    """

    paper = "Ziyin et al., 2020, arXiv:2002.04839"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 4e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-15,
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
            cb.ema_sq,
            cb.precondition,
            cb.ema,
            cb.debias,
            cb.descend,
            **hypers,
        )


class ACProp(Algorithm):
    r"""ACProp: divides by a centred second moment of the steps before.

        m <- beta1 * m + (1 - beta1) * g
        p <- p * (1 - lr * weight_decay);   p <- p - lr * g / (sqrt(s / (1 - beta2^(t-1))) + eps)
        s <- beta2 * s + (1 - beta2) * (g - m)^2 + eps

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and s.
        eps: added to s in every step, and outside the root.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.ACProp([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Zhuang et al., 2021, arXiv:2110.05454. m only centres s. The first root is 1, as in optax,
    which centres on the m before.
    """

    paper = "Zhuang et al., 2021, arXiv:2110.05454"
    blocks = (cb.weight_decay, cb.ema, cb.asynchronous, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class AvaGrad(Algorithm):
    r"""AvaGrad: rates from the steps before, of mean square one over all parameters.

        m, v as in Adam;   eta = 1 / (sqrt(v / (1 - beta2^(t-1))) + eps), of the v before
        p <- p * (1 - lr * weight_decay);   p <- p - lr * m / (1 - beta1^t) * eta / rms(eta)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: weighs as much as lr: 0.1 is nearly SGD.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AvaGrad([p], lr=0.1)
    >>> opt.step(); opt.step(); p.data
    tensor([0.9000, 0.9000])

    Savarese et al., 2019, arXiv:1912.01823. The first step only fills the averages. The authors'
    code takes the norm one step late; the paper does not.
    """

    paper = "Savarese et al., 2019, arXiv:1912.01823"
    blocks = (cb.weight_decay, cb.ema, cb.debias, energy, size, cb.avagrad, cb.ema_sq, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 0.1,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class Adai(Algorithm):
    r"""Adai: the momentum, not the rate, adapts to each element.

        v' = corrected average of g^2;   b = clip(1 - beta0 * v' / mean(v'), 0, 1 - eps)
        m <- b * m + (1 - b) * g;   P <- P * b;   p <- p - lr * m / (1 - P)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: beta0 and the decay of v.
        eps: how much less than one a momentum is.
        weight_decay: L2 penalty, added to the gradient.
        stable_weight_decay: decoupled decay instead (AdaiW).
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Adai([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Xie et al., 2020, arXiv:2006.15815. The mean is over the elements of all parameters.
    """

    paper = "Xie et al., 2020, arXiv:2006.15815"
    chain_options = ("stable_weight_decay",)

    def __init__(
        self,
        params: Any,
        lr: Any = 0.1,
        betas: tuple[float, float] = (0.1, 0.99),
        eps: float = 1e-3,
        weight_decay: float = 0.0,
        stable_weight_decay: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, stable_weight_decay=False, **hypers: Any) -> Chain:
        return cls.weave(
            cb.weight_decay if stable_weight_decay else cb.l2,
            cb.ema_sq,
            moment,
            size,
            cb.adai,
            cb.descend,
            **hypers,
        )
