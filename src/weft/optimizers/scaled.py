"""Updates scaled to the size of each tensor: LAMBC, AdamH, Gravity, SGD-SaI."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["LAMBC", "AdamH", "Gravity", "SGDSaI"]


class LAMBC(Algorithm):
    r"""LAMB whose trust ratio never exceeds one.

        u = m' / (sqrt(v') + eps) + weight_decay * p
        p <- p - lr * min(|p| / |u|, 1) * u

    Args: those of `LAMB`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.full((2,), 5.)); p.grad = torch.ones(2)
    >>> opt = weft.LAMBC([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([4.9000, 4.9000])

    You et al., 2019, arXiv:1904.00962; the clip is Fong et al.'s, 2020, arXiv:2011.13584, and timm's.
    """

    paper = "You et al., 2019, arXiv:1904.00962; Fong et al., 2020, arXiv:2011.13584"
    blocks = (
        cb.ema,
        cb.ema_sq,
        cb.debias,
        cb.precondition,
        cb.decay_update,
        cb.trust_ratio,
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        max_ratio: float = 1.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class AdamH(Algorithm):
    r"""AdamH: Adam's direction, every step of the same relative length, on the sphere of the start.

        u = m' / (sqrt(v') + eps);   n(x) = x / |x|;   R = |p| at the start
        p <- R n(p - lr * R n(u))

    Args:
        params: matrices whose size may stay as it is; give the others a group of their own.
        lr: length of a step, relative to the parameter's norm.
        betas, eps: Adam's.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.tensor([[3., 4.]])); p.grad = torch.tensor([[1., 1.]])
    >>> opt = weft.AdamH([p], lr=0.1)
    >>> opt.step(); float(p.norm())
    5.0

    Wen et al., 2026, arXiv:2606.16899. A parameter of norm zero stays zero. Weight decay has no
    meaning on a sphere.
    """

    paper = "Wen et al., 2026, arXiv:2606.16899"
    blocks = (cb.ema, cb.ema_sq, cb.debias, cb.precondition, cb.hyperball)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class Gravity(Algorithm):
    r"""Gravity: an average of gradients whose peaks are shrunk.

        z = g / (1 + (g * max|g|)^2);   b = (beta t + 1) / (t + 2)
        V <- b * V + (1 - b) * z;   p <- p - lr * V,      V ~ N(0, (alpha / lr)^2) at the start

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        alpha: spread of the first V, divided by lr; 0 starts at zero.
        beta: decay that the average tends to.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Gravity([p], lr=0.3, alpha=0., beta=0.5)
    >>> opt.step(); p.data
    tensor([0.9250, 0.9250])

    Bahrami and Zadeh, 2021, arXiv:2101.09192. V is drawn with torch's generator, in parameter order.
    """

    paper = "Bahrami and Zadeh, 2021, arXiv:2101.09192"
    blocks = (cb.shrink_peaks, cb.warm_average, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: float = 0.01,
        beta: float = 0.9,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class SGDSaI(Algorithm):
    r"""SGD with momentum, scaled once for each tensor by its first gradient's signal-to-noise ratio.

        s = |g_1| / (std(g_1) + eps);   m <- momentum * m + (1 - momentum) * g
        p <- p * (1 - lr * weight_decay) - lr * s * m

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        momentum: decay of the average.
        weight_decay: decoupled.
        eps: added to the deviation.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(4)); p.grad = torch.ones(4)
    >>> opt = weft.SGDSaI([p], lr=0.1, momentum=0.5, weight_decay=0.)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000, 0.9000, 0.9000])

    Xu et al., 2024, arXiv:2412.11768.
    """

    paper = "Xu et al., 2024, arXiv:2412.11768"
    blocks = (cb.weight_decay, cb.average, cb.first_snr, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 1e-2,
        eps: float = 1e-8,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
