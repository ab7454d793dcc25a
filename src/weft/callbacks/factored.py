"""Second moments in less memory than the gradient: factored, covered, or one for each block."""

import functools
import math
from typing import Any

import torch

from weft.callback import mark, state, zeros
from weft.callbacks.units import mean, quotient, rms, unit_dims

__all__ = [
    "block_ema_sq",
    "confidence",
    "cover_root",
    "descend_relative",
    "divide_factored",
    "factored_ema_sq",
    "factored_root",
    "factored_sq",
    "param_rms",
]


def follow(average: torch.Tensor | None, x: torch.Tensor, weight: Any) -> torch.Tensor:
    """An average that starts at zero, moved by `weight` towards `x`."""
    return weight * x if average is None else average.lerp(x, weight)


def product(row: torch.Tensor, col: torch.Tensor, floor: float = 0.0) -> torch.Tensor:
    """The matrix of rank one with these means of rows and columns; rows first relative to theirs."""
    return quotient(row, mean(row, dim=-2, keepdim=True).clamp(min=floor)) * col


@mark(place="statistics", bounds={"sq_eps": ">= 0"})
def factored_sq(
    grad, step, beta2_decay=-0.8, sq_eps=0.0, row_var=None, col_var=None, variance=None
):
    """Adafactor's second moment: means of rows and columns for matrices, whole for vectors.

        R <- (1 - w) R + w * mean(g^2 over columns),   C likewise over rows,   w = t^beta2_decay

    Shazeer and Stern, 2018, arXiv:1804.04235. The paper adds `sq_eps` = 1e-30 to g^2; torch adds
    nothing and clamps later. Of more dimensions than two, the last two are the matrix.
    """
    weight, sq = step**beta2_decay, grad * grad + sq_eps
    if grad.ndim < 2:
        return {"variance": follow(variance, sq, weight)}
    row, col = mean(sq, dim=-1, keepdim=True), mean(sq, dim=-2, keepdim=True)
    return {"row_var": follow(row_var, row, weight), "col_var": follow(col_var, col, weight)}


@mark(place="statistics", bounds={"sq_eps": ">= 0"})
def factored_ema_sq(
    grad, betas=(0.9, 0.999), sq_eps=1e-30, row_var=None, col_var=None, variance=None
):
    """The factored second moment with a constant decay.

    R <- beta2 * R + (1 - beta2) * mean(g^2 + sq_eps over columns),   C likewise over rows
    """
    weight, sq = 1 - betas[1], grad * grad + sq_eps
    if grad.ndim < 2:
        return {"variance": follow(variance, sq, weight)}
    row, col = mean(sq, dim=-1, keepdim=True), mean(sq, dim=-2, keepdim=True)
    return {"row_var": follow(row_var, row, weight), "col_var": follow(col_var, col, weight)}


@mark(place="update", role="precondition", needs=("row_var", "variance"))
def factored_root(
    update, eps=(None, 1e-3), row_var: Any = None, col_var: Any = None, variance: Any = None
):
    """Divide by the root of a factored second moment.

        u <- u / sqrt(max(R C / max(mean(R), eps1), eps1^2))

    Shazeer and Stern, 2018, arXiv:1804.04235. The floors are torch's, eps1 the machine's epsilon
    where it is None; the paper has none, nor has `divide_factored`.
    """
    floor = torch.finfo(update.dtype).eps if eps[0] is None else eps[0]
    v = variance if update.ndim < 2 else product(row_var, col_var, floor)
    return {"update": update / v.clamp(min=floor * floor).sqrt()}


@mark(place="update", role="precondition", needs=("row_var", "variance"))
def divide_factored(update, row_var: Any = None, col_var: Any = None, variance: Any = None):
    """Divide by the root of a factored second moment that needs no floor, for g^2 had one.

        u <- u / sqrt(R C / mean(R))

    Shazeer and Stern, 2018, arXiv:1804.04235.
    """
    v = variance if update.ndim < 2 else product(row_var, col_var)
    return {"update": quotient(update, v.sqrt())}


@mark(place="update")
def param_rms(p, update, eps=(None, 1e-3)):
    """Make the update relative to the parameter's size: u <- u * max(eps2, rms(p))."""
    return {"update": update * rms(p).clamp(min=eps[1])}


@mark(place="descend")
def descend_relative(p, update, lr, step):
    """Descend with Adafactor's rate: p <- p - min(lr, 1 / sqrt(t)) * u."""
    return {"p": p - min(lr, 1 / math.sqrt(step)) * update}


@mark(place="update", bounds={"res_eps": ">= 0"})
def confidence(
    update, betas=(0.9, 0.999, 0.9999), res_eps=1e-16, exp_avg=zeros, res_row=None, res_col=None
):
    """Average the update, and divide a matrix by the root of the factored (u - m)^2.

        m <- beta1 * m + (1 - beta1) * u;   R, C <- means of (u - m)^2 + res_eps, by beta3
        u <- m / sqrt(R C / mean(R))

    Luo et al., 2023, arXiv:2307.02047. Vectors take the average alone.
    """
    avg, weight = exp_avg.lerp(update, 1 - betas[0]), 1 - betas[2]
    if update.ndim < 2:
        return {"exp_avg": avg, "update": avg}
    res = (update - avg).square() + res_eps
    row = follow(res_row, mean(res, dim=-1, keepdim=True), weight)
    col = follow(res_col, mean(res, dim=-2, keepdim=True), weight)
    scaled = quotient(avg, product(row, col).sqrt())
    return {"exp_avg": avg, "res_row": row, "res_col": col, "update": scaled}


@mark(place="statistics")
def block_ema_sq(grad, betas=(0.9, 0.999), blocks="tensor", exp_avg_sq=None):
    """One second moment for each block: a whole tensor, or with "row" an output unit.

        v <- beta2 * v + (1 - beta2) * mean(g^2 over the block)

    Zhang et al., 2024, arXiv:2406.16793. Their blocks are the Hessian's: the heads of queries and
    keys, the rows of embeddings and the output layer, tensors elsewhere.
    """
    sq, rows = grad * grad, blocks == "row" and grad.ndim > 1
    of_block = mean(sq, dim=unit_dims(grad), keepdim=True) if rows else mean(sq)
    return {"exp_avg_sq": follow(exp_avg_sq, of_block, 1 - betas[1])}


def _sides(p: torch.Tensor) -> torch.Tensor:
    return p.new_zeros(sum(p.shape or (1,)))


@mark(place="update", role="precondition", bounds={"sq_eps": ">= 0"})
def cover_root(update, grad, sq_eps=1e-30, cover=state(_sides)):
    """Divide by the root of SM3's accumulators: one number for each slice of each dimension.

        v = min over the slices through an entry of their numbers + g^2;   u <- u / sqrt(v + sq_eps)
        each slice's number <- the largest v in it

    Anil et al., 2019, arXiv:1901.11150 (SM3-II). `cover` holds the slices of all dimensions in turn.
    """
    sides = grad.shape or (1,)
    dims = range(len(sides))
    across = [[-1 if k == d else 1 for k in dims] for d in dims]
    parts = [c.reshape(s) for c, s in zip(cover.split(list(sides)), across, strict=True)]
    v = (functools.reduce(torch.minimum, parts) + (grad * grad).reshape(sides)).reshape(sides)
    largest = [v.amax(dim=[k for k in dims if k != d]) if len(sides) > 1 else v for d in dims]
    root = (v + sq_eps).sqrt().reshape(grad.shape)
    return {"cover": torch.cat(largest), "update": quotient(update, root)}
