"""What decides how far a matrix method goes: norms, radii, corrections of the gradient."""

import math

import torch

from weft.callback import mark, state
from weft.callbacks.decompositions import svd
from weft.callbacks.matrix import MATRICES, matrix, polar_factor
from weft.callbacks.units import norm, quotient, scalar_zero, sum_sq

__all__ = [
    "adagrad_norm_descend",
    "grad_energy",
    "hyperball",
    "limit_growth",
    "momentum_ratio",
    "row_column_scale",
    "shrink",
    "spectral_sphere",
    "times",
]

tiny = state(1e-12, dtype=torch.float64)
radius_of_param = state(
    lambda p: norm(p.to(torch.promote_types(p.dtype, torch.float32))), least=torch.float32
)  # 16 bits would move the sphere
one_a_row = state(lambda p: p.new_zeros(p.shape[0]))
one_a_column = state(lambda p: p.new_zeros(math.prod(p.shape[1:])))


@mark(place="descend")
def hyperball(p, update, lr, radius=radius_of_param):
    """A step of relative length lr on the sphere where the parameter started.

        p <- R n(p - lr R n(u)),   n(x) = x / |x|,   R = |p| at the start

    Wen et al., 2026, arXiv:2606.16899. A sphere of radius zero is a point: what starts at zero stays.
    """
    moved = p - (lr * radius) * quotient(update, norm(update))
    return {"p": moved * quotient(radius, norm(moved)), "radius": radius}


@mark(place="descend", bounds={"gamma": ">= 0", "eps_step": ">= 0"})
def adagrad_norm_descend(p, update, grad, lr, gamma=10.0, eps_step=5e-4, norm_sq=tiny):
    """A rate for the whole tensor, AdaGrad's, from the gradient's clipped norm.

        n = min(|g|, gamma);   v <- v + n^2;   p <- p - max(eps_step, lr * n / sqrt(v)) * u

    Zhang, Liu and Schaeffer, 2025, arXiv:2509.02981, with v = 1e-12 at the start.
    """
    size = norm(grad).clamp(max=gamma)
    norm_sq = norm_sq + size * size
    rate = (lr * size / norm_sq.sqrt()).clamp(min=eps_step)
    return {"norm_sq": norm_sq, "p": p - rate * update}


@mark(place="statistics")
def grad_energy(grad, betas=(0.95, 0.99), exp_avg_norm_sq=scalar_zero):
    """The average of the gradient's squared norm: v <- beta2 * v + (1 - beta2) * |g|^2."""
    return {"exp_avg_norm_sq": betas[1] * exp_avg_norm_sq + (1 - betas[1]) * sum_sq(grad)}


@mark(place="update", bounds={"norm_eps": ">= 0"})
def momentum_ratio(update, exp_avg, exp_avg_norm_sq, step, betas=(0.95, 0.99), norm_eps=1e-8):
    """Adam's ratio for the whole tensor, as a factor of the update.

        u <- u * sqrt(1 - beta2^t) / (1 - beta1^t) * |m| / (sqrt(v) + norm_eps)

    Zhang, Liu and Schaeffer, 2026, arXiv:2602.17080.
    """
    correction = math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)
    return {"update": update * (correction * norm(exp_avg) / (exp_avg_norm_sq.sqrt() + norm_eps))}


@mark(place="update", ndim=MATRICES, bounds={"iterations": ">= 1", "beta": ">= 0, <= 1"})
def row_column_scale(
    update, beta=0.9, eps=1e-8, iterations=5, row_sq=one_a_row, column_sq=one_a_column
):
    """Scale rows and columns so that the squared gradient is near one times one.

        s = q G^2 / |q|^2,   q = G^2 s / |s|^2,   `iterations` times from q = 1;   both averaged by beta
        u <- u / sqrt(q + eps) / sqrt(s + eps)

    Gong et al., 2025, arXiv:2502.07752.
    """
    x, largest, q = matrix(update), update.abs().max(), torch.ones_like(row_sq)
    square = quotient(x, largest).square()
    for _ in range(iterations):
        s = quotient(q @ square, (q * q).sum())
        q = quotient(square @ s, (s * s).sum())
    row_sq, column_sq = row_sq.lerp(q, 1 - beta), column_sq.lerp(s * largest**2, 1 - beta)
    u = x / (row_sq + eps).sqrt().unsqueeze(1) / (column_sq + eps).sqrt()
    return {"row_sq": row_sq, "column_sq": column_sq, "update": u.reshape(update.shape)}


@mark(place="update", bounds={"gamma": ">= 0"})
def limit_growth(update, gamma=1.01, update_norm=None):
    """Let the norm of the update grow by no more than a factor a step.

        u <- u / (max(|u| / (n + 1e-8), gamma) / gamma);   n <- |u|,   as it was where u is zero

    Chen et al., 2024, arXiv:2410.01623. The first update that is not zero passes.
    """
    size = norm(update)
    before = size if update_norm is None else torch.where(update_norm > 0, update_norm, size)
    limiter = (size / (before + 1e-8)).clamp(min=gamma) / gamma
    return {
        "update_norm": torch.where(size > 0, size / limiter, before),
        "update": update / limiter,
    }


@mark(place="descend")
def shrink(p, lr):
    """Frank and Wolfe's step towards zero, before the one along the ball: p <- p * (1 - lr)."""
    return {"p": p * (1 - lr)}


@mark(place="update", bounds={"scale": ">= 0"})
def times(update, scale=1.0):
    """A further factor of the rate: u <- u * scale."""
    return {"update": update * scale}


def tangent(x: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """polar(x + c theta) for the c that makes it orthogonal to theta, |x| = |theta| = 1."""
    return polar_factor(x + multiplier(x, theta) * theta)


@torch.no_grad()
def multiplier(x: torch.Tensor, theta: torch.Tensor, halvings: int = 60) -> torch.Tensor:
    """The c of `tangent`, by bisection, which has no derivative.

    It is the minimum of the nuclear norm of x + c theta, so at most twice the one of x.
    """
    low = torch.full_like(x[0, 0], -2 * math.sqrt(min(x.shape)))
    high = -low
    for _ in range(halvings):
        middle = (low + high) / 2
        below = (theta * polar_factor(x + middle * theta)).sum() < 0
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


@mark(place="descend", ndim=MATRICES)
def spectral_sphere(p, update, lr):
    """A step along the matrices of spectral norm R = sqrt(m / n), after coming back to them.

        W <- R W / |W|_2;   p <- W - lr * R * polar(u / |u| + c Theta), tangent to Theta = u_1 v_1^T of W

    Xie et al., 2026, arXiv:2601.08393.
    """
    w, size = matrix(p), norm(update)
    u, s, vh = svd(w)
    theta, radius = u[:, :1] @ vh[:1] * (s[0] > 0), math.sqrt(w.shape[0] / w.shape[1])
    along = tangent(quotient(matrix(update), size), theta) * (size > 0)
    moved = w * quotient(radius, s[0]) - lr * radius * along
    return {"p": moved.reshape(p.shape)}
