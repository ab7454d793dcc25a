"""Factored and shared second moments; Adafactor is held to torch in test_torch.py as well."""

from parity.case import Case

FACTORED = {"lr": 0.05, "d": 1.0, "eps": (None, 1e-3), "beta2_decay": -0.8}
PAPER = {"lr": 0.05, "eps": (0.0, 1e-3), "sq_eps": 1e-30}
CAME = {"lr": 0.02, "betas": (0.9, 0.99, 0.995), "weight_decay": 0.1}
MINI = {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1}

CASES = [
    Case("Adafactor", "adafactor", {**FACTORED, "weight_decay": 0.1}),
    Case("Adafactor", "adafactor", {**FACTORED, "lr": 0.5, "d": 1.1}),
    Case("Adafactor", "adafactor_paper", PAPER, ref={"lr": 0.05, "eps": (1e-30, 1e-3)}),
    Case("CAME", "came", CAME),
    Case("SM3", "sm3", {"lr": 0.1, "momentum": 0.9}),
    Case("SM3", "sm3", {"lr": 0.1}),
    Case("AdamMini", "adam_mini", MINI),
    Case("AdamMini", "adam_mini", {**MINI, "blocks": "row"}),
]
