"""From Adam to SGD."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import over_params
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["SWATS"]

settled = over_params("settled_rate", cb.settled_rate, op="max")


class SWATS(Algorithm):
    r"""SWATS: Adam until the rate that its steps imply settles, then SGD with momentum at that rate.

        u = Adam's step;   a <- beta2 * a + (1 - beta2) * |u|^2 / <u, g>,   a' = a / (1 - beta2^t)
        once |a' - |u|^2 / <u, g>| < eps for a tensor:   b <- beta1 * b + g;   p <- p - (1 - beta1) * a' * b

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate of Adam; SGD finds its own, `sgd_lr` in the group.
        betas: decay of the averages m and v; the first is the momentum of SGD.
        eps: added outside the root, and how near a settled rate is.
        weight_decay: L2 penalty, added to the gradient.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.SWATS([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Keskar and Socher, 2017, arXiv:1712.07628. The largest, where several tensors settle in one
    step. pytorch_optimizer means eps relative to the rate, and so switches at other steps.
    """

    paper = "Keskar and Socher, 2017, arXiv:1712.07628"
    blocks = (
        cb.l2,
        cb.ema,
        cb.ema_sq,
        cb.adam_then_sgd,
        cb.project_rate,
        settled,
        cb.switch,
        cb.subtract,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-9,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
