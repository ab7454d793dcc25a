"""Tensors from every rank to every other in one collective: packed into bytes, whatever their dtypes."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from weft.engine.sharded.owners import Team

__all__ = ["Spec", "Transfer"]

ALIGNED = 64  # bytes: kernels read what has arrived where it lies


class Spec(NamedTuple):
    """A tensor to come."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """What it takes, with what it is padded by."""
        return -(-math.prod(self.shape) * self.dtype.itemsize // ALIGNED) * ALIGNED


class Transfer:
    """One exchange, on its way: `sent` to each rank of a team, `due` from each."""

    def __init__(
        self, team: Team, sent: Sequence[Sequence[torch.Tensor]], due: Sequence[Sequence[Spec]],
        device: torch.device,
    ):  # fmt: skip
        import torch.distributed as dist  # not every torch has it

        self.due, self.device = due, device
        specs = [[Spec(tuple(t.shape), t.dtype) for t in to] for to in sent]
        self.sizes = [sum(s.bytes for s in to) for to in specs]
        self.packed = torch.empty(sum(self.sizes), dtype=torch.uint8, device=device)
        slots = _unpacked(self.packed, [s for to in specs for s in to])
        for slot, t in zip(slots, [t for to in sent for t in to], strict=True):
            slot.copy_(t)
        sizes = [sum(s.bytes for s in of) for of in due]
        self.packed = self.packed.to(team.device)
        self.come = torch.empty(sum(sizes), dtype=torch.uint8, device=team.device)
        self.work: Any = dist.all_to_all_single(
            self.come, self.packed, sizes, self.sizes, group=team.group, async_op=True
        )

    def wait(self) -> list[list[torch.Tensor]]:
        """What has come from each rank."""
        if self.work is not None:
            self.work.wait()
        tensors = iter(_unpacked(self.come.to(self.device), [s for of in self.due for s in of]))
        return [[next(tensors) for _ in of] for of in self.due]


def _unpacked(packed: torch.Tensor, specs: Sequence[Spec]) -> list[torch.Tensor]:
    """The tensors that lie one after the other in some bytes."""
    out, begin = [], 0
    for s in specs:
        n = math.prod(s.shape) * s.dtype.itemsize
        out.append(packed[begin : begin + n].view(s.dtype).view(s.shape))
        begin += s.bytes
    return out
