"""What every reference shares: float64 clones of the parameters, a step count, the hypers.

A reference is one optimizer as its paper writes it, in plain loops over plain tensors, to be
read with the paper beside it. References import nothing of the package under test and share
no update rule with one another beyond the few helpers below: an equation is written out again
wherever it occurs, so that a slip in one cannot hide in all.
"""

# ruff: noqa: RUF012  (a table of defaults is never written to)
from __future__ import annotations

from types import SimpleNamespace

import torch

REFERENCES: dict[str, type[Reference]] = {}


def reference(*names: str):
    """Register a reference under its name (and under its aliases)."""

    def add(cls):
        for name in names:
            if name in REFERENCES:
                raise ValueError(f"two references are called {name!r}")
            REFERENCES[name] = cls
        cls.name = names[0]
        return cls

    return add


class Reference:
    """One optimizer, as its paper writes it, on a list of float64 tensors.

    A subclass gives `paper`, `defaults`, `init` (its state) and `update` (one step). In those,
    `self.h` holds the hypers (`h.lr`), `self.t` the number of this step (1 at the first),
    `self.loss` the loss given to `step`, or None, and `self.params` what to update in place.
    """

    name = ""
    paper = "Authors, year, arXiv id"
    defaults: dict = {}

    def __init__(self, params: list[torch.Tensor], **hypers):
        unknown = set(hypers) - set(self.defaults)
        if unknown:
            raise TypeError(f"{self.name} has no hypers {sorted(unknown)}")
        self.params = [p.detach().clone().to(torch.float64) for p in params]
        self.h = SimpleNamespace(**{**self.defaults, **hypers})
        self.t = 0
        self.loss = None
        self.init()

    def init(self):
        """Allocate the state."""

    def update(self, grads: list[torch.Tensor]):
        """One step: change `self.params` in place."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, grads: list[torch.Tensor], loss: float | None = None, **changed_hypers):
        """One step with these gradients; hypers given here stay changed."""
        unknown = set(changed_hypers) - set(self.defaults)
        if unknown:
            raise TypeError(f"{self.name} has no hypers {sorted(unknown)}")
        vars(self.h).update(changed_hypers)
        self.t += 1
        self.loss = None if loss is None else float(loss)
        self.update([g.detach().clone().to(torch.float64) for g in grads])

    def eval_params(self) -> list[torch.Tensor]:
        """Where the model is evaluated; the same as `params` but for averaging methods."""
        return self.params

    def zeros(self) -> list[torch.Tensor]:
        return [torch.zeros_like(p) for p in self.params]

    def copies(self) -> list[torch.Tensor]:
        return [p.clone() for p in self.params]

    def scalars(self, value: float = 0.0) -> list[float]:
        """One number per parameter."""
        return [value for _ in self.params]


def rows(x: torch.Tensor) -> torch.Tensor:
    """A tensor as a matrix whose rows are its output units (a vector: one entry each)."""
    return x.reshape(x.shape[0], -1)


def unit_norm(x: torch.Tensor) -> torch.Tensor:
    """L2 norm of each output unit, shaped to broadcast against x.

    A vector or a scalar is one unit (the norm of the whole), a matrix has a unit per row, a
    convolution kernel one per output channel.
    """
    if x.ndim <= 1:
        return x.norm()
    return rows(x).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))
