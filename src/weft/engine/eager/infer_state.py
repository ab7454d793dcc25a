"""The states of a parameter before its first step: those declared, and what a chain will make itself.

What a chain makes is found by one eager step on the meta device, where nothing is computed.
"""

from collections import defaultdict
from collections.abc import Container, MutableMapping
from typing import Any

import torch

from weft.contract.declare import scalar_dtype
from weft.contract.groups import BoundGroup
from weft.engine.eager.loop import run
from weft.engine.eager.param_step import ParamStep
from weft.engine.empty import is_empty
from weft.engine.storage import computed_in

__all__ = ["init_state", "states_made"]


def new_count(bound: BoundGroup, p: torch.Tensor, steps: float = 0.0) -> torch.Tensor:
    """A count of steps: on the host, or beside a parameter whose steps are captured."""
    device = p.device if bound.capturable else "cpu"
    return torch.full((), steps, dtype=scalar_dtype(), device=device)


def init_state(
    groups: list[BoundGroup],
    state: MutableMapping[torch.Tensor, dict[str, Any]],
    but: Container[torch.Tensor] = (),
) -> None:
    """Make the declared state of every parameter that requires a grad or has one, `but` of some."""
    for bound in groups:
        states, counted = bound.binding.states, bound.binding.keeps_step
        for p in bound.params:
            if p in but or not (p.requires_grad or p.grad is not None):
                continue
            if is_empty(p) and p.grad is not None:
                _states_of_empty(bound, p, state)
            if not states and not counted:
                continue
            own = state[p]
            if counted and "step" not in own:
                own["step"] = new_count(bound, p)
            for name, declared in states.items():
                if name not in own:
                    with torch.set_grad_enabled(bound.differentiable):
                        own[name] = declared.make(
                            p, bound.binding.state_dtype, graph=bound.differentiable
                        )


def _states_of_empty(bound: BoundGroup, p: torch.Tensor, state: MutableMapping) -> None:
    """The states of an empty parameter that callbacks make themselves in their first step."""
    binding = bound.binding
    if not binding.made or state.get(p) or p.is_meta:  # those are what states_made steps
        return
    made = {k: v for k, v in states_made(bound, p).items() if k in binding.made}
    for name, value in made.items():
        state[p][name] = _zeros(bound, name, value, p) if isinstance(value, torch.Tensor) else value


def _zeros(bound: BoundGroup, name: str, like: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """A state of this shape, in the dtype that the chain keeps it in."""
    dtype = bound.binding.dtype_of(name, like.dtype, like.ndim, p.dtype, p.ndim)
    return torch.zeros(like.shape, dtype=dtype, device=p.device)


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
    dtype = computed_in(p.dtype)
    try:
        like = torch.nn.Parameter(torch.empty(shape, dtype=dtype, device="meta"), False)
        like.grad = torch.empty_like(like)
        group = {**bound.group, "params": [like], "param_names": ["like"]}
        alone = BoundGroup(0, group, bound.binding, set(bound.given))
        state: defaultdict[torch.Tensor, dict[str, Any]] = defaultdict(dict)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            init_state([alone], state)
            run([ParamStep(alone, 0, like, state, torch.ones((), dtype=dtype), {}, {})])
    except Exception:  # of the user's code, on tensors that it was not written for
        return {}
    return state[like]
