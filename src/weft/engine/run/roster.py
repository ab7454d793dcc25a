"""Who steps: the seats of one pattern of grads, with everything that a step has to look at again.

A step looks at the addresses and sizes of parameters and states, at the addresses, dtypes and
strides of grads, and at which objects hold the states; the roster is made anew where anything but an
address of a grad differs.
"""

from array import array
from bisect import bisect_right
from collections.abc import MutableMapping, Sequence
from itertools import chain, pairwise
from operator import is_
from typing import Any

import torch

from weft.engine.backends.c.kernel import looks
from weft.engine.run.look import Grads, data_ptr, watch_holders, watch_memory
from weft.engine.run.seat import PLAIN, Seat, fit

__all__ = ["Roster"]


class Roster:
    """The seats of a step, and what they looked like.

    Attributes:
        addresses: slot name -> the address for each seat, 0 where it has no such slot.
        steps: the step counts before this step, or None where no chain reads them.
    """

    def __init__(self, seats: list[Seat], state: MutableMapping, grads: Grads):
        self.seats = seats
        self.params = [s.p for s in seats]
        self.owns = [s.own for s in seats]
        self.state, self.entries = state, list(state.values())
        self.sizes = [p.numel() for p in self.params]
        self.counted = [i for i, s in enumerate(seats) if s.bound.binding.keeps_step]
        self._adopt_steps()
        self.p_at = list(map(data_ptr, self.params))
        self.grad_at, self.grads_as = grads.at[:], grads.remember()
        self.grad_dtypes = [s.tensor("grad").dtype for s in seats]
        self.columns: dict[str, list[torch.Tensor]] = {}
        self.addresses: dict[str, list[int] | array] = {"p": self.p_at, "grad": self.grad_at}
        self.bounds = list({id(s.bound): s.bound for s in seats}.values())
        self.hypers = [
            (b, b.binding, b.group, list(b.group.values()), list(map(type, b.group.values())))
            for b in self.bounds
        ]
        both = {(s.bound, k) for s in seats for k in s.own if k in s.bound.group}
        self.set = [(bound, k, bound.is_set(k)) for bound, k in both]
        self.plain = [
            (own, k, type(v), v if type(v) not in (int, float) else None)
            for own in self.owns
            for k, v in own.items()
            if not isinstance(v, torch.Tensor)
        ]
        self._states()
        self.memory = watch_memory([*self.params, *chain(*self.columns.values())])
        self._written()
        self.any_staged = any(s.staged for s in seats)

    def _adopt_steps(self) -> None:
        """Make the step counts views into one buffer, so that one addition advances all."""
        owns = [self.owns[i] for i in self.counted]
        counts = [float(own["step"]) for own in owns]
        self.buffer = torch.tensor(counts, dtype=torch.float32)
        self.views = list(self.buffer.unbind()) if counts else []
        for own, view in zip(owns, self.views, strict=True):
            own["step"] = view
        self.counted_owns, self.buffer_at = owns, self.buffer.data_ptr()

    def count(self) -> None:
        """One more step for all that count."""
        if self.views:
            looks().count(self.buffer_at, len(self.views))

    def _states(self) -> None:
        names: dict[str, list[int]] = {}
        for i, own in enumerate(self.owns):
            for k, v in own.items():
                if isinstance(v, torch.Tensor) and not (
                    k == "step" and self.seats[i].bound.binding.keeps_step
                ):
                    names.setdefault(k, []).append(i)
        keys, owns = ["step"] * len(self.counted_owns), list(self.counted_owns)
        for name, at in names.items():
            # kept: an address stays theirs as long as they live
            held = self.columns[name] = [self.owns[i][name] for i in at]
            ptrs = list(map(data_ptr, held))
            keys += [name] * len(at)
            owns += [self.owns[i] for i in at]
            addresses = self.addresses[name] = [0] * len(self.seats)
            for i, ptr in zip(at, ptrs, strict=True):
                addresses[i] = ptr
        self.holders = watch_holders(keys, owns)
        held_by = set(map(id, owns))
        self.bare = [own for own in self.owns if id(own) not in held_by]
        self.lengths = list(map(len, self.bare))
        step = self.addresses.setdefault("step", [0] * len(self.seats))
        for i, view in zip(self.counted, self.views, strict=True):
            step[i] = view.data_ptr()

    def _written(self) -> None:
        """The memory that steps write, sorted; two that overlap cannot be run by kernels."""
        spans = [(t.data_ptr(), _end(t)) for t in self.params if t.numel()]
        for held in self.columns.values():
            spans += [(t.data_ptr(), _end(t)) for t in held if t.numel()]
        spans.sort()
        self.overlap = any(a[1] > b[0] for a, b in pairwise(spans))
        self.begins, self.ends = [a for a, _ in spans], [b for _, b in spans]
        self.overlap = self.overlap or not self._apart(range(len(self.seats)), self.grad_at)

    def _apart(self, which: Any, grad_at: Sequence[int]) -> bool:
        """Whether grads share no memory with what is written."""
        for i in which:
            begin = grad_at[i]
            end = begin + self.sizes[i] * self.grad_dtypes[i].itemsize
            at = bisect_right(self.begins, begin)
            if (at and self.ends[at - 1] > begin and self.sizes[i]) or (
                at < len(self.begins) and self.begins[at] < end
            ):
                return False
        return True

    # ------------------------------------------------------------ at each step

    def holds(self, state: MutableMapping, grads: Grads) -> bool:
        """Whether all is as it was, but for the addresses of grads, which are taken up."""
        if state is not self.state or len(state) != len(self.entries):
            return False
        try:
            same = (
                all(map(is_, state.values(), self.entries))
                and list(map(len, self.bare)) == self.lengths
                and self.holders.hold()
                and self.memory.unmoved()
                and grads.laid_out(self.grads_as)
                and not (self.plain and self._other_plain())
                and not (self.set and any(b.is_set(k) != was for b, k, was in self.set))
            )
            for h in self.hypers:
                same = same and self._same_group(*h)
        except (KeyError, TypeError, AttributeError):
            return False
        return same and (grads.at == self.grad_at or self._take_grads(grads.at))

    def _other_plain(self) -> bool:
        """Whether a state that is no tensor is of another kind, or another one where that matters."""
        return any(
            type(own[k]) is not kind or not (v is None or own[k] is v or own[k] == v)
            for own, k, kind, v in self.plain
        )

    def _same_group(self, bound, binding, group, values: list[Any], types: list[type]) -> bool:
        """Whether a group has its chain, and hypers of the types that they had."""
        if bound.group is not group or bound.binding is not binding:
            return False
        now = list(group.values())
        try:
            if now == values and list(map(type, now)) == types:
                return True
        except RuntimeError:  # tensors of several elements
            return False
        if list(map(type, now)) != types:
            return False
        for old, new in zip(values, now, strict=True):
            if old is not new and not _same_kind(old, new):
                return False
        values[:] = now
        return True

    def _take_grads(self, grad_at: array) -> bool:
        changed = [i for i, (a, b) in enumerate(zip(grad_at, self.grad_at, strict=True)) if a != b]
        for i in changed:
            grad = self.seats[i].tensor("grad")
            if type(grad) not in PLAIN:
                return False
            fit(grad, self.params[i], "a grad")
        if not self._apart(changed, grad_at):
            return False
        self.grad_at[:] = grad_at
        return True

    def counts(self) -> tuple[list[int], bool]:
        """For each seat the step that it takes now, 1 where its chain does not count; and whether
        all are the same."""
        seats, n = len(self.seats), len(self.views)
        if n == seats and (count := looks().count_of_all(self.buffer_at, n)) >= 0:
            return [int(count) + 1] * seats, True
        out = [1] * seats
        for i, s in zip(self.counted, self.buffer.tolist(), strict=True):
            out[i] = int(s) + 1
        return out, not n


def _same_kind(old: Any, new: Any) -> bool:
    if isinstance(old, bool | str | bytes) or old is None:
        return old == new
    if isinstance(old, int | float):
        return True
    if isinstance(old, torch.Tensor):
        return old.shape == new.shape and old.dtype == new.dtype
    if isinstance(old, tuple):
        return len(old) == len(new) and all(
            type(a) is type(b) and _same_kind(a, b) for a, b in zip(old, new, strict=True)
        )
    return False


def _end(t: torch.Tensor) -> int:
    last = sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))
    return t.data_ptr() + (last + 1) * t.element_size()
