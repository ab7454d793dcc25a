"""SOAP: Adam in the eigenbases of Shampoo's factors."""

import functools
from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.callbacks.kronecker import matrices_only
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["SOAP", "SOLP", "HeavySOAP", "SOAPAdEMAMix", "SOAPNAdam"]

factors = functools.partial(cb.average_factors, factors=matrices_only)
root = rename(cb.root, square_avg="exp_avg_sq")
silent_update = rename(cb.silent_start, grad="update")


class SOAP(Algorithm):
    r"""SOAP: Adam in the eigenbases of Shampoo's factors.

        m <- beta1 * m + (1 - beta1) * G;   v <- beta2 * v + (1 - beta2) * (Q_L^T G Q_R)^2
        u = Q_L (Q_L^T m Q_R / (sqrt(v) + eps)) Q_R^T * sqrt(1 - beta2^t) / (1 - beta1^t)
        p <- (p - lr * u) * (1 - lr * weight_decay)
        L <- beta * L + (1 - beta) * G G^T, R likewise; every so many steps Q <- QR(F Q)

    Args:
        params: parameters, named parameters or groups; vectors get Adam.
        lr: learning rate.
        betas: of m and v.
        shampoo_beta: of the factors; beta2 where it is None.
        eps: added to the root of v.
        weight_decay: decoupled, after the step.
        precondition_frequency: how many steps a basis serves.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(2, 2)); p.grad = torch.tensor([[2., 0.], [0., 1.]])
    >>> opt = weft.SOAP([p], lr=0.1, weight_decay=0.)
    >>> opt.step(); opt.step(); torch.allclose(p, -0.1 * torch.eye(2))
    True

    Vyas et al., 2024, arXiv:2409.11321. As in the authors' code, the first gradient makes only the
    factors and their bases, t counts from the second, and a new basis sorts v but does not turn it.
    """

    paper = "Vyas et al., 2024, arXiv:2409.11321"

    def __init__(
        self,
        params: Any,
        lr: Any = 3e-3,
        betas: tuple[float, ...] = (0.95, 0.95),
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        Algorithm.__init__(self, params, locals())

    refresh = staticmethod(cb.refresh_bases)

    @classmethod
    def chain(cls, **hypers: Any) -> Chain:
        """The first gradient's part, Adam's blocks between rotate and rotate_back, refresh_bases."""
        return cls.weave(
            cb.late_step,
            factors,
            cb.silent_start,
            *cls.direction(),
            cb.descend_late,
            cls.refresh,
            **hypers,
        )

    @classmethod
    def direction(cls) -> tuple[Any, ...]:
        """The blocks of the update."""
        return (cb.ema, cb.rotate, cb.ema_sq_rotated, root, cb.rotate_back, cb.correct_bias)


class HeavySOAP(SOAP):
    r"""SOAP whose second moment moves with the bases.

        at a new basis, R = Q_old^T Q_new:  v <- (R_L^2)^T v R_R^2, squares elementwise

    Args: those of `SOAP`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(2, 2)); p.grad = torch.tensor([[2., 0.], [0., 1.]])
    >>> opt = weft.HeavySOAP([p], lr=0.1, weight_decay=0.)
    >>> opt.step(); opt.step(); torch.allclose(p, -0.1 * torch.eye(2))
    True

    HeavyBall's; there is no paper. arXiv:2409.11321.
    """

    paper = "HeavyBall; Vyas et al., 2024, arXiv:2409.11321"
    refresh = staticmethod(cb.transport_bases)


class SOLP(SOAP):
    r"""SOAP with LaProp in the bases: the average is of what has been divided by the root.

        G' = Q_L^T G Q_R;   v <- beta2 * v + (1 - beta2) * G'^2
        m <- beta1 * m + (1 - beta1) * Q_L (G' / (sqrt(v / (1 - beta2^t)) + eps)) Q_R^T
        p <- (p - lr * m / (1 - beta1^t)) * (1 - lr * weight_decay)

    Args: those of `SOAP`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(2, 2)); p.grad = torch.tensor([[2., 0.], [0., 1.]])
    >>> opt = weft.SOLP([p], lr=0.1, weight_decay=0.)
    >>> opt.step(); opt.step(); torch.allclose(p, -0.1 * torch.eye(2))
    True

    HeavyBall's; there is no paper. arXiv:2409.11321, arXiv:2002.04839.
    """

    paper = "HeavyBall; Vyas et al., 2024, arXiv:2409.11321; Ziyin et al., 2020, arXiv:2002.04839"

    @classmethod
    def direction(cls) -> tuple[Any, ...]:
        inner = (cb.rotate, cb.ema_sq_rotated, cb.precondition, cb.rotate_back)
        return (*inner, silent_update, cb.ema, cb.debias)


class SOAPAdEMAMix(SOAP):
    r"""SOAP with AdEMAMix in the bases: a second, much slower average.

        u = Q_L (Q_L^T (m / (1 - beta1^t) + alpha * s) Q_R / (sqrt(v / (1 - beta2^t)) + eps)) Q_R^T
        s <- beta3 * s + (1 - beta3) * G

    Args:
        betas: of m, v and s.
        alpha: how much of s is added.
        others: those of `SOAP`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(2, 2)); p.grad = torch.tensor([[2., 0.], [0., 1.]])
    >>> opt = weft.SOAPAdEMAMix([p], lr=0.1, weight_decay=0., alpha=0.)
    >>> opt.step(); opt.step(); torch.allclose(p, -0.1 * torch.eye(2))
    True

    HeavyBall's; there is no paper. arXiv:2409.11321, arXiv:2409.03137, without warm-ups.
    """

    paper = (
        "HeavyBall; Vyas et al., 2024, arXiv:2409.11321; Pagliardini et al., 2024, arXiv:2409.03137"
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 3e-3,
        betas: tuple[float, ...] = (0.9, 0.95, 0.9999),
        alpha: float = 2.0,
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        Algorithm.__init__(self, params, locals())

    @classmethod
    def direction(cls) -> tuple[Any, ...]:
        mixed = (cb.ema, cb.debias, cb.add_slow_average)
        return (*mixed, cb.rotate, cb.ema_sq_rotated, cb.precondition, cb.rotate_back)


class SOAPNAdam(SOAP):
    r"""SOAP with NAdam in the bases: the look-ahead of an average whose momentum warms up.

        mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2);   P <- P * mu_t
        n = (1 - mu_t) / (1 - P) G + mu_{t+1} / (1 - P mu_{t+1}) m
        u = Q_L (Q_L^T n Q_R / (sqrt(v / (1 - beta2^t)) + eps)) Q_R^T

    Args:
        momentum_decay: of the warm-up.
        others: those of `SOAP`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(2, 2)); p.grad = torch.tensor([[2., 0.], [0., 1.]])
    >>> opt = weft.SOAPNAdam([p], lr=0.1)
    >>> opt.step(); opt.step(); bool((p.diagonal() < 0).all())
    True

    HeavyBall's; there is no paper. arXiv:2409.11321; Dozat, 2016.
    """

    paper = "HeavyBall; Vyas et al., 2024, arXiv:2409.11321; Dozat, 2016"

    def __init__(
        self,
        params: Any,
        lr: Any = 3e-3,
        betas: tuple[float, ...] = (0.95, 0.95),
        momentum_decay: float = 4e-3,
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        Algorithm.__init__(self, params, locals())

    @classmethod
    def direction(cls) -> tuple[Any, ...]:
        inner = (cb.rotate, cb.ema_sq_rotated, cb.precondition, cb.rotate_back)
        return (cb.ema, cb.nesterov_late, *inner)
