"""AdamW held steady: gradients clipped or normalized, decay made relative."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = [
    "AdaGC",
    "AdamS",
    "NovoGrad",
    "StableAdamW",
    "StableSPAM",
]

root_of_moment = rename(cb.root, square_avg="exp_avg_sq")


class StableAdamW(Algorithm):
    r"""AdamW that slows down where a gradient outgrows its second moment.

        m, v <- averages with corrected decays b (1 - b^(t-1)) / (1 - b^t)
        r = max(1, sqrt(mean(g^2 / max(v, eps^2))))
        p <- p - lr / r * (m / (sqrt(v) + eps) + weight_decay * p)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages.
        eps: added outside the root.
        weight_decay: decoupled, at the slowed rate.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.StableAdamW([p], lr=0.1, weight_decay=0.)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Wortsman et al., 2023, arXiv:2304.13013. It takes the place of gradient clipping.
    """

    paper = "Wortsman et al., 2023, arXiv:2304.13013"
    blocks = (
        cb.debiased_ema,
        cb.debiased_ema_sq,
        root_of_moment,
        cb.decay_update,
        cb.stabilize,
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-6,
        weight_decay: float = 1e-2,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class AdaGC(Algorithm):
    r"""AdamW on gradients clipped, tensor by tensor, to an average of their own clipped norms.

        t < warmup_steps:  g <- g * min(1, lambda_abs / |all g|);   a <- min(a, |g|)
        later:             g <- g * min(1, lambda_rel * a / |g|);   a <- beta * a + (1 - beta) * |g|
        AdamW's step

    Args:
        params: parameters, named parameters or groups.
        lr, betas, eps, weight_decay: AdamW's.
        beta: decay of the average norm.
        lambda_rel: largest norm, relative to the average.
        lambda_abs: largest global norm during the warm-up.
        warmup_steps: how many steps are clipped together.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdaGC([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Wang et al., 2025, arXiv:2502.11034.
    """

    paper = "Wang et al., 2025, arXiv:2502.11034"
    blocks = (
        cb.clip_to_average,
        cb.weight_decay,
        cb.ema,
        cb.ema_sq,
        cb.debias,
        cb.precondition,
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        beta: float = 0.98,
        lambda_rel: float = 1.05,
        lambda_abs: float = 1.0,
        warmup_steps: int = 100,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class StableSPAM(Algorithm):
    r"""AdamW on gradients without spikes and of averaged norm, its averages restarted now and then.

        g <- g / max|g| * M'           where |g| is above M', the average of max|g|
        g <- g / |g| * a' / (sqrt(b') + eps)   a, b: averages of |g| and |g|^2
        AdamW's step; at every reset_interval-th step its averages start from zero

    Args:
        params: parameters, named parameters or groups.
        lr, betas, eps, weight_decay: AdamW's.
        gammas: decay of a and b.
        theta: decay of M.
        reset_interval: in steps.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.StableSPAM([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Huang et al., 2025, arXiv:2502.17055.
    """

    paper = "Huang et al., 2025, arXiv:2502.17055"
    blocks = (
        cb.cut_spikes,
        cb.adapt_norm,
        cb.weight_decay,
        cb.restart_moments,
        cb.ema,
        cb.ema_sq,
        rename(cb.debias, step="since"),
        rename(cb.precondition, step="since"),
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        gammas: tuple[float, float] = (0.7, 0.9),
        theta: float = 0.999,
        reset_interval: int = 1000,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class NovoGrad(Algorithm):
    r"""NovoGrad: momentum of gradients divided by an averaged norm of their tensor.

        v <- beta2 * v + (1 - beta2) * |g|^2      (the first step: v = |g|^2)
        m <- beta1 * m + (g / (sqrt(v) + eps) + weight_decay * p);   p <- p - lr * m

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of m and v.
        eps: added outside the root.
        weight_decay: inside the momentum.
        grad_averaging: what enters m is times 1 - beta1, but for the first.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(4)); p.grad = torch.ones(4)
    >>> opt = weft.NovoGrad([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9500, 0.9500, 0.9500, 0.9500])

    Ginsburg et al., 2019, arXiv:1905.11286.
    """

    paper = "Ginsburg et al., 2019, arXiv:1905.11286"
    blocks = (cb.normalize_by_ema, cb.decay_update, cb.seeded_ema, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.95, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        grad_averaging: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class AdamS(Algorithm):
    r"""Adam with stable weight decay: divided by the root of the mean second moment of all weights.

        m, v as in Adam, corrected to m', v'
        p <- p * (1 - lr * weight_decay / sqrt(mean over all parameters of v'))
        p <- p - lr * m' / (sqrt(v') + eps)

    Args:
        params: parameters, named parameters or groups.
        lr, betas, eps: Adam's.
        weight_decay: decoupled, relative to the mean step.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdamS([p], lr=0.1, weight_decay=0.)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Xie et al., 2020, arXiv:2011.11152. Later optimizers called AdamS are others.
    """

    paper = "Xie et al., 2020, arXiv:2011.11152"
    blocks = (cb.ema, cb.ema_sq, cb.stable_decay, cb.debias, cb.precondition, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-4,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
