"""The original loop: every callback, for every parameter, in order. The reference for the kernels."""

from collections.abc import Iterable, MutableMapping, Sequence
from functools import partial
from typing import Any

import torch

from weft.contract.groups import BoundGroup
from weft.contract.names import for_all_alike
from weft.engine.eager.norms import Norms, watched
from weft.engine.eager.param_step import Barrier, ParamStep
from weft.engine.empty import count, is_empty
from weft.engine.storage import widened
from weft.errors import StepError, raised

__all__ = ["agree_on_order", "run", "step"]


def step(
    groups: list[BoundGroup],
    state: MutableMapping[torch.Tensor, dict[str, Any]],
    loss: Any,
    norms: MutableMapping[torch.Tensor, Norms] | None = None,
) -> None:
    """One step of every parameter that has a grad; leaves its norms in `norms`, where given.

    Raises:
        StepError: where a callback raises; it says which, for which parameter, and how many
            parameters had been stepped before.
    """
    shared: dict[tuple[int, str], Any] = {}
    loss = widened(loss)
    steps: list[ParamStep] = []
    empty: list[tuple[BoundGroup, torch.Tensor]] = []
    for bound in groups:
        known = for_all_alike(bound.binding, bound.group)
        for i, p in enumerate(bound.params):
            if (grad := p.grad) is None:
                continue
            if is_empty(p):
                empty.append((bound, p))
            else:
                kind = step_of(bound, grad, norms)
                steps.append(kind(bound, i, p, state, loss, shared, known))
    run(steps)
    count(empty, state)
    for (index, name), value in shared.items():
        groups[index].group[name] = value


def run(param_steps: list[ParamStep]) -> None:
    """Take the steps of all parameters, side by side where they wait for values over all parameters."""
    for param_step in param_steps:
        param_step.check()
    if any(param_step.ahead for param_step in param_steps):
        _in_rounds(param_steps)
    else:
        for done, param_step in enumerate(param_steps):
            _advance(param_step, None, done, param_steps)


def step_of(
    bound: BoundGroup, grad: torch.Tensor, norms: MutableMapping[torch.Tensor, Norms] | None
) -> Any:
    """What makes the step of a parameter with this grad."""
    kind = ParamStep
    if bound.differentiable:
        from weft.engine.eager.differentiable import GraphStep as kind  # few want it
    elif grad.layout is not torch.strided:
        from weft.contract.sparse import manner
        from weft.engine.eager.sparse import DenseStep, EntriesStep

        watched_or_dense = norms is not None or manner(bound) == "dense"
        kind = DenseStep if watched_or_dense else EntriesStep
    return kind if norms is None else partial(watched(kind), norms)


def _in_rounds(param_steps: list[ParamStep]) -> None:
    """Run steps to their barriers, combine, and go on, until all are through."""
    waiting: list[tuple[ParamStep, Barrier]] = []
    done = 0

    def go_on(param_step: ParamStep, value: Any) -> None:
        nonlocal done
        barrier = _advance(param_step, value, done, param_steps)
        if barrier is None:
            done += 1
        else:
            waiting.append((param_step, barrier))

    try:
        for param_step in param_steps:
            go_on(param_step, None)
        while waiting:
            name = _ready(waiting)
            now = [w for w in waiting if w[1].name == name]
            waiting = [w for w in waiting if w[1].name != name]
            for scope in dict.fromkeys(b.scope for _, b in now):
                members = [(t, b) for t, b in now if b.scope == scope]
                value = combine([b for _, b in members])
                for param_step, _ in members:
                    go_on(param_step, value)
    finally:
        for param_step in param_steps:
            param_step.close()


def agree_on_order(orders: Iterable[Sequence[str]]) -> None:
    """See that chains combine the values that they share in one order.

    Raises:
        StepError: where they do not: each would wait for another.
    """
    left = [list(names) for names in orders]
    while any(left):
        name = next((n[0] for n in left if n and not any(n[0] in x[1:] for x in left)), None)
        if name is None:
            raise _opposite({x[0] for x in left if x})
        left = [x[1:] if x and x[0] == name else x for x in left]


def _opposite(names: Iterable[str]) -> StepError:
    return StepError(
        f"chains of one optimizer combine {sorted(names)} in opposite orders: make them agree"
    )


def _ready(waiting: list[tuple[ParamStep, Barrier]]) -> str:
    """A barrier that no waiting step has still ahead of its own."""
    for name in dict.fromkeys(b.name for _, b in waiting):
        if not any(b.name != name and name in t.ahead for t, b in waiting):
            return name
    raise _opposite({b.name for _, b in waiting})


def combine(barriers: list[Barrier]) -> torch.Tensor:
    """The values of all parameters as one 0-dim tensor, summed in double."""
    values = [b.value for b in barriers]
    dtype = torch.float64 if any(v.dtype == torch.float64 for v in values) else torch.float32
    op = {"sum": torch.sum, "max": torch.amax, "min": torch.amin}[barriers[0].op]
    with torch.set_grad_enabled(any(v.requires_grad for v in values)):
        both = torch.stack([v.to(values[0].device, torch.float64) for v in values])
        return op(both).to(dtype)


def _advance(
    param_step: ParamStep, value: Any, done: int, param_steps: list[ParamStep]
) -> Barrier | None:
    """Run a step to its next barrier; None when it is through."""
    try:
        return param_step.advance(value)
    except StepError:
        raise
    except Exception as e:
        between = _in_between(param_step, param_steps)
        after = f"{done} of {len(param_steps)} parameters had already stepped; {between}"
        raise raised(param_step.call.spec.where, param_step.name, e, after) from e


def _in_between(failed: ParamStep, param_steps: list[ParamStep]) -> str:
    """Which parameters are neither as they were nor through, in words."""
    waits = lambda t: getattr(t.path, "gi_frame", None) is not None
    others = [t for t in param_steps if t is not failed and t.wrote and waits(t)]
    also = f", and so may {len(others)} that wait for it" if others else ""
    if failed.wrote:
        return f"this one may be half-written{also}"
    return (
        f"nothing of this one was written{also and f'; {len(others)} others may be half-written'}"
    )
