"""Trust: before a kernel touches a parameter, it is compared once with the eager loop, on clones."""

import hashlib
from collections import defaultdict
from types import CodeType
from typing import Any

import torch

from weft.binding import Binding
from weft.callback import function_of
from weft.engine import eager
from weft.engine.run.lanes import make_lanes
from weft.engine.run.program import Variant
from weft.engine.run.roster import Roster
from weft.engine.run.schedule import Schedule
from weft.engine.run.seat import Seat
from weft.groups import NOT_HYPERS, BoundGroup

__all__ = ["disagreement"]

TOLERANCE = {torch.float64: 1e-9, torch.float32: 3e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}
FLIPS = 0.02  # the share of elements that may differ: a sign, a rounding at the edge of a mask
NOTE = "agrees with eager"


def disagreement(seat: Seat, variant: Variant, step: int, loss: Any) -> str | None:
    """How a kernel differs from the eager loop for a parameter like this one; None where it agrees.

    The verdict is kept with the kernel, so that it is reached once for each chain and machine.
    """
    assert variant.program is not None
    entry = variant.program.kernel.entry
    chain = fingerprint(seat.bound.binding)
    if chain is not None and chain in entry.notes.get(NOTE, ()):
        return None
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        found = _compare(seat, variant, step, loss)
    if found is None and chain is not None:
        entry.note(NOTE, [*entry.notes.get(NOTE, ()), chain])
    return found


def _compare(seat: Seat, variant: Variant, step: int, loss: Any) -> str | None:
    which = seat.family.variants.index(variant)
    bound = seat.bound
    hypers = {k: v for k, v in bound.group.items() if k not in NOT_HYPERS}
    moved = {k: v if k in seat.own else _perturbed(v) for k, v in hypers.items()}
    if variant.host(*variant.leaves(moved, seat.own, step, loss)) is None:
        moved = hypers
    a, b = (_clone(seat, moved) for _ in range(2))
    torch.manual_seed(0)
    states = _states(a)
    eager.step([a.bound], states, loss)
    a.own = states.get(a.p, a.own)
    torch.manual_seed(0)
    roster = Roster([b], _states(b))
    lanes = make_lanes([b])
    numbers = [lane.numbers([b], [step], True, loss) for lane in lanes]
    if numbers[0].which != which:
        return None  # the guards of another variant hold too; it is checked when it is taken
    shared = Schedule(roster, lanes, [which]).run(numbers, 1)
    for (_, name), (_, value) in shared.items():
        b.bound.group[name] = value
    return _difference(a, b)


def _clone(seat: Seat, hypers: dict[str, Any]) -> Seat:
    """The parameter with its state on other memory, with a grad that is not zero."""
    noise = torch.Generator().manual_seed(1)
    p = torch.nn.Parameter(_copy(seat.p), requires_grad=False)
    assert seat.p.grad is not None
    if seat.p.grad.dtype is not p.dtype:
        p.grad_dtype = seat.p.grad.dtype
    p.grad = _copy(seat.p.grad)
    scale = float(p.grad.abs().mean()) if p.numel() else 1.0
    size = scale if 0 < scale < 1e4 else 1.0
    random = torch.randn(p.shape, generator=noise, dtype=torch.float64)
    if "grad" in seat.staged and 0 in p.grad.stride():
        p.grad = torch.empty_strided(p.shape, seat.strides, dtype=p.grad.dtype)
    p.grad.copy_(random * size)
    own = {k: _copy(v) if isinstance(v, torch.Tensor) else v for k, v in seat.own.items()}
    group = {**hypers, "params": [p]}
    bound = BoundGroup(0, group, seat.bound.binding, set(seat.bound.given))
    return Seat(p, bound, own, seat.family, seat.strides, seat.staged)


def _copy(t: torch.Tensor) -> torch.Tensor:
    """The same values in the same layout, elsewhere."""
    t = t.detach()
    if t.numel() and all(n == 1 or s > 0 for n, s in zip(t.shape, t.stride(), strict=True)):
        return torch.empty_strided(t.shape, t.stride(), dtype=t.dtype).copy_(t)
    return t.clone()


def _states(seat: Seat) -> defaultdict:
    out: defaultdict = defaultdict(dict)
    if seat.own or seat.bound.binding.state_names:
        out[seat.p] = seat.own
    return out


def _perturbed(value: Any) -> Any:
    """A hyper a little smaller: what was baked into the code would show, and ranges are kept."""
    if type(value) is float:
        return value * 0.97
    if type(value) is tuple:
        return tuple(map(_perturbed, value))
    return value.clone() if isinstance(value, torch.Tensor) else value


def _difference(a: Seat, b: Seat) -> str | None:
    pairs = [("the parameter", a.p, b.p), ("its grad", a.p.grad, b.p.grad)]
    if a.own.keys() != b.own.keys():
        return f"the states are {sorted(b.own)}, and eagerly {sorted(a.own)}"
    pairs += [(f"state {k!r}", a.own[k], b.own[k]) for k in a.own]
    pairs += [(f"hyper {k!r}", a.bound.group[k], b.bound.group[k]) for k in a.bound.binding.shared]
    for name, x, y in pairs:
        if not _agree(x, y, TOLERANCE.get(a.p.dtype, 0)):
            return f"{name} differs from eager by {_distance(x, y)}"
    return None


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
    x64, y64 = x.detach().double(), y.detach().double()
    finite = x64[x64.isfinite()].abs()
    typical = float(finite.mean()) if finite.numel() else 0.0
    close = torch.isclose(
        x64, y64, rtol=tolerance, atol=tolerance * typical + 1e-30, equal_nan=True
    )
    return int((~close).sum()) <= FLIPS * x.numel()


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float)


def _distance(x: Any, y: Any) -> str:
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) and x.shape == y.shape:
        return f"{float((x.detach().double() - y.detach().double()).abs().max()):.3g}"
    return f"its kind ({x!r:.60} and {y!r:.60})"


# ---------------------------------------------------------------- the verdict's key


def fingerprint(binding: Binding) -> str | None:
    """What the chain's code is; None where a callback's cannot be seen."""
    parts: list[Any] = [torch.__version__]
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


def _code(code: CodeType) -> tuple[Any, ...]:
    consts = tuple(_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts)
    return code.co_code, consts, code.co_names, code.co_varnames, code.co_freevars
