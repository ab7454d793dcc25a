"""SPlus: signs in eigenbases, steps scaled by shape, and an average of the weights."""

import torch

from weft.callback import mark, state, zeros
from weft.callbacks.decay import spared
from weft.callbacks.eigenbasis import eigenbasis
from weft.callbacks.kronecker import pack, packed, relative, unpack

__all__ = ["average_param", "decay_by_shape", "refresh_eigenbases", "scale_by_shape"]


def packed_plane(p: torch.Tensor) -> torch.Tensor:
    """`packed`, and nothing for what is no matrix."""
    return packed(p) if p.ndim == 2 else packed(p.new_zeros(0))


planes_only = state(packed_plane, least=torch.float32)


def identities(p: torch.Tensor) -> torch.Tensor:
    """The identity for each axis of a matrix, nothing for what is none."""
    none = planes_only.make(p)
    eyes = [torch.eye(n, dtype=none.dtype, device=p.device) for n in p.shape]
    return pack(eyes, none) if p.ndim == 2 else none


from_identity = state(identities, least=torch.float32)


def size(p: torch.Tensor, constant: float) -> float:
    """2 / (m + n) for a matrix, a constant for what is none."""
    return 2 / (p.shape[0] + p.shape[1]) if p.ndim == 2 else constant


@mark(place="update", bounds={"nonstandard_constant": ">= 0"})
def scale_by_shape(update, nonstandard_constant=1e-3):
    """u <- u * 2 / (m + n); times a constant what is no matrix. Frans et al., 2025, arXiv:2506.07254."""
    return {"update": update * size(update, nonstandard_constant)}


@mark(place="after", role="decay", bounds={"nonstandard_constant": ">= 0"})
def decay_by_shape(p, lr, weight_decay=0.01, nonstandard_constant=1e-3, do_wd=None):
    """Decay with the same scale: p <- p * (1 - lr * 2 / (m + n) * weight_decay)."""
    if spared(do_wd):
        return None
    return {"p": p * (1 - lr * size(p, nonstandard_constant) * weight_decay)}


@mark(place="after", bounds={"ema_rate": ">= 0, < 1"})
def average_param(p, step, ema_rate=0.999, param_average=zeros):
    """A corrected average of the parameter: a <- a + (1 - r) / (1 - r^t) * (p - a)."""
    return {"param_average": param_average.lerp(p, (1 - ema_rate) / (1 - ema_rate**step))}


@mark(place="after", bounds={"inverse_steps": ">= 1"})
def refresh_eigenbases(p, factors, step, inverse_steps=100, eps=1e-30, bases=from_identity):
    """Eigenvectors of the factors, at the start and every `inverse_steps`; the next step uses them.

    A factor is taken relative to its largest entry, with eps on its diagonal.
    """
    if p.ndim != 2 or (step != 1 and step % inverse_steps != 0):
        return None
    own = [relative(f) for f in unpack(factors, p.shape)]
    eye = [eps * torch.eye(f.shape[0], dtype=f.dtype, device=f.device) for f in own]
    new = [eigenbasis(f + e) for f, e in zip(own, eye, strict=True)]
    return {"bases": pack(new, bases)}
