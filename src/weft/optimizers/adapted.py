"""D-Adaptation: optimizers that learn their rate while they go."""

import math
from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["DAdaptAdaGrad", "DAdaptAdam", "DAdaptAdan", "DAdaptLion", "DAdaptSGD"]

root_of_moment = rename(cb.root, square_avg="exp_avg_sq")


class DAdaptAdam(Algorithm):
    r"""D-Adapt Adam: Adam's step times d, a lower bound on the distance to the solution.

        k = lr * d;   r <- q r + (1 - q) k <g, s / (sqrt(v) + eps)>,   q = sqrt(beta2)
        m <- beta1 m + (1 - beta1) k g;   v as Adam's;   s <- q s + (1 - q) k g
        p <- p - m / (sqrt(v) + eps);   d <- max(d, r / ((1 - q) |s|_1))

    Args:
        params: parameters, named parameters or groups.
        lr: factor of d: 1, or a schedule that ends at 0.
        betas, eps: Adam's, without corrections.
        weight_decay: L2 penalty; decoupled, at rate lr * d, with `decouple`.
        decouple: AdamW's decay.
        use_bias_correction: Adam's corrections, in the rate.
        d0: where d starts.
        growth_rate: how far d may grow in a step, as a factor.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.DAdaptAdam([p], d0=0.1, betas=(0., 0.))
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Defazio and Mishchenko, 2023, arXiv:2301.07733. One d serves all groups; they show it as `d`. Use
    decoupled decay, and clip no gradients.
    """

    paper = "Defazio and Mishchenko, 2023, arXiv:2301.07733"
    chain_options = ("decouple",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decouple: bool = False,
        use_bias_correction: bool = False,
        d0: float = 1e-6,
        growth_rate: float = math.inf,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, decouple=False, **hypers: Any) -> Chain:
        return cls.weave(
            cb.distance_decay if decouple else cb.l2,
            cb.dadapt_ema,
            root_of_moment,
            cb.subtract,
            cb.dadapt_distance,
            **hypers,
        )


class DAdaptSGD(Algorithm):
    r"""D-Adapt SGD: dual averaging whose rate is d, a lower bound on the distance to the solution.

        k = lr * d / |g_1|;   r <- r + k <g, s>;   s <- s + k g
        p <- momentum * p + (1 - momentum) * (p_0 - s);   d <- max(d, 2 r / |s|)

    Args:
        params: parameters, named parameters or groups.
        lr, d0, growth_rate: those of `DAdaptAdam`.
        momentum: how much of p stays.
        weight_decay: L2 penalty, added to the gradient.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(4)); p.grad = torch.ones(4)
    >>> opt = weft.DAdaptSGD([p], d0=0.2, momentum=0.)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000, 0.9000, 0.9000])

    Defazio and Mishchenko, 2023, arXiv:2301.07733. |g_1| is the norm of the first step's gradients.
    """

    paper = "Defazio and Mishchenko, 2023, arXiv:2301.07733"
    blocks = (cb.l2, cb.dadapt_first_norm, cb.dadapt_sum, cb.primal_average, cb.dadapt_sum_distance)

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        d0: float = 1e-6,
        growth_rate: float = math.inf,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class DAdaptAdaGrad(Algorithm):
    r"""D-Adapt AdaGrad: dual averaging in AdaGrad's norm, with an adapted rate.

        k = lr * d;   a <- a + g^2;   s <- s + k g;   w <- w + sum of (k g)^2 / root,   root = sqrt(a) + eps
        p <- momentum * p + (1 - momentum) * (p_0 - s / root)
        d <- max(d, (sum of s^2 / root - w) / |s|_1)

    Args:
        params: parameters, named parameters or groups.
        lr, d0, growth_rate: those of `DAdaptAdam`.
        momentum: how much of p stays.
        weight_decay: L2 penalty, added to the gradient.
        eps: added outside the root.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.DAdaptAdaGrad([p], d0=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Defazio and Mishchenko, 2023, arXiv:2301.07733. a starts at 1e-6.
    """

    paper = "Defazio and Mishchenko, 2023, arXiv:2301.07733"
    blocks = (cb.l2, cb.dadapt_adagrad, cb.primal_average, cb.dadapt_adagrad_distance)

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        eps: float = 0.0,
        d0: float = 1e-6,
        growth_rate: float = math.inf,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class DAdaptAdan(Algorithm):
    r"""D-Adapt Adan: Adan without corrections, the adapted rate inside its averages.

        k = lr * d;   m, v, n <- averages of k g, k (g - g_prev), (g + beta2 (g - g_prev))^2
        s <- beta3 s + (1 - beta3) k g;   p <- p - (m + beta2 v) / root,   root = sqrt(n) + eps
        d <- max(d, (sum of s^2 / root / (1 - beta3) - average of sum of (k g)^2 / root) / |s|_1)

    Args:
        params: parameters, named parameters or groups.
        lr, d0, growth_rate: those of `DAdaptAdam`.
        betas: decay of m, v and n: how much stays.
        eps: added outside the root.
        weight_decay: decoupled, at rate lr * d, by a proximal operator after the step.
        no_prox: AdamW's decay, before the step.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.DAdaptAdan([p], d0=0.1, betas=(0., 0., 0.))
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Defazio and Mishchenko, 2023, arXiv:2301.07733, as in the authors' package.
    """

    paper = "Defazio and Mishchenko, 2023, arXiv:2301.07733"
    chain_options = ("no_prox",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        no_prox: bool = False,
        d0: float = 1e-6,
        growth_rate: float = math.inf,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, no_prox=False, **hypers: Any) -> Chain:
        return cls.weave(
            no_prox and cb.distance_decay,
            cb.dadapt_adan,
            cb.subtract,
            not no_prox and cb.distance_proximal_decay,
            cb.dadapt_adan_distance,
            **hypers,
        )


class DAdaptLion(Algorithm):
    r"""D-Adapt Lion: Lion's sign at an adapted rate.

        k = lr * d;   u = sign(beta1 m + (1 - beta1) g);   m <- beta2 m + (1 - beta2) k g
        r <- q r + (1 - q) k <u, s>;   s <- q s + (1 - q) k u,   q = sqrt(beta2)
        p <- p * (1 - k * weight_decay) - k u;   d <- max(d, r / ((1 - q) |s|_1))

    Args:
        params: parameters, named parameters or groups.
        lr, d0, growth_rate: those of `DAdaptAdam`.
        betas: of the interpolation, and of the momentum.
        weight_decay: decoupled, at rate lr * d.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.DAdaptLion([p], d0=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Defazio and Mishchenko, 2023, arXiv:2301.07733, as in the authors' package: m carries lr * d, and
    the gradient beside it does not.
    """

    paper = "Defazio and Mishchenko, 2023, arXiv:2301.07733"
    blocks = (cb.distance_decay, cb.dadapt_sign, cb.subtract, cb.dadapt_distance)

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        d0: float = 1e-6,
        growth_rate: float = math.inf,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
