"""The original's callbacks, under its names, hyper names and defaults.

They work in place on `p.data` and return state, as fastai's generic optimizer had it (Howard and
Gugger, 2020, arXiv:2002.04688). `weft.callbacks` has the same ideas under the field's names.

>>> import torch, weft
>>> from weft.callbacks import fastai
>>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
>>> opt = weft.Optimizer([p], [fastai.weight_decay, fastai.sgd_step], lr=0.1, wd=0.1)
>>> opt.step(); p.data
tensor([0.8900, 0.8900])
"""

import math

import torch

from weft.callback import mark

__all__ = [
    "adam_step",
    "average_grad",
    "average_sqr_grad",
    "debias",
    "l2_reg",
    "lamb_step",
    "larc_layer_lr",
    "larc_step",
    "momentum_step",
    "qhadam_step",
    "radam_step",
    "rms_prop_step",
    "sgd_step",
    "step_stat",
    "weight_decay",
]


def debias(mom, damp, step):
    """The correction of an average that started at zero: damp * (1 - mom^step) / (1 - mom).

    At a momentum of one, which a dampened average does not leave, it is its limit, or nothing.
    """
    if mom == 1:
        return damp * step if damp else 1.0
    return damp * (1 - mom**step) / (1 - mom)


@mark(place="descend", role=("descend", "rate"))
def sgd_step(p, lr, **kwargs):
    """p <- p - lr * g."""
    p.data.add_(p.grad.data, alpha=-lr)


@mark(place="decay", role="decay")
def weight_decay(p, lr, wd=0.0, do_wd=True, **kwargs):
    """p <- p * (1 - lr * wd), where `do_wd` holds."""
    if do_wd and wd != 0:
        p.data.mul_(1 - lr * wd)


@mark(place="decay", role="decay")
def l2_reg(p, lr, wd=0.0, do_wd=True, **kwargs):
    """g <- g + wd * p, in place on the user's grad, where `do_wd` holds."""
    if do_wd and wd != 0:
        p.grad.data.add_(p.data, alpha=wd)


@mark(place="statistics")
def average_grad(p, mom=0.9, dampening=False, grad_avg=None, **kwargs):
    """a <- mom * a + damp * g, with damp = 1 - mom where `dampening` holds and 1 elsewhere."""
    if grad_avg is None:
        grad_avg = torch.zeros_like(p.grad.data)
    damp = 1 - mom if dampening else 1.0
    grad_avg.mul_(mom).add_(p.grad.data, alpha=damp)
    return {"grad_avg": grad_avg}


@mark(place="statistics")
def average_sqr_grad(p, sqr_mom=0.99, dampening=True, sqr_avg=None, **kwargs):
    """v <- sqr_mom * v + damp * g^2, with damp as in `average_grad`."""
    if sqr_avg is None:
        sqr_avg = torch.zeros_like(p.grad.data)
    damp = 1 - sqr_mom if dampening else 1.0
    sqr_avg.mul_(sqr_mom).addcmul_(p.grad.data, p.grad.data, value=damp)
    return {"sqr_avg": sqr_avg}


@mark(place="descend", role=("descend", "rate"))
def momentum_step(p, lr, grad_avg, **kwargs):
    """p <- p - lr * a."""
    p.data.add_(grad_avg, alpha=-lr)


@mark(place="descend", role=("descend", "rate"))
def rms_prop_step(p, lr, sqr_avg, eps=1e-8, grad_avg=None, **kwargs):
    """p <- p - lr * (a or g) / (sqrt(v) + eps)."""
    numerator = p.grad.data if grad_avg is None else grad_avg
    p.data.addcdiv_(numerator, sqr_avg.sqrt().add_(eps), value=-lr)


@mark(place="statistics")
def step_stat(p, step=0, **kwargs):
    """step <- step + 1, a state of the chain's own."""
    return {"step": step + 1}


@mark(place="descend", role=("descend", "rate"))
def adam_step(p, lr, mom, step, sqr_mom, grad_avg, sqr_avg, eps=1e-5, **kwargs):
    """p <- p - (lr / d1) * a / (sqrt(v / d2) + eps), d being what `debias` gives."""
    d1, d2 = debias(mom, 1 - mom, step), debias(sqr_mom, 1 - sqr_mom, step)
    p.data.addcdiv_(grad_avg, (sqr_avg / d2).sqrt().add_(eps), value=-lr / d1)


@mark(place="descend", role=("descend", "rate"))
def radam_step(p, lr, mom, step, sqr_mom, grad_avg, sqr_avg, eps=1e-5, beta=0.0, **kwargs):
    """Adam's step times the rectification r where the variance is tractable, else momentum.

    With `beta` > 0 the denominator is a softplus (SAdam; Tong et al., 2019, arXiv:1908.00700).
    Liu et al., 2019, arXiv:1908.03265; the threshold of the original is r > 5.
    """
    d1, d2 = debias(mom, 1 - mom, step), debias(sqr_mom, 1 - sqr_mom, step)
    r_inf = 2 / (1 - sqr_mom) - 1
    r = r_inf - 2 * step * sqr_mom**step / (1 - sqr_mom**step)
    if r > 5:
        rectified = math.sqrt(((r - 4) * (r - 2) * r_inf) / ((r_inf - 4) * (r_inf - 2) * r))
        denominator = (sqr_avg / d2).sqrt() + eps
        if beta != 0:
            denominator = torch.nn.functional.softplus(denominator, beta)
        p.data.addcdiv_(grad_avg, denominator, value=-lr * rectified / d1)
    else:
        p.data.add_(grad_avg, alpha=-lr / d1)


@mark(place="descend", role=("descend", "rate"))
def qhadam_step(
    p, lr, mom, sqr_mom, sqr_avg, grad_avg, step, nu_1=0.7, nu_2=1.0, eps=1e-8, **kwargs
):
    """p <- p - lr * ((1-nu_1) g + nu_1 a/d1) / (sqrt((1-nu_2) g^2 + nu_2 v/d2) + eps).

    Ma and Yarats, 2018, arXiv:1810.06801.
    """
    d1, d2 = debias(mom, 1 - mom, step), debias(sqr_mom, 1 - sqr_mom, step)
    g = p.grad.data
    numerator = (1 - nu_1) * g + nu_1 * (grad_avg / d1)
    denominator = ((1 - nu_2) * g**2 + nu_2 * (sqr_avg / d2)).sqrt() + eps
    p.data.addcdiv_(numerator, denominator, value=-lr)


@mark(place="statistics")
def larc_layer_lr(p, lr, trust_coeff=0.02, wd=0.0, eps=1e-8, clip=True, local_lr=None, **kwargs):
    """local_lr <- lr * trust_coeff * |p| / (|g| + wd * |p| + eps), at most lr where `clip` holds.

    You et al., 2017, arXiv:1708.03888.
    """
    p_norm, g_norm = torch.norm(p.data), torch.norm(p.grad.data)
    local_lr = lr * trust_coeff * p_norm / (g_norm + p_norm * wd + eps)
    return {"local_lr": torch.clamp(local_lr, max=lr) if clip else local_lr}


@mark(place="descend", role=("descend", "rate"))
def larc_step(p, local_lr, grad_avg=None, **kwargs):
    """p <- p - local_lr * (a or g)."""
    p.data.sub_(local_lr * (p.grad.data if grad_avg is None else grad_avg))


@mark(place="descend", role=("descend", "rate"))
def lamb_step(p, lr, mom, step, sqr_mom, grad_avg, sqr_avg, eps=1e-5, **kwargs):
    """Adam's direction times r1/r2, the RMS of p and of the direction; at most 10, 1 if either is 0.

    You et al., 2019, arXiv:1904.00962.
    """
    d1, d2 = debias(mom, 1 - mom, step), debias(sqr_mom, 1 - sqr_mom, step)
    direction = (grad_avg / d1) / ((sqr_avg / d2).sqrt() + eps)
    r1 = p.data.pow(2).mean().sqrt()
    r2 = direction.pow(2).mean().sqrt()
    q = torch.where((r1 == 0) | (r2 == 0), torch.ones_like(r1), (r1 / r2).clamp(max=10.0))
    p.data.sub_(lr * q * direction)
