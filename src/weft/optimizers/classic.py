"""Before Adagrad: resilient backpropagation, and averaged gradient descent."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.chain import Chain
from weft.optimizers.base import Algorithm, BesideTorchs

__all__ = ["ASGD", "Rprop"]


class Rprop(Algorithm):
    r"""Resilient backpropagation: a step size for each element, moved by the gradient's signs.

        s <- clip(s * eta+)  where g * g_prev > 0
        s <- clip(s * eta-), g <- 0  where g * g_prev < 0
        p <- p - s * sign(g);   g_prev <- g

    Args:
        params: parameters, named parameters or groups.
        lr: where every s starts.
        etas: eta- and eta+.
        step_sizes: the smallest and the largest s.
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
    >>> opt = weft.Rprop([p], lr=0.1)
    >>> opt.step(); opt.step(); p.data
    tensor([0.7800, 0.7800])

    Riedmiller and Braun, 1993, without backtracking. For full batches: noise turns signs.
    """

    paper = "Riedmiller and Braun, 1993"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        **optimizer: Unpack[BesideTorchs],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(maximize and cb.ascend, cb.resilient, cb.subtract, **hypers)


class ASGD(Algorithm):
    r"""Averaged gradient descent: a falling rate, and the average of the iterates beside.

        g <- g + weight_decay * p
        p <- (1 - lambd * eta) * p - eta * g;   ax <- ax + mu * (p - ax)
        eta <- lr / (1 + lambd * lr * t)^alpha;   mu <- 1 / max(1, t - t0)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate, where eta starts.
        lambd: decay of the parameter and of the rate.
        alpha: the power by which the rate falls.
        t0: the step at which averaging starts.
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
    >>> opt = weft.ASGD([p], lr=0.1)
    >>> opt.step(); p.data, opt.state[p]["ax"]
    (tensor([0.9000, 0.9000]), tensor([0.9000, 0.9000]))

    Polyak and Juditsky, 1992, as in torch: the average is kept in the state as `ax` and never
    swapped in, and a changed lr takes effect one step late. pytorch_optimizer's ASGD is another
    algorithm, AdGD.
    """

    paper = "Polyak and Juditsky, 1992"
    chain_options = ("maximize",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        **optimizer: Unpack[BesideTorchs],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, maximize=False, **hypers: Any) -> Chain:
        return cls.weave(maximize and cb.ascend, cb.l2, cb.anneal, cb.average_iterates, **hypers)
