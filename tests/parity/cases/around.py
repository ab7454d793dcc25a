"""What goes around AdamW, Adam and SGD: skipped steps, a learned scale."""

import weft
from parity.case import Case

ADAMW = {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1, "window": 8, "sigmas": 1.0}
SCALE = {"s_init": 1e-3, "num_betas": 4, "mechanic_decay": 0.05}


def skipping(params, *, window, sigmas, **hypers):
    """AdamW that skips spikes."""
    chain = weft.AdamW.chain() + weft.SkipSpikes(window=window, sigmas=sigmas)
    return chain(params, **hypers)


def scaled(algorithm):
    """An algorithm inside Mechanic."""

    def build(params, *, s_init, num_betas, mechanic_decay, **hypers):
        engine = {k: hypers.pop(k) for k in ("engine",) if k in hypers}
        opt = algorithm(params, **hypers, **engine)
        return weft.Mechanic(opt, s_init=s_init, num_betas=num_betas, weight_decay=mechanic_decay)

    return build


CASES = [
    Case("AdamW", "skip_step_adamw", ADAMW, build=skipping),
    Case("AdamW", "skip_step_adamw", {**ADAMW, "sigmas": 2.0, "window": 6}, build=skipping),
    Case("SGD", "mechanic_sgd", {**SCALE, "lr": 1.0, "momentum": 0.9}, build=scaled(weft.SGD)),
    Case("Adam", "mechanic_adam", {**SCALE, "lr": 1.0}, build=scaled(weft.Adam)),
]
