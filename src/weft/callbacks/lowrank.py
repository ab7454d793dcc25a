"""Working in a subspace: bases of a matrix, what goes into them, and the way back.

For a matrix of m x n a basis spans part of its shorter side: rows of an r x n matrix where m >= n,
columns of an m x r one elsewhere. What is not a matrix has no basis, and passes unchanged.
"""

import math

import torch

from weft.callback import mark, state, zeros
from weft.callbacks.decompositions import qr, svd
from weft.callbacks.matrix import MATRICES, matrix
from weft.callbacks.matrix_step import limit_growth
from weft.callbacks.units import norm

__all__ = [
    "adam_within",
    "add_low_rank",
    "channel_scale",
    "correct_bias",
    "ema_sq_within",
    "enter_basis",
    "leave_basis",
    "limit_within",
    "low_rank_direction",
    "low_rank_times",
    "power_iteration",
    "random_basis",
    "residual",
    "select_slices",
    "singular_basis",
]


made = state(None, least=torch.float32)


def into(x: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """The coordinates of a matrix in a basis."""
    return x @ basis.T if x.shape[0] >= x.shape[1] else basis.T @ x


def out_of(r: torch.Tensor, basis: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The matrix, shaped like another, that has the coordinates `r`."""
    return r @ basis if like.shape[0] >= like.shape[1] else basis @ r


def channels(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The norm of each row, or of each column where there are more of those."""
    return norm(x, dim=0 if like.shape[0] < like.shape[1] else 1, keepdim=True)


@mark(place="statistics", bounds={"rank": ">= 1", "update_proj_gap": ">= 1"})
def singular_basis(update, step, rank: int | None = 4, update_proj_gap=200, basis=made):
    """Every `update_proj_gap` steps, the leading singular vectors of the update.

    Q <- the first `rank` singular vectors on u's shorter side; None takes all
    """
    if update.ndim != 2 or (basis is not None and (step - 1) % update_proj_gap != 0):
        return None
    u, _, vh = svd(update)
    return {"basis": vh[:rank] if update.shape[0] >= update.shape[1] else u[:, :rank]}


@mark(place="statistics", bounds={"rank": ">= 1", "update_proj_gap": ">= 1"})
def random_basis(update, step, rank=4, update_proj_gap=200, basis=made):
    """Every `update_proj_gap` steps, directions drawn anew: Q with entries from N(0, 1 / rank)."""
    if update.ndim != 2 or (basis is not None and (step - 1) % update_proj_gap != 0):
        return None
    m, n = update.shape
    shape = (rank, n) if m >= n else (m, rank)
    drawn = torch.randn(shape, dtype=update.dtype, device=update.device)
    return {"basis": drawn / math.sqrt(rank)}


@mark(place="update")
def enter_basis(update, basis=None):
    """Take the coordinates in the basis: u <- u Q^T, or Q^T u."""
    return None if basis is None else {"update": into(update, basis)}


@mark(place="update", bounds={"scale": ">= 0"})
def leave_basis(update, grad, scale=0.25, basis=None):
    """Go back from the basis: u <- scale * u Q, or scale * Q u."""
    return None if basis is None else {"update": scale * out_of(update, basis, grad)}


@mark(place="statistics")
def adam_within(update, betas=(0.9, 0.999), exp_avg=None, exp_avg_sq=None, basis=None):
    """Adam's moments of the update's coordinates.

    r = Q^T u;   m <- beta1 * m + (1 - beta1) * r;   v <- beta2 * v + (1 - beta2) * r^2
    """
    r = update if basis is None else into(update, basis)
    exp_avg = torch.zeros_like(r) if exp_avg is None else exp_avg
    exp_avg_sq = torch.zeros_like(r) if exp_avg_sq is None else exp_avg_sq
    v = betas[1] * exp_avg_sq + (1 - betas[1]) * r * r
    return {"exp_avg": exp_avg.lerp(r, 1 - betas[0]), "exp_avg_sq": v}


def ratio(m, v, step, beta2, eps):
    """Adam's direction but for `correct_bias`: m / (sqrt(v) + eps * sqrt(1 - beta2^t))."""
    return m / (v.sqrt() + eps * math.sqrt(1 - beta2**step))


@mark(place="update", role=("debias", "correction"))
def correct_bias(update, step, betas=(0.9, 0.999)):
    """Both of Adam's corrections as one factor: u <- u * sqrt(1 - beta2^t) / (1 - beta1^t)."""
    return {"update": update * math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)}


@mark(place="statistics")
def ema_sq_within(grad, betas=(0.9, 0.999), exp_avg_sq=zeros, basis=None):
    """The average of the squared gradient in the basis: v <- beta2 * v + (1 - beta2) * (Q^T g)^2."""
    r = grad if basis is None else into(grad, basis)
    return {"exp_avg_sq": betas[1] * exp_avg_sq + (1 - betas[1]) * r * r}


@mark(place="update", bounds={"scale": ">= 0"})
def low_rank_direction(
    grad, exp_avg, exp_avg_sq, step, betas=(0.9, 0.999), eps=1e-6, scale=0.25, basis=None
):
    """Adam's direction in the basis, brought back.

        N = m / (sqrt(v) + eps * sqrt(1 - beta2^t));   u <- scale * Q N

    `correct_bias` multiplies by the rest of Adam's correction.
    """
    n = ratio(exp_avg, exp_avg_sq, step, betas[1], eps)
    return {"update": n if basis is None else scale * out_of(n, basis, grad)}


@mark(place="update", bounds={"scale": ">= 0"})
def residual(grad, exp_avg, exp_avg_sq, step, betas=(0.9, 0.999), eps=1e-6, scale=1.0, basis=None):
    """What the basis leaves out of the gradient, scaled as Adam's direction N scales what it keeps.

        R = Q^T g;   u <- (g - scale * Q R) * |N| / (|R| + 1e-8),   by channel

    Chen et al., 2024, arXiv:2410.01623. `add_low_rank` adds the other part.
    """
    if basis is None:
        return {"update": torch.zeros_like(grad)}
    r, n = into(grad, basis), ratio(exp_avg, exp_avg_sq, step, betas[1], eps)
    phi = channels(n, grad) / (channels(r, grad) + 1e-8)
    return {"update": (grad - scale * out_of(r, basis, grad)) * phi}


@mark(place="update", bounds={"scale": ">= 0"})
def add_low_rank(
    update, grad, exp_avg, exp_avg_sq, step, betas=(0.9, 0.999), eps=1e-6, scale=1.0, basis=None
):
    """Add Adam's direction in the basis: u <- u + scale * Q m / (sqrt(v) + eps sqrt(1 - beta2^t))."""
    n = ratio(exp_avg, exp_avg_sq, step, betas[1], eps)
    return {"update": update + (n if basis is None else scale * out_of(n, basis, grad))}


@mark(place="update")
def channel_scale(
    grad, exp_avg, exp_avg_sq, step, betas=(0.9, 0.999), eps=1e-6, scale_type="channel", basis=None
):
    """The gradient, scaled as Adam's direction N scales its projection: u <- g * |N| / (|R| + 1e-8).

    By channel, or with scale_type "tensor" as a whole. Zhu et al., 2024, arXiv:2412.05270.
    """
    n = ratio(exp_avg, exp_avg_sq, step, betas[1], eps)
    if basis is None:
        return {"update": n}
    r, whole = into(grad, basis), scale_type == "tensor"
    over, under = (norm(n), norm(r)) if whole else (channels(n, grad), channels(r, grad))
    return {"update": grad * (over / (under + 1e-8))}


@mark(place="update", bounds={"gamma": ">= 0"})
def limit_within(update, gamma=1.01, update_norm=None, basis=None):
    """`limit_growth` for what has a basis."""
    if basis is None:
        return None
    limited = limit_growth(update, gamma, update_norm)
    return {"update_norm": limited["update_norm"], "update": limited["update"]}


@mark(place="update", bounds={"scale": ">= 0"})
def low_rank_times(update, scale=1.0, basis=None):
    """Make up for the rank of a random basis: u <- u * sqrt(scale), where there is one."""
    return None if basis is None else {"update": update * math.sqrt(scale)}


@mark(place="statistics", ndim=MATRICES, bounds={"rank": ">= 1"})
def power_iteration(grad, momentum=0.95, rank=4, eps=1e-8, momentum_buffer=zeros, basis=made):
    """Orthogonalise the leading part of a momentum that keeps what was left out.

        B = M + g;   P = qr(B Q);   R = B^T P;   M <- B - (1 - momentum) P R^T
        Q <- R / (|columns| + eps);   u <- P Q^T,   from a Gaussian Q

    Ahn et al., 2025, arXiv:2504.05295.
    """
    b = matrix(momentum_buffer + grad)
    if basis is None:
        basis = torch.randn(b.shape[1], min(rank, *b.shape), dtype=b.dtype, device=b.device)
    left, _ = qr(b @ basis)
    right = b.T @ left
    rest, unit = b - (1 - momentum) * left @ right.T, right / (norm(right, dim=0) + eps)
    buffer, update = (x.reshape(grad.shape) for x in (rest, left @ unit.T))
    return {"momentum_buffer": buffer, "basis": unit, "update": update}


@mark(place="statistics", ndim=MATRICES, bounds={"fraction": "> 0, <= 1"})
def select_slices(grad, momentum=0.95, fraction=0.25, by_rows=False, momentum_buffer=zeros):
    """The largest slices of a momentum along its shorter side; only those are decayed.

        M <- M + g;   K = the ceil(fraction) slices of largest sum |M|;   u <- M_K, else 0
        M_K <- momentum * M_K

    Ahn et al., 2025, arXiv:2512.16928. `by_rows` always selects rows.
    """
    m = matrix(momentum_buffer + grad)
    side = 0 if by_rows or m.shape[0] <= m.shape[1] else 1
    size = m.abs().sum(dim=1 - side, keepdim=True)
    place = size.argsort(dim=side, descending=True, stable=True).argsort(dim=side)
    chosen = (place < max(1, math.ceil(fraction * m.shape[side]))).to(m.dtype)
    kept = m * (1 - (1 - momentum) * chosen)
    return {
        "momentum_buffer": kept.reshape(grad.shape),
        "update": (m * chosen).reshape(grad.shape),
    }
