"""Stochastic gradient descent and what adds momentum to it."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.chain import Chain
from weft.contract.hyperparameters import unused
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["SGD"]


class SGD(Algorithm):
    r"""Stochastic gradient descent, with momentum in torch's form.

        g <- g + weight_decay * p
        b <- momentum * b + (1 - dampening) * g      (the first step: b = g)
        p <- p - lr * b                              (nesterov: p - lr * (g + momentum * b))

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        momentum: 0 leaves the buffer out; a group may change it at any time.
        dampening: of what enters the buffer.
        weight_decay: L2 penalty, added to the gradient.
        nesterov: look ahead along the momentum.
        maximize: ascend.
        foreach, fused: torch's, accepted and ignored.
        differentiable: step under autograd; see `weft.Optimizer`.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    Raises:
        ValueError: for negative hypers, or nesterov without momentum or with dampening.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.SGD([p], lr=0.1, momentum=0.9)
    >>> opt.step(); opt.step(); p.data
    tensor([0.7100, 0.7100])

    Sutskever et al., 2013. They put the learning rate inside the buffer; torch, and so this, puts
    it outside, which differs when the rate changes.
    """

    paper = "Robbins and Monro, 1951; Polyak, 1964; Sutskever et al., 2013"
    chain_options = ("momentum", "nesterov", "maximize")

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, momentum=0.0, nesterov=False, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            cb.l2,
            not unused(momentum) and cb.heavy_ball,
            not unused(momentum) and nesterov and cb.nesterov,
            cb.descend,
            momentum=momentum,
            **hypers,
        )
