"""Second moments of other kinds: centred, additive, of the step before, of natural gradients."""

import torch

from weft.callback import mark, ones, zeros
from weft.callbacks.decay import spared
from weft.callbacks.units import quotient, rms, sum_sq

__all__ = [
    "adai",
    "adopt",
    "asynchronous",
    "avagrad",
    "eta_energy",
    "fisher",
    "natural",
    "natural_decay",
    "projected_residual_sq",
    "residual_sq",
    "second_moment_sum",
    "signal_to_noise",
    "signed_sq",
    "size",
    "yogi",
]


@mark(place="statistics")
def residual_sq(grad, exp_avg, betas=(0.9, 0.999), eps=1e-16, exp_avg_var=zeros):
    """The average of what the first moment leaves of the gradient, squared.

        s <- beta2 * s + (1 - beta2) * (g - m)^2 + eps

    Zhuang et al., 2020, arXiv:2010.07468 (AdaBelief). eps accumulates.
    """
    return {"exp_avg_var": exp_avg_var.lerp((grad - exp_avg) ** 2, 1 - betas[1]) + eps}


@mark(place="statistics", bounds={"k": ">= 0", "xi": ">= 0"})
def projected_residual_sq(
    grad, exp_avg, betas=(0.9, 0.999), k=2, xi=1e-20, eps=1e-8, exp_avg_var=zeros
):
    """AdaBelief's average, after gradient and first moment are projected on each other k times.

        g, m <- <g, m> / (|g|^2 + xi) * g,  <g, m> / (|m|^2 + xi) * m    k times
        s <- beta2 * s + (1 - beta2) * (m - g)^2 + eps

    Zhang et al., 2022, arXiv:2203.13273 (Aida).
    """
    g, m = grad, exp_avg
    for _ in range(k):
        dot, g_sq, m_sq = (g * m).sum(), sum_sq(g), sum_sq(m)
        shares = dot / (g_sq + xi), dot / (m_sq + xi)
        g, m = (share.to(grad.dtype) * x for share, x in zip(shares, (g, m), strict=True))
    return {"exp_avg_var": exp_avg_var.lerp((m - g) ** 2, 1 - betas[1]) + eps}


@mark(place="statistics", bounds={"initial_accumulator": ">= 0"})
def yogi(grad, step, betas=(0.9, 0.999), initial_accumulator=1e-6, exp_avg=zeros, exp_avg_sq=zeros):
    """A second moment that moves by a bounded amount; both moments start above zero.

        m <- beta1 * m + (1 - beta1) * g;   v <- v - (1 - beta2) * sign(v - g^2) * g^2;   u <- m

    Zaheer et al., 2018. TensorFlow and optax start at 1e-6 too.
    """
    if step == 1:
        exp_avg = exp_avg_sq = torch.full_like(grad, initial_accumulator)
    square = grad * grad
    v = exp_avg_sq - (1 - betas[1]) * (exp_avg_sq - square).sign() * square
    m = exp_avg.lerp(grad, 1 - betas[0])
    return {"exp_avg": m, "exp_avg_sq": v, "update": m}


@mark(place="statistics")
def signed_sq(grad, betas=(0.92, 0.99), exp_avg_sq=zeros):
    """Yogi's second moment with decay.

        v <- beta2 * v + (1 - beta2) * sign(g^2 - v) * g^2

    Kegreisz, 2025, arXiv:2508.18258 (Ano). With a beta2 below 1/2 it would fall below zero: there it
    stays at zero.
    """
    square = grad * grad
    v = betas[1] * exp_avg_sq + (1 - betas[1]) * (square - exp_avg_sq).sign() * square
    return {"exp_avg_sq": v.clamp(min=0)}


@mark(place="statistics")
def adopt(grad, step, betas=(0.9, 0.9999), eps=1e-6, clip=True, exp_avg_sq=zeros):
    """Divide by the second moment of the steps before; an entry's first gradient only fills it.

        u <- clip(g / max(sqrt(v), eps), +-(t - 1)^(1/4));   v <- beta2 * v + (1 - beta2) * g^2

    Taniguchi et al., 2024, arXiv:2411.02853, algorithm 2.
    """
    square, first = grad * grad, exp_avg_sq == 0
    update = torch.where(first, 0.0, grad / exp_avg_sq.sqrt().clamp(min=eps))
    if clip:
        bound = (step - 1) ** 0.25
        update = update.clamp(min=-bound, max=bound)
    average = torch.where(first, square, exp_avg_sq.lerp(square, 1 - betas[1]))
    return {"update": update, "exp_avg_sq": average}


@mark(place="update")
def asynchronous(grad, exp_avg, step, betas=(0.9, 0.999), eps=1e-16, exp_avg_var=zeros):
    """Divide the gradient by the centred second moment of the steps before.

        u <- g / (sqrt(s / (1 - beta2^(t-1))) + eps), the root 1 where s is 0
        s <- beta2 * s + (1 - beta2) * (g - m)^2 + eps, from the first gradient on that is not 0

    Zhuang et al., 2021, arXiv:2110.05454 (ACProp).
    """
    s = exp_avg_var / (1 - betas[1] ** (step - 1)) if step > 1 else exp_avg_var
    root = torch.where(s > 0, s.sqrt(), torch.ones_like(s)) + eps
    var = exp_avg_var.lerp((grad - exp_avg) ** 2, 1 - betas[1]) + eps
    seen = (exp_avg_var > 0) | (grad != 0)
    return {"update": grad / root, "exp_avg_var": torch.where(seen, var, exp_avg_var)}


def _eta(v, step, beta2, eps):
    """The rate of each element, from the second moment of the steps before."""
    return 1 / ((v / (1 - beta2 ** (step - 1))).sqrt() + eps)


def eta_energy(exp_avg_sq, step, betas=(0.9, 0.999), eps=0.1):
    """The sum of a parameter's squared rates, for the mean over all parameters."""
    return _eta(exp_avg_sq, step, betas[1], eps).square().sum() if step > 1 else 0.0


@mark(place="update", role=("precondition", "correction"))
def avagrad(update, exp_avg_sq, eta_energy, size, step, betas=(0.9, 0.999), eps=0.1):
    """Rates from the steps before, of mean square one over all parameters.

        eta = 1 / (sqrt(v / (1 - beta2^(t-1))) + eps);   u <- u * eta / rms(eta);   0 in the first step

    Savarese et al., 2019, arXiv:1912.01823.
    """
    if step == 1:
        return {"update": torch.zeros_like(update)}
    rate = _eta(exp_avg_sq, step, betas[1], eps) / (eta_energy / size).sqrt()
    return {"update": update * rate}


def size(p):
    """How many elements a parameter has, for the mean over all parameters."""
    return p.numel()


def second_moment_sum(exp_avg_sq, step, betas=(0.1, 0.99)):
    """The sum of a parameter's corrected second moment, for the mean over all parameters."""
    return exp_avg_sq.sum() / (1 - betas[1] ** step)


@mark(place="update")
def adai(
    grad, exp_avg_sq, second_moment_sum, size, step, betas=(0.1, 0.99), eps=1e-3,
    exp_avg=zeros, beta1_prod=ones,
):  # fmt: skip
    """A momentum for each element: the less, the larger its second moment.

        b = clip(1 - beta0 * v' / mean(v'), 0, 1 - eps),  the mean over all parameters
        m <- b * m + (1 - b) * g;   P <- P * b;   u <- m / (1 - P)

    Xie et al., 2020, arXiv:2006.15815.
    """
    v = exp_avg_sq / (1 - betas[1] ** step)
    relative = quotient(v, second_moment_sum / size)
    momentum = (1 - betas[0] * relative).clamp(min=0, max=1 - eps)
    exp_avg = momentum * exp_avg + (1 - momentum) * grad
    product = beta1_prod * momentum
    return {"exp_avg": exp_avg, "beta1_prod": product, "update": quotient(exp_avg, 1 - product)}


@mark(place="update", bounds={"beta": ">= 0, < 1"})
def signal_to_noise(update, square_avg, step, beta=0.9):
    """Scale an average by its share of signal.

        m', v' corrected;   s = (v' - m'^2) / (1 - rho);   u <- m'^2 / (m'^2 + rho * s) * m'
        rho = (1 - beta)(1 + beta^t) / ((1 + beta)(1 - beta^t)), at most 0.9999

    Balles and Hennig, 2017, arXiv:1705.07774 (M-SVAG). 0 where 0/0.
    """
    past = beta**step
    rho = min((1 - beta) * (1 + past) / ((1 + beta) * (1 - past)), 0.9999)
    m, v = update / (1 - past), square_avg / (1 - past)
    whole = m * m + rho * (v - m * m) / (1 - rho)
    share = quotient(m * m, whole)
    return {"update": share.clamp(min=0, max=1) * m}


@mark(place="statistics")
def fisher(grad, step, betas=(0.9, 0.999), fim=zeros):
    """The diagonal of the Fisher information: a corrected average of the squared gradient.

        F <- b * F + (1 - b) * g^2,   b = beta2 * (1 - beta2^(t-1)) / (1 - beta2^t)

    Hwang, 2024, arXiv:2405.12807.
    """
    b = betas[1] * (1 - betas[1] ** (step - 1)) / (1 - betas[1] ** step)
    return {"fim": b * fim + (1 - b) * grad * grad}


def _natural(x, grad, fim, clip, power, eps, eps2):
    """x / (F^power + e^(2 power)), its rms clipped; e = min(eps, eps2 * rms(g)), eps where g is 0.

    e is not below 1e-30: what is divided by it must not overflow.
    """
    size = rms(grad)
    e = torch.where(size > 0, (eps2 * size).clamp(min=1e-30, max=eps), torch.full_like(size, eps))
    x = quotient(x, fim**power + e ** (2 * power))
    return x / (rms(x) / clip).clamp(min=1)


@mark(place="update", bounds={"clip": ">= 0", "power": ">= 0", "eps2": ">= 0"})
def natural(update, grad, fim, clip=1.0, power=0.5, eps=1e-8, eps2=1e-2):
    """The natural direction, its root mean square clipped.

        u <- u / (F^power + e^(2 power)),   then u / max(1, rms(u) / clip);   e = min(eps, eps2 rms(g))

    Hwang, 2024, arXiv:2405.12807.
    """
    return {"update": _natural(update, grad, fim, clip, power, eps, eps2)}


@mark(place="update", role="decay", bounds={"clip": ">= 0", "power": ">= 0", "eps2": ">= 0"})
def natural_decay(
    p, update, grad, fim, weight_decay=0.1, clip=1.0, power=0.5, eps=1e-8, eps2=1e-2, do_wd=None
):
    """Decay in the natural direction: u <- u + weight_decay * w, w being p as `natural` turns it.

    Hwang, 2024, arXiv:2405.12807.
    """
    if spared(do_wd):
        return None
    decay = _natural(p, grad, fim, clip, power, eps, eps2)
    return {"update": update + weight_decay * decay}
