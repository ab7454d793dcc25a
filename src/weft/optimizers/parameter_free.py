"""Optimizers that need no learning rate: Prodigy, DoG and its kin, AdGD, AdaGrad-Norm."""

import math
from typing import Any, Unpack

from weft import callbacks as cb
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["AdGD", "AdaGradNorm", "DoG", "DoWG", "LDoG", "NormalizedGD", "Prodigy"]


class Prodigy(Algorithm):
    r"""Prodigy: AdamW's step times d, an estimate of the distance to the solution.

        k = lr * d;   r <- beta3 r + k d <g, p_0 - p>;   s <- beta3 s + k d g      (both over d0)
        m, v <- Adam's averages of d g;   d <- max(d, d_coef * r / |s|_1)
        p <- p * (1 - k * weight_decay) - k * m / (sqrt(v) + d * eps)

    Args:
        params: parameters, named parameters or groups.
        lr: factor of d: 1, or a schedule that ends at 0.
        betas: decay of Adam's averages.
        beta3: decay of r and s; sqrt(beta2) where it is None.
        eps: added outside the root, times d.
        weight_decay: decoupled, at rate lr * d.
        use_bias_correction: Adam's corrections, in the rate.
        safeguard_warmup: leave lr out of s, so that a warm-up does not swell d.
        d0: where d starts.
        d_coef: factor of the estimate; the first thing to change where d is too small or large.
        growth_rate: how far d may grow in a step, as a factor.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Prodigy([p], d0=0.1, betas=(0., 0.))
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Mishchenko and Defazio, 2023, arXiv:2306.06101. One d serves all groups; they show it as `d`. The
    rate is the d of before, and the new one stands beside eps, as in the authors' code.
    """

    paper = "Mishchenko and Defazio, 2023, arXiv:2306.06101"
    blocks = (cb.prodigy_ema, cb.distance_decay, cb.prodigy_distance, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float = math.inf,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class DoG(Algorithm):
    r"""DoG: distance over gradients.

        r <- max(r, |p - p_0|, reps_rel * (1 + |p_0|));   G <- G + |g|^2      over all parameters
        p <- p - lr * r / sqrt(G + eps) * g

    Args:
        params: parameters, named parameters or groups.
        lr: factor of the rate; 1.
        reps_rel: size of the first step, relative to the parameters.
        eps: under the root.
        weight_decay: L2 penalty, added to the gradient.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(4)); p.grad = torch.ones(4)
    >>> opt = weft.DoG([p], reps_rel=0.2)
    >>> opt.step(); p.data
    tensor([-0.1000, -0.1000, -0.1000, -0.1000])

    Ivgi, Hinder and Carmon, 2023, arXiv:2302.12022. Evaluate an average of the iterates, as the
    paper does: add `weft.WeightEMA`.
    """

    paper = "Ivgi, Hinder and Carmon, 2023, arXiv:2302.12022"
    blocks = (cb.l2, cb.distance_over_gradients, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        reps_rel: float = 1e-6,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class LDoG(DoG):
    r"""L-DoG: DoG with a distance and a sum for each tensor.

        r <- max(r, |p - p_0|, reps_rel * (1 + |p_0|));   G <- G + |g|^2
        p <- p - lr * r / sqrt(G + eps) * g

    Args: those of `DoG`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(4)); p.grad = torch.ones(4)
    >>> opt = weft.LDoG([p], reps_rel=0.2)
    >>> opt.step(); p.data
    tensor([-0.1000, -0.1000, -0.1000, -0.1000])

    Ivgi, Hinder and Carmon, 2023, arXiv:2302.12022.
    """

    blocks = (cb.l2, cb.layer_distance_over_gradients, cb.descend)


class DoWG(Algorithm):
    r"""DoWG: distance over weighted gradients.

        r <- max(r, |p - p_0|, r0);   G <- G + r^2 |g|^2      over all parameters
        p <- p - lr * r^2 / (sqrt(G) + eps) * g

    Args:
        params: parameters, named parameters or groups.
        lr: factor of the rate; 1.
        r0: the first distance.
        eps: added outside the root.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(4)); p.grad = torch.ones(4)
    >>> opt = weft.DoWG([p], r0=0.2, eps=0.)
    >>> opt.step(); p.data
    tensor([-0.1000, -0.1000, -0.1000, -0.1000])

    Khaled, Mishchenko and Jin, 2023, arXiv:2305.16284.
    """

    paper = "Khaled, Mishchenko and Jin, 2023, arXiv:2305.16284"
    blocks = (cb.distance_over_weighted_gradients, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        r0: float = 1e-4,
        eps: float = 1e-4,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class AdGD(Algorithm):
    r"""AdGD: gradient descent at the rate that the curvature between two steps allows.

        l_t = min(sqrt(1 + l_{t-1} / l_{t-2}) * l_{t-1}, |p - p_prev| / (2 |g - g_prev|))
        p <- p - l_t * g

    Args:
        params: parameters, named parameters or groups.
        lr: the first step's rate; it is not read after.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdGD([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Malitsky and Mishchenko, 2019, arXiv:1910.09529. For gradients without noise: both gradients are
    of the same function. Norms are over all parameters, and of differences.
    """

    paper = "Malitsky and Mishchenko, 2019, arXiv:1910.09529"
    blocks = (cb.curvature_rate, cb.subtract)

    def __init__(self, params: Any, lr: Any = 1e-6, **optimizer: Unpack[OfTheOptimizer]):
        super().__init__(params, locals())


class AdaGradNorm(Algorithm):
    r"""AdaGrad-Norm: one rate for all, from the sum of squared gradients.

        B <- B + |g|^2   over all parameters;   p <- p - lr * g / sqrt(b0^2 + B)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        b0: root of the sum at the start.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(4)); p.grad = torch.ones(4)
    >>> opt = weft.AdaGradNorm([p], lr=0.2, b0=0.)
    >>> opt.step(); p.data
    tensor([-0.1000, -0.1000, -0.1000, -0.1000])

    Ward, Wu and Bottou, 2018, arXiv:1806.01811.
    """

    paper = "Ward, Wu and Bottou, 2018, arXiv:1806.01811"
    blocks = (cb.adagrad_norm, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        b0: float = 0.1,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class NormalizedGD(Algorithm):
    r"""Normalized gradient descent: steps of length lr over all parameters.

        p <- p - lr * g / (|all g| + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: length of a step.
        eps: added to the norm.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(4)); p.grad = torch.ones(4)
    >>> opt = weft.NormalizedGD([p], lr=0.2)
    >>> opt.step(); p.data
    tensor([-0.1000, -0.1000, -0.1000, -0.1000])

    Hazan, Levy and Shalev-Shwartz, 2015, arXiv:1507.02030.
    """

    paper = "Hazan, Levy and Shalev-Shwartz, 2015, arXiv:1507.02030"
    blocks = (cb.normalize_global, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        eps: float = 1e-8,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
