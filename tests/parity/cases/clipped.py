"""What acts on the gradient, before AdamW and SGD: clipping, centralization, orthogonality."""

from functools import partial

import weft
from parity.case import Case

ADAMW = {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1}
SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}


def with_modifier(algorithm, modifier, params, **hypers):
    """The algorithm's chain with a modifier added to it."""
    return (getattr(weft, algorithm).chain() + modifier)(params, **hypers)


def sgd(modifier, params, **hypers):
    """SGD selects its callbacks by its momentum, so that the chain has to know."""
    return (weft.SGD.chain(momentum=hypers["momentum"]) + modifier)(params, **hypers)


def modified(name, reference, hypers, modifier, ref=None):
    """`name` plus a modifier from `weft.callbacks`."""
    cb = getattr(weft.callbacks, modifier)
    build = partial(sgd, cb) if name == "SGD" else partial(with_modifier, name, cb)
    return Case(name, reference, hypers, ref=ref, build=build)


CASES = [
    modified("AdamW", "adamw_clip_global", {**ADAMW, "max_norm": 4.0}, "clip_global_norm"),
    modified("SGD", "sgd_clip_global", {**SGD, "max_norm": 4.0}, "clip_global_norm"),
    modified("AdamW", "adamw_clip_tensor", {**ADAMW, "max_norm": 2.0}, "clip_norm"),
    modified("AdamW", "adamw_clip_value", {**ADAMW, "clip_value": 0.5}, "clip_value"),
    modified("AdamW", "adamw_agc", {**ADAMW, "clipping": 0.5}, "clip_unit"),
    modified("SGD", "sgd_agc", {**SGD, "clipping": 0.5}, "clip_unit"),
    modified("AdamW", "adamw_centralized", ADAMW, "centralize"),
    modified("SGD", "sgd_centralized", SGD, "centralize"),
    modified("AdamW", "adamw_orthograd", ADAMW, "orthograd"),
    modified("SGD", "sgd_orthograd", SGD, "orthograd"),
]
