"""Step counts: those of all parameters lie in one buffer, and one call advances those that step.

A parameter may be without a grad in one step and have one in the next: its count keeps its place, so
that what was laid out for one pattern of grads serves again when that is back.
"""

import ctypes
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from weft.engine.backends.c import kernel as c

__all__ = ["Buffer", "Counts"]


class Buffer:
    """The counts of some parameters in one memory: their states' "step" become views into it."""

    def __init__(self, owns: Sequence[dict[str, Any]]):
        counts = [float(own["step"]) for own in owns]
        self.tensor = torch.tensor(counts, dtype=torch.float32)
        self.views = list(self.tensor.unbind()) if counts else []
        self.places = {id(view): i for i, view in enumerate(self.views)}
        self.at = self.tensor.data_ptr()
        for own, view in zip(owns, self.views, strict=True):
            own["step"] = view

    def holds(self, owns: Iterable[dict[str, Any]]) -> bool:
        """Whether the counts of all of these are in it."""
        return all(self._is_here(own["step"]) for own in owns)

    def _is_here(self, step: Any) -> bool:
        place = self.places.get(id(step))
        return place is not None and step.data_ptr() == self.at + 4 * place


class Counts:
    """The counts of those that step.

    Attributes:
        views: one for each.
        address: of the C structure.
    """

    def __init__(self, buffer: Buffer, owns: Sequence[dict[str, Any]]):
        self.buffer, self.looks = buffer, c.looks()
        self.views = [own["step"] for own in owns]
        self.which = array("q", [buffer.places[id(view)] for view in self.views])
        which = self.which.buffer_info()[0]
        self.c = c.Counts(steps=buffer.at, which=which, n=len(self.which))
        self.address = ctypes.addressof(self.c)

    def __len__(self) -> int:
        return len(self.views)

    def common(self) -> int | None:
        """The count that all have; None where they differ."""
        count = self.looks.count_of_all(self.address)
        return int(count) if count >= 0 else None

    def each(self) -> list[int]:
        """The count of each."""
        counts = self.buffer.tensor.tolist()
        return [int(counts[i]) for i in self.which]

    def advance(self) -> None:
        """One more step for all."""
        self.looks.count(self.address)
