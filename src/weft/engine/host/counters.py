"""Step counts: a 0-dim tensor a parameter, in its state; one call advances those that step."""

import ctypes
from array import array
from collections.abc import Sequence
from typing import Any

import torch

from weft.contract.declare import SCALAR_DTYPES, scalar_dtype
from weft.engine.host import native as c

__all__ = ["Counts"]


class Counts:
    """The counts of those that step, where they lie.

    Attributes:
        tensors: one for each; a count of another kind is put into one.
        address: of the C structure.
    """

    def __init__(self, owns: Sequence[dict[str, Any]]):
        for own in owns:
            if not _is_count(step := own["step"]):
                known = isinstance(step, torch.Tensor) and step.dtype in SCALAR_DTYPES
                dtype = step.dtype if known else scalar_dtype()
                own["step"] = torch.tensor(float(step), dtype=dtype, device="cpu")
        self.tensors: list[torch.Tensor] = [own["step"] for own in owns]
        self.native, self.at = c.native(), array("q", [t.data_ptr() for t in self.tensors])
        self.wide = array("B", [t.dtype is torch.float64 for t in self.tensors])
        self.read = array("d", bytes(8 * len(self.at)))
        at, wide, read = (a.buffer_info()[0] for a in (self.at, self.wide, self.read))
        self.c = c.Counts(at=at, wide=wide, n=len(self.at), read=read)
        self.address = ctypes.addressof(self.c)

    def __len__(self) -> int:
        return len(self.tensors)

    def common(self) -> int | None:
        """The count that all have; None where they differ."""
        count = self.native.count_of_all(self.address)
        return int(count) if count >= 0 else None

    def each(self) -> list[int]:
        """The count of each."""
        self.native.read_counts(self.address)
        return [int(count) for count in self.read]

    def advance(self) -> None:
        """One more step for all."""
        self.native.count(self.address)


def _is_count(step: Any) -> bool:
    return (
        type(step) is torch.Tensor
        and step.dtype in SCALAR_DTYPES
        and (step.shape, step.device.type) == ((), "cpu")
        and not step.is_neg()
    )
