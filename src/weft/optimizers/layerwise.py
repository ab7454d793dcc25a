"""Optimizers with a rate for each layer: LARS, LARC, LAMB."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["LAMB", "LARC", "LARS"]


class LARS(Algorithm):
    r"""Layer-wise adaptive rates for SGD with momentum.

        r = trust_coefficient * |p| / (|g| + weight_decay * |p| + eps)
        b <- momentum * b + r * (g + weight_decay * p);   p <- p - lr * b

    Args:
        params: parameters, named parameters or groups.
        lr: global learning rate.
        momentum: of the scaled gradient.
        weight_decay: L2 penalty, inside the ratio.
        trust_coefficient: eta in the paper.
        eps: against a division by zero.
        nesterov: look ahead along the momentum.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.LARS([p], lr=1.0, trust_coefficient=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    You, Gitman and Ginsburg, 2017, arXiv:1708.03888. The paper has lr inside the buffer; here, as in
    timm and optax, outside. Vectors are often left out: give them a group with `SGD.chain()`.
    """

    paper = "You, Gitman and Ginsburg, 2017, arXiv:1708.03888"
    chain_options = ("nesterov",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        eps: float = 1e-8,
        nesterov: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, nesterov=False, **hypers: Any) -> Chain:
        return cls.weave(
            cb.lars_scale, cb.heavy_ball, nesterov and cb.nesterov, cb.descend, **hypers
        )


class LARC(Algorithm):
    r"""LARS whose layer-wise rate never exceeds lr.

        r = min(trust_coefficient * |p| / (|g| + weight_decay * |p| + eps) / lr, 1)
        b <- momentum * b + r * (g + weight_decay * p);   p <- p - lr * b

    Args: those of `LARS`; `clip=False` takes the layer-wise rate alone.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.LARC([p], lr=0.01)
    >>> opt.step(); p.data
    tensor([0.9900, 0.9900])

    You, Gitman and Ginsburg, 2017, arXiv:1708.03888, as clipped in NVIDIA's apex.
    """

    paper = "You, Gitman and Ginsburg, 2017, arXiv:1708.03888, clipped"
    blocks = (cb.lars_scale, cb.heavy_ball, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.02,
        eps: float = 1e-8,
        clip: bool = True,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class LAMB(Algorithm):
    r"""Layer-wise adaptive moments for large batches.

        u = m' / (sqrt(v') + eps) + weight_decay * p       (m', v': Adam's corrected averages)
        p <- p - lr * |p| / |u| * u

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages.
        eps: added outside the root.
        weight_decay: added to the update, so that the ratio sees it.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.LAMB([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    You et al., 2019, arXiv:1904.00962, version 5, with bias correction and phi the identity. apex
    clips the global norm of the gradients first (add `weft.callbacks.clip_global_norm`); fastai
    caps the ratio at 10; timm leaves out the ratio where there is no decay.
    """

    paper = "You et al., 2019, arXiv:1904.00962"
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
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
