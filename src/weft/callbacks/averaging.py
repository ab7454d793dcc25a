"""Averaging the iterates, with the rates that this wants."""

import torch

from weft.callback import mark, state, zeros
from weft.contract.declare import scalar_dtype

__all__ = ["anneal", "average_iterates"]


@mark(place="descend")
def anneal(p, update, lr, step, lambd=1e-4, alpha=0.75, eta=state(0.0, dtype=scalar_dtype)):
    """Descend with a rate that falls by a power of time, and decay with it.

        p <- (1 - lambd * eta) * p - eta * u;   eta <- lr / (1 + lambd * lr * t)^alpha

    Polyak and Juditsky, 1992, as in torch: a changed lr takes effect one step late.
    """
    rate = (0 * eta + lr if step == 1 else eta).double()  # rounded as the state is
    eta = lr / (1 + lambd * lr * step) ** alpha
    return {"p": p * (1 - lambd * rate) - rate * update, "eta": eta}


@mark(place="after")
def average_iterates(p, step, t0=1e6, ax=zeros, mu=state(1.0, dtype=scalar_dtype)):
    """Average the parameters from step t0 on; before, the average is the parameter.

        a <- a + mu * (p - a);   mu <- 1 / max(1, t - t0)

    Polyak and Juditsky, 1992.
    """
    return {"ax": torch.where(mu == 1, p, ax + mu * (p - ax)), "mu": 1 / max(1, step - t0)}
