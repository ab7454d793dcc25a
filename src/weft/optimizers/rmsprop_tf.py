"""RMSprop as TensorFlow has it."""

from functools import partial
from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import ones
from weft.chain import Chain
from weft.contract.hyperparameters import unused
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["RMSpropTF"]

mean_square = partial(cb.mean_square, square_avg=ones)


class RMSpropTF(Algorithm):
    r"""RMSprop as TensorFlow has it.

        v <- v + (1 - alpha) * (g^2 - v),  1 at the start;   b <- momentum * b + lr * g / sqrt(v + eps)
        p <- p - b

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        alpha: decay of the mean square.
        eps: added inside the root.
        weight_decay: L2 penalty, added to the gradient.
        momentum: of the divided gradient; 0 leaves the buffer out.
        centered: divide by the standard deviation instead.
        decoupled_decay: decay of the parameter, before the step.
        lr_in_momentum: the rate is in the buffer, rather than multiplying it.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.RMSpropTF([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    TensorFlow 1, as in timm; Hinton, 2012.
    """

    paper = "TensorFlow 1, as in timm; Hinton, 2012"
    chain_options = (
        "momentum",
        "centered",
        "decoupled_decay",
        "lr_in_momentum",
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: float = 0.9,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        decoupled_decay: bool = False,
        lr_in_momentum: bool = True,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(
        cls,
        *,
        momentum=0.0,
        centered=False,
        decoupled_decay=False,
        lr_in_momentum=True,
        **hypers: Any,
    ) -> Chain:
        return cls.weave(
            cb.weight_decay if decoupled_decay else cb.l2,
            mean_square,
            centered and cb.mean_grad,
            cb.centred_root_within if centered else cb.root_within,
            lr_in_momentum and cb.times_lr,
            not unused(momentum) and cb.heavy_ball,
            cb.subtract if lr_in_momentum else cb.descend,
            momentum=momentum,
            **hypers,
        )
