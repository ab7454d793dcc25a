"""Who steps: the members of one pattern of grads, with everything that a step has to look at again.

A step looks at the addresses and sizes of parameters and states, at the addresses, dtypes and
strides of grads, and at which objects hold the states; the active set is made anew where anything but an
address of a grad differs.
"""

from array import array
from collections.abc import Collection, MutableMapping, Sequence
from itertools import chain, pairwise
from operator import is_
from typing import Any

import torch

from weft.contract.groups import NOT_HYPERS, BoundGroup
from weft.engine.host.counters import Counts
from weft.engine.host.guards import (
    ANY,
    CHANGED,
    MOVED,
    OTHER,
    data_ptr,
    span,
    watch_all,
)  # fmt: skip
from weft.engine.runtime.members import Member

__all__ = ["ActiveSet"]


class ActiveSet:
    """The members of a step, and what they looked like.

    Attributes:
        addresses: slot name -> the address for each member, 0 where it has no such slot.
        asked: a chain asks whether its parameter requires grad, so that each step has to look.
        fixed: no hyper of its groups can become another number and stay the same object.
    """

    def __init__(self, members: list[Member], groups: list[BoundGroup], state: MutableMapping):
        """`groups` are all that step, with or without members."""
        self.members = members
        self.params = [s.p for s in members]
        self.owns = [s.own for s in members]
        self.state = state
        self.sizes = [p.numel() for p in self.params]
        self.counted = [i for i, s in enumerate(members) if s.counted]
        self.counts = Counts([self.owns[i] for i in self.counted])
        self.p_at = list(map(data_ptr, self.params))
        self.columns: dict[str, list[torch.Tensor]] = {}
        self.addresses: dict[str, list[int] | array] = {"p": self.p_at}
        self.bounds, self.groups = list(groups), [(b, b.binding, b.group) for b in groups]
        self.fixed = all(
            _fixed(v) for b in groups for k, v in b.group.items() if k not in NOT_HYPERS
        )
        both = {(s.bound, k) for s in members for k in s.own if k in s.bound.group}
        self.set = [(bound, k, bound.is_set(k)) for bound, k in both]
        self.plain = [
            (own, k, type(v), v if type(v) not in (int, float) else None)
            for own in self.owns
            for k, v in own.items()
            if not isinstance(v, torch.Tensor)
        ]
        self._states()
        self._watch(groups)
        self._written()
        self.trains, self.asked = [p.requires_grad for p in self.params], False

    def _states(self) -> None:
        names: dict[str, list[int]] = {}
        for i, own in enumerate(self.owns):
            for k, v in own.items():
                if isinstance(v, torch.Tensor) and not (k == "step" and self.members[i].counted):
                    names.setdefault(k, []).append(i)
        for name, which in names.items():
            # kept: an address stays theirs as long as they live
            held = self.columns[name] = [self.owns[i][name] for i in which]
            addresses = self.addresses[name] = [0] * len(self.members)
            for i, ptr in zip(which, map(data_ptr, held), strict=True):
                addresses[i] = ptr
        step = self.addresses.setdefault("step", [0] * len(self.members))
        for i, view in zip(self.counted, self.counts.tensors, strict=True):
            step[i] = view.data_ptr()

    def _watch(self, groups: list[BoundGroup]) -> None:
        """What each step looks at again: numbers among the states are looked at on their own."""
        dicts = [self.state, *self.owns]
        kept = [[v if _held(v) else ANY for v in d.values()] for d in dicts]
        self.snapshot = watch_all(
            [b.group["params"] for b in groups],
            [b.group for b in groups],
            dicts,
            kept,
            [*self.params, *chain(*self.columns.values()), *self.counts.tensors],
        )
        self.grad_at = self.addresses["grad"] = self.snapshot.was

    def _written(self) -> None:
        """The memory that steps write; what overlaps with it cannot be run by kernels."""
        held = [*self.params, *chain(*self.columns.values()), *self.counts.tensors]
        spans = sorted(span(t) for t in held if t.numel())
        self.snapshot.keep_apart(spans)
        read = [s.tensor("grad") for s in self.members]
        read += [v for b in self.bounds for v in b.group.values() if isinstance(v, torch.Tensor)]
        apart = (self.snapshot.is_apart(*span(t)) for t in read)
        self.overlap = any(a[1] > b[0] for a, b in pairwise(spans)) or not all(apart)

    # ------------------------------------------------------------ at each step

    def serves(self, groups: list[dict[str, Any]], state: MutableMapping) -> bool:
        """Whether these are the groups, with the chains that they had."""
        if state is not self.state or len(groups) != len(self.groups):
            return False
        for now, (bound, binding, group) in zip(groups, self.groups, strict=True):
            if now is not group or bound.binding is not binding or bound.group is not group:
                return False
        return True

    def holds_for(self, groups: list[BoundGroup], state: MutableMapping) -> bool:
        """Whether all is as it was, but for the addresses of grads, which are taken up, and hypers."""
        same = len(groups) == len(self.groups) and all(map(is_, groups, self.bounds))
        if not same or not self.serves([b.group for b in groups], state):
            return False
        try:
            seen = self.snapshot.look()
            if seen == CHANGED or (self.plain and self._other_plain()):
                return False
            if seen & OTHER and not self._same_kinds([b.group for b in groups]):
                return False
            if self.set and any(b.is_set(k) != was for b, k, was in self.set):
                return False
            if self.asked and [p.requires_grad for p in self.params] != self.trains:
                return False
        except (KeyError, TypeError, AttributeError, ValueError):
            return False
        return not seen & MOVED or self.snapshot.take_grads()

    def _other_plain(self) -> bool:
        """Whether a state that is no tensor is of another kind, or another one where that matters."""
        return any(
            type(own[k]) is not kind or not (v is None or own[k] is v or own[k] == v)
            for own, k, kind, v in self.plain
        )

    def _same_kinds(self, groups: list[dict[str, Any]]) -> bool:
        """Whether hypers have the types that they had, and what is no number its value."""
        now = chain.from_iterable(group.values() for group in groups)
        for old, new in zip(self.snapshot.hypers, now, strict=True):
            if old is not new and (type(old) is not type(new) or not _same_kind(old, new)):
                return False
        self.snapshot.take()
        return True

    def steps(self) -> int | list[int]:
        """The step that all members take now, 1 where no chain counts, or that of each member."""
        if (
            len(self.counts) in (0, len(self.members))
            and (common := self.counts.common()) is not None
        ):
            return common + 1
        out = [1] * len(self.members)
        for i, count in zip(self.counted, self.counts.each(), strict=True):
            out[i] = count + 1
        return out

    def keeps_states(self) -> bool:
        """Whether all states are the objects that they were."""
        kept = zip(self.params, self.owns, self.snapshot.kept[1:], strict=True)
        return all(self.state.get(p) is own and _same(own.values(), then) for p, own, then in kept)


def _same(now: Collection[Any], then: Sequence[Any]) -> bool:
    return len(now) == len(then) and all(
        was is ANY or was is x for x, was in zip(now, then, strict=True)
    )


def _held(value: Any) -> bool:
    """Whether a state, or the states of a parameter, is to stay the object that it is."""
    return isinstance(value, torch.Tensor | dict)


def _fixed(hyper: Any) -> bool:
    """Whether a hyper is another number only where it is another object."""
    if type(hyper) is tuple:
        return all(map(_fixed, hyper))
    return hyper is None or type(hyper) in (int, float, bool, str)


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
