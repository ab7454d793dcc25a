"""Preconditioners that are fitted, not accumulated: PSGD; and SPlus."""

import functools
from typing import Any, Unpack

import torch

from weft import callbacks as cb
from weft.callbacks.splus import planes_only
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer
from weft.wrappers.averaging import Averaged

__all__ = ["PSGDKron", "SPlus"]

factors = functools.partial(cb.average_factors, factors=planes_only)


class PSGDKron(Algorithm):
    r"""PSGD with Kronecker factors that whiten the momentum.

        m' = the corrected average of g;   V ~ N(0, I);   A = m' with Q_a, B = V with Q_a^-T
        Q_a <- Q_a - precondition_lr * triu(A_a A_a^T - B_a B_a^T) / |A_a A_a^T + B_a B_a^T| Q_a
        p <- p - lr * (m' with Q_a^T Q_a, of RMS at most max_rms, + weight_decay * p)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate; about a third of Adam's.
        betas: one number, of the average.
        weight_decay: decoupled, of what has two axes or more.
        precondition_lr: of the factors.
        max_size_triangular: longer axes get a diagonal factor.
        update_probability: how often the factors are fitted; None falls from 1 to 0.03.
        max_rms: at which updates are cut.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(3, 2)); p.grad = torch.ones(3, 2)
    >>> opt = weft.PSGDKron([p], lr=0.1)
    >>> opt.step(); opt.state[p]["whitener"].numel()
    13

    Li, 2015, arXiv:1512.04202; Li, 2024, arXiv:2402.11858; in the form of kron_torch, without its
    balancing of the factors' norms in one update of a hundred. V comes from torch's generator; a
    probability 1 / k means every k-th step, not a coin.
    """

    paper = "Li, 2015, arXiv:1512.04202; Li, 2024, arXiv:2402.11858"
    blocks = (
        cb.ema,
        cb.debias,
        cb.kron_schedule,
        cb.fit_whitener,
        cb.whiten,
        cb.cap_rms,
        cb.decay_matrices,
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float] = (0.9,),
        weight_decay: float = 0.0,
        precondition_lr: float = 0.1,
        max_size_triangular: int = 8192,
        update_probability: float | None = None,
        max_rms: float = 1.1,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class SPlus(Algorithm):
    r"""The sign of the momentum in the eigenbases of Shampoo's factors, evaluated at an average.

        m <- beta1 * m + (1 - beta1) * G;   L <- beta2 * L + (1 - beta2) * G G^T, R likewise
        p <- p - lr * 2 / (rows + cols) * Q_L sign(Q_L^T m Q_R) Q_R^T, then decay at that rate

    `opt.eval()` puts the corrected average of p, taken before the decay, in its place.

    Args:
        params: parameters; what is not a matrix steps by `nonstandard_constant` * sign(m).
        lr: learning rate.
        betas: of m, and of L and R.
        weight_decay: decoupled.
        ema_rate: of the average of the weights.
        inverse_steps: how many steps the bases serve.
        nonstandard_constant: scale of what is not a matrix.
        eps: added to the factors.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.zeros(2, 2)); p.grad = torch.ones(2, 2)
    >>> opt = weft.SPlus([p], lr=0.1)
    >>> opt.step(); opt.eval(); p.data
    tensor([[-0.0500, -0.0500],
            [-0.0500, -0.0500]])

    Frans, Levine and Abbeel, 2025, arXiv:2506.07254. The first step has Q = I.
    """

    paper = "Frans, Levine and Abbeel, 2025, arXiv:2506.07254"

    def __init__(
        self,
        params: Any,
        lr: Any = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.01,
        ema_rate: float = 0.999,
        inverse_steps: int = 100,
        nonstandard_constant: float = 1e-3,
        eps: float = 1e-30,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, **hypers: Any) -> Chain:
        return cls.weave(
            AtParamAverage(),
            cb.ema,
            cb.rotate,
            cb.sign,
            cb.rotate_back,
            cb.scale_by_shape,
            factors,
            cb.descend,
            cb.average_param,
            cb.decay_by_shape,
            cb.refresh_eigenbases,
            **hypers,
        )


class AtParamAverage(Averaged):
    """Evaluates at the average that `average_param` keeps."""

    numbers = {}  # noqa: RUF012

    def around_step(self, opt: Any, closure: Any) -> Any:
        """The step alone: the chain keeps the average."""
        return opt.step(closure)

    def average(self, opt: Any, p: torch.Tensor) -> torch.Tensor | None:
        """The chain's average of `p`."""
        return opt.state[p].get("param_average") if p in opt.state else None
