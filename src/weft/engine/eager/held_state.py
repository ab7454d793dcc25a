"""A parameter's state while its step runs: read in what is computed in, kept in a dtype of its own."""

from typing import Any

import torch

from weft.callback import State
from weft.contract.names import Names
from weft.engine.eager.owners import Owners
from weft.engine.storage import LOW

__all__ = ["HeldState"]

NOT_COMPUTED_IN = frozenset((*LOW, torch.complex32, torch.complex64, torch.complex128))


class HeldState(Names):
    """The part of a `ParamStep` that reads states and takes new ones.

    What is read as it is kept is written at once; anything else is in `values` until the end.
    """

    __slots__ = ()
    p: torch.Tensor
    owners: Owners
    wrote: bool

    def _plain(self, t: torch.Tensor) -> torch.Tensor:
        """A tensor without a history in autograd."""
        return t.detach() if t.requires_grad else t

    def _readable(self, value: Any) -> Any:
        """What a callback works on: 16-bit tensors as float32, complex ones as pairs of reals."""
        if isinstance(value, torch.Tensor):
            if value.dtype in LOW:
                return self._plain(value).float()
            if value.is_complex():
                return torch.view_as_real(self._plain(value))
        return value

    def _state(self, name: str) -> Any:
        value = self.own[name]
        readable = self._readable(value)
        if self._converted(name, value):
            readable = readable.to(self.work.dtype)
        if readable is not value:
            self._read_as(name, readable)
        return readable

    def _rounds(self, name: str, value: torch.Tensor) -> bool:
        """Whether a new state is kept in another dtype than it has, as the group chose."""
        return self.binding.chooses(name) and self._dtype_of(name, value) != value.dtype

    def _put_back(self, name: str, held: torch.Tensor) -> bool:
        """Whether a state is read as another tensor, which is put back at the end."""
        chosen = self.binding.state_dtype is not None
        return held.dtype in NOT_COMPUTED_IN or (chosen and self._converted(name, held))

    def _converted(self, name: str, held: Any) -> bool:
        """Whether a state is read in another dtype than its own: that which is computed in."""
        return (
            self.binding.chooses(name)
            and isinstance(held, torch.Tensor)
            and held.is_floating_point()
            and held.dtype != self.work.dtype
        )

    def _set_state(self, name: str, value: Any) -> None:
        held = self.own.get(name)
        self.wrote |= self.work is self.p
        if isinstance(value, int | float) and isinstance(held, torch.Tensor) and not held.ndim:
            self._forget_read(name)
            # a number that is kept as a tensor, in torch's format; whose own integers end at 2^63
            held.fill_(float(value) if held.is_floating_point() else value)
            return
        if isinstance(value, torch.Tensor) and isinstance(held, torch.Tensor):
            if self._put_back(name, held):
                self._read_as(name, self._kept(name, value, "read"))  # rounded once, at the end
                return
            same_kind = held.dtype == value.dtype or (
                held.is_floating_point() and value.is_floating_point()
            )
            if held.shape == value.shape and same_kind:
                if value is not held:
                    held.copy_(value)
                return
        if isinstance(value, torch.Tensor) and (
            self.work is not self.p or self._rounds(name, value)
        ):
            self._read_as(name, self._kept(name, value, "read"))
        else:
            self._forget_read(name)
            self.own[name] = self._stored(name, value)
            self.owners.hold(name, self.own[name])

    def _read_as(self, name: str, value: torch.Tensor) -> None:
        """What a state is read as from here on, until it is put back."""
        self.values[name] = self.known[name] = value
        self.owners.hold(name, value, "read")

    def _forget_read(self, name: str) -> None:
        self.known.pop(name, None)
        if self.values.pop(name, None) is not None:
            self.owners.hold(name, None, "read")

    def _stored(self, name: str, value: Any) -> Any:
        """A new state value: a copy, in the dtype that it is kept in."""
        if not isinstance(value, torch.Tensor):
            return value
        declared: State | None = self.binding.kept.get(name)
        own = declared is not None and declared.dtype_beside(self.p.dtype) is not None
        if self.p.is_complex() and value.shape == self.work.shape and not own:
            return torch.view_as_complex(value.clone(memory_format=torch.contiguous_format))
        return value.to(self._dtype_of(name, value), copy=True)

    def _dtype_of(self, name: str, value: torch.Tensor) -> torch.dtype:
        """What a state is kept in."""
        return self.binding.dtype_of(name, value.dtype, value.ndim, self.p.dtype, self.p.ndim)

    def _kept(self, name: str, value: torch.Tensor, role: str = "") -> torch.Tensor:
        """A value that is kept as it is: that or a copy, where another name has its memory."""
        self.owners.hold("update", self.update)  # which is not told at each callback
        value = self.owners.private(name, value)
        self.owners.hold(name, value, role)
        return value
