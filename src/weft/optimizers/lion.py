"""Lion."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["Lion"]


class Lion(Algorithm):
    r"""Lion: steps by the sign of an interpolated momentum.

        p <- p * (1 - lr * weight_decay)
        p <- p - lr * sign(beta1 * m + (1 - beta1) * g)
        m <- beta2 * m + (1 - beta2) * g

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate; 3 to 10 times smaller than AdamW's.
        betas: of the interpolation, and of the momentum.
        weight_decay: decoupled; 3 to 10 times larger than AdamW's.
        maximize: ascend.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Lion([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Chen et al., 2023, arXiv:2302.06675. The step reads the momentum before it is updated.
    """

    paper = "Chen et al., 2023, arXiv:2302.06675"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            cb.weight_decay,
            cb.interpolate,
            cb.sign,
            cb.descend,
            **hypers,
        )
