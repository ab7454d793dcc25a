"""What works element by element: signs, momenta, online learning."""

from parity.case import Case

WD = {"weight_decay": 0.1}
BETAS = {"betas": (0.9, 0.95)}

CASES = [
    Case(
        "SGD",
        "nag",
        {"lr": 0.05, "momentum": 0.9, **WD, "nesterov": True},
        ref={"lr": 0.05, "momentum": 0.9, **WD},
    ),
    Case("SGDW", "sgdw", {"lr": 0.05, "momentum": 0.9, **WD, "nesterov": True}),
    Case("SGDW", "sgdw", {"lr": 0.05, "momentum": 0.9, **WD, "dampening": 0.3}),
    Case("SignSGD", "signsgd", {"lr": 0.02, **WD}),
    Case("Signum", "signum", {"lr": 0.02, "momentum": 0.9, **WD}),
    Case("Tiger", "tiger", {"lr": 0.02, "beta": 0.9, **WD}),
    Case("CautiousLion", "cautious_lion", {"lr": 0.02, "betas": (0.9, 0.99), **WD}),
    Case("Grams", "grams", {"lr": 0.02, **BETAS, **WD}),
    Case("Ano", "ano", {"lr": 0.02, "betas": (0.92, 0.99), **WD}),
    Case("FOCUS", "focus", {"lr": 0.02, "betas": (0.9, 0.99), "gamma": 0.1, **WD}),
    Case("AggMo", "aggmo", {"lr": 0.01, "betas": (0.5, 0.9, 0.99), **WD}),
    Case("QHM", "qhm", {"lr": 0.05, "momentum": 0.95, "nu": 0.7, **WD}),
    Case("PID", "pid", {"lr": 0.01, "momentum": 0.9, "dampening": 0.2, **WD}),
    Case(
        "PNM",
        "pnm",
        {"lr": 0.05, "momentum": 0.9, "beta0": 1.0, **WD},
        ref={"lr": 0.05, "betas": (0.9, 1.0), **WD},
        translate=lambda h: {"betas": (h.pop("momentum"), 1.0), **h},
    ),
    Case("AccSGD", "accsgd", {"lr": 0.01, "kappa": 100.0, "xi": 10.0, **WD}),
    Case("OptimisticGD", "optimistic_gd", {"lr": 0.05, "alpha": 1.1, "beta": 0.8}),
    Case("OptimisticAdam", "optimistic_adam", {"lr": 0.02, **BETAS, "beta": 0.8}),
    Case("SRMM", "srmm", {"lr": 0.05, "memory_length": 10}),
    Case("FTRL", "ftrl", {"lr": 0.1, "l1": 0.1, "l2": 0.1}),
    Case("COCOB", "cocob", {"lr": 1.0, "alpha": 10.0, **WD}),
    Case("VSGD", "vsgd", {"lr": 0.1, **WD}),
    Case("KATE", "kate", {"lr": 0.1, "eta": 0.1, **WD}),
    Case("AdaSmooth", "adasmooth", {"lr": 0.05, "betas": (0.5, 0.99), **WD}),
    Case("MSVAG", "msvag", {"lr": 0.1, "beta": 0.9}),
]
