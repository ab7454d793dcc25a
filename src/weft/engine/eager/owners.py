"""Whose memory is whose among the tensors that outlive a call."""

from typing import Any

import torch

from weft.engine.storage import memory_of

__all__ = ["Owners"]


class Owners:
    """The memory of each name, kept as names get new values: a value belongs to one name alone."""

    __slots__ = ("of",)

    def __init__(self) -> None:
        self.of: dict[Any, tuple[str, str, torch.Tensor]] = {}

    def add(self, name: str, value: torch.Tensor, role: str = "") -> None:
        """As `hold`, where the name has had nothing in this role."""
        self.of[memory_of(value)] = name, role, value

    def hold(self, name: str, value: Any, role: str = "") -> None:
        """A name has this value from here on; what it had may be freed.

        Args:
            name: of the chain, or who else the memory belongs to.
            value: a tensor; anything else has no memory.
            role: where a name has several values, as a state that is read in another dtype has.
        """
        for memory, (owner, as_what, _) in self.of.items():
            if owner == name and as_what == role:
                del self.of[memory]
                break
        if isinstance(value, torch.Tensor):
            self.add(name, value, role)

    def private(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """The value itself, or a copy where its memory is another's or not all of it is this one's."""
        found = self.of.get(memory_of(value))
        if found is None:
            return value
        owner, _, whole = found
        same = owner == name and (
            value is whole
            or (
                value.data_ptr() == whole.data_ptr()
                and (value.shape, value.stride()) == (whole.shape, whole.stride())
            )
        )
        return value if same else value.clone()
