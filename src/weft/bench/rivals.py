"""Who is timed against whom: torch's own, and public eager implementations that are installed."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

__all__ = ["PUBLIC", "TORCH", "Case", "bytes_alone", "installed", "ours", "torch_rivals"]

Make = Callable[[list[torch.Tensor]], Any]


class Case(NamedTuple):
    """One row of the public table: weft's name, the rivals, the target."""

    name: str
    rivals: tuple[tuple[str, str, dict[str, Any]], ...]  # module, class, hypers
    target: float


def _rivals(*names: str, **hypers: Any) -> tuple[tuple[str, str, dict[str, Any]], ...]:
    """Each of these classes, with foreach and without: which is faster depends on the shapes."""
    split = [name.rpartition(".") for name in names]
    return tuple((m, c, {"foreach": flag, **hypers}) for m, _, c in split for flag in (True, False))


TORCH: dict[str, tuple[str, dict[str, Any], dict[str, float]]] = {
    # weft's name -> torch's class, hypers, shape -> the target against torch fused
    "AdamW": ("AdamW", {}, {"tiny": 0.3, "resnet": 0.85, "gpt2": 0.95, "many": 0.15}),
    "SGD": ("SGD", {"momentum": 0.9}, {"tiny": 0.4, "resnet": 0.9, "gpt2": 0.95}),
}

PUBLIC = (
    Case(
        "AdEMAMix",
        (*_rivals("pytorch_optimizer.AdEMAMix"), ("heavyball", "AdEMAMix", {})),
        0.17,
    ),
    Case(
        "ScheduleFreeAdamW",
        (
            *_rivals("schedulefree.AdamWScheduleFree", "pytorch_optimizer.ScheduleFreeAdamW"),
            ("heavyball", "SFAdamW", {}),
        ),
        0.18,
    ),
    Case("Adan", _rivals("optimi.Adan", "pytorch_optimizer.Adan"), 0.18),
    Case("LAMB", _rivals("pytorch_optimizer.Lamb"), 0.22),
    Case("Lion", _rivals("optimi.Lion", "pytorch_optimizer.Lion"), 0.42),
    Case(
        "CautiousAdamW",
        (
            *_rivals("timm.optim.AdamWLegacy", caution=True),
            ("heavyball", "AdamW", {"caution": True}),
            # the cautious one there whose work is most like AdamW's
            *_rivals("pytorch_optimizer.LaProp", cautious=True),
        ),
        0.25,
    ),
    Case("StableAdamW", _rivals("optimi.StableAdamW", "pytorch_optimizer.StableAdamW"), 0.25),
)


def ours(name: str, **hypers: Any) -> Make:
    """weft's optimizer of this name, run by kernels."""
    import weft

    return lambda ps: getattr(weft, name)(ps, **{"lr": 1e-4, "engine": "fused", **hypers})


def bytes_alone(states: int) -> Make:
    """What moves the bytes of a step with so many states and computes next to nothing."""
    import weft

    def touch(grad: Any, held: Any = weft.zeros) -> Any:
        return {"held": held + grad}

    def move(p: Any, grad: Any) -> Any:
        return {"p": p + grad}

    touched = [weft.rename(touch, held=f"held_{i}") for i in range(states)]
    return lambda ps: weft.Optimizer(ps, [*touched, move], engine="fused")


def torch_rivals(name: str, compiled: bool) -> dict[str, Make]:
    """torch's own: one tensor at a time, foreach, fused, and compiled where that is asked for."""
    class_name, hypers, _ = TORCH[name]
    cls, hypers = getattr(torch.optim, class_name), {"lr": 1e-4, **hypers}
    out: dict[str, Make] = {
        "torch fused": lambda ps: cls(ps, fused=True, **hypers),
        "torch foreach": lambda ps: cls(ps, foreach=True, **hypers),
        "torch loop": lambda ps: cls(ps, foreach=False, **hypers),
    }
    if compiled:
        out["torch.compile"] = lambda ps: _Compiled(cls(ps, foreach=True, **hypers))
    return out


class _Compiled:
    """torch's optimizer with its step compiled."""

    def __init__(self, opt: Any):
        self.step = torch.compile(opt.step)


def installed(case: Case) -> dict[str, Make]:
    """The rivals of a case that can be imported."""
    out: dict[str, Make] = {}
    for module, name, hypers in case.rivals:
        try:
            cls = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, RuntimeError):  # RuntimeError: built for another torch
            continue
        words = " foreach" if hypers.get("foreach") else ""
        title = module if name.lower() == case.name.lower() else f"{module}.{name}"
        out[title + words] = _make(cls, hypers)
    return out


class _Regrading:
    """heavyball's, as it is without torch.compile; it lets go of the grads that it has used."""

    def __init__(self, opt: Any, ps: list[torch.Tensor]):
        self.opt, self.ps, self.grads = opt, ps, [p.grad for p in ps]
        self.utils: Any = importlib.import_module("heavyball.utils")

    def step(self) -> None:
        """A step on the same grads as ever."""
        self.utils.compile_mode = None
        for p, grad in zip(self.ps, self.grads, strict=True):
            p.grad = grad
        self.opt.step()


def _make(cls: Any, hypers: dict[str, Any]) -> Make:
    def make(ps: list[torch.Tensor]) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opt = cls(ps, lr=1e-4, **hypers)
        if cls.__module__.startswith("heavyball"):
            return _Regrading(opt, ps)
        if hasattr(opt, "train"):  # schedule-free
            opt.train()
        return opt

    return make
