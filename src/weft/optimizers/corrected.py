"""Adam with a correction or a decay of another kind."""

from typing import Any, ClassVar, Unpack

from weft import callbacks as cb
from weft.optimizers.base import Algorithm, OfTheOptimizer

__all__ = ["AdaNorm", "AdamC", "AdamD", "AdamG"]


class AdamC(Algorithm):
    r"""AdamW whose decay falls with the square of the schedule.

        p <- p * (1 - lr^2 / max_lr * weight_decay);   Adam's step

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        max_lr: the schedule's peak; None for lr as the group has it first.
        betas: decay of the averages m and v.
        eps: added outside the root.
        weight_decay: at the peak.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdamC([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.8990, 0.8990])

    Defazio, 2025, arXiv:2506.02285. Meant for layers before a normalisation: give the others a
    group with `AdamW.chain()`.
    """

    paper = "Defazio, 2025, arXiv:2506.02285"
    follows: ClassVar = {"max_lr": "lr"}
    blocks = (cb.corrected_decay, cb.ema, cb.ema_sq, cb.debias, cb.precondition, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        max_lr: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class AdamD(Algorithm):
    r"""Adam that corrects the second moment alone.

        p <- p * (1 - lr * weight_decay);   p <- p - lr * m / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdamD([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9900, 0.9900])

    St John, 2021, arXiv:2110.10828. A warm-up of 1 / (1 - beta1) steps.
    """

    paper = "St John, 2021, arXiv:2110.10828"
    blocks = (cb.weight_decay, cb.ema, cb.ema_sq, cb.precondition, cb.descend)

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class AdamG(Algorithm):
    r"""AdamG: Adam with the golden step size, without a rate to choose.

        v <- average of g^2;   r <- beta3 * r + (1 - beta3) * P * v^Q;   m <- average of r * g
        p <- p - min(lr, 1 / sqrt(t)) * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: parameters, named parameters or groups.
        lr: largest rate.
        betas: decay of m, v and r.
        P: scale of the golden step size.
        Q: its power.
        eps: added outside the root.
        weight_decay: L2 penalty, added to the gradient.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdamG([p], lr=1.0)
    >>> opt.step(); p.data
    tensor([0.9981, 0.9981])

    Pan et al., 2024, arXiv:2405.04376.
    """

    paper = "Pan et al., 2024, arXiv:2405.04376"
    blocks = (
        cb.l2,
        cb.ema_sq,
        cb.golden_step,
        cb.ema,
        cb.debias,
        cb.precondition,
        cb.cap_rate,
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        betas: tuple[float, float, float] = (0.95, 0.999, 0.95),
        P: float = 0.2,
        Q: float = 0.24,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())


class AdaNorm(Algorithm):
    r"""Adam whose momentum sees gradients of at least their average norm.

        e <- r * e + (1 - r) * |g|;   s = g * e / |g|  where e > |g|, else g
        m <- average of s, v <- average of g^2;   p <- p * (1 - lr * weight_decay);   Adam's step

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: decay of the averages m and v.
        r: decay of the average norm.
        eps: added outside the root.
        weight_decay: decoupled, as in AdamW.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.AdaNorm([p], lr=0.1)
    >>> opt.step(); p.data
    tensor([0.9000, 0.9000])

    Dubey et al., 2022, arXiv:2210.06364. AdamNorm. Norms are those of each tensor.
    """

    paper = "Dubey et al., 2022, arXiv:2210.06364"
    blocks = (
        cb.weight_decay,
        cb.lift_norm,
        cb.ema,
        cb.ema_sq,
        cb.debias,
        cb.precondition,
        cb.descend,
    )

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        r: float = 0.95,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())
