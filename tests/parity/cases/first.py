"""SGD, Adam and their nearest kin; LARS, LARC, LAMB; Lion; Lookahead."""

from parity.case import Case

RANGER = {
    "lr": 0.02,
    "betas": (0.95, 0.99),
    "eps": 1e-6,
    "weight_decay": 0.1,
    "k": 5,
    "alpha": 0.5,
}

CASES = [
    Case("SGD", "sgd", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}),
    Case("SGD", "sgd", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    Case("Adam", "adam", {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1}),
    Case("Adam", "adam", {"lr": 0.02, "betas": (0.9, 0.99), "amsgrad": True}),
    Case("AdamW", "adamw", {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1}),
    Case("RMSprop", "rmsprop", {"lr": 0.02, "momentum": 0.8, "centered": True}),
    Case("RAdam", "radam", {"lr": 0.02, "betas": (0.9, 0.95), "weight_decay": 0.1}),
    Case(
        "QHAdam",
        "qhadam",
        {"lr": 0.02, "betas": (0.95, 0.99), "nus": (0.7, 0.9), "weight_decay": 0.1},
    ),
    Case("LARS", "lars", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "eps": 1e-8}),
    Case(
        "LARC",
        "larc",
        {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1, "trust_coefficient": 0.05},
    ),
    Case("LAMB", "lamb", {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1, "eps": 1e-6}),
    Case("Lion", "lion", {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1}),
    Case("Ranger", "ranger", RANGER, ref={**RANGER, "centralize": False}),
]
