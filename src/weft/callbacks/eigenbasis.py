"""Working in the eigenbases of Kronecker factors: SOAP and its kin.

Vectors have none, and stay as they are. The first gradient is spent on factors and bases:
`late_step` counts from the second.
"""

import torch

from weft.callback import mark, state, zeros
from weft.callbacks.decay import decay_for
from weft.callbacks.decompositions import eigh, qr
from weft.callbacks.kronecker import along, matrices_only, pack, relative, unpack
from weft.callbacks.momentum import nesterov_product
from weft.contract.declare import scalar_dtype

__all__ = [
    "descend_late",
    "ema_sq_rotated",
    "late_step",
    "nesterov_late",
    "refresh_bases",
    "rotate",
    "rotate_back",
    "silent_start",
    "transport_bases",
]


one = state(1.0, dtype=scalar_dtype)


def eigenbasis(a: torch.Tensor) -> torch.Tensor:
    """Orthonormal eigenvectors of a symmetric matrix, largest eigenvalue first.

    Of a null space any basis would do, and rounding would choose it: it is the one that the axes,
    projected onto it, give in their order.
    """
    values, q = eigh(relative(a))
    null = values <= rounding(a) * values[-1:]
    return qr(torch.where(null, q * null @ q.T, q).flip(1))[0]


def rounding(a: torch.Tensor) -> float:
    """What is nothing beside the largest eigenvalue of a matrix: the error of finding it."""
    return max(a.shape) * torch.finfo(a.dtype).eps


def iterated(f: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """One step of orthogonal iteration before its QR, F Q; Q stays where F is rounding error."""
    return f @ q + rounding(f) * q


def weights(f: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """The columns' order by q^T F q, largest first."""
    return (q * (f @ q)).sum(dim=0).argsort(descending=True)


@mark(place="grad")
def late_step(step=-1):
    """Count steps from the second gradient on: t is 0 in the first step."""
    return {"step": step + 1}


@mark(place="grad")
def silent_start(grad, step):
    """Keep the first gradient, which the bases are made of, out of the averages: g <- 0."""
    return {"grad": torch.zeros_like(grad)} if step == 0 else None


@mark(place="statistics")
def ema_sq_rotated(grad, bases, betas=(0.95, 0.95), exp_avg_sq=zeros):
    """The average of the squared gradient in the bases: v <- beta2 * v + (1 - beta2) * (Q^T g)^2."""
    r = along(grad, [q.T for q in unpack(bases, grad.shape)])
    return {"exp_avg_sq": betas[1] * exp_avg_sq + (1 - betas[1]) * r * r}


@mark(place="update")
def rotate(update, bases):
    """Turn the update into the bases: u <- Q_a^T u along each axis."""
    return {"update": along(update, [q.T for q in unpack(bases, update.shape)])}


@mark(place="update")
def rotate_back(update, bases):
    """Turn the update back from the bases: u <- Q_a u along each axis."""
    return {"update": along(update, unpack(bases, update.shape))}


@mark(place="update")
def nesterov_late(
    grad, exp_avg, step, betas=(0.9, 0.999), momentum_decay=4e-3, mu_product=one
):  # fmt: skip
    """`nesterov_product`, but not with the gradient that the bases are made of."""
    if step == 0:
        return None
    ahead = nesterov_product(grad, exp_avg, step, betas, momentum_decay, mu_product)
    return {"update": ahead["update"], "mu_product": ahead["mu_product"]}


@mark(place="descend")
def descend_late(p, update, lr, step, weight_decay=0.0, do_wd=None):
    """Step, then decay, but not with the gradient that the bases are made of.

    p <- (p - lr * u) * (1 - lr * weight_decay)
    """
    kept = 1 - lr * decay_for(weight_decay, do_wd)
    return {"p": (p - lr * update) * kept} if step > 0 else None


@mark(place="after", bounds={"precondition_frequency": ">= 1"})
def refresh_bases(p, factors, step, exp_avg_sq, precondition_frequency=10, bases=matrices_only):
    """Every so many steps, one step of orthogonal iteration, its columns sorted, and v with them.

        Q <- QR(F Q), after sorting columns by diag(Q^T F Q);   eigenvectors of F at the start

    Vyas et al., 2024, arXiv:2409.11321. v is sorted along, not turned.
    """
    if step % precondition_frequency != 0:
        return None
    own = [relative(f) for f in unpack(factors, p.shape)]
    pairs = list(zip(own, unpack(bases, p.shape), strict=True))
    if step == 0:
        return {"bases": pack([eigenbasis(f) for f, _ in pairs], bases)}
    orders = [weights(f, q) for f, q in pairs]
    for axis, order in enumerate(orders):
        exp_avg_sq = exp_avg_sq.index_select(axis, order)
    new = [qr(iterated(f, q)[:, o])[0] for (f, q), o in zip(pairs, orders, strict=True)]
    return {"bases": pack(new, bases), "exp_avg_sq": exp_avg_sq}


@mark(place="after", bounds={"precondition_frequency": ">= 1"})
def transport_bases(p, factors, step, exp_avg_sq, precondition_frequency=10, bases=matrices_only):
    """`refresh_bases`, with columns sorted after the QR, and v carried over by squared rotations.

    v <- (R_a^2)^T v along each axis, R_a = Q_old^T Q_new: HeavyBall's.
    """
    if step % precondition_frequency != 0:
        return None
    own = [relative(f) for f in unpack(factors, p.shape)]
    pairs = list(zip(own, unpack(bases, p.shape), strict=True))
    if step == 0:
        return {"bases": pack([eigenbasis(f) for f, _ in pairs], bases)}
    new = [qr(iterated(f, q))[0] for f, q in pairs]
    new = [n[:, weights(f, n)] for (f, _), n in zip(pairs, new, strict=True)]
    turns = [(q.T @ n).square().T for (_, q), n in zip(pairs, new, strict=True)]
    return {"bases": pack(new, bases), "exp_avg_sq": along(exp_avg_sq, turns)}
