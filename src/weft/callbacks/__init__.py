"""The vocabulary: the blocks that optimizers are made of, one family a file."""

from weft.callbacks import fastai
from weft.callbacks.decay import ascend, decay_update, l2, weight_decay
from weft.callbacks.descent import count, descend
from weft.callbacks.momentum import (
    debias,
    ema,
    heavy_ball,
    interpolate,
    nesterov,
    quasi_hyperbolic,
    sign,
)
from weft.callbacks.rms import centred_root, quasi_hyperbolic_root, root
from weft.callbacks.second_moment import (
    ema_sq,
    max_sq,
    mean_grad,
    mean_square,
    precondition,
    rectify,
)
from weft.callbacks.trust import lars_scale, trust_ratio

__all__ = [
    "ascend",
    "centred_root",
    "count",
    "debias",
    "decay_update",
    "descend",
    "ema",
    "ema_sq",
    "fastai",
    "heavy_ball",
    "interpolate",
    "l2",
    "lars_scale",
    "max_sq",
    "mean_grad",
    "mean_square",
    "nesterov",
    "precondition",
    "quasi_hyperbolic",
    "quasi_hyperbolic_root",
    "rectify",
    "root",
    "sign",
    "trust_ratio",
    "weight_decay",
]
