"""What evaluates the loss itself: sharpness around SGD and AdamW, the Hessian's diagonal."""

import torch

import weft
from parity.closure import ClosureCase

INNER = {
    "SGD": ("sgd", {"lr": 0.01, "momentum": 0.9}),
    "AdamW": ("adamw", {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1}),
}


MORE_THAN_ONE = ((6, 4), (5,), (3, 2, 2, 2))


def around(wrapper, reference, inner="SGD", **hypers):
    """An optimizer inside a wrapper that needs closures."""

    def build(params, *, engine="auto", **own):
        opt = getattr(weft, inner)(params, **own, engine=engine)
        return getattr(weft, wrapper)(opt, **hypers)

    name, own = INNER[inner]
    theirs = {("lmbda" if k == "decay" else k): v for k, v in hypers.items()}
    ref = {"inner": name, "inner_hypers": own, **theirs}
    return ClosureCase(
        inner, reference, own, ref=ref, build=build, schedule=rates, shapes=MORE_THAN_ONE
    )


def rates(t, hypers):
    """lr alone moves."""
    return {"lr": hypers["lr"] * (1.2 - 0.04 * t)}


def signs(opt, ref):
    """Both draw the same signs, in the same order: weft from torch's generator."""
    gen = torch.Generator().manual_seed(5)
    ref.draw = lambda s: 2 * torch.randint(2, s, generator=gen, dtype=torch.float64) - 1
    torch.manual_seed(5)


def normals(opt, ref):
    """As `signs`, from a normal distribution."""
    gen = torch.Generator().manual_seed(5)
    ref.draw = lambda s: torch.randn(s, generator=gen, dtype=torch.float64)
    torch.manual_seed(5)


ADA = {"lr": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.1}
SOPHIA = {"lr": 0.05, "betas": (0.9, 0.95), "weight_decay": 0.1, "gamma": 0.5}

CASES = [
    around("SAM", "sam", rho=0.3),
    around("SAM", "sam", "AdamW", rho=0.3),
    around("ASAM", "asam", rho=0.3, eta=0.02),
    around("GCSAM", "gcsam", rho=0.3),
    around("GSAM", "gsam", rho=0.3, alpha=0.3),
    around("GSAM", "gsam", "AdamW", rho=0.3, alpha=0.3),
    around("LookSAM", "looksam", rho=0.3, k=4, alpha=0.6),
    around("WSAM", "wsam", rho=0.3, gamma=0.6),
    around("WSAM", "wsam", "AdamW", rho=0.3, gamma=0.6, decouple=False),
    around("FriendlySAM", "friendly_sam", rho=0.3, sigma=0.8, decay=0.7),
    ClosureCase("AdaHessian", "adahessian", ADA, prepare=signs),
    ClosureCase(
        "AdaHessian", "adahessian", {**ADA, "hessian_power": 0.5, "update_period": 3}, prepare=signs
    ),
    ClosureCase("Sophia", "sophia", {**SOPHIA, "update_period": 4}, prepare=normals),
    ClosureCase("Sophia", "sophia", {**SOPHIA, "update_period": 1}, prepare=normals),
]
