"""Orthogonalising the update of a matrix, and how long the result should be.

A weight of more than two axes is a matrix of its output units: (out, everything else).
"""

import math

import torch

from weft.callback import mark, state
from weft.callbacks.decompositions import svd
from weft.callbacks.units import centered, mean, norm, quotient
from weft.contract.declare import LOW

__all__ = [
    "adjust_lr",
    "dual_scale",
    "graft_norm",
    "nesterov_average",
    "newton_schulz",
    "normalize_neurons",
    "normalize_selected",
    "polar",
    "polar_express",
    "scale_to_rms",
    "standardize_rows",
    "stiefel",
]

MATRICES = (2, 3, 4, 5)
JORDAN = (3.4445, -4.7750, 2.0315)
SAFETY = 1.01
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)
DTYPES = ("auto", "float64", "float32", "bfloat16", "float16")  # that the iterations may run in
LIMIT = (1.875, -1.25, 0.375)  # where the coefficients settle; it needs no safety factor


def one_a_unit(p: torch.Tensor) -> torch.Tensor:
    """A zero for each output unit."""
    return p.new_zeros(p.shape[0], 1)


one_a_row = state(one_a_unit)


def matrix(x: torch.Tensor) -> torch.Tensor:
    """A tensor as the matrix whose rows are its output units."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def quintic(x: torch.Tensor, coefficients, dtype: str = "auto") -> torch.Tensor:
    """X <- a X + (b A + c A^2) X with A = X X^T, for each (a, b, c), on the wide side.

    dtype: the name of what it runs in; "auto" is bfloat16 for float32 on a GPU, whose matrix units
        are made for it, and the dtype of `x` elsewhere.
    """
    kept, dtype_of_steps = x.dtype, iterated_in(x, dtype)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    if dtype_of_steps is not kept:
        x = x.to(dtype_of_steps)
    for a, b, c in coefficients:
        gram = x @ x.T
        if dtype_of_steps in LOW:  # every operation rounds: as few as can be
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        else:
            x = a * x + (b * gram + c * (gram @ gram)) @ x
    if dtype_of_steps is not kept:
        x = x.to(kept)
    return x.T if tall else x


def iterated_in(x: torch.Tensor, dtype: str) -> torch.dtype:
    """The dtype that an iteration on `x` runs in."""
    if dtype == "auto":
        return torch.bfloat16 if x.device.type == "cuda" and x.dtype is torch.float32 else x.dtype
    return getattr(torch, dtype)


def polar_factor(x: torch.Tensor) -> torch.Tensor:
    """U V^T of the singular value decomposition, without what is rounding beside the largest."""
    u, s, vh = svd(x)
    return u * (s > max(x.shape) * torch.finfo(x.dtype).eps * s[0]) @ vh


@mark(place="update", role="nesterov")
def nesterov_average(update, grad, momentum=0.9):
    """Look ahead along an averaged momentum: u <- (1 - momentum) * g + momentum * u."""
    return {"update": grad.lerp(update, momentum)}


@mark(place="update", ndim=MATRICES, bounds={"ns_steps": ">= 0", "ns_dtype": DTYPES})
def newton_schulz(update, ns_coefficients=JORDAN, ns_steps=5, eps=1e-7, ns_dtype="auto"):
    """Push all singular values towards one, by a quintic iteration.

        X = u / max(|u|, eps);   ns_steps times:  X <- a X + (b X X^T + c (X X^T)^2) X;   u <- X

    Jordan et al., 2024, kellerjordan.github.io/posts/muon. The iteration is in `ns_dtype`: "auto" is
    bfloat16 on a GPU, as in public implementations, and the update's own precision elsewhere. A zero
    update stays zero.
    """
    x = matrix(update)
    x = quintic(x / norm(x).clamp(min=eps), [ns_coefficients] * ns_steps, ns_dtype)
    return {"update": x.reshape(update.shape)}


@mark(place="update", ndim=MATRICES, bounds={"ns_steps": ">= 0", "ns_dtype": DTYPES})
def polar_express(update, ns_steps=5, ns_dtype="auto"):
    """Newton-Schulz with the best quintic for each step.

        X = u / (1.01 |u| + 1e-7);   step i:  X <- a_i X + (b_i X X^T + c_i (X X^T)^2) X;   u <- X

    Amsel et al., 2025, arXiv:2505.16932, algorithm 1, with its safety factor of 1.01. `ns_dtype` as
    in `newton_schulz`.
    """
    safe = [(a / SAFETY, b / SAFETY**3, c / SAFETY**5) for a, b, c in POLAR_EXPRESS]
    x = matrix(update)
    x = quintic(x / (SAFETY * norm(x) + 1e-7), [*safe, *[LIMIT] * ns_steps][:ns_steps], ns_dtype)
    return {"update": x.reshape(update.shape)}


@mark(place="update", ndim=MATRICES)
def polar(update):
    """Set singular values to one, exactly: u <- U V^T, by a decomposition; those of zero stay zero."""
    return {"update": polar_factor(matrix(update)).reshape(update.shape)}


@mark(place="update", ndim=MATRICES)
def adjust_lr(update, adjust_lr_fn="original"):
    """Scale an orthogonal update by its shape (m, n).

        "original":         sqrt(max(1, m / n))      Jordan et al., 2024
        "match_rms_adamw":  0.2 * sqrt(max(m, n))    Liu et al., 2025, arXiv:2502.16982
        "spectral_norm":    sqrt(m / n)              Pethick et al., 2025, arXiv:2502.07529

    None is "original".
    """
    m, n = update.shape[0], math.prod(update.shape[1:])
    if adjust_lr_fn == "match_rms_adamw":
        return {"update": update * (0.2 * math.sqrt(max(m, n)))}
    if adjust_lr_fn == "spectral_norm":
        return {"update": update * math.sqrt(m / n)}
    return {"update": update * math.sqrt(max(1, m / n))}


@mark(place="update", bounds={"target_rms": ">= 0"})
def scale_to_rms(update, target_rms=0.2):
    """Give the update a fixed root mean square: u <- u * target_rms * sqrt(n) / |u|.

    0.2 is about what Adam's updates have: Liu et al., 2025, arXiv:2502.16982.
    """
    return {"update": quotient(update, norm(update)) * (target_rms * math.sqrt(update.numel()))}


@mark(place="update", ndim=MATRICES, bounds={"beta2": ">= 0, <= 1", "norm_eps": ">= 0"})
def normalize_neurons(
    update,
    beta2=0.95,
    norm_eps=1e-8,
    neuron_sq=one_a_row,
):
    """Divide each row by the root of its average mean square, and keep the norm of the whole.

        v <- beta2 * v + (1 - beta2) * mean_row(u^2);   w = u / (sqrt(v) + norm_eps);   u <- w * |u| / |w|

    Li et al., 2025, arXiv:2510.05491. v is not debiased: the norm makes up for it.
    """
    x = matrix(update)
    v = beta2 * neuron_sq + (1 - beta2) * mean(x * x, dim=1, keepdim=True)
    even = quotient(x, v.sqrt() + norm_eps)
    even = even * quotient(norm(x), norm(even))
    return {"neuron_sq": v, "update": even.reshape(update.shape)}


@mark(place="update", ndim=MATRICES, bounds={"beta2": ">= 0, <= 1", "norm_eps": ">= 0"})
def normalize_selected(update, beta2=0.95, norm_eps=1e-8, neuron_sq=one_a_row):
    """`normalize_neurons` for the rows that are not zero; the others' v stays as it was."""
    square = mean(matrix(update * update), dim=1, keepdim=True)
    v = torch.where(square > 0, beta2 * neuron_sq + (1 - beta2) * square, neuron_sq)
    even = quotient(matrix(update), v.sqrt() + norm_eps)
    even = even * quotient(norm(update), norm(even))
    return {"neuron_sq": v, "update": even.reshape(update.shape)}


@mark(place="update")
def dual_scale(update, grad):
    """Make the update as long as the gradient is along it: u <- <g, u> * u.

    After an orthogonalisation <g, u> is the nuclear norm of g: steepest descent in the spectral norm.
    Carlson et al., 2015; Bernstein and Newhouse, 2024, arXiv:2409.20325.
    """
    return {"update": update * (grad * update).sum()}


@mark(place="grad", ndim=MATRICES, bounds={"norm_eps": ">= 0"})
def standardize_rows(grad, norm_eps=1e-8):
    """Give each row of the gradient mean zero and root mean square one.

    g <- (g - mean) / (rms(g - mean) + norm_eps)
    """
    x = centered(matrix(grad), 1)
    x = quotient(x, norm(x, dim=1, keepdim=True) / math.sqrt(x.shape[1]) + norm_eps)
    return {"grad": x.reshape(grad.shape)}


@mark(place="update")
def graft_norm(update, grad):
    """Keep the direction, take the length of the gradient: u <- u * |g| / (|u| + 1e-16).

    Agarwal et al., 2020, arXiv:2002.11803.
    """
    return {"update": update * (norm(grad) / (norm(update) + 1e-16))}


@mark(place="after", ndim=MATRICES)
def stiefel(p):
    """Bring the parameter back to the orthogonal matrices: p <- U V^T of p."""
    return {"p": polar_factor(matrix(p)).reshape(p.shape)}
