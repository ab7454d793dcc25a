"""Decompositions of matrices: one that fails is tried once more, in double and slightly damped.

To the tracer each is one operation, under the name that it has in aten.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

__all__: list[str] = []  # what callbacks are made with: imported by name

LinAlgError = torch.linalg.LinAlgError
DAMPING = 1e-12  # of the second attempt, relative to the largest entry


def attempted(decompose: Callable[..., Any], a: torch.Tensor) -> Any:
    """The results of a decomposition.

    Raises:
        LinAlgError: where it fails, or gives something that is not finite.
    """
    out = decompose(a)
    every = (out,) if isinstance(out, torch.Tensor) else tuple(out)
    if not a.is_meta and not all(x.isfinite().all() for x in every):
        raise LinAlgError(f"{decompose.__name__} gives infinities or NaNs")
    return every[0] if isinstance(out, torch.Tensor) else every


def damped(a: torch.Tensor) -> torch.Tensor:
    """The matrix in double, a little moved away from what may be singular."""
    a = a.double()
    eye = torch.eye(*a.shape[-2:], dtype=a.dtype, device=a.device)
    return a + DAMPING * a.abs().amax() * eye


def twice(decompose: Callable[..., Any]) -> Callable[..., Any]:
    """The decomposition, tried once more where it fails."""

    @functools.wraps(decompose)
    def tried(a: torch.Tensor) -> Any:
        if has_torch_function_unary(a):
            return handle_torch_function(tried, (a,), a)
        try:
            return attempted(decompose, a)
        except LinAlgError as first:
            if not a.isfinite().all():
                raise LinAlgError(
                    f"{decompose.__name__} of a matrix with infinities or NaNs: a gradient was not "
                    'finite, or too large for its dtype; on_nonfinite="skip" leaves such steps out'
                ) from first
            out = attempted(decompose, damped(a))
        return (
            out.to(a.dtype) if isinstance(out, torch.Tensor) else tuple(x.to(a.dtype) for x in out)
        )

    return tried


@twice
def linalg_eigh(a: torch.Tensor) -> Any:
    """Eigenvalues of a symmetric matrix, the smallest first, and orthonormal eigenvectors."""
    return torch.linalg.eigh(a)


@twice
def linalg_svd(a: torch.Tensor) -> Any:
    """U, the singular values and V^T, of the smaller side."""
    return torch.linalg.svd(a, full_matrices=False)


@twice
def linalg_qr(a: torch.Tensor) -> Any:
    """Q and R."""
    return torch.linalg.qr(a)


@twice
def linalg_inv(a: torch.Tensor) -> Any:
    """The inverse."""
    return torch.linalg.inv(a)


eigh, svd, qr, inverse = linalg_eigh, linalg_svd, linalg_qr, linalg_inv
