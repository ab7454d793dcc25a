"""Whose memory is whose among the tensors that outlive a call."""

from typing import Any

import torch

from weft.engine.storage import memory_of

__all__ = ["Owners"]


class Owners:
    """The memory of each name, kept as names get new values: a value belongs to one name alone."""

    __slots__ = ("held", "of")

    def __init__(self) -> None:
        self.of: dict[Any, tuple[str, torch.Tensor]] = {}
        self.held: dict[tuple[str, str], Any] = {}

    def hold(self, name: str, value: Any, role: str = "") -> None:
        """A name has this value from here on; what it had may be freed.

        Args:
            name: of the chain, or who else the memory belongs to.
            value: a tensor; anything else has no memory.
            role: where a name has several values, as a state that is read in another dtype has.
        """
        before = self.held.pop((name, role), None)
        if before is not None:
            self.of.pop(before, None)
        if isinstance(value, torch.Tensor):
            memory = memory_of(value)
            self.held[name, role], self.of[memory] = memory, (name, value)

    def private(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """The value itself, or a copy where its memory is another's or not all of it is this one's."""
        owner, whole = self.of.setdefault(memory_of(value), (name, value))
        same = owner == name and (
            value is whole
            or (
                value.data_ptr() == whole.data_ptr()
                and (value.shape, value.stride()) == (whole.shape, whole.stride())
            )
        )
        return value if same else value.clone()
