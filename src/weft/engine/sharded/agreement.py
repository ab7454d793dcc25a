"""What ranks decide alike: that a step is that of all, can be built, and has finite grads.

Else one would wait in collectives for the others, or they would drift apart without a word.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import torch

from weft.contract.groups import NOT_HYPERS, BoundGroup
from weft.engine.sharded.shard import Shard
from weft.errors import StepError

__all__ = ["Agreed", "Common", "agree", "most", "union"]

Pairs = Sequence[tuple[torch.Tensor, Shard | None]]
PLAIN = (int, float, bool, str, type(None))
AT_ONCE = ("cpu",)  # devices that the host need not wait for


class Agreed(NamedTuple):
    """What became of something that all ranks tried."""

    some_failed: bool
    some_passed: bool


def agree(meshes: Iterable[Any], failed: bool) -> Agreed:
    """Tell all ranks of these meshes whether this one failed."""
    told = torch.tensor([failed, not failed], dtype=torch.float64, device="cpu")
    for mesh in dict.fromkeys(meshes):
        told = most(told, mesh).cpu()
    return Agreed(*(told > 0).tolist())


def most(told: torch.Tensor, mesh: Any) -> torch.Tensor:
    """The largest of what all ranks of a mesh tell, number by number."""
    import torch.distributed as dist  # not every torch has it

    told = told.to(mesh.device_type, copy=True)
    for dim in range(mesh.ndim):
        if mesh.size(dim) > 1:
            dist.all_reduce(told, dist.ReduceOp.MAX, mesh.get_group(dim))
    return told


def union(meshes: Iterable[Any], own: set[Any]) -> set[Any]:
    """What any rank of these meshes has found; where none has, that costs one number of each."""
    meshes = list(dict.fromkeys(meshes))
    if meshes and agree(meshes, failed=bool(own)).some_failed:
        for mesh in meshes:
            own = own.union(*_each(own, mesh).values())
    return own


def _each(own: Any, mesh: Any) -> dict[int, Any]:
    """What each rank of a mesh has, for errors: this grows with their number."""
    import torch.distributed as dist  # not every torch has it

    found = {dist.get_rank(): own}
    for dim in range(mesh.ndim):
        several: list[Any] = [None] * mesh.size(dim)
        dist.all_gather_object(several, found, mesh.get_group(dim))
        found = {rank: x for part in several for rank, x in part.items()}
    return dict(sorted(found.items()))


class Common:
    """What has to be the same on all ranks of a mesh: the groups that have parameters there.

    Each step tells the others two numbers. The answer is read at once where parameters are new, and on a
    CPU; elsewhere the host would wait for the device, so it is read at the next step.
    """

    def __init__(self, mesh: Any, taken: Sequence[tuple[BoundGroup, Pairs]]):
        self.mesh, self.told = mesh, None
        self.taken = [
            (bound, here) for bound, pairs in taken
            if (here := [(i, p, s) for i, (p, s) in enumerate(pairs) if s and s.mesh == mesh])
        ]  # fmt: skip
        self.fixed = crc32(repr(self._described(grads=False)).encode())

    def check(self, fresh: bool) -> None:
        """See that this step is the same on all ranks.

        Raises:
            StepError: on all of them; says in what they differ.
        """
        if self.told is not None and self._differs(self.told):
            raise self._error("in the last step, ")
        having = bytes(p.grad is not None for _, here in self.taken for _, p, _ in here)
        hypers = [_plain(bound) for bound, _ in self.taken]
        own = crc32(having, crc32(repr(hypers).encode(), self.fixed))
        self.told = most(torch.tensor([own, -own], dtype=torch.float64, device="cpu"), self.mesh)
        if (fresh or self.mesh.device_type in AT_ONCE) and self._differs(self.told):
            raise self._error()

    def _differs(self, told: torch.Tensor) -> bool:
        self.told = None
        most, least = told.tolist()
        return most != -least

    def _described(self, grads: bool = True) -> dict[str, Any]:
        """What is compared, in words."""
        out: dict[str, Any] = {"the number of groups": len(self.taken)}
        for bound, here in self.taken:
            of = f" of group {bound.index}"
            out["the chain" + of] = ", ".join(c.name for c in bound.binding.calls)
            out["the number of parameters" + of] = len(here)
            for i, p, s in here:
                name = f"parameter {bound.name_of(i)}"
                out[f"the placement of {name}"] = f"{p.dtype}, {s.whole.placements}"
                if grads:
                    out[f"the grad of {name}"] = "missing" if p.grad is None else "there"
            if grads:
                out |= {f"{name!r}{of}": value for name, value in _plain(bound).items()}
        return out

    def _error(self, when: str = "") -> StepError:
        where = _difference(_each(self._described(), self.mesh))
        return StepError(f"{when}ranks differ: {where}. Nothing has been stepped")


def _plain(bound: BoundGroup) -> dict[str, Any]:
    """The hypers of a group that are no tensors; shared values follow from what ranks combine."""
    leave_out = {*NOT_HYPERS, *bound.binding.shared}
    return {k: _known(v) for k, v in bound.group.items() if k not in leave_out}


def _known(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_known, value))
    return value if type(value) in PLAIN else type(value).__name__


def _difference(each: Mapping[int, Mapping[str, Any]]) -> str:
    """The first thing in which ranks differ."""
    (first, one), *others = each.items()
    for what in dict.fromkeys(k for own in each.values() for k in own):
        for rank, own in others:
            if own.get(what) != one.get(what):
                said = one.get(what, "none"), own.get(what, "none")
                return f"{what} is {said[0]} on rank {first}, and {said[1]} on rank {rank}"
    return "in what, they cannot tell any more"
