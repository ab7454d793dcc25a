"""Chains of callbacks that the tracer and the kernels are held to eager on.

`CHAINS` is all of them: fastai's callbacks in the original's style (here), the literature
(`corpus_papers`), and what is hard on a tracer (`corpus_stress`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

SHAPES = ((5, 7), (11,))


def moving(k: int, name: str, value: Any) -> Any:
    """The value of a hyper at step k: every float moves, within the range that it has."""
    if isinstance(value, tuple):
        return tuple(moving(k, name, v) for v in value)
    if isinstance(value, float):
        return 1 - (1 - value) * (1 + 0.07 * k) if 0.5 < value < 1 else value * (1 + 0.07 * k)
    return value


@dataclass(frozen=True)
class Chain:
    """A chain, its hypers, and what is asked of its trace.

    `traces` is how many graphs 9 steps of one parameter may take: one without the states that
    callbacks make themselves, one with them, one more for each outcome of a branch on a number.
    """

    name: str
    elements: tuple[Any, ...]
    hypers: dict[str, Any] = field(default_factory=lambda: {"lr": 0.1})
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    traces: int = 1
    schedule: Callable[[int, str, Any], Any] = moving
    tolerance: float = 2e-4
    loss: bool = False


# ---------------------------------------------------------------- fastai's, in the original's style


def sgd_step(p, lr, **kwargs):
    p.data.add_(p.grad.data, alpha=-lr)


def weight_decay(p, lr, wd=0.01, do_wd=True, **kwargs):
    if do_wd and wd != 0:
        p.data.mul_(1 - lr * wd)


def l2_reg(p, lr, wd=0.01, do_wd=True, **kwargs):
    if do_wd and wd != 0:
        p.grad.data.add_(p.data, alpha=wd)


def average_grad(p, mom=0.9, dampening=False, grad_avg=None, **kwargs):
    if grad_avg is None:
        grad_avg = torch.zeros_like(p.grad.data)
    damp = 1 - mom if dampening else 1.0
    grad_avg.mul_(mom).add_(p.grad.data, alpha=damp)
    return {"grad_avg": grad_avg}


def damped_average(p, mom=0.9, grad_avg=None, **kwargs):
    if grad_avg is None:
        grad_avg = torch.zeros_like(p.grad.data)
    grad_avg.mul_(mom).add_(p.grad.data, alpha=1 - mom)
    return {"grad_avg": grad_avg}


def average_sqr_grad(p, sqr_mom=0.99, dampening=True, sqr_avg=None, **kwargs):
    if sqr_avg is None:
        sqr_avg = torch.zeros_like(p.grad.data)
    damp = 1 - sqr_mom if dampening else 1.0
    sqr_avg.mul_(sqr_mom).addcmul_(p.grad.data, p.grad.data, value=damp)
    return {"sqr_avg": sqr_avg}


def momentum_step(p, lr, grad_avg, **kwargs):
    p.data.add_(grad_avg, alpha=-lr)


def rms_prop_step(p, lr, sqr_avg, eps=1e-8, grad_avg=None, **kwargs):
    denom = sqr_avg.sqrt().add_(eps)
    p.data.addcdiv_(grad_avg if grad_avg is not None else p.grad, denom, value=-lr)


def step_stat(p, step=0, **kwargs):
    step += 1
    return {"step": step}


def debias(mom, damp, step):
    return damp * (1 - mom**step) / (1 - mom)


def adam_step(p, lr, mom, step, sqr_mom, grad_avg, sqr_avg, eps=1e-5, **kwargs):
    debias1 = debias(mom, 1 - mom, step)
    debias2 = debias(sqr_mom, 1 - sqr_mom, step)
    p.data.addcdiv_(grad_avg, (sqr_avg / debias2).sqrt() + eps, value=-lr / debias1)


def radam_step(p, lr, mom, step, sqr_mom, grad_avg, sqr_avg, eps=1e-5, beta=0.0, **kwargs):
    debias1 = debias(mom, 1 - mom, step)
    debias2 = debias(sqr_mom, 1 - sqr_mom, step)
    r_inf = 2 / (1 - sqr_mom) - 1
    r = r_inf - 2 * step * sqr_mom**step / (1 - sqr_mom**step)
    if r > 5:
        v = math.sqrt(((r - 4) * (r - 2) * r_inf) / ((r_inf - 4) * (r_inf - 2) * r))
        denom = (sqr_avg / debias2).sqrt()
        if eps:
            denom += eps
        if beta:
            denom = F.softplus(denom, beta)
        p.data.addcdiv_(grad_avg, denom, value=-lr * v / debias1)
    else:
        p.data.add_(grad_avg, alpha=-lr / debias1)


def qhadam_step(
    p, lr, mom, sqr_mom, step, grad_avg, sqr_avg, nu_1=0.7, nu_2=0.9, eps=1e-8, **kwargs
):
    debias1 = debias(mom, 1 - mom, step)
    debias2 = debias(sqr_mom, 1 - sqr_mom, step)
    top = (1 - nu_1) * p.grad.data + nu_1 * (grad_avg / debias1)
    bottom = (1 - nu_2) * p.grad.data**2 + nu_2 * (sqr_avg / debias2)
    p.data.addcdiv_(top, bottom.sqrt() + eps, value=-lr)


def larc_layer_lr(p, lr, trust_coeff=0.02, wd=0.01, eps=1e-8, clip=True, local_lr=None, **kwargs):
    p_norm, g_norm = torch.norm(p.data), torch.norm(p.grad.data)
    local_lr = lr * trust_coeff * p_norm / (g_norm + p_norm * wd + eps)
    return {"local_lr": min(lr, local_lr) if clip else local_lr}


def larc_step(p, local_lr, grad_avg=None, **kwargs):
    p.data.add_((p.grad if grad_avg is None else grad_avg) * -local_lr)


def lamb_step(p, lr, mom, step, sqr_mom, grad_avg, sqr_avg, eps=1e-5, **kwargs):
    debias1 = debias(mom, 1 - mom, step)
    debias2 = debias(sqr_mom, 1 - sqr_mom, step)
    direction = (grad_avg / debias1) / ((sqr_avg / debias2).sqrt() + eps)
    r1 = p.data.pow(2).mean().sqrt()
    r2 = direction.pow(2).mean().sqrt()
    q = 1 if r1 == 0 or r2 == 0 else min(r1 / r2, 10)
    p.data.add_(direction, alpha=-lr * q)


ADAM = (damped_average, average_sqr_grad, step_stat)
ADAM_HYPERS = {"lr": 0.05, "mom": 0.9, "sqr_mom": 0.99, "wd": 0.01}

FASTAI = [
    Chain("fastai sgd", (sgd_step,)),
    Chain("fastai sgd wd", (weight_decay, sgd_step), {"lr": 0.1, "wd": 0.02}),
    Chain("fastai sgd l2", (l2_reg, sgd_step), {"lr": 0.1, "wd": 0.02}),
    Chain("fastai momentum", (weight_decay, average_grad, momentum_step), {"lr": 0.1, "wd": 0.0, "mom": 0.9}, traces=2),
    Chain("fastai l2 momentum damped", (l2_reg, average_grad, momentum_step),
          {"lr": 0.1, "wd": 0.1, "mom": 0.9, "dampening": True}, traces=2),
    Chain("fastai rmsprop", (average_sqr_grad, rms_prop_step), {"lr": 0.01, "sqr_mom": 0.99}, traces=2),
    Chain("fastai rmsprop momentum", (average_grad, average_sqr_grad, rms_prop_step),
          {"lr": 0.01, "sqr_mom": 0.99, "mom": 0.9}, traces=2),
    Chain("fastai adam", (weight_decay, *ADAM, adam_step), ADAM_HYPERS, traces=2),
    Chain("fastai adam l2", (l2_reg, *ADAM, adam_step), ADAM_HYPERS, traces=2),
    Chain("fastai radam", (weight_decay, *ADAM, radam_step), ADAM_HYPERS, traces=4),
    Chain("fastai sadam", (*ADAM, radam_step), {**ADAM_HYPERS, "beta": 2.0}, traces=4),
    Chain("fastai qhadam", (*ADAM, qhadam_step), ADAM_HYPERS, traces=2),
    Chain("fastai larc", (weight_decay, average_grad, larc_layer_lr, larc_step),
          {"lr": 0.1, "wd": 0.01, "mom": 0.9}, traces=2),
    Chain("fastai larc no clip", (larc_layer_lr, larc_step), {"lr": 0.1, "clip": False}, traces=2),
    Chain("fastai lamb", (weight_decay, *ADAM, lamb_step), ADAM_HYPERS, traces=2),
]  # fmt: skip


def all_chains() -> list[Chain]:
    """Every chain, names unique."""
    from corpus_papers import PAPERS
    from corpus_stress import STRESS

    chains = [*FASTAI, *PAPERS, *STRESS]
    assert len({c.name for c in chains}) == len(chains)
    return chains
