"""Optimizers that mind the geometry of weights: AdamP, SGDP, Nero, Fromage."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["SGDP", "AdamP", "Fromage", "Nero"]


class AdamP(Algorithm):
    r"""AdamW whose update stays off the radius of scale-invariant weights.

        u = m' / (sqrt(v') + eps)           (m', v': Adam's corrected averages)
        where |cos(p, g)| < delta / sqrt(n):  u <- u - <n(p), u> n(p),  the decay times wd_ratio
        p <- p * (1 - lr * weight_decay) - lr * u

    Args:
        params: parameters, named parameters or groups.
        lr, betas, eps, weight_decay: AdamW's.
        delta: how nearly orthogonal p and g have to be.
        wd_ratio: of the decay, where the update is projected.
        nesterov: look ahead along the momentum.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdamP([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Heo et al., 2020, arXiv:2006.08217. Scale invariance is asked of output units, then of the
    tensor; vectors are never projected.
    """

    paper = "Heo et al., 2020, arXiv:2006.08217"
    chain_options = ("nesterov",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, nesterov=False, **hypers: Any) -> Chain:
        return cls.weave(
            cb.ema,
            cb.ema_sq,
            nesterov and cb.nesterov_ema,
            cb.debias,
            cb.precondition,
            cb.project,
            cb.descend,
            **hypers,
        )


class SGDP(Algorithm):
    r"""SGD with momentum whose update stays off the radius of scale-invariant weights.

        b <- momentum * b + (1 - dampening) * g
        where |cos(p, g)| < delta / sqrt(n):  b without its part along p,  the decay times wd_ratio
        p <- p * (1 - lr * weight_decay / (1 - momentum)) - lr * b

    Args:
        params: parameters, named parameters or groups.
        lr, momentum, nesterov: SGD's.
        dampening: of what enters the buffer, but for the first gradient.
        weight_decay: decoupled.
        delta: how nearly orthogonal p and g have to be.
        wd_ratio: of the decay, where the update is projected.
        eps: added to norms.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.SGDP([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Heo et al., 2020, arXiv:2006.08217.
    """

    paper = "Heo et al., 2020, arXiv:2006.08217"
    chain_options = ("nesterov",)

    def __init__(
        self,
        params: Any,
        lr: Any = 0.1,
        momentum: float = 0.9,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        eps: float = 1e-8,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, nesterov=False, **hypers: Any) -> Chain:
        return cls.weave(
            cb.heavy_ball, nesterov and cb.nesterov, cb.project_damped, cb.descend, **hypers
        )


class Nero(Algorithm):
    r"""Nero: neurons on the sphere, their gradients divided by an averaged norm.

        v <- beta * v + (1 - beta) * |g|^2 of each neuron;   s = the mean norm of neurons at the start
        p <- p - lr * s * g / (sqrt(v / (1 - beta^t)) + eps)
        each neuron of a matrix:  p <- p - mean(p);   p <- p / |p|

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        beta: decay of the averaged norm.
        constraints: keep the neurons of matrices on the sphere.
        eps: added to norms.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Nero([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Liu et al., 2021, arXiv:2102.07227. The neurons go onto the sphere before the first step; the
    authors put them there at construction, so that the first gradient sees it.
    """

    paper = "Liu et al., 2021, arXiv:2102.07227"
    blocks = (cb.start_on_sphere, cb.neuron_normalize, cb.descend, cb.unit_sphere)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        beta: float = 0.999,
        constraints: bool = True,
        eps: float = 1e-8,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class Fromage(Algorithm):
    r"""Fromage: steps of a length relative to each tensor's, their growth undone.

        p <- (p - lr * |p| / |g| * g) / sqrt(1 + lr^2)

    Args:
        params: parameters, named parameters or groups.
        lr: relative length of a step.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Fromage([p], lr=0.75)
    >>> opt.step(); p.data
    tensor([0.2000, 0.2000])

    Bernstein et al., 2020, arXiv:2002.03432. Of parameters at 0 the gradient is taken as it is;
    where the gradient is 0 nothing moves.
    """

    paper = "Bernstein et al., 2020, arXiv:2002.03432"
    blocks = (cb.trust_ratio, cb.descend, cb.fromage_shrink)

    def __init__(self, params: Any, lr: Any = 1e-2, **optimizer: Unpack[OfTheOptimizer]):
        super().__init__(params, locals())
