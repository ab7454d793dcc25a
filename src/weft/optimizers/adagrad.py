"""Adagrad and Adadelta."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.chain import Chain
from weft.optimizers.base import Algorithm, BesideTorchs, OfTheOptimizer

__all__ = ["Adadelta", "Adagrad"]

mean_square = rename(cb.mean_square, alpha="rho")
root_of_sum = rename(cb.root, square_avg="sum")


class Adagrad(Algorithm):
    r"""Adagrad: the gradient over the root of the sum of its squares.

        g <- g + weight_decay * p;   G <- G + g^2
        p <- p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(G) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        lr_decay: how fast the rate falls with the inverse of time.
        weight_decay: L2 penalty, added to the gradient.
        initial_accumulator_value: of G.
        eps: added outside the root.
        maximize: ascend.
        foreach, fused: torch's, accepted and ignored.
        differentiable: step under autograd; see `weft.Optimizer`.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    Raises:
        ValueError: for hypers out of range, in torch's words.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Adagrad([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Duchi, Hazan and Singer, 2011, JMLR 12. Keras and optax start G at 0.1 and have eps inside the
    root.
    """

    paper = "Duchi, Hazan and Singer, 2011, JMLR 12"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            cb.l2,
            cb.accumulate,
            root_of_sum,
            cb.inverse_time,
            cb.descend,
            **hypers,
        )


class Adadelta(Algorithm):
    r"""Adadelta: Adagrad with a moving window, in the units of the parameter.

        g <- g + weight_decay * p;   v <- rho * v + (1 - rho) * g^2
        u = sqrt(d + eps) / sqrt(v + eps) * g;   d <- rho * d + (1 - rho) * u^2
        p <- p - lr * u

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate; 1 in the paper.
        rho: decay of the averages v and d.
        eps: inside both roots.
        weight_decay: L2 penalty, added to the gradient.
        maximize: ascend.
        foreach: torch's, accepted and ignored.
        capturable: see `weft.Optimizer`.
        differentiable: step under autograd; see `weft.Optimizer`.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    Raises:
        ValueError: for hypers out of range, in torch's words.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.Adadelta([p], eps=0.1)
    >>> opt.step(); p.data
    tensor([0.2929, 0.2929])

    Zeiler, 2012, arXiv:1212.5701.
    """

    paper = "Zeiler, 2012, arXiv:1212.5701"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        **optimizer: Unpack[BesideTorchs],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(
            maximize and cb.ascend,
            cb.l2,
            cb.count,
            mean_square,
            cb.adadelta,
            cb.descend,
            **hypers,
        )
