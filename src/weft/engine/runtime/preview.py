"""What the first step is going to run: traced and planned, with nothing built and nothing stepped."""

import math
from collections import defaultdict
from collections.abc import MutableMapping
from typing import Any

import torch

from weft.contract.groups import NOT_HYPERS, BoundGroup
from weft.engine.eager.infer_state import init_state
from weft.engine.fallback import Unsupported
from weft.engine.ir.traced import TensorSpec
from weft.engine.runtime.members import fit
from weft.engine.runtime.programs import Variant, planned
from weft.engine.storage import KEPT
from weft.engine.trace import Example

__all__ = ["declared_states", "preview", "state_bytes"]


def preview(
    groups: list[BoundGroup], state: MutableMapping
) -> list[tuple[BoundGroup, Variant, int]]:
    """For each chain and shape of parameter, what it will run, and for how many elements.

    Empty where that cannot be told before there is a step.
    """
    found: dict[Any, tuple[BoundGroup, Variant, int]] = {}
    try:
        for bound in groups:
            for p in bound.params:
                if p.requires_grad or p.grad is not None:
                    key = (bound.index, p.shape, p.dtype, p.is_contiguous())
                    held = found.get(key)
                    variant = held[1] if held else _variant(bound, p, state)
                    found[key] = (bound, variant, p.numel() + (held[2] if held else 0))
    except Exception:  # the user's code, on what it was not written for: the step has more to say
        return []
    return list(found.values())


def state_bytes(found: list[tuple[BoundGroup, Variant, int]]) -> float:
    """Bytes of state for one element of a parameter after that step, what it makes included."""
    total = sum(elements for *_, elements in found)
    held = sum(_state_bytes(v) * n / math.prod(v.shape) for _, v, n in found if n)
    return held / total if total else 0.0


def _state_bytes(v: Variant) -> int:
    kept = {k: TensorSpec(*spec) for k, spec in v.held.items() if k not in ("p", "grad", "step")}
    specs = {**kept, **v.traced.stores}.values()
    return sum(math.prod(s.shape) * s.dtype.itemsize for s in specs if isinstance(s, TensorSpec))


def _variant(bound: BoundGroup, p: torch.Tensor, state: MutableMapping) -> Variant:
    fit(p, p, "a parameter").require()
    if p.dtype not in KEPT:
        raise Unsupported(f"a parameter is {p.dtype}")
    hypers = {k: v for k, v in bound.group.items() if k not in NOT_HYPERS}
    held = state.get(p, {})
    own = {**declared_states(bound, p), **held}
    given = frozenset(k for k in own if k in hypers and bound.is_set(k))
    specs = {
        k: TensorSpec(tuple(v.shape), v.dtype) if isinstance(v, torch.Tensor) else v
        for k, v in own.items()
    }
    counted = bound.binding.keeps_step and "step" in held
    reads_loss = any(name == "loss" for c in bound.binding.calls for _, name in c.reads)
    grad = None if p.grad is None or p.grad.dtype is p.dtype else p.grad.dtype
    example = Example(
        tuple(p.shape), p.dtype, specs, hypers, given, 1 + int(held["step"]) if counted else 1,
        1.0 if reads_loss else None, p.device, p.is_contiguous(), grad_dtype=grad,
    )  # fmt: skip
    return planned(bound.binding, example)


def declared_states(bound: BoundGroup, p: torch.Tensor) -> dict[str, Any]:
    """The state that a first step finds, without its memory."""
    like = torch.nn.Parameter(torch.empty_like(p, device="meta"))
    alone = BoundGroup(0, {**bound.group, "params": [like]}, bound.binding, set(bound.given))
    state: defaultdict[torch.Tensor, dict[str, Any]] = defaultdict(dict)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        init_state([alone], state)
    return state[like]
