"""Rates that are learned: D-Adaptation, Prodigy, DoG; and rates of all parameters together."""

from parity.case import Case

ADAM = {"lr": 1.0, "betas": (0.9, 0.99), "weight_decay": 0.1, "d0": 1e-3}
SUM = {"lr": 1.0, "momentum": 0.9, "weight_decay": 0.1, "d0": 1e-2}
ADAN = {"lr": 1.0, "betas": (0.95, 0.9, 0.9), "weight_decay": 0.1, "d0": 1e-2}

CASES = [
    Case("Prodigy", "prodigy", ADAM),
    Case("Prodigy", "prodigy", {**ADAM, "use_bias_correction": True, "growth_rate": 1.2}),
    Case("Prodigy", "prodigy", {**ADAM, "safeguard_warmup": True, "beta3": 0.8, "d_coef": 2.0}),
    Case("DAdaptAdam", "dadapt_adam", ADAM),
    Case(
        "DAdaptAdam",
        "dadapt_adam",
        {**ADAM, "decouple": True, "use_bias_correction": True, "growth_rate": 1.05},
    ),
    Case("DAdaptSGD", "dadapt_sgd", SUM),
    Case("DAdaptAdaGrad", "dadapt_adagrad", {**SUM, "eps": 1e-3}),
    Case("DAdaptAdan", "dadapt_adan", ADAN),
    Case("DAdaptAdan", "dadapt_adan", {**ADAN, "no_prox": True, "growth_rate": 1.1}),
    Case("DAdaptLion", "dadapt_lion", ADAM),
    Case("DoG", "dog", {"lr": 1.0, "reps_rel": 1e-2, "weight_decay": 0.1}),
    Case("LDoG", "ldog", {"lr": 1.0, "reps_rel": 1e-2, "weight_decay": 0.1}),
    Case("DoWG", "dowg", {"lr": 1.0, "r0": 1e-2}),
    Case("AdGD", "adgd", {"lr": 1e-2}, schedule=None),
    Case("AdaGradNorm", "adagrad_norm", {"lr": 1.0}),
    Case("NormalizedGD", "normalized_gd", {"lr": 0.1, "eps": 1e-6}),
]
