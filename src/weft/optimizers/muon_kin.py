"""Muon with another gradient, another average, or another length of step."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.callbacks.matrix import JORDAN
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["NAMO", "AdaGO", "MarsMuon", "MuonH", "MuonLaProp"]

normalized = rename(cb.precondition, eps="norm_eps")


class MarsMuon(Algorithm):
    r"""Muon on a gradient of reduced variance.

        c = g + gamma * beta / (1 - beta) * (g - g_prev), at most of norm 1
        m <- beta * m + (1 - beta) * c
        p <- p * (1 - lr * weight_decay) - 0.2 * lr * sqrt(max(rows, cols)) * NS(m)

    Args:
        betas: one number, beta.
        gamma: of the correction.
        others: those of `Muon`, without nesterov.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.eye(2)); p.grad = torch.eye(2)
    >>> opt = weft.MarsMuon([p], lr=0.1)
    >>> opt.step(); bool((p.diagonal() < 0.99).all())
    True

    Liu, Yuan and Gu, 2025, arXiv:2510.21800. g_prev is the gradient of the batch before, zero before
    the first, as in the authors' code.
    """

    paper = "Liu, Yuan and Gu, 2025, arXiv:2510.21800"
    blocks = (
        cb.variance_reduction,
        cb.weight_decay,
        cb.ema,
        cb.newton_schulz,
        cb.adjust_lr,
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        weight_decay: float = 0.1,
        betas: tuple[float] = (0.95,),
        gamma: float = 0.025,
        ns_coefficients: tuple[float, float, float] = JORDAN,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = "match_rms_adamw",
        ns_dtype: str = "auto",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class MuonH(Algorithm):
    r"""Muon on a sphere: the norm of each matrix stays what it was, and lr is relative to it.

        u as in Muon;   p <- R n(p - lr R n(NS(u))),   n(x) = x / |x|,   R = |p| at the start

    Args: those of `Muon`, without decay and adjustment, which would have no effect.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.eye(2)); p.grad = torch.ones(2, 2)
    >>> opt = weft.MuonH([p], lr=0.1)
    >>> opt.step(); round(float(p.norm()), 4)
    1.4142

    Wen et al., 2026, arXiv:2606.16899 (Hyperball).
    """

    paper = "Wen et al., 2026, arXiv:2606.16899"
    chain_options = ("nesterov",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = JORDAN,
        eps: float = 1e-7,
        ns_steps: int = 5,
        ns_dtype: str = "auto",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, nesterov=True, **hypers: Any) -> Chain:
        return cls.weave(
            cb.average, nesterov and cb.nesterov_average, cb.newton_schulz, cb.hyperball, **hypers
        )


class MuonLaProp(Algorithm):
    r"""Muon on the average of what Adam has normalised already.

        v <- beta2 * v + (1 - beta2) * g^2
        m <- beta1 * m + (1 - beta1) * g / (sqrt(v / (1 - beta2^t)) + norm_eps)
        p <- p * (1 - lr * weight_decay) - lr * s * NS(m)

    Args:
        betas: of m and v.
        norm_eps: added to the root of v.
        others: those of `Muon`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.eye(2)); p.grad = torch.eye(2)
    >>> opt = weft.MuonLaProp([p], lr=0.1)
    >>> opt.step(); bool((p.diagonal() < 0.99).all())
    True

    HeavyBall's, which has no paper; LaProp: Ziyin et al., 2020, arXiv:2002.04839.
    """

    paper = "HeavyBall; Ziyin et al., 2020, arXiv:2002.04839; Jordan et al., 2024"
    blocks = (
        cb.weight_decay,
        cb.ema_sq,
        normalized,
        cb.ema,
        cb.newton_schulz,
        cb.adjust_lr,
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        ns_coefficients: tuple[float, float, float] = JORDAN,
        eps: float = 1e-7,
        ns_steps: int = 5,
        norm_eps: float = 1e-8,
        adjust_lr_fn: str | None = None,
        ns_dtype: str = "auto",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class AdaGO(Algorithm):
    r"""Muon with AdaGrad's rate for each matrix, from the norms of its gradients.

        b <- momentum * b + (1 - momentum) * g;   n = min(|g|, gamma);   v <- v + n^2
        p <- p * (1 - lr * weight_decay) - max(eps_step, lr * n / sqrt(v)) * NS(b)

    Args:
        gamma: the norm at which gradients are clipped for v.
        eps_step: the least rate.
        others: those of `Muon`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.eye(2)); p.grad = torch.eye(2)
    >>> opt = weft.AdaGO([p], lr=0.1)
    >>> opt.step(); bool((p.diagonal() < 0.99).all())
    True

    Zhang, Liu and Schaeffer, 2025, arXiv:2509.02981. pytorch_optimizer divides by v, without the root.
    """

    paper = "Zhang, Liu and Schaeffer, 2025, arXiv:2509.02981"
    blocks = (cb.weight_decay, cb.average, cb.newton_schulz, cb.adagrad_norm_descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 5e-2,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        gamma: float = 10.0,
        eps_step: float = 5e-4,
        ns_coefficients: tuple[float, float, float] = JORDAN,
        eps: float = 1e-7,
        ns_steps: int = 5,
        ns_dtype: str = "auto",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class NAMO(Algorithm):
    r"""Muon times Adam's ratio, taken of whole norms.

        m <- beta1 * m + (1 - beta1) * g;   v <- beta2 * v + (1 - beta2) * |g|^2
        a = sqrt(1 - beta2^t) / (1 - beta1^t) * |m| / (sqrt(v) + norm_eps)
        p <- p - lr * a * (NS(m) + weight_decay * p)

    Args:
        betas: of m and v.
        norm_eps: added to the root of v.
        others: those of `Muon`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.eye(2)); p.grad = torch.eye(2)
    >>> opt = weft.NAMO([p], lr=0.1)
    >>> opt.step(); bool((p.diagonal() < 0.99).all())
    True

    Zhang, Liu and Schaeffer, 2026, arXiv:2602.17080.
    """

    paper = "Zhang, Liu and Schaeffer, 2026, arXiv:2602.17080"
    blocks = (
        cb.ema,
        cb.newton_schulz,
        cb.decay_update,
        cb.grad_energy,
        cb.momentum_ratio,
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.95, 0.99),
        weight_decay: float = 0.0,
        ns_coefficients: tuple[float, float, float] = JORDAN,
        eps: float = 1e-7,
        ns_steps: int = 5,
        norm_eps: float = 1e-8,
        ns_dtype: str = "auto",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
