"""Looking at the tensors of a step: where they are, who holds them, and how grads are laid out.

A step is right only if nothing has moved since the table of pointers was filled in, so every step
looks at every tensor. C does it where torch lets it (guards.c), in one call that takes about 10 ns a
look; the Python that it falls back to takes some 50.
"""

import ctypes
import functools
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from operator import is_
from typing import Any

import torch

from weft.engine.host.native import Watched, native

__all__ = [
    "ANY",
    "CHANGED",
    "MOVED",
    "OTHER",
    "PLAIN",
    "REPLACED",
    "Grads",
    "GuardSnapshot",
    "NativeSnapshot",
    "data_ptr",
    "span",
    "watch_all",
    "watch_grads",
]  # fmt: skip

Base = torch._C.TensorBase
data_ptr, stride = Base.data_ptr, Base.stride
PLAIN = frozenset((torch.Tensor, torch.nn.Parameter, torch.nn.Buffer))
WORD = ctypes.sizeof(ctypes.c_void_p)

CHANGED, MOVED, REPLACED, OTHER = -1, 1, 2, 4  # as in guards.c
ANY: Any = object()  # a value that may be another at each step


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


class GradsFromC(Grads):
    """The same, from C."""

    def __init__(self, params: Sequence[torch.Tensor], offset: int):
        super().__init__(params)
        self.c, n = native(), len(params)
        self.objects, self.present = array("q", map(id, params)), bytearray(n)
        self.room, self.grads = array("q", bytes(8 * n)), array("q", bytes(8 * n))
        self.byte = (ctypes.c_char * n).from_buffer(self.present)
        self.args = (
            _at(self.objects), offset, n, ctypes.addressof(self.byte), _at(self.grads), _at(self.room),
        )  # fmt: skip

    def look(self) -> bool:
        """Look again; False where a grad has no memory of its own."""
        count = self.c.grads(*self.args)
        if count < 0:
            return super().look() and False
        every = count == len(self.params)
        self.which = b"" if every else bytes(self.present)
        self.at = self.room[:count]
        return True


class GuardSnapshot:
    """All that a step looks at, as it was when this was made.

    Args:
        lists: the lists of parameters.
        groups: dicts whose values may be replaced, but for those lists.
        dicts: dicts that are to keep what they hold, ANY aside, and to get nothing besides.
        kept: the values of each of `dicts`, or ANY.
        tensors: those that are to stay where they are, with their sizes and strides.

    Attributes:
        at: the addresses of the grads that there are, as they were last seen.
        was: as they were last taken up, by who looks.
        hypers: the values of all groups, as they were last taken; of numbers, as they were seen.
    """

    def __init__(
        self,
        lists: Sequence[list[torch.Tensor]],
        groups: Sequence[dict[str, Any]],
        dicts: Sequence[Mapping[Any, Any]],
        kept: Sequence[Sequence[Any]],
        tensors: Sequence[torch.Tensor],
    ):
        self.lists, self.groups, self.dicts, self.tensors = lists, groups, dicts, tensors
        self.items = [list(x) for x in lists]
        self.keys = [list(d) for d in (*groups, *dicts)]
        self.kept = kept
        self.hypers = self._hypers()
        self.params = list(chain.from_iterable(self.items))
        self.held = [p.grad is not None for p in self.params]
        self.layout = self._laid_out()
        self.at = array("q", [p.grad.data_ptr() for p in self.params if p.grad is not None])
        self.was, self.where = self.at[:], array("q", map(data_ptr, tensors))
        self.extents, self.kinds = list(map(_extent, tensors)), list(map(_kind, tensors))
        self.begins, self.ends = array("q"), array("q")

    def keep_apart(self, spans: Sequence[tuple[int, int]]) -> None:
        """Grads that move are to have no memory in common with these, which are in order."""
        self.begins = array("q", [begin for begin, _ in spans])
        self.ends = array("q", [end for _, end in spans])

    def take_grads(self) -> bool:
        """Take up the addresses of grads that have moved; False where one will not do."""
        grads = [g for p in self.params if (g := p.grad) is not None]
        for grad, now, then in zip(grads, self.at, self.was, strict=True):
            if now != then and not (type(grad) in PLAIN and self.is_apart(*span(grad))):
                return False
        self.was[:] = self.at
        return True

    def is_apart(self, begin: int, end: int) -> bool:
        """Whether memory is apart from all that steps write."""
        k = bisect_right(self.begins, begin)
        before = k > 0 and self.ends[k - 1] > begin
        return begin == end or not (before or (k < len(self.begins) and self.begins[k] < end))

    def _hypers(self) -> list[Any]:
        return [v for g in self.groups for v in g.values()]

    def _laid_out(self) -> list[Any]:
        grads = [g for p in self.params if (g := p.grad) is not None]
        return [(_kind(g), _extent(g)) for g in grads]

    def look(self) -> int:
        """CHANGED, or what has been put in the place of something: MOVED, REPLACED, OTHER."""
        try:
            return self._look()
        except RuntimeError:  # a sparse grad has no strides
            return CHANGED

    def _look(self) -> int:
        for now, items in zip(self.lists, self.items, strict=True):
            if not _same(now, items):
                return CHANGED
        for d, keys in zip((*self.groups, *self.dicts), self.keys, strict=True):
            if not _same(d, keys):
                return CHANGED
        for d, kept in zip(self.dicts, self.kept, strict=True):
            if not all(v is ANY or v is x for v, x in zip(kept, d.values(), strict=True)):
                return CHANGED
        for group, params in zip(self.groups, self.lists, strict=True):
            if group["params"] is not params:
                return CHANGED
        if array("q", map(data_ptr, self.tensors)) != self.where:
            return CHANGED
        if list(map(_extent, self.tensors)) != self.extents:
            return CHANGED
        if list(map(_kind, self.tensors)) != self.kinds:
            return CHANGED
        if [
            p.grad is not None for p in self.params
        ] != self.held or self._laid_out() != self.layout:
            return CHANGED
        self.at[:] = array("q", [p.grad.data_ptr() for p in self.params if p.grad is not None])
        replaced = 0 if _same(self._hypers(), self.hypers) else REPLACED | OTHER
        return replaced | MOVED * (self.at != self.was)

    def take(self) -> None:
        """The groups' values are to be what they are now."""
        self.hypers[:] = self._hypers()


class NativeSnapshot(GuardSnapshot):
    """The same, from C."""

    def __init__(self, lists, groups, dicts, kept, tensors, offset: int):
        super().__init__(lists, groups, dicts, kept, tensors)
        values = [
            id(v) if v is params else 0
            for g, params in zip(groups, lists, strict=True)
            for v in g.values()
        ]
        values += [0 if v is ANY else id(v) for v in chain.from_iterable(kept)]
        grads = [g for p in self.params if (g := p.grad) is not None]
        seen = GradsFromC(self.params, offset)
        seen.look()
        place = [
            n - 1 if has else -1 for n, has in zip(accumulate(self.held), self.held, strict=True)
        ]
        dtypes, kinds = _kinds(seen.grads, 0, len(grads))
        types, views = _kinds(_ids(self.tensors), offset, len(self.tensors))
        bound, extent = _bounds(self.extents)
        grad_bound, grad_extent = _bounds(map(_extent, grads))
        param_of = array("q", [i for i, has in enumerate(self.held) if has])
        self.arrays = {
            "list": _ids(lists), "list_length": array("q", map(len, lists)), "item": _ids(self.params),
            "dict": _ids([*groups, *dicts]), "dict_length": array("q", map(len, self.keys)),
            "key": _ids(chain.from_iterable(self.keys)), "value": array("q", values),
            "object": _ids(self.tensors), "address": self.where, "bound": bound, "extent": extent,
            "type": types, "view": views, "param": _ids(self.params), "place": array("q", place),
            "dtype": dtypes, "kind": kinds,
            "grad_bound": grad_bound, "grad_extent": grad_extent, "was": self.was, "at": self.at,
            "param_of": param_of, "bytes": array("q", [end - begin for begin, end in map(span, grads)]),
        }  # fmt: skip
        self.watched = Watched(
            lists=len(lists), dicts=len(self.keys), groups=len(groups), tensors=len(self.tensors),
            params=len(self.params), offset=offset, hypers=id(self.hypers), grads=len(grads),
            **{k: _at(a) for k, a in self.arrays.items()},
        )  # fmt: skip
        self._still, self.address = native().still, ctypes.addressof(self.watched)

    def look(self) -> int:
        """CHANGED, or what has been put in the place of something: MOVED, REPLACED, OTHER."""
        return self._still(self.address, torch.get_num_threads())

    def places(self, group: dict[str, Any]) -> dict[str, int]:
        """Where among all hypers those of one of the groups are."""
        which = next(i for i, g in enumerate(self.groups) if g is group)
        begin = sum(map(len, self.groups[:which]))
        return {name: begin + i for i, name in enumerate(group)}

    def keep_apart(self, spans: Sequence[tuple[int, int]]) -> None:
        """Grads that move are to have no memory in common with these, which are in order."""
        super().keep_apart(spans)
        self.watched.written = len(spans)
        self.watched.begin, self.watched.end = _at(self.begins), _at(self.ends)

    def take_grads(self) -> bool:
        """Take up the addresses of grads that have moved; False where one will not do."""
        return bool(native().take_grads(self.address)) or super().take_grads()


def span(t: torch.Tensor) -> tuple[int, int]:
    """Where a tensor's memory begins and ends."""
    if not t.numel():
        return t.data_ptr(), t.data_ptr()
    last = sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))
    return t.data_ptr(), t.data_ptr() + (last + 1) * t.element_size()


def _extent(t: torch.Tensor) -> tuple[int, ...]:
    return (*t.shape, *t.stride())


def _kind(t: torch.Tensor) -> tuple[Any, ...]:
    return t.dtype, t.is_neg(), t.is_conj()


def _bounds(extents: Iterable[tuple[int, ...]]) -> tuple[array, array]:
    """Where each begins and the last ends, one after the other."""
    extents = list(extents)
    bounds = array("q", accumulate(map(len, extents), initial=0))
    return bounds, array("q", chain.from_iterable(extents))


def _kinds(tensors: array, offset: int, n: int) -> tuple[array, array]:
    """The dtypes of tensors, in torch's numbers, and what kinds of view they are."""
    dtypes, kinds = array("i", bytes(4 * n)), array("q", bytes(8 * n))
    native().kinds(_at(tensors), offset, n, _at(dtypes), _at(kinds))
    return dtypes, kinds


def _same(now: Any, then: list[Any]) -> bool:
    return len(now) == len(then) and all(map(is_, now, then))


def _ids(objects: Any) -> array:
    return array("q", map(id, objects))


def _at(a: array) -> int:
    return a.buffer_info()[0]


@functools.cache
def _offset() -> int | None:
    """Where in a tensor's object the pointer to its implementation is; None where C cannot look."""
    if not native().can_look():
        return None
    some = [torch.zeros(1, device="cpu"), torch.nn.Parameter(torch.zeros(1, device="cpu"))]
    places = range(object.__basicsize__, torch.Tensor.__basicsize__, WORD)
    offset = next((at for at in places if _found(some, at)), None)
    if offset is not None:
        kinds = (0.5, 7, (1,))
        objects, types = _ids(kinds), _ids(map(type, kinds))
        native().learn_types(_at(objects), _at(types))
        two = [torch.ones(2, device="cpu"), torch.ones(3, device="cpu")]
        views = [x for t in two for x in (t[:], torch._neg_view(t))]
        held = _ids(views)
        native().learn_kinds(_at(held), offset)
        plain = _ids(PLAIN)
        native().learn_objects(_at(held), len(held), offset, _at(plain), len(plain))
    return offset


def _found(tensors: Sequence[Any], offset: int) -> bool:
    """Whether all have the pointer there."""
    objects = _ids(tensors)
    implementations = array("q", [t._cdata for t in tensors])
    return native().point_to(_at(objects), offset, _at(implementations), len(objects)) == 1


def _from_c(tensors: Sequence[torch.Tensor]) -> int | None:
    """The offset, where all of these tensors can be looked at from C."""
    offset = _offset()
    if offset is None or not all(type(t) in PLAIN for t in tensors):
        return None
    return offset if _found(tensors, offset) else None


def watch_all(
    lists: Sequence[list[torch.Tensor]],
    groups: Sequence[dict[str, Any]],
    dicts: Sequence[Mapping[Any, Any]],
    kept: Sequence[Sequence[Any]],
    tensors: Sequence[torch.Tensor],
) -> GuardSnapshot:
    """Look at all of this from now on."""
    offset = _from_c([*tensors, *chain.from_iterable(lists)])
    known = all(isinstance(x, list) for x in lists) and all(isinstance(d, dict) for d in dicts)
    if offset is None or not known:
        return GuardSnapshot(lists, groups, dicts, kept, tensors)
    return NativeSnapshot(lists, groups, dicts, kept, tensors, offset)


def watch_grads(params: Sequence[torch.Tensor]) -> Grads:
    """Look at the grads of these from now on."""
    offset = _from_c(params)
    return Grads(params) if offset is None else GradsFromC(params, offset)
