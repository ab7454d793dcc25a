"""RMSprop."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.chain import Chain
from weft.contract.hyperparameters import unused
from weft.optimizers.base import Algorithm, BesideTorchs

__all__ = ["RMSprop"]


class RMSprop(Algorithm):
    r"""RMSprop: the gradient over the root of its mean square.

        g <- g + weight_decay * p
        v <- alpha * v + (1 - alpha) * g^2
        p <- p - lr * g / (sqrt(v) + eps)             (momentum: through a buffer)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        alpha: decay of the mean square.
        eps: added outside the root.
        weight_decay: L2 penalty, added to the gradient.
        momentum: of the divided gradient; 0 leaves the buffer out.
        centered: divide by the standard deviation instead.
        maximize: ascend.
        foreach: torch's, accepted and ignored.
        capturable: see `weft.Optimizer`.
        differentiable: step under autograd; see `weft.Optimizer`.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.RMSprop([p], lr=0.01)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Hinton, 2012, lecture 6.5; centred: Graves, 2013, arXiv:1308.0850. TensorFlow adds eps inside
    the root and starts v at one; fastai's momentum is of the gradient before the division.
    """

    paper = "Hinton, 2012, lecture 6.5; Graves, 2013, arXiv:1308.0850"
    chain_options = ("momentum", "centered", "maximize")

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        **optimizer: Unpack[BesideTorchs],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, momentum=0.0, centered=False, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            cb.l2,
            cb.count,
            cb.mean_square,
            centered and cb.mean_grad,
            cb.centred_root if centered else cb.root,
            not unused(momentum) and cb.heavy_ball,
            cb.descend,
            momentum=momentum,
            **hypers,
        )
