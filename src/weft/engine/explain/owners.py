"""Who computes which matrix, where parameters are spread over ranks, and what that moves."""

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

from weft.engine.explain.table import counted
from weft.engine.runtime.on_owners import Item, OfTeam
from weft.engine.sharded.owners import cost

__all__ = ["Owner", "owners"]

MOST_NAMES = 4


class Owner(NamedTuple):
    """What one rank of a mesh computes for all of them in a step.

    Attributes:
        rank: its number among all processes.
        parameters: names of those that are gathered to it.
        work: its share of the whole work of its mesh, by m n min(m, n) for each matrix.
        gathers, returns: bytes that come from other ranks, and go back to them.
    """

    rank: int
    parameters: tuple[str, ...]
    work: float
    gathers: int
    returns: int

    def __str__(self) -> str:
        named = ", ".join(self.parameters[:MOST_NAMES])
        named += ", ..." * (len(self.parameters) > MOST_NAMES)
        what = counted(len(self.parameters), "parameter") + f" ({named})" * bool(named)
        return (
            f"rank {self.rank} computes {what}: {self.work:.1%} of the work, gathers "
            f"{self.gathers:,} bytes, sends back {self.returns:,}"
        )


def owners(fused: Any) -> list[Owner]:
    """The owners of the last step's matrices, rank by rank."""
    if fused is None or fused.last is None:
        return []
    schedules = list(fused.last[1].schedules.values())[-1:]
    every = (x for s in schedules for x in s.on_owners.values())
    return [owner for x in every for team in x.teams for owner in _of_team(team)]


def _of_team(team: OfTeam) -> Iterator[Owner]:
    items, ranks = team.items, range(len(team.team.ranks))
    total = sum(map(_work, items)) or 1
    for rank, number in enumerate(team.team.ranks):
        own = [item for item in items if item.owner == rank]
        names = tuple(dict.fromkeys(map(_name, own)))
        gathers = sum(_comes(item, r) for item in own for r in ranks if r != rank)
        returns = sum(_goes(item, r) for item in own for r in ranks if r != rank)
        yield Owner(number, names, sum(map(_work, own)) / total, gathers, returns)


def _work(item: Item) -> int:
    return cost(item.w.variants[item.k].shape)


def _comes(item: Item, rank: int) -> int:
    """The bytes that a rank sends to the owner."""
    takes = zip(item.taken, item.region.cut.takes, strict=True)
    return sum(prod(p.shapes[rank]) * n.dtype.itemsize for p, n in takes)


def _goes(item: Item, rank: int) -> int:
    """The bytes that the owner sends back to a rank."""
    gives = zip(item.given, item.region.cut.after.gives, strict=True)
    return sum(prod(p.shapes[rank]) * n.dtype.itemsize for p, n in gives)


def _name(item: Item) -> str:
    bound = item.member.bound
    at = next(i for i, p in enumerate(bound.params) if p is item.member.p)
    names = bound.group.get("param_names")
    return names[at] if names else f"{at} of group {bound.index}"
