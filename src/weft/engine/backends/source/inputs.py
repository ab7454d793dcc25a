"""What the host writes for a launch: addresses, and rows of numbers; and the memory between passes."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch

from weft.engine.backends.source.layout import laid
from weft.engine.plan.plan import Plan
from weft.errors import NoNumber

__all__ = ["Inputs"]


class Inputs:
    """The pointers and numbers of a launch in the host's memory; its values and vectors in the device's.

    Attributes:
        values: the 0-dim values of each tensor.
        ptr: the address of each slot of each tensor, slot after slot.
        rows: the host scalars, a row for each group and step.
        row_of: which tensor has which row.
        c: the structure that begins as `weft_inputs` does; its `rows` follows them.
    """

    c: Any

    def __init__(self, plans: Sequence[Plan], device: torch.device):
        """`plans` has one for each tensor, all of one skeleton."""
        plan, tensors = plans[0], len(plans)
        self.plan, self.tensors = plan, tensors
        self.scalars, self.room = max(1, plan.scalars), 1
        self.ptr = (ctypes.c_uint64 * (tensors * max(1, len(plan.slots))))()
        self.row_of = (ctypes.c_int32 * tensors)()
        self.rows = (ctypes.c_double * self.scalars)()
        self.per_tensor = max(1, len(plan.values))
        self.values = torch.zeros(tensors, self.per_tensor, dtype=torch.float64, device=device)
        self._make_scratch(plans, device)

    def _make_scratch(self, plans: Sequence[Plan], device: torch.device) -> None:
        """Memory for the vectors of all tensors, each at the beginning of a cache line."""
        wanted = [
            (slot * self.tensors + t, -(-p.slots[slot].dtype.itemsize * elements // 64) * 64)
            for t, p in enumerate(plans)
            for slot, elements in laid(p).scratch.items()
        ]
        self.scratch = torch.empty(
            sum(size for _, size in wanted), dtype=torch.uint8, device=device
        )
        address = self.scratch.data_ptr()
        for place, size in wanted:
            self.ptr[place] = address
            address += size

    @property
    def inputs(self) -> int | None:
        """The address of that structure."""
        return ctypes.addressof(self.c)

    def point(self, slot: int, addresses: Sequence[int]) -> None:
        """Set the addresses of one slot."""
        self.ptr[slot * self.tensors : (slot + 1) * self.tensors] = addresses

    def point_one(self, slot: int, tensor: int, address: int) -> None:
        """Set the address of one slot of one tensor."""
        self.ptr[slot * self.tensors + tensor] = address

    def vector(self, slot: int, tensor: int, elements: int) -> torch.Tensor:
        """The first elements of a vector that is kept between passes."""
        dtype = self.plan.slots[slot].dtype
        begin = self.ptr[slot * self.tensors + tensor] - self.scratch.data_ptr()
        return self.scratch[begin : begin + elements * dtype.itemsize].view(dtype)

    def set_rows(self, rows: Sequence[Sequence[float]], row_of: Sequence[int] | None) -> None:
        """Set the host scalars: a row for each group and step, and which tensor has which."""
        if len(rows) > self.room:
            self.room = len(rows)
            self.rows = (ctypes.c_double * (self.scalars * self.room))()
            self.c.rows = ctypes.addressof(self.rows)
        for i, row in enumerate(rows):
            row = row[: self.plan.scalars]
            try:
                self.rows[i * self.scalars : i * self.scalars + len(row)] = row
            except (TypeError, OverflowError) as e:  # a hyper that nothing was computed from
                raise NoNumber(f"{type(e).__name__}: {e}") from e
        if row_of is not None:
            self.row_of[:] = row_of
