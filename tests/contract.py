"""What the tests of the contract share: a parameter with a grad, and a step of some callbacks."""

from typing import Any

import torch

import weft


def param(*values, grad=None, dtype=torch.float32) -> torch.nn.Parameter:
    """A parameter; its grad is ones where none is given."""
    p = torch.nn.Parameter(torch.tensor(values, dtype=dtype))
    p.grad = torch.ones_like(p) if grad is None else torch.tensor(grad, dtype=dtype)
    return p


def descend(p, update, lr):
    return {"p": p - lr * update}


def stepped(p, *cbs, steps=1, **hypers) -> weft.Optimizer:
    """An optimizer of these callbacks that has taken some steps on the same grad."""
    hypers.setdefault("lr", 1.0)
    opt = weft.Optimizer([p], cbs, **hypers)
    for _ in range(steps):
        opt.step()
    return opt


class Probe:
    """A callback that remembers the keyword arguments of its last call."""

    def __init__(self):
        self.seen: dict[str, Any] = {}

    def __call__(self, p, **kwargs):
        self.seen = kwargs
