"""Looking at the tensors of a step: where they are, who holds them, and how grads are laid out.

A step is right only if nothing has moved since the table of pointers was filled in, so every step
looks at every tensor. `Grads`, `Memory` and `Holders` do it in C where torch lets them (looks.c),
which takes about 10 ns a look; the Python that they fall back to takes 50.
"""

import ctypes
import functools
from array import array
from collections.abc import Sequence
from operator import getitem, is_
from typing import Any

import torch

from weft.engine.backends.c.kernel import looks

__all__ = [
    "Grads", "Holders", "Memory", "data_ptr", "watch_grads", "watch_holders", "watch_memory",
]  # fmt: skip

Base = torch._C.TensorBase
data_ptr, stride, numel = Base.data_ptr, Base.stride, Base.numel
PLAIN = frozenset((torch.Tensor, torch.nn.Parameter, torch.nn.Buffer))
WORD = ctypes.sizeof(ctypes.c_void_p)


class Memory:
    """Tensors that are to stay where they are.

    Attributes:
        at: their addresses.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]):
        self.tensors = tensors
        self.at, self.sizes = self._seen()

    def _seen(self) -> tuple[array, array]:
        return array("q", map(data_ptr, self.tensors)), array("q", map(numel, self.tensors))

    def unmoved(self) -> bool:
        """Whether they are where they were, with as many elements."""
        return self._seen() == (self.at, self.sizes)


class Holders:
    """Dicts that are to keep what they hold under some names, and to get nothing besides."""

    def __init__(self, names: Sequence[str], dicts: Sequence[dict[str, Any]]):
        self.names, self.dicts = names, dicts
        self.held = list(map(getitem, dicts, names))
        self.lengths = array("q", map(len, dicts))

    def hold(self) -> bool:
        """Whether they have kept it."""
        try:
            same = all(map(is_, map(getitem, self.dicts, self.names), self.held))
        except KeyError:
            return False
        return same and array("q", map(len, self.dicts)) == self.lengths


class Grads:
    """The grads of parameters.

    Attributes:
        at: the addresses of those that there are, one after the other.
        which: empty where all parameters have one, else a byte for each, 1 or 0.
    """

    def __init__(self, params: Sequence[torch.Tensor]):
        self.params = params
        self.at = array("q")
        self.which = b""

    def look(self) -> bool:
        """Look again; False where a grad has no memory of its own."""
        grads = [p.grad for p in self.params]
        held = [g for g in grads if g is not None]
        self.which = b"" if len(held) == len(grads) else bytes(g is not None for g in grads)
        try:
            self.at = array("q", map(data_ptr, held))
        except RuntimeError:
            return False
        return True

    def remember(self) -> Any:
        """How the grads that there are are laid out now."""
        return [(g.dtype, g.stride()) for p in self.params if (g := p.grad) is not None]

    def laid_out(self, layout: Any) -> bool:
        """Whether they are as they were then."""
        return self.remember() == layout


class MemoryFromC(Memory):
    """The same, from C."""

    def __init__(self, tensors: Sequence[torch.Tensor], offset: int):
        super().__init__(tensors)
        self.objects, self.offset, self.c = array("q", map(id, tensors)), offset, looks()
        self.args = _at(self.objects), offset, _at(self.at), _at(self.sizes), len(tensors)

    def unmoved(self) -> bool:
        """Whether they are where they were, with as many elements."""
        return self.c.unmoved(*self.args) == 1


class HoldersFromC(Holders):
    """The same, from C."""

    def __init__(self, names: Sequence[str], dicts: Sequence[dict[str, Any]]):
        super().__init__(names, dicts)
        self.c = looks()
        self.objects = [array("q", map(id, objects)) for objects in (dicts, names, self.held)]
        at, keys, held = map(_at, self.objects)
        self.args = at, _at(self.lengths), keys, held, len(dicts)

    def hold(self) -> bool:
        """Whether they have kept it."""
        return self.c.hold(*self.args) == 1


class GradsFromC(Grads):
    """The same, from C."""

    def __init__(self, params: Sequence[torch.Tensor], offset: int):
        super().__init__(params)
        self.c, n = looks(), len(params)
        self.objects, self.present = array("q", map(id, params)), bytearray(n)
        self.room, self.grads = array("q", bytes(8 * n)), array("q", bytes(8 * n))
        self.byte = (ctypes.c_char * n).from_buffer(self.present)
        self.args = (
            _at(self.objects), offset, n, ctypes.addressof(self.byte), _at(self.grads), _at(self.room),
        )  # fmt: skip

    def look(self) -> bool:
        """Look again; False where a grad has no memory of its own."""
        self.count = self.c.grads(*self.args)
        if self.count < 0:
            return super().look() and False
        every = self.count == len(self.params)
        self.which = b"" if every else bytes(self.present)
        self.at = self.room if every else self.room[: self.count]
        return True

    def remember(self) -> Any:
        """How the grads that there are are laid out now."""
        held = [g for p in self.params if (g := p.grad) is not None]
        dtypes, strides = array("i", bytes(4 * len(held))), array("q")
        for g in held:
            strides.extend(g.stride())
        dims = array("i", [g.ndim for g in held])
        self.c.dtypes(_at(self.grads), self.count, _at(dtypes))
        return _at(dtypes), _at(dims), _at(strides), (dtypes, dims, strides)

    def laid_out(self, layout: Any) -> bool:
        """Whether they are as they were then."""
        return self.c.laid_out(_at(self.grads), self.count, *layout[:3]) == 1


def _at(a: array) -> int:
    return a.buffer_info()[0]


@functools.cache
def _offset() -> int | None:
    """Where in a tensor's object the pointer to its implementation is; None where C cannot look."""
    if not looks().can_look():
        return None
    some = [torch.zeros(1), torch.nn.Parameter(torch.zeros(1))]
    places = range(object.__basicsize__, torch.Tensor.__basicsize__, WORD)
    return next((at for at in places if _found(some, at)), None)


def _found(tensors: Sequence[Any], offset: int) -> bool:
    """Whether all have the pointer there."""
    objects = array("q", map(id, tensors))
    implementations = array("q", [t._cdata for t in tensors])
    return looks().point_to(_at(objects), offset, _at(implementations), len(objects)) == 1


def _from_c(tensors: Sequence[torch.Tensor]) -> int | None:
    """The offset, where all of these tensors can be looked at from C."""
    offset = _offset()
    if offset is None or not all(type(t) in PLAIN for t in tensors):
        return None
    return offset if _found(tensors, offset) else None


def watch_memory(tensors: Sequence[torch.Tensor]) -> Memory:
    """Look at where these are from now on."""
    offset = _from_c(tensors)
    return Memory(tensors) if offset is None else MemoryFromC(tensors, offset)


def watch_holders(names: Sequence[str], dicts: Sequence[dict[str, Any]]) -> Holders:
    """Look at what these hold under a name each from now on."""
    return (Holders if _offset() is None else HoldersFromC)(names, dicts)


def watch_grads(params: Sequence[torch.Tensor]) -> Grads:
    """Look at the grads of these from now on."""
    offset = _from_c(params)
    return Grads(params) if offset is None else GradsFromC(params, offset)
