"""What state a chain makes for itself: one eager step on the meta device, where nothing is computed."""

from collections import defaultdict
from typing import Any

import torch

from weft.engine.eager import loop
from weft.engine.eager.param_step import ParamStep
from weft.engine.storage import LOW
from weft.groups import BoundGroup

__all__ = ["states_made"]


def states_made(bound: BoundGroup, p: torch.Tensor) -> dict[str, Any]:
    """The state after a first step of a parameter like `p`: tensors without data, and numbers.

    Empty where that cannot be told, because a callback looks at values or is for a real device.
    """
    if p.is_complex() and p.numel():
        return {}
    made = _after_a_step(bound, p, tuple(p.shape))
    if made or p.numel():
        return made
    # few callbacks are for no elements: with a length in place of zero, whose multiples are taken out
    length = 2 + sum(p.shape) ** 2
    made = _after_a_step(bound, p, tuple(n or length for n in p.shape))
    return {
        name: x.new_empty([n % length for n in x.shape]) if torch.is_tensor(x) else x
        for name, x in made.items()
    }


def _after_a_step(bound: BoundGroup, p: torch.Tensor, shape: tuple[int, ...]) -> dict[str, Any]:
    dtype = torch.float32 if p.dtype in LOW else p.dtype
    try:
        like = torch.nn.Parameter(torch.empty(shape, dtype=dtype, device="meta"), False)
        like.grad = torch.empty_like(like)
        group = {**bound.group, "params": [like], "param_names": ["like"]}
        alone = BoundGroup(0, group, bound.binding, set(bound.given))
        state: defaultdict[torch.Tensor, dict[str, Any]] = defaultdict(dict)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            loop.init_state([alone], state)
            loop.run([ParamStep(alone, 0, like, state, torch.ones((), dtype=dtype), {})])
    except Exception:  # of the user's code, on tensors that it was not written for
        return {}
    return state[like]
