"""Kronecker factors: one square matrix for each axis of a parameter, its roots and its bases.

The matrices of a parameter lie one after the other in one flat state, so that its name does not
depend on the rank. Long axes are expensive, n^2 numbers each: send embeddings to another chain.
"""

import math

import torch

from weft.callback import mark, state
from weft.callbacks.decompositions import eigh

__all__ = [
    "average_factors",
    "graft_adagrad",
    "graft_adam",
    "inverse_roots",
    "inverse_roots_debiased",
    "precondition_axes",
    "sum_factors",
]


def packed(p: torch.Tensor) -> torch.Tensor:
    """Zeros for one square matrix an axis, in no less than float32."""
    dtype = torch.promote_types(p.dtype, torch.float32)
    return torch.zeros(sum(n * n for n in p.shape), dtype=dtype, device=p.device)


def packed_matrices(p: torch.Tensor) -> torch.Tensor:
    """`packed`, and nothing for a vector."""
    return packed(p) if p.ndim > 1 else packed(p.new_zeros(0))


one_an_axis = state(packed, least=torch.float32)
matrices_only = state(packed_matrices, least=torch.float32)


def unpack(flat: torch.Tensor, shape) -> list[torch.Tensor]:
    """The matrices that a flat state holds; none where it is empty."""
    out, at = [], 0
    for n in shape if flat.numel() else ():
        out.append(flat[at : at + n * n].reshape(n, n))
        at += n * n
    return out


def pack(matrices: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """Matrices as the flat state that holds them."""
    return torch.cat([m.reshape(-1) for m in matrices]) if matrices else torch.zeros_like(like)


def unfold(x: torch.Tensor, axis: int) -> torch.Tensor:
    """An axis as rows, everything else as columns."""
    return x.movedim(axis, 0).reshape(x.shape[axis], -1)


def bounded(x: torch.Tensor) -> torch.Tensor:
    """Numbers that overflowed as the largest of their dtype."""
    largest = torch.finfo(x.dtype).max
    return x.clamp(min=-largest, max=largest)


def gram(rows: torch.Tensor) -> torch.Tensor:
    """The products of the rows of a matrix with one another, without infinities."""
    size = rows.abs().amax()
    size = torch.where(size > torch.finfo(rows.dtype).max ** 0.25, size, 1.0)
    rows = rows / size
    return bounded(rows @ rows.T * size * size)


def relative(a: torch.Tensor) -> torch.Tensor:
    """A matrix over its largest entry: bases do not depend on it, and products cannot overflow."""
    return a / a.abs().amax().clamp(min=torch.finfo(a.dtype).tiny)


def along(x: torch.Tensor, matrices: list[torch.Tensor]) -> torch.Tensor:
    """Each matrix times `x` along its axis."""
    for axis, m in enumerate(matrices):
        moved = x.movedim(axis, 0)
        x = (m @ unfold(x, axis)).reshape(moved.shape).movedim(0, axis)
    return x


def power(a: torch.Tensor, exponent: float, eps: float) -> torch.Tensor:
    """(A + eps I)^exponent of a matrix without negative eigenvalues.

    What is less than the rounding error of the largest eigenvalue is taken to be that error: it is
    noise, and without it an inverse root would be of the noise alone.
    """
    values, q = eigh(a)
    noise = torch.finfo(a.dtype).eps * values[-1:]
    return (q * (values.maximum(noise) + eps).clamp(min=1e-38).pow(exponent)) @ q.T


@mark(place="statistics")
def sum_factors(grad, factors=one_an_axis):
    """Shampoo's statistics: for each axis a, F_a <- F_a + G_a G_a^T, the axis as rows of G_a.

    Gupta, Koren and Singer, 2018, arXiv:1802.09568.
    """
    held = unpack(factors, grad.shape)
    return {
        "factors": pack([bounded(f + gram(unfold(grad, a))) for a, f in enumerate(held)], factors)
    }


@mark(place="statistics", bounds={"shampoo_beta": ">= 0, <= 1"})
def average_factors(grad, betas=(0.9, 0.999), shampoo_beta=None, factors=one_an_axis):
    """The same as an average: F_a <- beta2 * F_a + (1 - beta2) * G_a G_a^T.

    `shampoo_beta` stands in for beta2 where it is given.
    """
    beta = betas[1] if shampoo_beta is None else shampoo_beta
    held = unpack(factors, grad.shape)
    new = [beta * f + (1 - beta) * gram(unfold(grad, a)) for a, f in enumerate(held)]
    return {"factors": pack(new, factors)}


@mark(place="statistics", bounds={"precondition_frequency": ">= 1"})
def inverse_roots(
    grad, factors, step, eps=1e-6, precondition_frequency=1, inverse_factors=one_an_axis
):
    """Every `precondition_frequency` steps, for a tensor of order k: (F_a + eps I)^(-1 / 2k)."""
    if (step - 1) % precondition_frequency != 0 or grad.ndim == 0:
        return None
    roots = [power(f, -1 / (2 * grad.ndim), eps) for f in unpack(factors, grad.shape)]
    return {"inverse_factors": pack(roots, factors)}


@mark(
    place="statistics",
    bounds={"precondition_frequency": ">= 1", "start_preconditioning_step": ">= 0"},
)
def inverse_roots_debiased(
    grad, factors, step, betas=(0.9, 0.999), eps=1e-12, precondition_frequency=1,
    start_preconditioning_step=1, inverse_factors=one_an_axis,
):  # fmt: skip
    """The same of averaged factors, F_a / (1 - beta2^t), from `start_preconditioning_step` on."""
    since = step - start_preconditioning_step
    if since < 0 or since % precondition_frequency != 0 or grad.ndim == 0:
        return None
    now = unpack(bounded(factors / (1 - betas[1] ** step)), grad.shape)
    return {"inverse_factors": pack([power(f, -1 / (2 * grad.ndim), eps) for f in now], factors)}


@mark(place="update")
def precondition_axes(update, inverse_factors):
    """Multiply the update by each axis' root: u <- L^(-1/4) u R^(-1/4) for a matrix."""
    return {"update": along(update, unpack(inverse_factors, update.shape))}


@mark(place="update")
def graft_adagrad(update, grad, sum):
    """Keep the direction, take the length of AdaGrad's step: |g / sqrt(sum + 1e-10)|.

    Agarwal et al., 2020, arXiv:2002.11803.
    """
    length = (grad / (sum + 1e-10).sqrt()).norm()
    return {"update": update * (length / (update.norm() + 1e-16))}


@mark(
    place="update",
    bounds={"graft_beta2": ">= 0, < 1", "graft_eps": ">= 0", "start_preconditioning_step": ">= 0"},
)
def graft_adam(
    update, exp_avg, exp_avg_sq, step, betas=(0.9, 0.999), graft_beta2=0.999, graft_eps=1e-8,
    start_preconditioning_step=1,
):  # fmt: skip
    """Keep the direction, take the length of Adam's step; before preconditioning, Adam's step.

        a = m / (1 - beta1^t) / (sqrt(v / (1 - graft_beta2^t)) + graft_eps);   u <- u * |a| / |u|

    Shi et al., 2023, arXiv:2309.06497.
    """
    root = exp_avg_sq.sqrt() / math.sqrt(1 - graft_beta2**step) + graft_eps
    adam = exp_avg / (1 - betas[0] ** step) / root
    if step < start_preconditioning_step:
        return {"update": adam}
    return {"update": update * (adam.norm() / (update.norm() + 1e-16))}
