"""Running an optimizer over an edge: what came of it, step by step."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from edges.subjects import Subject

Shapes = tuple[tuple[int, ...], ...]
ORDINARY = ((6, 4), (5,), (), (3, 2, 2, 2))


def normal(shape, seed):
    """Numbers that float32 holds exactly."""
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=gen, dtype=torch.float32).double()


def weights(i, shape):
    """Ordinary parameters."""
    return normal(shape, 11 + i)


def gradients(t, i, p):
    """Ordinary gradients: a mean that decides the signs, and noise."""
    mean = normal(p.shape, 31 + i)
    return mean + 0.5 * mean.sign() + 0.2 * normal(p.shape, 1000 + 100 * t + i)


@dataclass(frozen=True)
class Edge:
    """A row of the table.

    Attributes:
        name: how complaints and excuses call it.
        holds: properties; each takes a trial and returns complaints.
        start: `(i, shape)` -> parameter i in float64.
        grad: `(t, i, p)` -> its grad in step t, from 0, in float64; None for none.
        hypers: `(the subject's own)` -> what the constructor is given; None where the edge is not one.
        at: `(t, run)`, before step t.
        loss: `(t)`.
        laid: a tensor laid out otherwise in memory.
        around: a context of the whole run.
        grouped: the parameters from the third on in a group with half the lr, and a decay.
        late: whether the last parameter joins, in a group of its own, before the third step.
        refusable: whether the constructor may refuse the hypers.
        dtype: of parameters and grads.
        close: how far from float64, of the largest movement.
        fast: whether it belongs to the part that is run for every change.
    """

    name: str
    holds: tuple[Callable[["Trial"], list[str]], ...]
    shapes: Shapes = ORDINARY
    start: Callable = weights
    grad: Callable = gradients
    hypers: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda own: {}
    at: Callable[[int, "Run"], None] | None = None
    loss: Callable[[int], float] = lambda t: 2.0 / (1 + 0.1 * t)
    laid: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
    around: Callable[[], AbstractContextManager] = nullcontext
    grouped: bool = False
    late: bool = False
    refusable: bool = False
    dtype: torch.dtype = torch.float32
    steps: int = 4
    close: float = 1e-3
    fast: bool = False

    def with_(self, **changes: Any) -> "Edge":
        """The same row but for some of its entries."""
        return replace(self, **changes)


@dataclass
class Run:
    """An optimizer, its parameters, and copies of them: at the start, and after each step."""

    edge: Edge
    opt: Any
    params: list[torch.nn.Parameter]
    history: list[list[torch.Tensor]] = field(default_factory=list)
    evaluated: list[torch.Tensor] = field(default_factory=list)
    drew: bool = False  # whether it has drawn random numbers
    kept: dict[Any, Any] = field(default_factory=dict)  # what `at` keeps between steps

    def look(self) -> list[torch.Tensor]:
        """A copy of the parameters."""
        return [p.detach().clone() for p in self.params]

    def step(self, t: int) -> None:
        """One step with the edge's grads; by a closure, where the optimizer wants one."""
        edge = self.edge
        if edge.at is not None:
            edge.at(t, self)
        if edge.late and t == 2:
            self.opt.add_param_group({"params": [self.params[-1]]})
        grads = [edge.grad(t, i, p.detach().double()) for i, p in enumerate(self.params)]
        grads = [None if g is None else edge.laid(g.to(edge.dtype)) for g in grads]
        if self.opt.needs_closure:
            self.opt.step(Loss(self.params, grads, edge.loss(t)))
        else:
            for p, g in zip(self.params, grads, strict=True):
                p.grad = None if g is None else g.to(p.dtype)
            self.opt.step(loss=edge.loss(t))

    def go(self, first: int = 0, last: int | None = None) -> "Run":
        """The edge's steps from `first` to `last`; at its end, what is evaluated."""
        last = self.edge.steps if last is None else last
        before = torch.get_rng_state()
        self.history = self.history or [self.look()]
        for t in range(first, last):
            self.step(t)
            self.history.append(self.look())
        self.drew = not torch.equal(before, torch.get_rng_state())
        if last == self.edge.steps:
            self.opt.eval()
            self.evaluated = self.look()
            self.opt.train()
        return self


class Loss:
    """A closure: a loss that has the given grads where it is first evaluated, and a curvature."""

    def __init__(self, params, grads, value):
        self.having = [(p, g) for p, g in zip(params, grads, strict=True) if g is not None]
        self.at = [p.detach().double().clone() for p, _ in self.having]
        self.params, self.value = params, value

    def __call__(self):
        for p in self.params:
            p.grad = None
        wanting = [p for p, _ in self.having if p.requires_grad]
        if wanting:
            apart = [p.double() - a for (p, _), a in zip(self.having, self.at, strict=True)]
            loss = sum(
                ((x + 0.05 * x * x) * g.double()).sum()
                for x, (_, g) in zip(apart, self.having, strict=True)
            )
            for p, g in zip(
                wanting, torch.autograd.grad(loss, wanting, create_graph=True), strict=True
            ):
                p.grad = g
        return torch.tensor(self.value)


class Trial:
    """A subject at an edge: its runs, each made once."""

    def __init__(self, subject: Subject, edge: Edge):
        self.subject, self.edge = subject, edge
        self.shapes = tuple(s for s in edge.shapes if subject.takes(s))
        self._runs: dict[Any, Run] = {}

    @property
    def applies(self) -> bool:
        """Whether the subject has what the edge is about."""
        if not self.shapes or self.edge.hypers(self.subject.hypers) is None:
            return False
        if self.edge.late and len(self.shapes) < 2:
            return False
        try:
            self.built()
        except ValueError:
            if self.edge.refusable:
                return False
            raise
        return True

    @property
    def otherwise(self) -> dict[str, Any]:
        """What a second group has of its own."""
        own = self.subject.hypers
        other = {"lr": own.get("lr", 1.0) / 2, "weight_decay": 0.1}
        return {k: v for k, v in other.items() if k in own}

    def built(self, engine="eager", dtype=None, edge=None, without: Collection[int] = ()) -> Run:
        """The optimizer before its first step; `without` leaves parameters out of it."""
        edge = edge or self.edge
        params = [
            torch.nn.Parameter(edge.laid(edge.start(i, s).to(edge.dtype).to(dtype or edge.dtype)))
            for i, s in enumerate(self.shapes)
        ]
        late = {len(params) - 1} if edge.late else set()
        given = [(i, p) for i, p in enumerate(params) if i not in {*without, *late}]
        groups = [{"params": [p for i, p in given if i < 2 or not edge.grouped]}]
        if edge.grouped:
            groups.append({"params": [p for i, p in given if i >= 2], **self.otherwise})
        hypers = edge.hypers(self.subject.hypers) or {}
        opt = self.subject.make([g for g in groups if g["params"]], engine=engine, **hypers)
        return Run(edge, opt, params)

    def run(self, engine="eager", dtype=None, edge=None, without=()) -> Run:
        """All steps of the edge, or of another one in its place."""
        edge = edge or self.edge
        key = (engine, dtype or edge.dtype, edge, frozenset(without))
        if key not in self._runs:
            torch.manual_seed(0)
            with edge.around():
                self._runs[key] = self.built(engine, dtype, edge, without).go()
        return self._runs[key]

    def fused(self) -> Run:
        """By kernels: a modifier may fall back, what has a name may not."""
        return self.run("auto" if self.subject.kind == "modifier" else "fused")
