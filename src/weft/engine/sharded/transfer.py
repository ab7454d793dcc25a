"""Tensors from every rank to every other in one collective: packed into bytes, whatever their dtypes.

Where each of them lies is planned once. Ranks whose parts lie alike are packed and unpacked together:
how often torch is called does not grow with the number of ranks.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import torch

from weft.engine.sharded.owners import Parts, Team

__all__ = ["Packing", "Slot", "Spread", "transfer"]

ALIGNED = 64  # bytes: kernels read what has arrived where it lies


class Slot(NamedTuple):
    """A tensor among those that go to a rank or come from it, and where in bytes."""

    rank: int
    at: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class Packing:
    """What goes to each rank of a team, or comes from each, one after the other.

    Attributes:
        sizes: of each rank, in bytes.
    """

    def __init__(self, team: Team):
        self.team, self.sizes = team, [0] * len(team.places)

    def add(self, rank: int, shape: tuple[int, ...], dtype: torch.dtype) -> Slot:
        """Room for one more tensor."""
        slot = Slot(rank, self.sizes[rank], shape, dtype)
        self.sizes[rank] += -(-math.prod(shape) * dtype.itemsize // ALIGNED) * ALIGNED
        return slot

    def spread(self, parts: Parts, dtype: torch.dtype) -> "Spread":
        """Room for the part of each rank of a tensor."""
        return Spread(self, parts, [self.add(r, s, dtype) for r, s in enumerate(parts.shapes)])

    @cached_property
    def begins(self) -> list[int]:
        """Where each rank's bytes begin, when all is added."""
        return [0, *accumulate(self.sizes)]

    def empty(self, device: Any) -> torch.Tensor:
        """Memory for it."""
        return torch.empty(self.begins[-1], dtype=torch.uint8, device=device)

    def view(self, packed: torch.Tensor, slot: Slot) -> torch.Tensor:
        """The tensor that lies there."""
        begin = self.begins[slot.rank] + slot.at
        n = math.prod(slot.shape) * slot.dtype.itemsize
        return packed[begin : begin + n].view(slot.dtype).view(slot.shape)


class Run(NamedTuple):
    """Parts of ranks that follow each other alike, in elements: `count` of `n`."""

    count: int
    n: int
    slot: tuple[int, int]  # the first, and how far from one to the next
    whole: tuple[int, int]

    def of(self, flat: torch.Tensor, where: tuple[int, int]) -> torch.Tensor:
        """The rows of one of both."""
        begin = flat.storage_offset() + where[0]
        return flat.as_strided((self.count, self.n), (where[1], 1), begin)


class Spread:
    """The parts of one tensor, among what goes to all ranks or comes from them."""

    def __init__(self, packing: Packing, parts: Parts, slots: Sequence[Slot]):
        self.packing, self.parts, self.slots = packing, parts, slots

    @cached_property
    def runs(self) -> list[Run] | None:
        """As few as there are; None where parts are no rows."""
        if self.parts.begins is None:
            return None
        out: list[Run] = []
        for slot, whole in zip(self.slots, self.parts.begins, strict=True):
            n = math.prod(slot.shape)
            at = (self.packing.begins[slot.rank] + slot.at) // slot.dtype.itemsize
            last = out[-1] if out else None
            if last and last.n == n:
                step = at - last.slot[0], whole - last.whole[0]
                if last.count == 1:
                    last = last._replace(
                        slot=(last.slot[0], step[0]), whole=(last.whole[0], step[1])
                    )
                if step == (last.count * last.slot[1], last.count * last.whole[1]):
                    out[-1] = last._replace(count=last.count + 1)
                    continue
            out += [Run(1, n, (at, 0), (whole, 0))] if n else []
        return out

    def put(self, packed: torch.Tensor, whole: torch.Tensor) -> None:
        """Pack what goes to each rank."""
        if self.runs is None:
            for slot in self.slots:
                self.packing.view(packed, slot).copy_(self.parts.take(whole, slot.rank))
            return
        to, of = packed.view(self.slots[0].dtype), whole.contiguous().view(-1)
        for run in self.runs:
            run.of(to, run.slot).copy_(run.of(of, run.whole))

    def join(self, packed: torch.Tensor) -> torch.Tensor:
        """The whole, of what has come from each rank."""
        dtype = self.slots[0].dtype
        whole = torch.empty(self.parts.shape, dtype=dtype, device=packed.device)
        if self.runs is None:
            for slot in self.slots:
                self.parts.put(whole, slot.rank, self.packing.view(packed, slot))
            return whole
        to, of = whole.view(-1), packed.view(dtype)
        for run in self.runs:
            run.of(to, run.whole).copy_(run.of(of, run.slot))
        return whole


def transfer(sent: Packing, packed: torch.Tensor, due: Packing) -> Callable[[], torch.Tensor]:
    """Begin to send all that is packed; gives what waits for what comes."""
    import torch.distributed as dist  # not every torch has it

    team, device = sent.team, packed.device
    packed = packed.to(team.device)  # kept until all is sent
    come = due.empty(team.device)
    work: Any = dist.all_to_all_single(
        come, packed, due.sizes, sent.sizes, group=team.group, async_op=True
    )

    def wait(packed: torch.Tensor = packed) -> torch.Tensor:
        if work is not None:
            work.wait()
        return come.to(device)

    return wait
