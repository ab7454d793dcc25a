"""Linear minimisation oracles: the update as the farthest point of a norm ball.

Pethick et al., 2025, arXiv:2502.07529. `normalized` divides by the size of a layer's input.
"""

import math

from weft.callback import mark
from weft.callbacks.matrix import DTYPES, JORDAN, matrix, quintic
from weft.callbacks.units import norm, rms

__all__ = ["sign_over_inputs", "spectral_or_rms", "unit_columns", "unit_rms", "unit_rows"]


@mark(place="update")
def unit_rms(update):
    """The ball of the root mean square: u <- u / (rms(u) + 1e-8)."""
    return {"update": update / (rms(update) + 1e-8)}


@mark(place="update", bounds={"ns_steps": ">= 0", "ns_dtype": DTYPES})
def spectral_or_rms(
    update, ns_coefficients=JORDAN, ns_steps=5, eps=1e-7, normalized=True, ns_dtype="auto"
):
    """The spectral ball for matrices, that of the root mean square for vectors.

    u <- sqrt(out / in) * NS(u), for a convolution over the size of its kernel
    """
    if update.ndim < 2:
        return {"update": unit_rms(update)["update"]}
    x = matrix(update)
    x = quintic(x / norm(x).clamp(min=eps), [ns_coefficients] * ns_steps, ns_dtype)
    rows, columns = update.shape[:2]
    size = math.sqrt(rows / columns if normalized else rows) / math.prod(update.shape[2:])
    return {"update": x.reshape(update.shape) * size}


@mark(place="update", ndim=(2,))
def sign_over_inputs(update, normalized=True):
    """The ball of the largest entry, for embeddings and heads: u <- sign(u) / in."""
    return {"update": update.sign() / (update.shape[1] if normalized else 1)}


@mark(place="update", ndim=(2,))
def unit_columns(update, normalized=True):
    """The ball of the longest column: u <- columns / (rms * in + 1e-8)."""
    size = norm(update, dim=0, keepdim=True) / math.sqrt(update.shape[0])
    return {"update": update / (size * (update.shape[1] if normalized else 1) + 1e-8)}


@mark(place="update", ndim=(2,))
def unit_rows(update, normalized=True):
    """The ball of the longest row: u <- rows / (|row| * sqrt(in) + 1e-8)."""
    size = math.sqrt(update.shape[1]) if normalized else 1
    return {"update": update / (norm(update, dim=1, keepdim=True) * size + 1e-8)}
