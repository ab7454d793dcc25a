"""Factors that minimise a KL divergence: each is whitened by the other.

Of a matrix (m, n), or a convolution as one. As in SOAP's kin, the first gradient makes the factors
and their bases, and steps are counted from the second.
"""

import torch

from weft.callback import mark, state, zeros
from weft.callbacks.decompositions import qr
from weft.callbacks.eigenbasis import eigenbasis, iterated
from weft.callbacks.kronecker import bounded, gram, pack, packed, relative, unpack
from weft.callbacks.matrix import MATRICES, matrix
from weft.callbacks.units import mean

__all__ = [
    "kl_eigenvalues",
    "kl_ema_sq",
    "kl_factors",
    "kl_rotate",
    "kl_rotate_back",
    "kl_scale",
    "kl_start",
    "refresh_kl_bases",
]


def packed_sides(p: torch.Tensor) -> torch.Tensor:
    """Zeros for one square matrix a side of a parameter as a matrix."""
    return packed(matrix(p))


two_sides = state(packed_sides, least=torch.float32)
wide = state(None, least=torch.float32)


def whitened(x: torch.Tensor, bases: torch.Tensor, values: torch.Tensor):
    """G S_b^(-1/2) and G^T S_a^(-1/2), each up to a rotation, and the two bases."""
    q_a, q_b = unpack(bases, x.shape)
    d_a, d_b = values[: x.shape[0]], values[x.shape[0] :]
    return x @ q_b / d_b.sqrt(), x.T @ q_a / d_a.sqrt(), q_a, q_b


@mark(place="statistics", ndim=MATRICES, bounds={"shampoo_beta": ">= 0, <= 1"})
def kl_factors(
    grad, bases, eigenvalues, step, betas=(0.9, 0.98), shampoo_beta=None, factors=two_sides
):
    """Each factor as an average of gradients whitened by the other.

        S_a <- b S_a + (1 - b)/n G S_b^-1 G^T;   S_b <- b S_b + (1 - b)/m G^T S_a^-1 G

    with S^-1 = Q diag(1/d) Q^T, the identity in the first step. Lin et al., 2025, arXiv:2509.03378.
    """
    beta, x = betas[1] if shampoo_beta is None else shampoo_beta, matrix(grad)
    left, right = unpack(factors, x.shape)
    by_b, by_a = (x, x.T) if step == 0 else whitened(x, bases, eigenvalues)[:2]
    left = beta * left + (1 - beta) / x.shape[1] * gram(by_b)
    right = beta * right + (1 - beta) / x.shape[0] * gram(by_a)
    return {"factors": pack([left, right], factors)}


@mark(place="after", ndim=MATRICES, bounds={"shampoo_beta": ">= 0, <= 1"})
def kl_eigenvalues(grad, bases, eigenvalues, step, betas=(0.9, 0.98), shampoo_beta=None):
    """The eigenvalues of both factors, averaged in their bases.

    d_a <- b d_a + (1 - b)/n diag(Q_a^T G S_b^-1 G^T Q_a), d_b likewise
    """
    if step == 0:
        return None
    beta, x = betas[1] if shampoo_beta is None else shampoo_beta, matrix(grad)
    by_b, by_a, q_a, q_b = whitened(x, bases, eigenvalues)
    turned = [(q.T @ y).square() for q, y in ((q_a, by_b), (q_b, by_a))]
    both = torch.cat([mean(bounded(sq), dim=1) for sq in turned])
    return {"eigenvalues": beta * eigenvalues + (1 - beta) * both}


@mark(place="grad", ndim=MATRICES, bounds={"init_factor": "> 0"})
def kl_start(grad, step, init_factor=0.1, eigenvalues=wide):
    """All eigenvalues at the start: d = init_factor."""
    if eigenvalues is not None:
        return None
    x = matrix(grad)
    return {"eigenvalues": torch.full_like(x[0, :1], init_factor).repeat(sum(x.shape))}


@mark(place="update", ndim=MATRICES)
def kl_rotate(update, bases):
    """Turn the update into both bases: u <- Q_a^T u Q_b."""
    q_a, q_b = unpack(bases, matrix(update).shape)
    return {"update": (q_a.T @ matrix(update) @ q_b).reshape(update.shape)}


@mark(place="update", ndim=MATRICES)
def kl_rotate_back(update, bases):
    """Turn the update back from both bases: u <- Q_a u Q_b^T."""
    q_a, q_b = unpack(bases, matrix(update).shape)
    return {"update": (q_a @ matrix(update) @ q_b.T).reshape(update.shape)}


@mark(place="update", ndim=MATRICES)
def kl_scale(update, eigenvalues, eps=1e-8):
    """Divide by the roots of the eigenvalues: u_ij <- u_ij / (sqrt(d_i d_j) + eps)."""
    x = matrix(update)
    d_a, d_b = eigenvalues[: x.shape[0]], eigenvalues[x.shape[0] :]
    return {"update": (x / (d_a.sqrt()[:, None] * d_b.sqrt() + eps)).reshape(update.shape)}


@mark(place="statistics", ndim=MATRICES)
def kl_ema_sq(grad, bases, betas=(0.9, 0.98), exp_avg_sq=zeros):
    """The average of the squared gradient in both bases: v <- beta2 v + (1 - beta2) (Q_a^T g Q_b)^2."""
    r = kl_rotate(grad, bases)["update"]
    return {"exp_avg_sq": betas[1] * exp_avg_sq + (1 - betas[1]) * r * r}


@mark(place="after", ndim=MATRICES, bounds={"precondition_frequency": ">= 1"})
def refresh_kl_bases(p, factors, step, precondition_frequency=10, bases=two_sides):
    """Every so many steps Q <- QR(S Q), unsorted; eigenvectors of S at the start."""
    if step % precondition_frequency != 0:
        return None
    shape = matrix(p).shape
    both = zip(unpack(factors, shape), unpack(bases, shape), strict=True)
    new = [eigenbasis(s) if step == 0 else qr(iterated(relative(s), q))[0] for s, q in both]
    return {"bases": pack(new, bases)}
