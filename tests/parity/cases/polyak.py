"""Optimizers that read the loss."""

import weft
from parity.case import Case

GROK = {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1, "lamb": 1.0}


def by_layer(params, **hypers):
    """GrokAdamW with a group for each layer, as the author counts them."""
    groups = [{"params": [p], "depth": i} for i, p in enumerate(params)]
    return weft.GrokAdamW(groups, **hypers)


CASES = [
    Case("PolyakSGD", "polyak_sgd", {"lr": 1.0, "max_lr": 0.05, "eps": 1e-3}),
    Case("PolyakSGD", "polyak_sgd", {"lr": 1.0, "max_lr": 0.02, "f_min": 0.1}),
    Case(
        "AliG",
        "alig",
        {"lr": 0.05, "momentum": 0.9},
        ref={"max_lr": 0.05, "momentum": 0.9},
        translate=lambda h: {"max_lr" if k == "lr" else k: v for k, v in h.items()},
    ),
    Case("MoMo", "momo", {"lr": 0.5, "beta": 0.8, "weight_decay": 0.1}),
    Case("MoMoAdam", "momo_adam", {"lr": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.1}),
    Case("GrokAdamW", "grokadamw", {**GROK, "eval_loss": 3.0}, build=by_layer),
    Case("GrokAdamW", "grokadamw", {**GROK, "gradient_clipping": 0.0}, build=by_layer),
    Case("GrokAdamW", "grokadamw", {**GROK, "gamma": 0.0}),
]
