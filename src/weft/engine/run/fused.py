"""The step of the groups that kernels serve: a roster, its lanes, and a schedule of launches."""

from collections import OrderedDict
from collections.abc import MutableMapping
from itertools import chain
from operator import is_
from typing import Any

import torch

from weft.engine import eager
from weft.engine.run.lanes import Lane, Numbers, Untold, make_lanes
from weft.engine.run.program import Library
from weft.engine.run.roster import Roster, data_ptr, grads_of
from weft.engine.run.schedule import Schedule
from weft.engine.run.seat import Unfit, take_seats
from weft.groups import BoundGroup

__all__ = ["Fused"]

KEPT = 4  # patterns of grads, and of variants, that are remembered


class Fused:
    """Runs steps with kernels; whatever cannot be run raises before anything is written."""

    def __init__(self, library: Library):
        self.library = library
        self.rosters: OrderedDict[bytes, _Cast] = OrderedDict()
        self.params: list[torch.Tensor] = []

    def step(self, groups: list[BoundGroup], state: MutableMapping, loss: Any) -> bool:
        """One step; False where no parameter has a grad.

        Raises:
            Unfit, Untraceable, Unplannable, NoCompiler, TooMany: nothing has been written.
        """
        cast = self._cast(groups, state, loss)
        if cast is None:
            return False
        steps = cast.roster.counts()
        uniform = len(set(steps)) == 1
        numbers = self._numbers(cast, steps, uniform, loss)
        shared = cast.schedule([n.which for n in numbers]).run(numbers, torch.get_num_threads())
        for (index, name), (_, value) in shared.items():
            groups[index].group[name] = value
        return True

    def _cast(self, groups: list[BoundGroup], state: MutableMapping, loss: Any) -> "_Cast | None":
        """The roster of this step: the one that is there, if it holds, or a new one."""
        params = list(chain.from_iterable([g.group["params"] for g in groups]))
        if len(params) != len(self.params) or not all(map(is_, params, self.params)):
            self.params = params
            self.rosters.clear()
        grads = list(map(grads_of, params))
        try:
            grad_at, key = list(map(data_ptr, grads)), b""
        except TypeError:  # one is None
            key = bytes(g is not None for g in grads)
            grads = [g for g in grads if g is not None]
            grad_at = list(map(data_ptr, grads))
        cast = self.rosters.get(key)
        if cast is not None and cast.roster.holds(state, grads, grad_at):
            self.rosters.move_to_end(key)
            return cast
        eager.init_state(groups, state)
        seats = take_seats(groups, state, self.library, loss)
        if not seats:
            return None
        self.rosters.clear()  # states may have moved: the others would find that out, one by one
        cast = self.rosters[key] = _Cast(Roster(seats, state))
        if cast.roster.overlap:
            self.rosters.clear()
            raise Unfit("parameters, grads or states share memory")
        return cast

    def _numbers(self, cast: "_Cast", steps: list[int], uniform: bool, loss: Any) -> list[Numbers]:
        """The numbers of every lane; what has no variant yet is traced first."""
        while True:
            untold: dict[Any, Any] = {}
            out: list[Numbers] = []
            for lane in cast.lanes:
                try:
                    out.append(lane.numbers(cast.roster.seats, steps, uniform, loss))
                except Untold as e:
                    for seat, step in e.seats:
                        untold.setdefault(seat.family, _example(seat, step, loss))
            if not untold:
                return out
            self.library.trace(untold)
            cast.arrange()

    @property
    def schedules(self) -> list[Schedule]:
        """Those of the last roster, for looking at."""
        return [s for c in self.rosters.values() for s in c.schedules.values()]


def _example(seat: Any, step: int, loss: Any) -> Any:
    """The seat's example with the numbers that it has now."""
    from dataclasses import replace

    from weft.groups import NOT_HYPERS

    hypers = {k: v for k, v in seat.bound.group.items() if k not in NOT_HYPERS}
    own = {k: v for k, v in seat.own.items() if not isinstance(v, torch.Tensor)}
    return replace(
        seat.family.example, hypers=hypers, step=step, loss=loss, state={**seat.family.example.state, **own}
    )


class _Cast:
    """A roster with its lanes and the schedules of its last patterns of variants."""

    def __init__(self, roster: Roster):
        self.roster = roster
        self.arrange()

    def arrange(self) -> None:
        """Lanes anew: families have got variants."""
        self.lanes: list[Lane] = make_lanes(self.roster.seats)
        self.schedules: OrderedDict[Any, Schedule] = OrderedDict()

    def schedule(self, which: list[Any]) -> Schedule:
        """The schedule of one pattern of variants."""
        key = tuple(which)
        found = self.schedules.get(key)
        if found is None:
            found = self.schedules[key] = Schedule(self.roster, self.lanes, which)
            while len(self.schedules) > KEPT:
                self.schedules.popitem(last=False)
        return found
