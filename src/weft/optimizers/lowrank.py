"""Optimizers that look at a matrix through a few of its directions."""

import functools
from typing import Any, Unpack

from weft import callbacks as cb
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["APOLLO", "APOLLOMini", "Conda", "Dion", "Fira", "GaLoreAdamW"]

full_basis = functools.partial(cb.singular_basis, rank=None)


class GaLoreAdamW(Algorithm):
    r"""Adam on the gradient's leading singular directions, so with moments of rank `rank`.

        every update_proj_gap steps: Q <- the leading singular vectors of g, on its shorter side
        R = Q^T g;   N = Adam's direction of R
        p <- p - lr * scale * Q N;   p <- p * (1 - lr * weight_decay)

    Args:
        params: parameters; what is not a matrix gets AdamW.
        lr: learning rate.
        betas: of Adam's moments.
        eps: added to the root of the corrected second moment.
        weight_decay: decoupled, after the step.
        rank: how many directions.
        update_proj_gap: how many steps a basis serves.
        scale: of the update that comes back.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(6, 4)); p.grad = torch.eye(6, 4)
    >>> opt = weft.GaLoreAdamW([p], rank=2)
    >>> opt.step(); tuple(opt.state[p]["exp_avg"].shape)
    (6, 2)

    Zhao et al., 2024, arXiv:2403.03507. The moments are kept when the basis changes, not turned into
    the new one, so that the signs of singular vectors matter. eps as in the paper and torch's Adam;
    the authors' code adds it to the uncorrected root. They renew at steps 1, 1 + gap, ...
    """

    paper = "Zhao et al., 2024, arXiv:2403.03507"
    blocks = (
        cb.singular_basis,
        cb.adam_within,
        cb.low_rank_direction,
        cb.correct_bias,
        cb.descend,
        cb.weight_decay,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        rank: int = 4,
        update_proj_gap: int = 200,
        scale: float = 0.25,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class Fira(Algorithm):
    r"""GaLore and what it leaves out, scaled as Adam scales what it keeps.

        R, N as in GaLore;   S = (g - scale * Q R) * |N| / |R|, by channel, its norm limited
        p <- p - lr * (scale * Q N + S);   p <- p * (1 - lr * weight_decay)

    Args:
        gamma: by how much the norm of S may grow in a step.
        others: those of `GaLoreAdamW`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(6, 4)); p.grad = torch.eye(6, 4)
    >>> opt = weft.Fira([p], rank=2)
    >>> opt.step(); tuple(opt.state[p]["exp_avg"].shape)
    (6, 2)

    Chen et al., 2024, arXiv:2410.01623. Norms are of N before its correction, as in the authors' code.
    """

    paper = "Chen et al., 2024, arXiv:2410.01623"
    blocks = (
        cb.singular_basis,
        cb.adam_within,
        cb.residual,
        cb.limit_within,
        cb.add_low_rank,
        cb.correct_bias,
        cb.descend,
        cb.weight_decay,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        rank: int = 4,
        update_proj_gap: int = 200,
        scale: float = 1.0,
        gamma: float = 1.01,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class APOLLO(Algorithm):
    r"""The gradient itself, each channel scaled as Adam scales a random projection of it.

        R = Q^T g with Q random;   N = Adam's direction of R;   s = |N| / |R|, by channel
        p <- p - lr * sqrt(scale) * limit(s * g);   p <- p * (1 - lr * weight_decay)

    Args:
        scale: its root multiplies the update of a matrix.
        scale_type: "channel", or "tensor" for one factor.
        gamma: by how much the norm of the update may grow in a step.
        others: those of `GaLoreAdamW`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(6, 4)); p.grad = torch.eye(6, 4)
    >>> opt = weft.APOLLO([p], rank=2)
    >>> opt.step(); int((p != 0).sum())
    4

    Zhu et al., 2024, arXiv:2412.05270, algorithm 1: the full gradient is scaled; pytorch_optimizer
    scales R. Not the Apollo of arXiv:2009.13586. Q comes from torch's generator.
    """

    paper = "Zhu et al., 2024, arXiv:2412.05270"
    blocks = (
        cb.random_basis,
        cb.adam_within,
        cb.channel_scale,
        cb.limit_within,
        cb.low_rank_times,
        cb.correct_bias,
        cb.descend,
        cb.weight_decay,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        rank: int = 4,
        update_proj_gap: int = 200,
        scale: float = 1.0,
        scale_type: str = "channel",
        gamma: float = 1.01,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        Algorithm.__init__(self, params, locals())


class APOLLOMini(APOLLO):
    r"""APOLLO of rank one, with one factor for the whole tensor.

        s = |N| / |R|, of the whole;   p <- p - lr * sqrt(128) * limit(s * g)

    Args: those of `APOLLO`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(6, 4)); p.grad = torch.eye(6, 4)
    >>> opt = weft.APOLLOMini([p])
    >>> opt.step(); tuple(opt.state[p]["exp_avg"].shape)
    (6, 1)

    Zhu et al., 2024, arXiv:2412.05270.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        rank: int = 1,
        update_proj_gap: int = 200,
        scale: float = 128.0,
        scale_type: str = "tensor",
        gamma: float = 1.01,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        Algorithm.__init__(self, params, locals())


class Conda(Algorithm):
    r"""Adam's second moment in the singular directions of the momentum, at full rank.

        m <- beta1 * m + (1 - beta1) * g;   every update_proj_gap steps: Q <- singular vectors of m
        v <- beta2 * v + (1 - beta2) * (Q^T g)^2
        p <- p - lr * scale * Q (Q^T m' / (sqrt(v') + eps));   p <- p * (1 - lr * weight_decay)

    Args: those of `GaLoreAdamW`, without the rank; m' and v' are corrected as in Adam.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(6, 4)); p.grad = torch.eye(6, 4)
    >>> opt = weft.Conda([p])
    >>> opt.step(); tuple(opt.state[p]["basis"].shape)
    (4, 4)

    Wang et al., 2025, arXiv:2509.24218.
    """

    paper = "Wang et al., 2025, arXiv:2509.24218"
    blocks = (
        cb.ema,
        full_basis,
        cb.ema_sq_within,
        cb.debias,
        cb.enter_basis,
        cb.precondition,
        cb.leave_basis,
        cb.descend,
        cb.weight_decay,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        update_proj_gap: int = 2000,
        scale: float = 1.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class Dion(Algorithm):
    r"""An orthogonal update of rank `rank`, by one power iteration a step.

        B = M + g;   P = qr(B Q);   R = B^T P;   M <- B - (1 - momentum) * P R^T;   Q <- R / |columns|
        p <- p * (1 - lr * weight_decay) - lr * sqrt(rows / cols) * P Q^T

    Args:
        params: matrices.
        lr: learning rate.
        momentum: how much of the leading part M keeps; of the rest it keeps all.
        weight_decay: decoupled.
        rank: of the update.
        eps: added to the norms of columns.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(6, 4)); p.grad = torch.eye(6, 4)
    >>> opt = weft.Dion([p], rank=2)
    >>> opt.step(); int(torch.linalg.matrix_rank(p))
    2

    Ahn et al., 2025, arXiv:2504.05295. Q starts from torch's generator.
    """

    paper = "Ahn et al., 2025, arXiv:2504.05295"
    blocks = (cb.weight_decay, cb.power_iteration, cb.adjust_lr, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        rank: int = 4,
        eps: float = 1e-8,
        adjust_lr_fn: str = "spectral_norm",
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
