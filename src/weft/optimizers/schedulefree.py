"""Schedule-free methods: averaging in the place of a schedule. Call `eval()` and `train()`."""

from typing import Any, Unpack

from weft import callbacks as cb
from weft.chain import Chain
from weft.optimizers.base import Algorithm, OfTheOptimizer
from weft.wrappers import AtAverage

__all__ = ["ScheduleFreeAdamW", "ScheduleFreeRAdam", "ScheduleFreeSGD"]


class ScheduleFreeSGD(Algorithm):
    r"""Schedule-free gradient descent.

        y = (1 - momentum) * z + momentum * x;   g is the gradient at y
        z <- z - lr_t * (g + weight_decay * y);   x <- (1 - c) * x + c * z,  c = w_t / sum(w)

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        momentum: of the way from z to x, where the gradient is taken.
        weight_decay: taken at y, in the update.
        warmup_steps: over which the rate grows to lr.
        r: the power of time in the weight of a step.
        weight_lr_power: the power of the largest rate so far in that weight.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.ScheduleFreeSGD([p], lr=0.1)
    >>> opt.step(); opt.step(); opt.eval(); p.data
    tensor([0.8500, 0.8500])

    Defazio et al., 2024, arXiv:2405.15682. Evaluate and save between `eval()` and `train()`, which
    put x and y in the parameters; a step in evaluation mode is an error. Batch norm needs its
    statistics anew at x.
    """

    paper = "Defazio et al., 2024, arXiv:2405.15682"

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, **hypers: Any) -> Chain:
        return cls.weave(
            cb.decay_update,
            cb.warmup_rate,
            cb.iterate_weight,
            cb.schedule_free,
            AtAverage(),
            **hypers,
        )


class ScheduleFreeAdamW(Algorithm):
    r"""Schedule-free AdamW.

        y = (1 - beta1) * z + beta1 * x;   g is the gradient at y;   v as in Adam
        z <- z - lr_t * (g / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * y)
        x <- (1 - c) * x + c * z,   c = w_t / sum(w),   w_t = t^r * max(lr)^weight_lr_power

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: of the way from z to x, where the gradient is taken, and the decay of v.
        eps: added outside the root.
        weight_decay: taken at y, in the update.
        warmup_steps: over which the rate grows to lr.
        r: the power of time in the weight of a step.
        weight_lr_power: the power of the largest rate so far in that weight.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.ScheduleFreeAdamW([p], lr=0.1)
    >>> opt.step(); opt.step(); opt.eval(); p.data
    tensor([0.8500, 0.8500])

    Defazio et al., 2024, arXiv:2405.15682. Algorithm 1. Evaluate and save between `eval()` and
    `train()`, which put x and y in the parameters; a step in evaluation mode is an error. Batch
    norm needs its statistics anew at x.
    """

    paper = "Defazio et al., 2024, arXiv:2405.15682"

    def __init__(
        self,
        params: Any,
        lr: Any = 2.5e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, **hypers: Any) -> Chain:
        return cls.weave(
            cb.ema_sq,
            cb.precondition,
            cb.decay_update,
            cb.warmup_rate,
            cb.iterate_weight,
            cb.schedule_free,
            AtAverage(),
            **hypers,
        )


class ScheduleFreeRAdam(Algorithm):
    r"""Schedule-free RAdam: no warm-up to choose.

        lr_t = lr * r(rho), 0 where rho <= 4;   elsewhere as schedule-free AdamW

    Args:
        params: parameters, named parameters or groups.
        lr: learning rate.
        betas: of the way from z to x, where the gradient is taken, and the decay of v.
        eps: added outside the root.
        weight_decay: taken at y, in the update.
        r: the power of time in the weight of a step.
        weight_lr_power: the power of the largest rate so far in that weight.
        silent_sgd_phase: stand still while the variance is not tractable, rather than take
            steps of SGD.
        engine: "auto", "fused" or "eager"; see `weft.Optimizer`.
        on_nonfinite: "keep", "skip" or "raise"; see `weft.Optimizer`.
        state_dtype: of states; the parameter's where it is None; see `weft.Optimizer`.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = weft.ScheduleFreeRAdam([p], lr=0.1)
    >>> opt.step(); opt.step(); opt.step(); opt.step(); opt.step(); opt.step(); opt.eval(); p.data
    tensor([0.9965, 0.9965])

    Defazio et al., 2024, arXiv:2405.15682. RAdamScheduleFree of the authors' package, with the
    threshold of 4. Evaluate and save between `eval()` and `train()`, which put x and y in the
    parameters; a step in evaluation mode is an error. Batch norm needs its statistics anew at x.
    """

    paper = "Defazio et al., 2024, arXiv:2405.15682"

    def __init__(
        self,
        params: Any,
        lr: Any = 2.5e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        silent_sgd_phase: bool = True,
        **optimizer: Unpack[OfTheOptimizer],
    ):
        super().__init__(params, locals())

    @classmethod
    def chain(cls, **hypers: Any) -> Chain:
        return cls.weave(
            cb.ema_sq,
            cb.precondition_tractable,
            cb.decay_update,
            cb.rectified_rate,
            cb.iterate_weight,
            cb.schedule_free,
            AtAverage(),
            **hypers,
        )
