"""Dual averaging: MADGRAD."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["MADGRAD"]


class MADGRAD(Algorithm):
    r"""MADGRAD: dual averaging with momentum, over the cube root of summed squares.

        w = (lr + eps) * sqrt(t);   s <- s + w * g;   v <- v + w * g^2
        p <- momentum * p + (1 - momentum) * (p_0 - s / (cbrt(v) + eps))

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate; a new one weighs what comes, the past stays as it was.
        momentum: how much of p stays.
        weight_decay: L2 penalty, added to the gradient.
        eps: added outside the root, and to lr.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.MADGRAD([p], lr=0.125, momentum=0.)
    >>> opt.step(); p.data
    tensor([0.7500, 0.7500])

    Defazio and Jelassi, 2021, arXiv:2101.11075. Weight decay wants to be smaller than for SGD.
    """

    paper = "Defazio and Jelassi, 2021, arXiv:2101.11075"
    blocks = (cb.l2, cb.cube_root_sums, cb.primal_average)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eps: float = 1e-6,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
