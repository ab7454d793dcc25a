"""The regions of a cohort, batch by batch: members that nothing sets apart are computed together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from weft.engine.plan.plan import Region
from weft.engine.runtime.cohort import Cohort
from weft.engine.runtime.members import Member
from weft.engine.runtime.regions import Failed, Given, TorchRegion, Workspace
from weft.errors import StepError, raised

__all__ = ["Batches", "Over", "draws_of", "failure", "whole_regions"]

Over = Mapping[tuple[int, str], torch.Tensor]  # values of a group, by name
Take = Callable[[int, Given, torch.Tensor], None]  # a member's place, and what is given to it


class Batches:
    """One region of a cohort.

    Attributes:
        torchs: of each member its variant's, or None where it is not computed here.
        members: those that have the tensors; they may be others than the cohort's.
    """

    def __init__(
        self,
        w: Cohort,
        torchs: Sequence[TorchRegion | None],
        members: Mapping[int, Any],
        take: Take,
    ):
        self.w, self.torchs, self.members, self.take = w, torchs, members, take
        self.space = Workspace(w.members[0].p.device)

    def run(self, over: Over) -> None:
        """Compute it for all members."""
        for torchs, which in self._batches(over):
            self.compute(torchs, which, over)

    def compute(self, torchs: TorchRegion, which: list[int], over: Over) -> None:
        """Compute it for some, at once."""
        w, first = self.w, which[0]
        row, index = w.rows[w.row_of[first]], w.members[first].bound.index
        members = [self.members[k] for k in which]
        try:
            for given in torchs.run(members, row, lambda name: over[index, name], self.space):
                for k, value in zip(which, given.values, strict=True):
                    self.take(k, given, value)
        except Failed as e:
            if len(which) == 1:
                raise failure(w.members[first], e) from e.__cause__
            for k in which:  # one by one, to find out which it is
                self.compute(torchs, [k], over)

    def _batches(self, over: Over) -> Iterator[tuple[TorchRegion, list[int]]]:
        """The members that torch computes together."""
        w, here = self.w, [(k, t) for k, t in enumerate(self.torchs) if t is not None]
        if any(t.draws for _, t in here):
            yield from ((t, [k]) for k, t in here)
            return
        apart: dict[Any, Any] = {}
        alike: dict[Any, tuple[TorchRegion, list[int]]] = {}
        for k, t in here:
            index = w.members[k].bound.index
            like = (id(t), w.row_of[k], index if t.combined else None)
            if like not in apart:
                row = w.rows[w.row_of[k]]
                apart[like] = t.apart(row, lambda name, index=index: over[index, name])
            alike.setdefault((id(t), apart[like]), (t, []))[1].append(k)
        for t, which in alike.values():
            for begin in range(0, len(which), t.most):
                yield t, which[begin : begin + t.most]


def whole_regions(w: Cohort, region: Region) -> Batches:
    """A region of the members that are whole, which are all where no parameter is spread over ranks."""
    number = w.plan.regions.index(region)
    if number not in w.torchs:
        known = {id(v): v.plan for v in w.variants}
        of = {i: TorchRegion(plan, plan.regions[number]) for i, plan in known.items()}
        w.torchs[number] = [
            None if m.is_split else of[id(v)] for m, v in zip(w.members, w.variants, strict=True)
        ]
    return Batches(w, w.torchs[number], dict(enumerate(w.members)), w.take)


def draws_of(w: Cohort, region: Region, over: Over) -> Iterator[tuple[int, Callable[[], None]]]:
    """For each member, its place in the active set and what computes a region that draws."""
    batches = whole_regions(w, region)
    for k, torchs in enumerate(batches.torchs):
        if torchs is not None:
            yield w.indices[k], partial(batches.compute, torchs, [k], over)


def failure(member: Member, e: Failed) -> StepError:
    """What to say of a region that failed: which callback, and for which parameter."""
    assert e.__cause__ is not None
    calls = member.bound.binding.calls
    where = next((c.spec.where for c in calls if c.name == e.callback), e.callback)
    place = next(i for i, p in enumerate(member.bound.params) if p is member.p)
    return raised(where, member.bound.name_of(place), e.__cause__, "No parameter has been stepped")
