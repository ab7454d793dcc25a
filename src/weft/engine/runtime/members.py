"""A parameter as the kernels see it: what chain it runs, and how its memory is laid out."""

from collections.abc import Mapping
from typing import Any

import torch

from weft.contract.groups import NOT_HYPERS, BoundGroup
from weft.engine.backends import for_device
from weft.engine.backends.base import Backend
from weft.engine.eager.infer_state import new_count
from weft.engine.empty import is_empty
from weft.engine.fallback import Unsupported
from weft.engine.host.guards import PLAIN
from weft.engine.ir.traced import TensorSpec
from weft.engine.runtime.programs import ProgramCache, VariantSet
from weft.engine.sharded.shard import Shard
from weft.engine.storage import KEPT, LOW
from weft.engine.trace import Example

__all__ = ["EmptyMember", "Member", "layout", "overlaps_itself", "take_members"]


class Member:
    """One parameter that steps.

    Attributes:
        strides: the layout that kernels see; slots that have another are staged through a copy.
        staged: names of slots that are.
        variant_set: of its chain, for parameters like it.
        counted: the host counts its steps.
        shard: of a DTensor; `p` and `own` are what is local of it.
    """

    __slots__ = ("bound", "counted", "own", "p", "shard", "staged", "strides", "variant_set")

    variant_set: VariantSet

    def __init__(self, p: torch.Tensor, bound: BoundGroup, own: dict[str, Any],
                 strides: tuple[int, ...], staged: frozenset[str], shard: Shard | None = None):  # fmt: skip
        self.p, self.bound, self.own = p, bound, own
        self.strides, self.staged, self.shard = strides, staged, shard
        self.counted = bound.binding.keeps_step and not (bound.capturable and _waits(p))

    @property
    def plain(self) -> bool:
        """Whether all memory is in the order of the dims."""
        shape = tuple(self.p.shape)
        return not self.staged and alike(self.strides, contiguous(shape), shape)

    @property
    def is_split(self) -> bool:
        """Whether other ranks have parts of it."""
        return self.shard is not None and any(self.shard.splits)

    @property
    def whole(self) -> tuple[torch.Tensor, Mapping[str, Any]]:
        """The parameter and its states as the user has them: their shapes are what a chain sees."""
        return (self.p, self.own) if self.shard is None else (self.shard.whole, self.shard.given)

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor in a slot."""
        if name == "p":
            return self.p
        held = self.p.grad if name == "grad" else self.own[name]
        assert held is not None
        return held


class EmptyMember(Member):
    """A parameter without elements: it counts steps, and runs nothing."""

    __slots__ = ()

    def __init__(self, p: torch.Tensor, bound: BoundGroup, own: dict[str, Any]):
        super().__init__(p, bound, own, p.stride(), frozenset())


def layout(t: torch.Tensor) -> tuple[int, ...]:
    """The strides of a tensor that fills its memory without gaps or overlaps, else contiguous ones."""
    strides = t.stride()
    if t.is_contiguous():
        return strides
    expected = 1
    for stride, size in sorted(zip(strides, t.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return contiguous(tuple(t.shape))
            expected *= size
    return strides


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a contiguous tensor."""
    out, step = [], 1
    for size in reversed(shape):
        out.append(step)
        step *= max(1, size)
    return tuple(reversed(out))


def alike(a: tuple[int, ...], b: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether strides put elements in the same places; those of one element say nothing."""
    return a == b or all(x == y or n == 1 for x, y, n in zip(a, b, shape, strict=True))


def fit(t: torch.Tensor, p: torch.Tensor, name: str) -> Backend:
    """The backend of a parameter, whose kernels can read this tensor of it.

    Raises:
        Unsupported: says why they cannot.
    """
    if type(t) not in PLAIN:
        raise Unsupported(f"{name} is a {type(t).__name__}")
    backend = for_device(p.device)
    if backend is None or t.device != p.device:
        raise Unsupported(f"{name} is on {t.device}, and {p.device} has no kernels for that")
    if t.layout is not torch.strided:
        raise Unsupported(f"{name} is {t.layout}")
    if t.is_neg() or t.is_conj():
        raise Unsupported(f"{name} is a negated or conjugated view")
    return backend


def reads_grad(p: torch.dtype, grad: torch.dtype) -> bool:
    """Whether kernels take a grad of another dtype: what has 16 bits is read as it is computed in."""
    return grad is p or grad in LOW or (p in LOW and grad is torch.float32)


def take_members(
    groups: list[BoundGroup],
    state: Any,
    cache: ProgramCache,
    loss: Any,
    shards: Mapping[torch.Tensor, Shard],
) -> list[Member]:
    """The parameters with a grad, each with its variants; `shards` are of those that are local.

    Raises:
        Unsupported: for the first that kernels cannot serve.
    """
    members: list[Member] = []
    for bound in groups:
        hypers = {k: v for k, v in bound.group.items() if k not in NOT_HYPERS}
        known: dict[Any, VariantSet] = {}
        for i, p in enumerate(bound.params):
            if p.grad is None:
                continue
            own = state[p] if bound.binding.state_names or p in state else {}
            shard = shards.get(p)
            if is_empty(shard.whole if shard else p):
                members.append(EmptyMember(p, bound, own))
                continue
            try:
                member = _member(p, bound, own, f"parameter {bound.name_of(i)}", shard)
            except Unsupported as e:
                e.binding = bound.binding
                raise
            key = _signature(member)
            if key not in known:
                example = _example(member, hypers, loss, cache.norms is not None)
                known[key] = cache.variant_set(bound.binding, example)
            member.variant_set = known[key]
            members.append(member)
    return members


def _member(
    p: torch.Tensor, bound: BoundGroup, own: dict[str, Any], name: str, shard: Shard | None
) -> Member:
    """A parameter, its grad and its states in memory that kernels can read."""
    fit(p, p, name)
    if p.dtype not in KEPT:
        raise Unsupported(f"{name} is {p.dtype}")
    assert p.grad is not None
    fit(p.grad, p, f"the grad of {name}")
    if p.grad.shape != p.shape:
        raise Unsupported(f"the grad of {name} is {tuple(p.grad.shape)}")
    if not reads_grad(p.dtype, p.grad.dtype):
        raise Unsupported(f"the grad of {name} is {p.grad.dtype}")
    strides, shape, staged = layout(p), tuple(p.shape), set()
    for slot, t in (("p", p), ("grad", p.grad)):
        if not alike(t.stride(), strides, shape):
            staged.add(slot)
    for k, v in own.items():
        if k == "step" and bound.binding.keeps_step:
            _take_count(p, bound, own)
        elif isinstance(v, torch.Tensor):
            fit(v, p, f"state {k!r} of {name}")
            wanted = strides if v.shape == p.shape else contiguous(tuple(v.shape))
            if not alike(v.stride(), wanted, tuple(v.shape)):
                staged.add(k)
    for k in staged - {"grad"}:  # a grad may, as long as it is not written
        if overlaps_itself(p if k == "p" else own[k]):
            what = name if k == "p" else f"state {k!r} of {name}"
            raise Unsupported(f"{what} overlaps itself in memory")
    return Member(p, bound, own, strides, frozenset(staged), shard)


def _waits(p: torch.Tensor) -> bool:
    """Whether reading from the parameter's device waits for it."""
    backend = for_device(p.device)
    return backend is not None and backend.waits


def _take_count(p: torch.Tensor, bound: BoundGroup, own: dict[str, Any]) -> None:
    """A count of steps that a kernel is to advance, on the parameter's device."""
    held = own["step"]
    if bound.capturable and not (isinstance(held, torch.Tensor) and held.device == p.device):
        own["step"] = new_count(bound, p, float(held))


def _signature(m: Member) -> tuple[Any, ...]:
    """What parameters of one group and one set of variants have in common."""
    p, grad = m.p, m.p.grad
    assert grad is not None
    whole, given = m.whole
    states = (
        (k, TensorSpec(tuple(v.shape), v.dtype)) if isinstance(v, torch.Tensor)
        else (k, type(v), v if type(v) not in (int, float) else None)
        for k, v in given.items()
    )  # fmt: skip
    kind = (tuple(whole.shape), p.dtype, grad.dtype, type(p), p.requires_grad, p.device)
    return (*kind, *states, m.plain, m.shard and m.shard.sharding())


def _example(m: Member, hypers: dict[str, Any], loss: Any, norms: bool) -> Example:
    p, bound, grad = m.p, m.bound, m.p.grad
    assert grad is not None
    whole, given = m.whole
    specs = {
        k: TensorSpec(tuple(v.shape), v.dtype) if isinstance(v, torch.Tensor) else v
        for k, v in given.items()
    }
    return Example(
        tuple(whole.shape),
        p.dtype,
        specs,
        hypers,
        frozenset(k for k in m.own if k in hypers and bound.is_set(k)),
        int(m.own["step"]) + 1 if m.counted else 1,
        loss,
        p.device,
        m.plain,
        norms,
        None if grad.dtype is p.dtype else grad.dtype,
        type(p),
        p.requires_grad,
        resident=_waits(p),
        counted=m.counted or not bound.binding.keeps_step,
        sharding=m.shard.sharding() if m.shard else None,
    )


def overlaps_itself(t: torch.Tensor) -> bool:
    """Whether two elements may share memory."""
    reach = 0
    for stride, size in sorted(zip(t.stride(), t.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return True
            reach += stride * (size - 1)
    return False
