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
from weft.engine.ir.traced import Splits
from weft.engine.plan.cut import Cut, cut, slot_of
from weft.engine.plan.plan import Region
from weft.engine.runtime.batches import Batches, Over, failure
from weft.engine.runtime.cohort import Cohort
from weft.engine.runtime.members import Member
from weft.engine.runtime.regions import Failed, Given, TorchRegion, Workspace
from weft.engine.sharded.owners import Parts, Team, balanced, cost
from weft.engine.sharded.transfer import Packing, Slot, Spread, transfer
from weft.errors import StepError

__all__ = ["Item", "OfTeam", "OnOwners"]

ROUND = 1 << 26  # bytes that an owner gathers at once, or one tensor


class CutRegion:
    """One region of one variant, cut for parameters that are split."""

    def __init__(self, w: Cohort, k: int, number: int):
        variant = w.variants[k]
        self.cut: Cut = cut(variant.plan, variant.plan.regions[number], variant.placed.slots)
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
        taken, given: where the elements of each value are.
    """

    w: Cohort
    k: int
    number: int
    region: CutRegion
    taken: list[Parts]
    given: list[Parts]
    me: int
    owner: int = 0
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
            value = parts[g.node.index].take(g.values[0], self.me).clone()
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
        for _, number, k, w in sorted(every, key=lambda x: x[:2]):
            shard = w.members[k].shard
            assert shard is not None
            dims = tuple(sorted({i for split in shard.splits for i in split}))
            key = shard.mesh, dims
            if key not in teams:
                teams[key] = Team(shard.mesh, dims), []
            of = id(w.variants[k]), number
            if of not in regions_of:
                regions_of[of] = CutRegion(w, k, number)
            teams[key][1].append(_item(w, k, number, regions_of[of], teams[key][0], places))
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
    w: Cohort, k: int, number: int, region: CutRegion, team: Team, known: dict[Any, Parts]
) -> Item:
    shard, variant = w.members[k].shard, w.variants[k]
    assert shard is not None

    def parts(shape: tuple[int, ...], splits: Splits) -> Parts:
        placements = shard.placements_of(shape, splits)
        key = (team, shape, *placements)
        if key not in known:
            known[key] = Parts(shape, shard.mesh, placements, team)
        return known[key]

    cut = region.cut
    slots = (variant.placed.slots.get(name, shard.splits) for name in cut.slots)
    taken = [parts(n.shape or (), splits) for n, splits in zip(cut.takes, slots, strict=True)]
    given = [
        parts(n.shape or (), ()) for n in cut.after.gives
    ]  # what is no part is whole everywhere
    return Item(w, k, number, region, taken, given, team.me)


class Round:
    """Parameters that are computed at once, and where their parts lie on the way there and back."""

    def __init__(self, team: Team, items: list[Item]):
        self.items, self.own = items, [i for i in items if i.owner == team.me]
        self.device = items[0].member.p.device
        self.there, self.come, self.back, self.results = (Packing(team) for _ in range(4))
        self.sends: list[Slot] = []
        self.joins: list[Spread] = []
        self.puts: list[Spread] = []
        self.takes: list[Slot] = []
        for item in items:
            cut = item.region.cut
            for n, parts in zip(cut.takes, item.taken, strict=True):
                self.sends.append(self.there.add(item.owner, parts.shapes[team.me], n.dtype))
                if item.owner == team.me:
                    self.joins.append(self.come.spread(parts, n.dtype))
            for n, parts in zip(cut.after.gives, item.given, strict=True):
                self.takes.append(self.results.add(item.owner, parts.shapes[team.me], n.dtype))
                if item.owner == team.me:
                    self.puts.append(self.back.spread(parts, n.dtype))

    def gather(self, over: dict[Cohort, Over]) -> Callable[[], torch.Tensor]:
        """Send what each region takes to its owner."""
        packed = self.there.empty(self.device)
        values = (v for item in self.items for v in item.values(over[item.w]))
        for slot, value in zip(self.sends, values, strict=True):
            self.there.view(packed, slot).copy_(value)
        return transfer(self.there, packed, self.come)

    def compute(
        self, come: torch.Tensor, over: dict[Cohort, Over], errors: list[Exception]
    ) -> dict[tuple[int, int, int], torch.Tensor]:
        """What the regions of this rank's items give: (cohort, member, value) -> tensor."""
        results: dict[tuple[int, int, int], torch.Tensor] = {}
        joins = iter(self.joins)
        members: dict[Cohort, dict[int, Whole]] = {}
        for item in self.own:
            tensors = [next(joins).join(come) for _ in item.taken]
            members.setdefault(item.w, {})[item.k] = Whole(item, tensors)
        for w, wholes in members.items():
            torchs = [wholes[k].after if k in wholes else None for k in range(len(w.members))]

            def take(k: int, given: Given, value: torch.Tensor, w: Cohort = w) -> None:
                results[id(w), k, given.node.index] = value

            try:
                Batches(w, torchs, wholes, take).run(over[w])
            except Exception as e:  # the others wait for its results
                errors.append(e)
        return results

    def send_back(
        self, results: dict[tuple[int, int, int], torch.Tensor]
    ) -> Callable[[], torch.Tensor]:
        """Send all that was computed; what could not be is not looked at."""
        packed = self.back.empty(self.device)
        gives = ((id(i.w), i.k, n.index) for i in self.own for n in i.region.cut.after.gives)
        for spread, key in zip(self.puts, gives, strict=True):
            if key in results:
                spread.put(packed, results[key])
        return transfer(self.back, packed, self.results)

    def take(self, come: torch.Tensor, failed: bool) -> None:
        """Give the results to the members, if no rank has failed."""
        slots = iter(self.takes)
        for item in self.items:
            item.drawn, after = {}, item.region.after
            for n, outputs in zip(item.region.cut.after.gives, after.outputs, strict=True):
                value = self.results.view(come, next(slots))
                if not failed:
                    item.w.take(item.k, Given(n, outputs, [value], True), value)


class OfTeam:
    """Those of one team: each has an owner in it, and a round."""

    def __init__(self, team: Team, items: list[Item]):
        self.team, self.items = team, items
        ranks = len(team.places)
        owners = balanced([cost(i.w.variants[i.k].shape) for i in items], ranks)
        held, latest = [0] * ranks, [0] * ranks  # of each owner's last round its bytes, and which
        rounds: list[list[Item]] = []
        for item, owner in zip(items, owners, strict=True):
            if held[owner] >= ROUND:
                held[owner], latest[owner] = 0, latest[owner] + 1
            item.owner = owner
            held[owner] += sum(n.numel * n.dtype.itemsize for n in item.region.cut.takes)
            if latest[owner] == len(rounds):
                rounds.append([])
            rounds[latest[owner]].append(item)
        self.rounds = [Round(team, several) for several in rounds]

    def run(self, over: dict[Cohort, Over], meanwhile: Callable[[], Any] | None) -> None:
        """Gather, compute and send back, round by round."""
        errors: list[Exception] = []
        coming, back, told = self.rounds[0].gather(over), [], None
        for this, following in zip(self.rounds, [*self.rounds[1:], None], strict=True):
            come = coming()
            if following:
                coming = following.gather(over)
            results = this.compute(come, over, errors)
            if not following:  # whether all went well is known before all is there
                told = self._tell(errors)
            back.append(this.send_back(results))
        assert told is not None
        failed = told()
        if meanwhile and not failed:
            meanwhile()
        for this, wait in zip(self.rounds, back, strict=True):
            this.take(wait(), failed)
        if errors:
            raise errors[0]
        if failed:
            raise StepError(
                "another rank could not compute a matrix: see what it says. Nothing has been stepped"
            )

    def _tell(self, errors: Sequence[Exception]) -> Callable[[], bool]:
        """Tell the others whether this rank has failed; gives what waits for whether any has."""
        import torch.distributed as dist  # not every torch has it

        told = torch.tensor(len(errors), device=self.team.device)
        work: Any = dist.all_reduce(told, dist.ReduceOp.MAX, self.team.group, async_op=True)

        def wait() -> bool:
            if work is not None:
                work.wait()
            return bool(told)

        return wait
