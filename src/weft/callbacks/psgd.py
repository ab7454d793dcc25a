"""Preconditioned SGD: Kronecker factors that whiten the gradient, fitted on a Lie group.

A factor is triangular, or diagonal for a vector, an axis of length one, or one that is too long.
"""

import math

import torch

from weft.callback import mark, state
from weft.callbacks.decay import spared
from weft.callbacks.decompositions import inverse
from weft.callbacks.kronecker import unfold
from weft.callbacks.units import norm, quotient, rms

__all__ = ["cap_rms", "decay_matrices", "fit_whitener", "kron_schedule", "whiten"]


made = state(None, least=torch.float32)


def factors_of(flat: torch.Tensor | None, x: torch.Tensor, limit: int) -> list[torch.Tensor]:
    """The factors in a flat state, a vector for a diagonal one; identities where there is none."""
    out, at = [], 0
    for n in x.shape:
        dense = x.ndim > 1 and 1 < n <= limit
        if flat is None:
            one = torch.eye(n, dtype=x.dtype, device=x.device)
            out.append(one if dense else one.diagonal())
        else:
            held = flat[at : at + (n * n if dense else n)]
            out.append(held.reshape(n, n) if dense else held)
        at += n * n if dense else n
    return out


def apply(q: torch.Tensor, x: torch.Tensor, axis: int) -> torch.Tensor:
    """A factor times a tensor along an axis."""
    moved, rows = x.movedim(axis, 0), unfold(x, axis)
    rows = q @ rows if q.ndim == 2 else q.unsqueeze(1) * rows
    return rows.reshape(moved.shape).movedim(0, axis)


def spectral_bound(a: torch.Tensor) -> torch.Tensor:
    """A cheap lower bound of the spectral norm: two products with the heaviest column."""
    largest = a.abs().max()
    a = quotient(a, largest)
    x = a.index_select(1, a.square().sum(dim=0).argmax().reshape(1)).squeeze(1) @ a
    return largest * norm(quotient(x, norm(x)) @ a.T)


def fitted(q: torch.Tensor, a: torch.Tensor, b: torch.Tensor, rate: float) -> torch.Tensor:
    """One step of a factor towards A A^T = B B^T, relative to itself and so to the size of both."""
    size = a.abs().amax().maximum(b.abs().amax())
    a, b = quotient(a, size), quotient(b, size)
    if q.ndim == 1:
        aa, bb = a.square().sum(dim=1), b.square().sum(dim=1)
        return q - rate * quotient(aa - bb, (aa + bb).abs().max()) * q
    aa, bb = a @ a.T, b @ b.T
    return q - rate * quotient(torch.triu(aa - bb), spectral_bound(aa + bb)) @ q


@mark(place="statistics", bounds={"update_probability": ">= 0, <= 1"})
def kron_schedule(step, update_probability=None, since_update=0):
    """How many steps ago the factors were due; they are at 0.

    With probability q that is every 1 / q steps; by default q falls from 1 after 500 steps to 0.03.
    """
    q = update_probability
    if q is None:
        q = min(1.0, max(0.03, math.exp(-0.001 * (step - 501))))
    return {"since_update": 0 if since_update + 1 >= 1 / q else since_update + 1}


@mark(place="statistics", bounds={"precondition_lr": ">= 0", "max_size_triangular": ">= 0"})
def fit_whitener(
    update, since_update, precondition_lr=0.1, max_size_triangular=8192, whitener=made
):
    """When due, fit the factors Q_a to whiten the update, with a random probe V.

        A = u with Q_a, B = V with Q_a^-T along each axis a
        Q_a <- Q_a - precondition_lr * triu(A_a A_a^T - B_a B_a^T) / |A_a A_a^T + B_a B_a^T| Q_a

    Li, 2015, arXiv:1512.04202; Li, 2024, arXiv:2402.11858.
    """
    a = update.reshape(update.shape or (1,))
    qs = factors_of(whitener, a, max_size_triangular)
    if since_update == 0:
        shape, b = a.shape, torch.randn(a.shape, dtype=a.dtype, device=a.device)
        for axis, q in enumerate(qs):
            a, b = apply(q, a, axis), apply(inverse_transposed(q), b, axis)
        sides = [(unfold(a, axis), unfold(b, axis)) for axis in range(len(shape))]
        qs = [fitted(q, *ab, precondition_lr) for q, ab in zip(qs, sides, strict=True)]
    return {"whitener": torch.cat([q.reshape(-1) for q in qs])}


def inverse_transposed(q):
    """The transposed inverse of a factor, which a vector is the diagonal of or a matrix."""
    return 1 / q if q.ndim == 1 else inverse(q).T


@mark(place="update", bounds={"max_size_triangular": ">= 0"})
def whiten(update, whitener, max_size_triangular=8192):
    """Precondition with the factors: u <- u with Q_a^T Q_a along each axis."""
    u = update.reshape(update.shape or (1,))
    for axis, q in enumerate(factors_of(whitener, u, max_size_triangular)):
        u = apply(q * q if q.ndim == 1 else q.T @ q, u, axis)
    return {"update": u.reshape(update.shape)}


@mark(place="update", bounds={"max_rms": "> 0"})
def cap_rms(update, max_rms=1.1):
    """Shrink to a root mean square of at most `max_rms`: u <- u * min(1, max_rms / (rms(u) + 1e-6))."""
    return {"update": update * (max_rms / (rms(update) + 1e-6)).clamp(max=1)}


@mark(place="update", role="decay")
def decay_matrices(p, update, weight_decay=0.0, do_wd=None):
    """Decay as part of the update, of what has two axes or more: u <- u + weight_decay * p."""
    if p.ndim < 2 or spared(do_wd):
        return None
    return {"update": update + weight_decay * p}
