"""Projections, spheres, and dual averaging."""

from parity.case import Case

ADAMP = {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1}
SGDP = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}

CASES = [
    Case("AdamP", "adamp", ADAMP),
    Case("AdamP", "adamp", {**ADAMP, "delta": 2.0, "nesterov": True}),
    Case("AdamP", "adamp", {**ADAMP, "delta": 0.7}),
    Case("SGDP", "sgdp", SGDP),
    Case("SGDP", "sgdp", {**SGDP, "delta": 0.7, "nesterov": True}),
    Case("Nero", "nero", {"lr": 0.02, "beta": 0.95}),
    Case("Nero", "nero", {"lr": 0.02, "constraints": False}),
    Case("Fromage", "fromage", {"lr": 0.05}),
    Case("MADGRAD", "madgrad", {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.01}),
]
