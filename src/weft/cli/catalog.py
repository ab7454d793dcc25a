"""Facts about the optimizers that ship: paper, blocks, state, whether a kernel runs them."""

import fnmatch
import inspect
from dataclasses import dataclass
from typing import Any

import torch

import weft
from weft import registry
from weft.callback import read
from weft.optimizers import algorithms

__all__ = ["Entry", "Modifier", "entries", "modifiers", "right_on_shards", "take_step"]


@dataclass(frozen=True)
class Entry:
    """One optimizer.

    Attributes:
        name: as `weft.create` takes it.
        title: the first line of its docstring.
        paper: authors, year, arXiv id.
        blocks: the callbacks of its default chain, in order.
        state_bytes: kept between steps for one float32 element of a matrix.
        eager: the callbacks for which it falls back to the eager loop, with the reason; empty
            where kernels run all of it.
    """

    name: str
    title: str
    paper: str
    blocks: tuple[str, ...]
    state_bytes: float
    eager: tuple[str, ...] = ()


def entries(
    pattern: str = "*", block: str | None = None, engine: str = "eager", shards: bool = False
) -> list[Entry]:
    """The optimizers whose name matches, and whose chain has the block.

    Args:
        pattern: a glob.
        block: the name of a callback.
        shards: only those that are right on shards, which is told from their plans.
        engine: "auto" finds out what falls back, which builds kernels; "eager" leaves it open.

    >>> [e.name for e in entries("adam*", block="max_sq")]
    []
    >>> entries("adamw")[0].state_bytes
    8.0
    """
    names = registry.list_optimizers(pattern)
    found = [_entry(name, engine) for name in names if not shards or right_on_shards(name)]
    return [e for e in found if block is None or block in e.blocks]


@dataclass(frozen=True)
class Modifier:
    """What may follow a plus.

    Attributes:
        name: as `weft.create` takes it.
        title: the first line of its docstring.
        text: the whole docstring.
        around: it is a wrapper, which acts around the step, and no callback of the chain.
        options: its hypers with their defaults.
        facts: in words: where it goes, what it reads, returns and keeps; of a callback.
    """

    name: str
    title: str
    text: str
    around: bool
    options: dict[str, Any]
    facts: dict[str, str]


def modifiers(pattern: str = "*") -> list[Modifier]:
    """What may follow a plus, wrappers first.

    Args:
        pattern: a glob.

    >>> [m.name for m in modifiers("*sam")]
    ['asam', 'friendlysam', 'gcsam', 'gsam', 'looksam', 'sam', 'wsam']
    """
    known = registry.modifiers()
    found = [_described(k, known[k]) for k in sorted(fnmatch.filter(known, pattern.lower()))]
    return sorted(found, key=lambda m: not m.around)


def _described(name: str, what: Any) -> Modifier:
    text = inspect.cleandoc(getattr(what, "__doc__", None) or "")
    title = text.partition("\n")[0]
    if isinstance(what, type):
        return Modifier(name, title, text, True, dict(what.hypers), {})
    spec = read(what)
    keeps = [*spec.states, *(f"{k} (one for the group)" for k in spec.shared)]
    reads = [spec.first] if spec.first in ("p", "param", "w") else []
    facts = {
        "place": spec.place,
        "reads": ", ".join(dict.fromkeys([*reads, *spec.args.values()])),
        "returns": ", ".join(sorted(spec.returns)) or "(in place)",
        "keeps": ", ".join(keeps) or "nothing",
    }
    return Modifier(name, title, text, False, dict(spec.hypers), facts)


def right_on_shards(name: str) -> bool:
    """Whether an optimizer's steps on matrices and vectors are right on shards of them.

    What runs around a step works on DTensors; of those that evaluate the gradient again it is not known.

    >>> right_on_shards("muon"), right_on_shards("sophia")
    (True, False)
    """
    from weft.engine.runtime.on_shards import why_not  # few want it

    for shape in ((64, 48), (48,)):
        try:
            opt = _stepped(algorithms()[name], "eager", shape)
        except (weft.ChainError, weft.StepError, ValueError):
            continue  # one for matrices only
        if opt.needs_closure or why_not(opt._current(), opt.state, 1.0):
            return False
    return True


def _entry(name: str, engine: str) -> Entry:
    cls = algorithms()[name]
    opt = _stepped(cls, engine)
    plan = opt.explain()
    return Entry(
        name,
        (cls.__doc__ or "").strip().partition("\n")[0],
        cls.paper,
        tuple(cls.chain().names),
        round(plan.state_bytes_per_parameter, 2),
        tuple(f"{callback}: {reason}" for callback, _, _, reason in plan.fallbacks),
    )


def _stepped(cls: Any, engine: str, shape: tuple[int, ...] = (64, 64)) -> Any:
    """An optimizer over one parameter that has taken a step, so that all its state is there."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.randn(shape))
        p.grad = torch.randn(shape)
        opt = cls([p], engine=engine)
        take_step(opt, [p])
    return opt


def take_step(opt: Any, params: list[torch.nn.Parameter]) -> None:
    """One step on the grads that are there, or, where it evaluates some itself, on those of a loss."""

    def closure() -> torch.Tensor:
        with torch.enable_grad():
            loss = torch.stack([p.pow(3).sum() for p in params]).sum()
        grads = torch.autograd.grad(loss, params, create_graph=True)
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad
        return loss.detach()

    opt.step(closure) if opt.needs_closure else opt.step(loss=1.0)
