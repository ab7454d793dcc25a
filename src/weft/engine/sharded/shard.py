"""One DTensor: what is local of it and of its states, and where its parts are."""

from collections.abc import Callable, MutableMapping
from operator import is_
from typing import Any

import torch

from weft.engine.fallback import Unsupported
from weft.engine.host.guards import PLAIN
from weft.engine.ir.traced import Sharding, Splits

__all__ = ["Shard", "splits_like"]


class Shard:
    """A DTensor and what is local of it.

    Attributes:
        whole: the DTensor; given: its states, as the optimizer holds them.
        local: this rank's part, a plain parameter; own: the states of that.
        mesh, splits: which dims of the mesh split which dims of the tensor.
    """

    __slots__ = (
        "given", "held", "known", "local", "memory", "mesh", "own", "parts", "spec", "splits", "whole",
    )  # fmt: skip

    def __init__(self, whole: Any):
        self.whole, self.mesh, self.splits = whole, whole.device_mesh, _splits(whole)
        self.memory = whole._local_tensor
        self.local = torch.nn.Parameter(self.memory.detach(), whole.requires_grad)
        self.given: MutableMapping[str, Any] = {}
        self.own: dict[str, Any] = {}
        self.held: dict[str, Any] = {}  # of each state what was in the optimizer, and what is local
        self.parts: dict[str, Any] = {}
        self.known = False  # whether the runtime has these states
        self.spec: Any = None  # the last grad's, which lies as its parameter does

    @property
    def is_current(self) -> bool:
        """Whether the shard is still in this memory: FSDP may put it into another."""
        return self.whole._local_tensor is self.memory

    def take_grad(self) -> bool:
        """Take up the grad of this step; whether there is one."""
        whole, local = self.whole, self.local
        if whole.requires_grad is not local.requires_grad:
            local.requires_grad_(whole.requires_grad)
        grad = whole.grad
        if grad is None:
            local.grad = None  # of a step that was refused
            return False
        if self.spec is None or getattr(grad, "_spec", None) is not self.spec:
            grad = self._placed(grad)
        grad = _local(grad)
        if grad.dtype is not local.grad_dtype:
            local.grad, local.grad_dtype = None, grad.dtype
        local.grad = grad
        return True

    def _placed(self, grad: Any) -> Any:
        """A grad in the placement of its parameter; autograd may leave sums that wait for others."""
        whole = self.whole
        if type(grad) in PLAIN:
            raise Unsupported("the grad of a DTensor is none")
        if grad.placements != whole.placements:
            whole.grad = grad = grad.redistribute(whole.device_mesh, whole.placements)
        self.spec = grad._spec
        return grad

    def take_states(self, given: MutableMapping[str, Any]) -> bool:
        """Take up states that are new or were replaced; whether there were any."""
        same = given is self.given and [*given] == [*self.held]  # in order, as values are compared
        if same and all(map(is_, given.values(), self.held.values())):
            return False
        self.given, changed = given, False
        for name, held in given.items():
            if name not in self.held or self.held[name] is not held:
                self.held[name] = given[name] = held = self._like_whole(held)
                self.own[name] = self.parts[name] = _local(held)
                changed = True
        for name in self.own.keys() - given.keys():
            del self.own[name], self.held[name], self.parts[name]
            changed = True
        return changed

    def _like_whole(self, held: Any) -> Any:
        """A state split as the parameter is, where it has its dims: as a file may not have it."""
        whole = self.whole
        if not isinstance(held, torch.Tensor) or held.ndim != whole.ndim or held.ndim == 0:
            return held
        splits = splits_like(tuple(held.shape), tuple(whole.shape), self.splits)
        placements = self.placements_of(held.shape, splits)
        if type(held) in PLAIN:
            from torch.distributed.tensor import distribute_tensor

            return distribute_tensor(held, self.mesh, placements, src_data_rank=None)
        there = list(held.placements)  # type: ignore[attr-defined]
        return held if there == placements else held.redistribute(self.mesh, placements)  # type: ignore[attr-defined]

    def placements_of(self, shape: tuple[int, ...], splits: Splits) -> list[Any]:
        """Placements of a state of this shape, of which these dims of the mesh split dims."""
        from torch.distributed.tensor import Replicate, Shard

        of = self.whole.placements
        if tuple(shape) == tuple(self.whole.shape):
            return list(of)
        out: list[Any] = [Replicate() for _ in of]
        for dim, split in enumerate(splits):
            for i in split:
                if isinstance(of[i], Shard):
                    out[i] = Shard(dim)
                else:  # a shard of a shard, which torch keeps to itself
                    out[i] = type(of[i])(dim, split_factor=of[i].split_factor)
        return out

    def sharding(self) -> Sharding:
        """How it is spread over ranks, with those of its states that have another shape."""
        others = (
            (name, _splits(held))
            for name, held in self.given.items()
            if hasattr(held, "placements") and held.ndim and held.shape != self.whole.shape
        )
        return Sharding(tuple(self.local.shape), self.splits, tuple(others))

    def give_states(self, variant: Callable[[torch.Tensor], Any]) -> None:
        """Hand back states that a step has made; `variant` is what a local parameter ran."""
        for name, value in self.own.items():
            if name not in self.parts or self.parts[name] is not value:
                self.parts[name] = value
                self.held[name] = self.given[name] = self._whole(name, value, variant)

    def _whole(self, name: str, value: Any, variant: Callable[[torch.Tensor], Any]) -> Any:
        """What is local of a state as a DTensor; what has no dims is the same everywhere."""
        if not isinstance(value, torch.Tensor) or value.ndim == 0:
            return value
        from torch.distributed.tensor import DTensor

        ran = variant(self.local)
        shape = ran.traced.stores[name].shape
        splits = ran.placed.states.get(name, ((),) * len(shape))
        like = torch.empty(shape, device="meta")
        return DTensor.from_local(
            value, self.mesh, self.placements_of(shape, splits), run_check=False,
            shape=like.shape, stride=like.stride(),
        )  # fmt: skip


def splits_like(shape: tuple[int, ...], whole: tuple[int, ...], splits: Splits) -> Splits:
    """How a state is split that has some dims of its parameter: of a number, a row or a column."""
    many = any(n != 1 for n in shape)
    return tuple(
        split if n == m and many else () for split, n, m in zip(splits, shape, whole, strict=True)
    )


def _splits(whole: Any) -> Splits:
    """Which dims of the mesh split each dim of a DTensor."""
    out: list[tuple[int, ...]] = [()] * whole.ndim
    for i, placement in enumerate(whole.placements):
        if placement.is_partial():
            raise Unsupported("a parameter or state is a sum that waits for other ranks")
        if not placement.is_replicate() and whole.device_mesh.size(i) > 1:
            out[placement.dim] += (i,)
    return tuple(out)


def _local(t: Any) -> Any:
    """What is local of a tensor; what is on its way is waited for."""
    local = getattr(t, "_local_tensor", t)
    return local if type(local) in PLAIN or not hasattr(local, "wait") else local.wait()
