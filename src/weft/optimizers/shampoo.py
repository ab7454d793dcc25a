"""Shampoo: a preconditioner for each axis of a tensor."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.callback import rename
from weft.chain import Chain
from weft.contract.hyperparameters import unused
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["DistributedShampoo", "Shampoo"]

graft_square = rename(cb.mean_square, alpha="graft_beta2", square_avg="exp_avg_sq")
GRAFTS = {None: (), "sgd": (cb.graft_norm,), "adagrad": (cb.graft_adagrad,)}


def of_momentum(block: Any) -> Any:
    """A graft that reads the momentum where it would read the gradient."""
    return rename(block, grad="momentum_buffer")


class Shampoo(Algorithm):
    r"""Shampoo: the gradient between the inverse roots of its second moments along each axis.

        L <- L + G G^T;   R <- R + G^T G;   b <- momentum * b + (1 - momentum) * G
        p <- p * (1 - lr * weight_decay) - lr * (L + eps I)^(-1/4) b (R + eps I)^(-1/4)

    and for a tensor of order k, (F_a + eps I)^(-1 / 2k) along each axis a.

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        momentum: of the average that is preconditioned; 0 leaves it out.
        eps: added to the factors.
        weight_decay: decoupled.
        graft: None, or whose length the step has: "sgd" or "adagrad".
        precondition_frequency: how many steps the roots serve.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(2, 2)); p.grad = 2 * torch.eye(2)
    >>> opt = weft.Shampoo([p], lr=0.1)
    >>> opt.step(); torch.allclose(p, -0.1 * torch.eye(2))
    True

    Gupta, Koren and Singer, 2018, arXiv:1802.09568; grafting: Agarwal et al., 2020, arXiv:2002.11803.
    Sums, as in the paper. pytorch_optimizer averages with the last preconditioned gradient.
    """

    paper = "Gupta, Koren and Singer, 2018, arXiv:1802.09568"
    chain_options = ("momentum", "graft")

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        momentum: float = 0.0,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        graft: str | None = None,
        precondition_frequency: int = 1,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, momentum=0.0, graft=None, **hypers: Any) -> Chain:
        if graft not in GRAFTS:
            raise ValueError(f"graft must be one of {[*GRAFTS]}, not {graft!r}")
        grafts = GRAFTS[graft]
        return cls.weave(
            cb.weight_decay,
            cb.sum_factors,
            cb.inverse_roots,
            not unused(momentum) and cb.average,
            graft == "adagrad" and cb.accumulate,
            cb.precondition_axes,
            *(map(of_momentum, grafts) if not unused(momentum) else grafts),
            cb.descend,
            momentum=momentum,
            **hypers,
        )


class DistributedShampoo(Algorithm):
    r"""Shampoo with averages instead of sums, and the length of Adam's step.

        F_a <- beta2 * F_a + (1 - beta2) * G_a G_a^T;   m <- beta1 * m + (1 - beta1) * G
        u = m' with (F_a' + eps I)^(-1 / 2k) along each axis a
        p <- p - lr * (u * |adam| / |u| + weight_decay * p)

    m' and F' are corrected as Adam's averages are.

    Args:
        betas: of the average that is preconditioned, and of the factors.
        eps: added to the factors.
        graft: "adam"; or None for the length as it is.
        graft_beta2, graft_eps: of Adam's second moment.
        precondition_frequency: how many steps the roots serve.
        start_preconditioning_step: before it, Adam's step is taken.
        others: those of `Shampoo`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(2, 2)); p.grad = 2 * torch.eye(2)
    >>> opt = weft.DistributedShampoo([p], lr=0.1)
    >>> opt.step(); torch.allclose(p, -0.1 * torch.eye(2))
    True

    Shi et al., 2023, arXiv:2309.06497; Anil et al., 2020, arXiv:2002.09018. Without their blocking of
    long axes and without Nesterov.
    """

    paper = "Shi et al., 2023, arXiv:2309.06497"
    chain_options = ("graft",)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-12,
        weight_decay: float = 0.0,
        graft: str | None = "adam",
        graft_beta2: float = 0.999,
        graft_eps: float = 1e-8,
        precondition_frequency: int = 1,
        start_preconditioning_step: int = 1,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, *, graft="adam", **hypers: Any) -> Chain:
        if graft not in ("adam", None):
            raise ValueError(f"graft must be 'adam' or None, not {graft!r}")
        return cls.weave(
            cb.weight_decay,
            cb.average_factors,
            cb.inverse_roots_debiased,
            cb.ema,
            cb.debias,
            cb.precondition_axes,
            *((graft_square, cb.graft_adam) if graft else ()),
            cb.descend,
            **hypers,
        )
