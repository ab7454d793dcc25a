"""Trust: before a kernel touches a parameter, it is compared once with the eager loop, on clones."""

import hashlib
from collections import defaultdict
from types import CodeType
from typing import Any

import torch

from weft.callback import function_of
from weft.contract.groups import NOT_HYPERS, BoundGroup
from weft.engine.eager import loop
from weft.engine.rng import reseed, undrawn
from weft.engine.runtime.active_set import ActiveSet
from weft.engine.runtime.members import Member
from weft.engine.runtime.programs import Variant
from weft.engine.runtime.scalars import scalar_groups_of
from weft.engine.runtime.schedule import Schedule

__all__ = ["disagreement"]

TOLERANCE = {torch.float64: 1e-9, torch.float32: 3e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}
FLIPS = 0.02  # the share of elements that may differ: a sign, a rounding at the edge of a mask
NOTE = "agrees with eager, by the second rules"  # other rules, other words: a verdict outlives them


def disagreement(member: Member, variant: Variant, step: int, loss: Any) -> str | None:
    """How a kernel differs from the eager loop for a parameter like this one; None where it agrees.

    The verdict is kept with the kernel, so that it is reached once for each chain and machine.
    """
    assert variant.program is not None
    kernel = variant.program.kernel
    chain = fingerprint(member, variant, loss)
    if chain is not None and chain in kernel.notes.get(NOTE, ()):
        return None
    held = {id(g): (g, g.get_state()) for g in _generators(member, variant)}
    try:
        with torch.no_grad(), member.p.device, undrawn():  # not the user's default device
            reseed()  # a number that was drawn for the trace is not drawn again
            found = _compare(member, variant, step, loss, [g for g, _ in held.values()])
    finally:
        for generator, state in held.values():
            generator.set_state(state)
    if found is None and chain is not None:
        kernel.note(NOTE, [*kernel.notes.get(NOTE, ()), chain])
    return found


def _generators(member: Member, variant: Variant) -> list[torch.Generator]:
    """Whatever random numbers the chain may draw from."""
    known = [c.value for c in variant.traced.captures]
    known += [*member.bound.group.values(), *member.own.values()]
    own = [torch.default_generator]
    if member.p.is_cuda:
        own.append(torch.cuda.default_generators[member.p.device.index])
    return own + [g for g in known if isinstance(g, torch.Generator)]


def _compare(
    member: Member, variant: Variant, step: int, loss: Any, sources: list[torch.Generator]
) -> str | None:
    """Both engines on the furthest from what is that takes this variant, and that says something.

    Whatever the tracer took for constant shows where it moves: hypers, the step, the loss, states
    that are zero as yet.
    """
    hypers = {k: v for k, v in member.bound.group.items() if k not in NOT_HYPERS}
    moved = {k: v if k in member.own else _perturbed(v) for k, v in hypers.items()}
    trials = [
        (moved, True, step + 2, _perturbed(loss)),
        (moved, True, step, loss),
        (moved, False, step, loss),
        (hypers, False, step, loss),
    ]
    for i, (values, filled, now, cost) in enumerate(trials):
        last = i == len(trials) - 1
        if not last and not _takes(variant, values, member, now, cost):
            continue
        a, b = (_clone(member, values, filled, now) for _ in range(2))
        states = _states(a)
        _seed(sources)
        try:
            loop.step([a.bound], states, cost)
        except Exception as e:
            if not last:
                continue
            return f"the eager loop cannot be run on a clone: {e}"
        a.own = states.get(a.p, a.own)
        if last or bool(a.p.isfinite().all()):
            _seed(sources)
            try:
                return _held_to(a, b, variant, now, cost)
            except Exception as e:
                return f"on a clone its kernel raised {type(e).__name__}: {e}"
    return None


def _seed(sources: list[torch.Generator]) -> None:
    """Have generators start where they started for the other engine."""
    for g in sources:
        g.manual_seed(0)


def _takes(variant: Variant, hypers: dict[str, Any], member: Member, step: int, loss: Any) -> bool:
    """Whether these numbers lead to the variant."""
    try:
        return variant.host(*variant.leaves(hypers, member.own, step, loss)) is not None
    except (ArithmeticError, ValueError):
        return False


def _held_to(a: Member, b: Member, variant: Variant, step: int, loss: Any) -> str | None:
    """How the kernel differs on `b` from what the eager loop has made of `a`."""
    which = b.variant_set.variants.index(variant)
    before = b.p.detach().clone()
    active = ActiveSet([b], [b.bound], _states(b))
    scalar_groups = scalar_groups_of([b])
    numbers = [scalar_group.numbers(active, step, loss) for scalar_group in scalar_groups]
    if numbers[0].which != which:
        return None  # the guards of another variant hold too; it is checked when it is taken
    Schedule(active, scalar_groups, [which]).run(numbers, [b.bound], loss)
    return _difference(a, b, before, _tolerance(variant, before.dtype))


def _tolerance(variant: Variant, dtype: torch.dtype) -> float:
    """What rounding explains: a chain is as exact as the least exact dtype that it computes in."""
    used = {n.dtype for n in variant.traced.graph.live() if not n.is_host}
    return max(TOLERANCE.get(d, 0.0) for d in (dtype, *used))


def _clone(member: Member, hypers: dict[str, Any], filled: bool, step: int) -> Member:
    """The parameter with its state on other memory, with a grad that is not zero.

    `filled`: nor are the states that look like the parameter; `step` is the one it takes next.
    """
    noise = torch.Generator("cpu").manual_seed(1)
    p = _copy(member.p)
    p = torch.nn.Parameter(p) if type(member.p) is torch.nn.Parameter else p
    p.requires_grad_(member.p.requires_grad)
    assert member.p.grad is not None
    if member.p.grad.dtype is not p.dtype:
        p.grad_dtype = member.p.grad.dtype
    p.grad = _copy(member.p.grad)
    scale = float(p.grad.abs().mean()) if p.numel() else 1.0
    size = scale if 0 < scale < 1e4 else 1.0
    random = torch.randn(p.shape, generator=noise, dtype=torch.float64, device="cpu")
    if "grad" in member.staged and 0 in p.grad.stride():
        p.grad = torch.empty_strided(p.shape, member.strides, dtype=p.grad.dtype, device=p.device)
    p.grad.copy_(random * size)
    own = {k: _copy(v) if isinstance(v, torch.Tensor) else v for k, v in member.own.items()}
    for value in own.values():
        if filled and isinstance(value, torch.Tensor) and value.shape == p.shape:
            _fill(value, random.abs() * size)
    if member.bound.binding.keeps_step:
        own["step"] = torch.full_like(own["step"], step - 1)
    group = {**hypers, "params": [p]}
    for name in member.bound.binding.shared:  # a tensor of them is written in place
        if isinstance(group.get(name), torch.Tensor):
            group[name] = group[name].clone()
    bound = BoundGroup(0, group, member.bound.binding, set(member.bound.given))
    clone = Member(p, bound, own, member.strides, member.staged)
    clone.variant_set = member.variant_set
    return clone


def _fill(state: torch.Tensor, positive: torch.Tensor) -> None:
    """A state that is zero as yet: now positive, and definite where it may have to be."""
    if state.is_floating_point() and not state.any():
        if state.ndim == 2 and state.shape[0] == state.shape[1]:
            positive = positive @ positive.mT / len(positive)
        state.copy_(positive)


def _copy(t: torch.Tensor) -> torch.Tensor:
    """The same values in the same layout, elsewhere."""
    t = t.detach()
    if t.numel() and all(n == 1 or s > 0 for n, s in zip(t.shape, t.stride(), strict=True)):
        return torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=t.device).copy_(t)
    return t.clone()


def _states(member: Member) -> defaultdict:
    out: defaultdict = defaultdict(dict)
    if member.own or member.bound.binding.state_names:
        out[member.p] = member.own
    return out


def _perturbed(value: Any) -> Any:
    """A hyper a little smaller: what was baked into the code would show, and ranges are kept."""
    if type(value) is float:
        return value * 0.97
    if type(value) is tuple:
        return tuple(map(_perturbed, value))
    if isinstance(value, torch.Tensor):
        return value * 0.97 if value.is_floating_point() else value.clone()
    return value


def _difference(a: Member, b: Member, before: torch.Tensor, least: float) -> str | None:
    exact = before.double()
    rounding = 4 * torch.finfo(before.dtype).eps * exact.abs()
    # a rate is small beside what it moves
    x, y = (q.detach().double() - exact for q in (a.p, b.p))
    if not _near(x, y, least, rounding):
        return f"the parameter's change differs from eager by {_distance(x, y)}"
    pairs = [("the parameter", a.p, b.p), ("its grad", a.p.grad, b.p.grad)]
    if a.own.keys() != b.own.keys():
        return f"the states are {sorted(b.own)}, and eagerly {sorted(a.own)}"
    pairs += [(f"state {k!r}", a.own[k], b.own[k]) for k in a.own]
    decided = ([m.bound.group[k] for m in (a, b)] for k in a.bound.binding.shared)
    pairs += [
        (f"hyper {k!r}", *map(_number, both))
        for k, both in zip(a.bound.binding.shared, decided, strict=True)
    ]
    for name, x, y in pairs:
        if not _agree(x, y, least):
            return f"{name} differs from eager by {_distance(x, y)}"
    return None


def _number(value: Any) -> Any:
    """A shared value that a device keeps, read."""
    return value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value


def _agree(x: Any, y: Any, least: float) -> bool:
    """Whether two values differ by no more than their dtype, or their parameter's, explains."""
    if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor):
        return (
            x is y
            or x == y
            or (_is_number(x) and _is_number(y) and abs(x - y) <= 1e-4 * abs(x) + 1e-9)
        )
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    if not x.numel():
        return True
    tolerance = TOLERANCE.get(x.dtype, 0)
    tolerance = max(tolerance, least) if tolerance else 0
    return _near(x.detach().double(), y.detach().double(), tolerance)


def _near(x: torch.Tensor, y: torch.Tensor, tolerance: float, rounding: Any = 0.0) -> bool:
    """Whether nearly all elements agree, within a share of what is typical and a rounding error."""
    finite = x[x.isfinite()].abs()
    typical = float(finite.mean()) if finite.numel() else 0.0
    within = tolerance * (x.abs() + typical) + rounding + 1e-30
    close = ((x - y).abs() <= within) | (x == y) | (x.isnan() & y.isnan())
    return int((~close).sum()) <= FLIPS * x.numel()


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float)


def _distance(x: Any, y: Any) -> str:
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) and x.shape == y.shape:
        return f"{float((x.detach().double() - y.detach().double()).abs().max()):.3g}"
    return f"its kind ({x!r:.60} and {y!r:.60})"


# ---------------------------------------------------------------- the verdict's key


def fingerprint(member: Member, variant: Variant, loss: Any) -> str | None:
    """What the chain's code and its numbers' are, and of what kind; None where that cannot be seen."""
    binding, group = member.bound.binding, member.bound.group
    kinds = [(name, _kind(group[name])) for name in sorted(binding.hyper_names & group.keys())]
    parts: list[Any] = [torch.__version__, *variant.identity[1:], kinds, _kind(loss)]
    for call in binding.calls:
        function = function_of(call.spec.fn)
        if function is None:
            return None
        parts += [
            call.name,
            call.reads,
            sorted(call.spec.produces.items()),
            _code(function.__code__),
        ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _kind(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_kind(v) for v in value]
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape)
    return type(value).__name__


def _code(code: CodeType) -> tuple[Any, ...]:
    consts = tuple(_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts)
    return code.co_code, consts, code.co_names, code.co_varnames, code.co_freevars
