"""Schedule-free steps: gradients at y, steps on z, evaluation at x."""

import math

import torch

from weft.callback import copy_of_param, mark, shared, state

__all__ = [
    "iterate_weight",
    "precondition_tractable",
    "rectified_rate",
    "schedule_free",
    "warmup_rate",
]


@mark(place="statistics", bounds={"warmup_steps": ">= 0"})
def warmup_rate(lr, step, warmup_steps=0, scheduled_lr=shared(0.0)):
    """The rate, warmed up linearly: r = lr * min(1, t / warmup_steps), t the group's step."""
    return {"scheduled_lr": lr * min(1.0, step / warmup_steps) if warmup_steps else lr}


def _rho(step, beta2):
    """How many samples the second moment rests on, now and in the end."""
    end = 2 / (1 - beta2) - 1
    return end - 2 * step * beta2**step / (1 - beta2**step), end


@mark(place="statistics")
def rectified_rate(lr, step, betas=(0.9, 0.999), silent_sgd_phase=True, scheduled_lr=shared(0.0)):
    """The rate times RAdam's rectification; 0, or lr, while the variance is not tractable.

    Liu et al., 2019, arXiv:1908.03265, with the paper's threshold of 4; t is the group's step.
    """
    rho, end = _rho(step, betas[1])
    if rho <= 4:
        return {"scheduled_lr": 0.0 if silent_sgd_phase else lr}
    r = math.sqrt((rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho))
    return {"scheduled_lr": lr * r}


@mark(place="statistics", bounds={"r": ">= 0"})
def iterate_weight(
    step, scheduled_lr, r=0.0, weight_lr_power=2.0,
    lr_max=shared(0.0), weight_sum=shared(0.0), weight=shared(0.0),
):  # fmt: skip
    """How much the average takes of this step's point.

        w = t^r * lr_max^weight_lr_power;   W <- W + w;   c = w / W

    Defazio et al., 2024, arXiv:2405.15682. lr_max is the largest rate so far, t the group's step.
    """
    largest = max(lr_max, scheduled_lr)
    w = step**r * largest**weight_lr_power
    total = weight_sum + w
    return {"lr_max": largest, "weight_sum": total, "weight": w / total if total > 0 else 0.0}


def average_point(y, z, averaged, x=None):
    """x, where y and z point to; x itself where y was z."""
    along = z + (y - z) / averaged
    return along if x is None else torch.where(averaged == 0, x, along)


@mark(place="descend")
def schedule_free(
    p, update, scheduled_lr, weight, momentum=None, betas=(0.9, 0.999),
    z=copy_of_param, averaged=state(1.0, dtype=torch.float64), x=None,
):  # fmt: skip
    """Step on z, average into x, and go to y between them: the parameter is y.

        z <- z - r * u;   x <- (1 - c) * x + c * z;   y <- (1 - b) * z + b * x

    Defazio et al., 2024, arXiv:2405.15682. x is not kept: it is where y and z point to, with the b
    of the parameter's step before, kept as `averaged`; only with a b of 0, plain averaging, is it
    kept itself. b is `momentum`, or the first of `betas`.
    """
    b = betas[0] if momentum is None else momentum
    x = average_point(p, z, averaged, x)
    z = z - scheduled_lr * update
    x = x + weight * (z - x)
    if b == 0:
        return {"z": z, "p": z, "averaged": b, "x": x}
    return {"z": z, "p": z + b * (x - z), "averaged": b}


@mark(place="update", role=("precondition", "correction"))
def precondition_tractable(
    update, exp_avg_sq, step, betas=(0.9, 0.999), eps=1e-8, silent_sgd_phase=True
):
    """Divide by the root of the corrected second moment where its variance is tractable.

    u <- u / (sqrt(v / (1 - beta2^t)) + eps)   where rho > 4, else 0; u with silent_sgd_phase=False
    """
    if _rho(step, betas[1])[0] <= 4:  # of a parameter that joined late, when its group is past that
        return {"update": torch.zeros_like(update) if silent_sgd_phase else update}
    return {"update": update / ((exp_avg_sq / (1 - betas[1] ** step)).sqrt() + eps)}
