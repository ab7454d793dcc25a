"""AdamW and SGD held steady by norms of tensors."""

from parity.case import Case

ADAM = {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1}
SPAM = {**ADAM, "theta": 0.9, "reset_interval": 7}
GC = {**ADAM, "warmup_steps": 8, "lambda_abs": 2.0, "lambda_rel": 1.02}

CASES = [
    Case("StableAdamW", "stable_adamw", {**ADAM, "eps": 1e-6}),
    Case("StableAdamW", "stable_adamw", {**ADAM, "betas": (0.9, 0.95), "eps": 0.3}),
    Case("AdaGC", "adagc", GC),
    Case(
        "StableSPAM",
        "stable_spam",
        {**SPAM, "gammas": (0.7, 0.8)},
        ref={**SPAM, "gamma1": 0.7, "gamma2": 0.8},
    ),
    Case("NovoGrad", "novograd", {"lr": 0.05, "betas": (0.9, 0.98), "weight_decay": 0.1}),
    Case("NovoGrad", "novograd", {"lr": 0.05, "betas": (0.9, 0.98), "grad_averaging": True}),
    Case("AdamS", "adams", ADAM),
    Case("LAMBC", "lambc", {**ADAM, "eps": 1e-6}),
    Case("AdamH", "adamh", {"lr": 0.02, "betas": (0.9, 0.99)}),
    Case("Gravity", "gravity", {"lr": 0.1, "alpha": 0.0}),
    Case("SGDSaI", "sgd_sai", {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}),
]
