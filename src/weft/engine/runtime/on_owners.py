"""Regions of parameters that are spread over ranks: each is computed whole, by one rank.

What a region takes is gathered to the owner of the parameter, and what it gives is sent back: results
of the parameter's shape in parts, others to all. The parameters that wait at one point of a step go
in rounds, so that memory is bounded: while a round is computed, the next one is on its way.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from weft.engine.ir.graph import Node
from weft.engine.plan.cut import Cut, cut, slot_of
from weft.engine.plan.plan import Region
from weft.engine.runtime.batches import Batches, Over, failure
from weft.engine.runtime.cohort import Cohort
from weft.engine.runtime.members import Member
from weft.engine.runtime.regions import Failed, Given, TorchRegion, Workspace
from weft.engine.sharded.owners import Parts, Team, balanced, cost
from weft.engine.sharded.transfer import Spec, Transfer
from weft.errors import StepError

__all__ = ["Item", "OfTeam", "OnOwners"]

ROUND = 1 << 26  # bytes that an owner gathers at once, or one tensor


class CutRegion:
    """One region of one variant, cut for parameters that are split."""

    def __init__(self, w: Cohort, k: int, at: int):
        variant = w.variants[k]
        self.cut: Cut = cut(variant.plan, variant.plan.regions[at], variant.placed.slots)
        self.after = TorchRegion(variant.plan, self.cut.after)
        self.before, self.draws = (
            TorchRegion(variant.plan, part) if part else None
            for part in (self.cut.before, self.cut.draws)
        )


@dataclass
class Item:
    """A parameter's region.

    Attributes:
        drawn: the random numbers of this step, by the names of their slots.
        taken, given: where the elements of each value are; None of one that is whole everywhere.
    """

    w: Cohort
    k: int
    at: int
    region: CutRegion
    taken: list[Parts]
    given: list[Parts | None]
    me: int
    owner: int = 0
    round: int = 0
    drawn: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def member(self) -> Member:
        return self.w.members[self.k]

    def values(self, over: Over) -> list[torch.Tensor]:
        """What this rank has of what the region takes."""
        made = {g.node.index: g.values[0] for g in self._run(self.region.before, self.member, over)}
        takes = self.region.cut.takes
        return [made[n.index] if n.index in made else self._slot(n) for n in takes]

    def draw(self, over: Over) -> None:
        """Draw the random numbers, and, where that is all or nearly, compute what follows."""
        whole = Whole(self, ())
        self.drawn = {
            slot_of(g.node): g.values[0] for g in self._run(self.region.draws, whole, over)
        }
        if self.region.cut.travels:
            return
        parts = dict(zip((n.index for n in self.region.cut.after.gives), self.given, strict=True))
        for g in self._run(self.region.after, whole, over):
            part = parts[g.node.index]
            value = part.take(g.values[0], self.me).clone() if part else g.values[0]
            self.w.take(self.k, g, value)

    def _run(self, torchs: TorchRegion | None, member: Any, over: Over) -> Iterator[Given]:
        if torchs is None:
            return
        w, index = self.w, self.member.bound.index
        try:
            yield from torchs.run(
                [member], w.rows[w.row_of[self.k]], lambda name: over[index, name],
                Workspace(self.member.p.device),
            )  # fmt: skip
        except Failed as e:
            raise failure(self.member, e) from e.__cause__

    def _slot(self, n: Node) -> torch.Tensor:
        return self.member.tensor(n.attr("slot")).detach()


class Whole:
    """A member on its owner: with what was gathered, and the states that are whole everywhere."""

    def __init__(self, item: Item, tensors: Sequence[torch.Tensor]):
        self.p, self.own, self.after = item.member.p, item.member.own, item.region.after
        self.tensors = item.drawn | dict(zip(item.region.cut.slots, tensors, strict=False))

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor in a slot."""
        return self.tensors[name] if name in self.tensors else self.own[name]


class OnOwners:
    """The regions that wait at one point of a step, of parameters that are split."""

    def __init__(self, regions: Sequence[tuple[Cohort, Region]]):
        self.teams: list[OfTeam] = []
        regions_of: dict[Any, CutRegion] = {}
        places: dict[Any, Parts] = {}
        teams: dict[Any, tuple[Team, list[Item]]] = {}
        every = [
            (w.indices[k], w.plan.regions.index(region), k, w)
            for w, region in regions for k, m in enumerate(w.members) if m.is_split
        ]  # fmt: skip
        for _, at, k, w in sorted(every, key=lambda x: x[:2]):
            shard = w.members[k].shard
            assert shard is not None
            dims = tuple(sorted({i for split in shard.splits for i in split}))
            key = shard.mesh, dims
            if key not in teams:
                teams[key] = Team(shard.mesh, dims), []
            of = id(w.variants[k]), at
            if of not in regions_of:
                regions_of[of] = CutRegion(w, k, at)
            teams[key][1].append(_item(w, k, at, regions_of[of], teams[key][0], places))
        self.drawing = [
            i
            for _, items in teams.values()
            for i in items
            if i.region.draws or not i.region.cut.travels
        ]
        travelling = (
            (team, [i for i in items if i.region.cut.travels]) for team, items in teams.values()
        )
        self.teams = [OfTeam(team, items) for team, items in travelling if items]

    def draws(self, over: dict[Cohort, Over]) -> Iterator[tuple[int, Callable[[], None]]]:
        """For each parameter that draws, its place in the active set and what does it."""
        for item in self.drawing:
            yield item.w.indices[item.k], partial(item.draw, over[item.w])

    def run(self, over: dict[Cohort, Over], meanwhile: Callable[[], Any] | None = None) -> None:
        """Compute them all; `meanwhile` is called when all are computed, while results travel.

        Raises:
            StepError: on all ranks, where it fails on one.
        """
        for team in self.teams:
            team.run(over, meanwhile if team is self.teams[-1] else None)
        if meanwhile and not self.teams:
            meanwhile()


def _item(
    w: Cohort, k: int, at: int, region: CutRegion, team: Team, known: dict[Any, Parts]
) -> Item:
    shard, variant = w.members[k].shard, w.variants[k]
    assert shard is not None

    def parts(shape: tuple[int, ...], slot: str) -> Parts:
        placements = shard.placements_of(shape, variant.placed.slots.get(slot, shard.splits))
        key = (team, shape, *placements)
        if key not in known:
            known[key] = Parts(shape, shard.mesh, placements, team)
        return known[key]

    cut, shape = region.cut, variant.shape
    taken = [parts(n.shape or (), name) for n, name in zip(cut.takes, cut.slots, strict=True)]
    given = [parts(shape, "p") if n.shape == shape else None for n in cut.after.gives]
    return Item(w, k, at, region, taken, given, team.me)


class OfTeam:
    """Those of one team: each has an owner in it, and a round."""

    def __init__(self, team: Team, items: list[Item]):
        self.team, self.ranks = team, range(len(team.places))
        owners = balanced([cost(i.w.variants[i.k].shape) for i in items], len(self.ranks))
        gathered = dict.fromkeys(self.ranks, 0)
        for item, owner in zip(items, owners, strict=True):
            item.owner, item.round = owner, gathered[owner] // ROUND
            gathered[owner] += sum(n.numel * n.dtype.itemsize for n in item.region.cut.takes)
        last = max(item.round for item in items)
        self.rounds = [[i for i in items if i.round == at] for at in range(last + 1)]

    def run(self, over: dict[Cohort, Over], meanwhile: Callable[[], Any] | None) -> None:
        """Gather, compute and send back, round by round."""
        errors: list[Exception] = []
        back: list[tuple[list[Item], Transfer]] = []
        coming, told = self._gather(self.rounds[0], over), None
        for at, items in enumerate(self.rounds):
            come, rest = coming.wait(), self.rounds[at + 1 :]
            if rest:
                coming = self._gather(rest[0], over)
            results = self._compute(items, come, over, errors)
            if meanwhile and not rest:  # whether all went well is known before all is there
                told = self._transfer(*self._told(errors))
            back.append((items, self._send_back(items, results, errors)))
        if meanwhile and told and not _some(told.wait()):
            meanwhile()
        failed = [self._take(items, transfer.wait()) for items, transfer in back]
        if errors:
            raise errors[0]
        if any(failed):
            raise StepError(
                "another rank could not compute a matrix: see what it says. Nothing has been stepped"
            )

    def _told(
        self, errors: Sequence[Exception]
    ) -> tuple[list[list[torch.Tensor]], list[list[Spec]]]:
        """To each rank whether this one has failed, and as much from each."""
        failed = torch.tensor(len(errors), dtype=torch.int64)
        return [[failed] for _ in self.ranks], [[Spec((), torch.int64)] for _ in self.ranks]

    def _transfer(
        self, sent: Sequence[Sequence[torch.Tensor]], due: Sequence[Sequence[Spec]]
    ) -> Transfer:
        return Transfer(self.team, sent, due, self.rounds[0][0].member.p.device)

    def _gather(self, items: list[Item], over: dict[Cohort, Over]) -> Transfer:
        sent: list[list[torch.Tensor]] = [[] for _ in self.ranks]
        due: list[list[Spec]] = [[] for _ in self.ranks]
        for item in items:
            values = item.values(over[item.w])
            sent[item.owner] += values
            for rank in self.ranks if item.owner == self.team.me else ():
                due[rank] += [
                    Spec(p.shapes[rank], v.dtype) for p, v in zip(item.taken, values, strict=True)
                ]
        return self._transfer(sent, due)

    def _compute(
        self, items: list[Item], come: list[list[torch.Tensor]], over: dict[Cohort, Over],
        errors: list[Exception],
    ) -> dict[tuple[int, int, int], torch.Tensor]:  # fmt: skip
        """What the regions of this rank's items give: (cohort, member, value) -> tensor."""
        results: dict[tuple[int, int, int], torch.Tensor] = {}
        parts = [iter(of) for of in come]
        members: dict[Cohort, dict[int, Whole]] = {}
        for item in items:  # in the order in which they were sent
            if item.owner == self.team.me:
                members.setdefault(item.w, {})[item.k] = Whole(item, self._joined(item, parts))
        for w, wholes in members.items():
            torchs = [wholes[k].after if k in wholes else None for k in range(len(w.members))]

            def take(k: int, given: Given, value: torch.Tensor, w: Cohort = w) -> None:
                results[id(w), k, given.node.index] = value

            try:
                Batches(w, torchs, wholes, take).run(over[w])
            except Exception as e:  # the others wait for its results
                errors.append(e)
        return results

    def _joined(self, item: Item, come: list[Iterator[torch.Tensor]]) -> list[torch.Tensor]:
        """What a region takes, from the parts of all ranks."""
        out = []
        for n, parts in zip(item.region.cut.takes, item.taken, strict=True):
            each = [next(of) for of in come]
            whole = torch.empty(n.shape or (), dtype=each[0].dtype, device=each[0].device)
            for rank, part in enumerate(each):
                parts.put(whole, rank, part)
            out.append(whole)
        return out

    def _send_back(
        self, items: list[Item], results: dict[tuple[int, int, int], torch.Tensor],
        errors: list[Exception],
    ) -> Transfer:  # fmt: skip
        sent, due = self._told(errors)
        for item in items:
            for n, parts in zip(item.region.cut.after.gives, item.given, strict=True):
                shape = n.shape or ()
                due[item.owner].append(
                    Spec(parts.shapes[self.team.me] if parts else shape, n.dtype)
                )
                if item.owner != self.team.me:
                    continue
                value = results.get((id(item.w), item.k, n.index))
                if value is None:
                    value = torch.zeros(shape, dtype=n.dtype, device=item.member.p.device)
                for rank in self.ranks:
                    sent[rank].append(parts.take(value, rank) if parts else value)
        return self._transfer(sent, due)

    def _take(self, items: list[Item], come: list[list[torch.Tensor]]) -> bool:
        """Give the results to the members; whether a rank has failed."""
        failed = _some(come)
        parts = [iter(of[1:]) for of in come]
        for item in items:
            item.drawn, after = {}, item.region.after
            for n, outputs in zip(item.region.cut.after.gives, after.outputs, strict=True):
                value = next(parts[item.owner])
                if not failed:
                    item.w.take(item.k, Given(n, outputs, [value], True), value)
        return failed


def _some(come: Sequence[Sequence[torch.Tensor]]) -> bool:
    """Whether any rank has told that it failed."""
    return any(int(of[0]) for of in come)
