"""Shampoo and SOAP with factors that minimise a KL divergence."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["KLSOAP", "KLShampoo"]

root = rename(cb.root, square_avg="exp_avg_sq")


class KLShampoo(Algorithm):
    r"""Shampoo whose two factors whiten each other's gradients.

        S_a <- b S_a + (1 - b)/n G S_b^-1 G^T;   S_b <- b S_b + (1 - b)/m G^T S_a^-1 G
        M <- beta1 * M + (1 - beta1) * G;   u = Q_a (Q_a^T M Q_b / (sqrt(d_a d_b) + eps)) Q_b^T
        p <- (p - lr * u) * (1 - lr * weight_decay);   every so many steps Q <- QR(S Q)

    with d the eigenvalues, averaged in the bases Q.

    Args:
        params: matrices; a convolution is one of its output channels.
        lr: learning rate.
        betas: of the momentum, and b.
        shampoo_beta: b, instead of beta2.
        eps: added to the roots.
        weight_decay: decoupled, after the step.
        precondition_frequency: how many steps a basis serves.
        init_factor: of the eigenvalues.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(2, 2)); p.grad = torch.tensor([[2., 0.], [0., 1.]])
    >>> opt = weft.KLShampoo([p], lr=0.1)
    >>> opt.step(); bool((p == 0).all())
    True

    Lin et al., 2025, arXiv:2509.03378. As in the authors' code: the first gradient makes only the
    factors and bases, the step uses the factors of the step before, and M is not corrected.
    HeavyBall and Emerging Optimizers take d = diag(Q^T S Q) instead of averaging it.
    """

    paper = "Lin et al., 2025, arXiv:2509.03378"

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        init_factor: float = 0.1,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        Algorithm.__init__(self, params, locals())

    @classmethod
    def chain(cls, **hypers: Any) -> Chain:
        return cls._around(cb.ema, cb.kl_rotate, cb.kl_scale, cb.kl_rotate_back, **hypers)

    @classmethod
    def _around(cls, *direction: Any, **hypers: Any) -> Chain:
        """The chain with the blocks of its direction."""
        return cls.weave(
            cb.late_step,
            cb.kl_start,
            cb.kl_factors,
            cb.silent_start,
            *direction,
            cb.descend_late,
            cb.kl_eigenvalues,
            cb.refresh_kl_bases,
            **hypers,
        )


class KLSOAP(KLShampoo):
    r"""Adam in the bases of KL-Shampoo's factors.

        v <- beta2 * v + (1 - beta2) * (Q_a^T G Q_b)^2;   u = Q_a (Q_a^T M Q_b / (sqrt(v) + eps)) Q_b^T

    Args:
        correct_bias: correct M and v as Adam does; the authors do not, HeavyBall does.
        others: those of `KLShampoo`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(2, 2)); p.grad = torch.tensor([[2., 0.], [0., 1.]])
    >>> opt = weft.KLSOAP([p], lr=0.1, correct_bias=True, weight_decay=0.)
    >>> opt.step(); opt.step(); torch.allclose(p, -0.1 * torch.eye(2))
    True

    Lin et al., 2025, arXiv:2509.03378. A new basis neither sorts nor turns v.
    """

    chain_options = ("correct_bias",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        init_factor: float = 0.1,
        correct_bias: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        Algorithm.__init__(self, params, locals())

    @classmethod
    def chain(cls, *, correct_bias=False, **hypers: Any) -> Chain:
        """KL-Shampoo's chain with kl_ema_sq and root for kl_scale [correct_bias]."""
        blocks = (cb.ema, cb.kl_rotate, cb.kl_ema_sq, root, cb.kl_rotate_back)
        return cls._around(*blocks, correct_bias and cb.correct_bias, **hypers)
