"""The vocabulary: the blocks that optimizers are made of, one family a file."""

from weft.callbacks import fastai
from weft.callbacks.accumulators import accumulate, adadelta, infinity_norm, inverse_time
from weft.callbacks.averaging import anneal, average_iterates
from weft.callbacks.clip import (
    adapt_norm,
    clip_norm,
    clip_unit,
    clip_update_rms,
    clip_value,
    cut_spikes,
)
from weft.callbacks.decay import ascend, decay_update, l2, weight_decay
from weft.callbacks.descent import count, descend, subtract
from weft.callbacks.factored import (
    block_ema_sq,
    confidence,
    cover_root,
    descend_relative,
    factored_ema_sq,
    factored_root,
    factored_sq,
    param_rms,
)
from weft.callbacks.momentum import (
    average,
    debias,
    ema,
    heavy_ball,
    interpolate,
    nesterov,
    nesterov_debias,
    nesterov_product,
    quasi_hyperbolic,
    sign,
)
from weft.callbacks.resilient import resilient
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
from weft.callbacks.units import centralize, orthograd

__all__ = [
    "accumulate",
    "adadelta",
    "adapt_norm",
    "anneal",
    "ascend",
    "average",
    "average_iterates",
    "block_ema_sq",
    "centralize",
    "centred_root",
    "clip_norm",
    "clip_unit",
    "clip_update_rms",
    "clip_value",
    "confidence",
    "count",
    "cover_root",
    "cut_spikes",
    "debias",
    "decay_update",
    "descend",
    "descend_relative",
    "ema",
    "ema_sq",
    "factored_ema_sq",
    "factored_root",
    "factored_sq",
    "fastai",
    "heavy_ball",
    "infinity_norm",
    "interpolate",
    "inverse_time",
    "l2",
    "lars_scale",
    "max_sq",
    "mean_grad",
    "mean_square",
    "nesterov",
    "nesterov_debias",
    "nesterov_product",
    "orthograd",
    "param_rms",
    "precondition",
    "quasi_hyperbolic",
    "quasi_hyperbolic_root",
    "rectify",
    "resilient",
    "root",
    "sign",
    "subtract",
    "trust_ratio",
    "weight_decay",
]
