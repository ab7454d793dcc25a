"""What torch.optim has besides the first: held to the same equations as the literature's."""

from parity.case import Case

CASES = [
    Case("Adagrad", "adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1}),
    Case("Adadelta", "adadelta", {"lr": 1.0, "rho": 0.8, "weight_decay": 0.1}),
    Case("Adamax", "adamax", {"lr": 0.02, "betas": (0.9, 0.95), "weight_decay": 0.1}),
    Case(
        "NAdam",
        "nadam",
        {"lr": 0.02, "betas": (0.9, 0.95), "weight_decay": 0.1, "momentum_decay": 0.1},
        rtol=1e-6,  # torch's format keeps the product of the momenta in float32
    ),
    Case("NAdamW", "nadamw", {"lr": 0.02, "betas": (0.9, 0.95), "weight_decay": 0.1}),
    Case("Rprop", "rprop", {"lr": 0.02}, schedule=None),  # lr is where the step sizes start
    Case(
        "ASGD",
        "asgd",
        {"lr": 0.1, "lambd": 0.01, "t0": 5, "weight_decay": 0.1},
        rtol=1e-6,  # torch's format keeps eta in float32
    ),
]
