"""A case: one optimizer of weft, the reference that it is held to, and how."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

import weft
from parity.references import REFERENCES
from weft.optimizers import algorithms

SHAPES = ((6, 4), (5,), (), (3, 2, 2, 2))


def schedule(t: int, hypers: dict[str, Any]) -> dict[str, Any]:
    """Every common hyper on a schedule of its own: what step `t` (from 0) runs with."""
    out: dict[str, Any] = {"lr": hypers["lr"] * (1.1 + math.cos(0.3 * t))}
    if isinstance(hypers.get("betas"), tuple):
        first = hypers["betas"][0] * (1 - 0.05 * (1 + math.sin(0.5 * t)))
        out["betas"] = (first, *hypers["betas"][1:])
    for name in ("momentum", "weight_decay"):
        if hypers.get(name):
            out[name] = hypers[name] * (1 - 0.1 * (1 + math.sin(0.4 * t)))
    return out


@dataclass(frozen=True)
class Case:
    """`weft.<name>(**hypers)` follows the reference `reference` given `ref` (hypers where not said).

    Attributes:
        name: of the optimizer, as in `weft`.
        reference: a name in REFERENCES.
        hypers: for weft's constructor; `lr` is always said.
        ref: for the reference, where its names differ.
        translate: what a schedule's hypers are called by the reference.
        schedule: of hypers; None keeps them.
        shapes: of the parameters.
        rtol: relative to the largest entry of each parameter.
        matched: whether the parameters are compared after `opt.eval()` with `eval_params()` too.
    """

    name: str
    reference: str
    hypers: dict[str, Any] = field(default_factory=dict)
    ref: dict[str, Any] | None = None
    translate: Callable[[dict[str, Any]], dict[str, Any]] = dict
    schedule: Callable[[int, dict[str, Any]], dict[str, Any]] | None = schedule
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    steps: int = 25
    rtol: float = 1e-10
    matched: bool = False
    build: Callable[..., Any] | None = None  # where the optimizer is not made by its class alone
    prepare: Callable[[Any, Any], None] | None = None  # last word on (optimizer, reference)

    @property
    def id(self) -> str:
        more = ",".join(f"{k}={v}" for k, v in self.hypers.items() if k != "lr")
        return f"{self.name}[{more}]-{self.reference}"

    def make(self, params, **kwargs):
        """The optimizer over `params`."""
        if self.build is not None:
            return self.build(params, **self.hypers, **kwargs)
        return getattr(weft, self.name)(params, **self.hypers, **kwargs)

    def start(self, dtype=torch.float64):
        gen = torch.Generator().manual_seed(7)
        return [
            torch.nn.Parameter(torch.randn(s, generator=gen, dtype=torch.float64).to(dtype))
            for s in self.shapes
        ]

    def grads(self, t: int, dtype=torch.float64):
        """Recorded gradients with a mean and noise, so that moments and signs settle and flip."""
        gen = torch.Generator().manual_seed(7)
        mean = [torch.randn(s, generator=gen, dtype=torch.float64) for s in self.shapes]
        gen.manual_seed(100 + t)
        noise = [torch.randn(s, generator=gen, dtype=torch.float64) for s in self.shapes]
        return [(0.5 * m + n).to(dtype) for m, n in zip(mean, noise, strict=True)]

    def loss(self, t: int) -> float:
        return 2.0 / (1 + 0.1 * t) + 0.1 * math.sin(t)

    def hypers_at(self, t: int) -> dict[str, Any]:
        return self.schedule(t, self.hypers) if self.schedule else {}

    def follow(self, engine: str) -> None:
        """Step both, and compare the parameters after each step."""
        params = self.start()
        ref = REFERENCES[self.reference](params, **(self.hypers if self.ref is None else self.ref))
        opt = self.make(params, engine=engine)
        if self.prepare:
            self.prepare(opt, ref)
        for t in range(self.steps):
            changed = self.hypers_at(t)
            opt.set_hypers(**changed)
            ref.step(self.grads(t), loss=self.loss(t), **self.translate(changed))
            for p, g in zip(params, self.grads(t), strict=True):
                p.grad = g
            opt.step(loss=self.loss(t))
            self._compare(params, ref.params, f"step {t + 1}")
            if self.matched:
                opt.eval()
                self._compare(params, ref.eval_params(), f"evaluation after step {t + 1}")
                opt.train()

    def _compare(self, params, expected, when: str) -> None:
        for i, (p, e) in enumerate(zip(params, expected, strict=True)):
            error = float((p.detach() - e).abs().max())
            scale = max(1.0, float(e.abs().max()))
            assert error <= self.rtol * scale, (
                f"{self.id}: parameter {i} is off by {error:.3g} at {when}"
            )


def uncompared(cases: list[Case]) -> list[str]:
    """Optimizers of weft that no case compares."""
    return sorted(set(algorithms()) - {c.name.lower() for c in cases})
