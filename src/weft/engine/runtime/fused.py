"""The step of the groups that kernels serve: a roster, its lanes, and a schedule of launches."""

from collections import OrderedDict
from collections.abc import MutableMapping
from dataclasses import replace
from itertools import chain
from operator import is_
from typing import Any

import torch

from weft.engine.eager import loop as eager
from weft.engine.fallback import Fallback, KernelMismatch, Unsupported
from weft.engine.host.guards import Grads, watch_grads
from weft.engine.ir.norms import Norms
from weft.engine.ir.traced import static
from weft.engine.plan.plan import Plan
from weft.engine.runtime.active_set import Roster
from weft.engine.runtime.members import Seat, take_seats
from weft.engine.runtime.programs import (
    Family,
    Library,
    Program,
    Variant,
    chain_key,
)
from weft.engine.runtime.replay import Repeat, repeat_of
from weft.engine.runtime.scalars import Lane, Numbers, Untold, make_lanes
from weft.engine.runtime.schedule import Schedule
from weft.engine.runtime.verify import disagreement
from weft.engine.trace import Example
from weft.errors import NoNumber, SparseGrads
from weft.groups import NOT_HYPERS, BoundGroup, check_grads
from weft.sparse import has_sparse

__all__ = ["Fused"]

ENOUGH = 64  # elements of a parameter that a comparison says something about
KEPT = 4  # patterns of grads, and of variants, that are remembered


class Fused:
    """Runs steps with kernels; whatever cannot be run raises before anything is written.

    Attributes:
        repeated: the last step, where it may come again without a loss.
    """

    chain_key = staticmethod(chain_key)
    reasons = Fallback

    def __init__(self) -> None:
        self.library = Library()
        self.rosters: OrderedDict[Any, _Cast] = OrderedDict()
        self.params: list[torch.Tensor] = []
        self.grads = Grads([])
        self.last: tuple[Any, _Cast] | None = None
        self.repeated: Repeat | None = None

    def step(
        self,
        every: list[BoundGroup],
        groups: list[BoundGroup],
        state: MutableMapping,
        loss: Any,
        norms: MutableMapping[torch.Tensor, Norms] | None = None,
    ) -> None:
        """One step of `groups`, of all groups those that run fused; leaves norms, where asked.

        Raises:
            reasons: why a chain cannot; nothing has been written.
            NoNumber: why this step cannot; neither.
        """
        self.library.norms, self.repeated = norms, None
        cast = self._cast(groups, state, loss)
        if cast is None:
            return
        numbers = self._numbers(cast, cast.roster.steps(), loss)
        schedule = cast.schedule([n.which for n in numbers])
        schedule.run(numbers, every)
        if norms is not None:
            for work in schedule.works:
                norms.update(work.norms())
        elif loss is None and len(groups) == len(every):
            self.repeated = cast.repeat(numbers)

    def _cast(self, groups: list[BoundGroup], state: MutableMapping, loss: Any) -> "_Cast | None":
        """The roster of this step: the one that is there, if it holds, or a new one."""
        asked = (static(loss), self.library.norms is None, torch.get_default_dtype())
        last = self.last
        if last is not None and last[0] == asked and last[1].roster.holds_for(groups, state):
            return last[1]
        cast, self.last = self._other_cast(groups, state, loss, asked), None
        if cast is not None:
            self.last = asked, cast
        return cast

    def _other_cast(
        self, groups: list[BoundGroup], state: MutableMapping, loss: Any, asked: tuple[Any, ...]
    ) -> "_Cast | None":
        """One of the last few rosters, for a pattern of grads that is back; or a new one."""
        params = list(chain.from_iterable([g.group["params"] for g in groups]))
        if len(params) != len(self.params) or not all(map(is_, params, self.params)):
            self.params, self.grads = params, watch_grads(params)
            self.rosters.clear()
        grads = self.grads
        have_memory = grads.look()
        key = (grads.which, *asked)
        cast = self.rosters.get(key)
        if have_memory and cast is not None and cast.roster.holds_for(groups, state):
            self.rosters.move_to_end(key)
            return cast
        check_grads(groups)
        if not have_memory and any(map(has_sparse, groups)):
            raise SparseGrads
        eager.init_state(groups, state)
        seats = take_seats(groups, state, self.library, loss)
        if not seats:
            return None
        if not have_memory:
            raise Unsupported("a grad has no memory of its own")
        eager.agree_on_order({s.bound.binding.over for s in seats})
        for stale in [k for k, c in self.rosters.items() if not c.roster.keeps_states()]:
            del self.rosters[stale]  # not to keep the states that it holds
        cast = self.rosters[key] = _Cast(Roster(seats, groups, state))
        while len(self.rosters) > KEPT:
            self.rosters.popitem(last=False)
        if cast.roster.overlap:
            self.rosters.clear()
            raise Unsupported("parameters, grads or states share memory")
        return cast

    def _numbers(self, cast: "_Cast", steps: int | list[int], loss: Any) -> list[Numbers]:
        """The numbers of every lane; what has no variant yet is traced first."""
        while True:
            untold: dict[Any, Any] = {}
            out: list[Numbers] = []
            for lane in cast.lanes:
                try:
                    out.append(lane.numbers(cast.roster, steps, loss))
                except Untold as e:
                    for seat, step in e.seats:
                        untold.setdefault(seat.family, (seat, _example(seat, step, loss)))
            if not untold:
                _at_one_step(cast.lanes, steps)
                return out
            fresh = self.library.trace({f: example for f, (_, example) in untold.items()})
            self.check(fresh, {f: seat for f, (seat, _) in untold.items()}, loss)
            cast.arrange()

    def check(
        self, fresh: list[tuple[Family, Variant]], seats: dict[Family, Seat], loss: Any
    ) -> None:
        """Compare each new program with the eager loop, on the smallest parameter that it serves.

        Raises:
            KernelMismatch: where they disagree.
        """
        smallest: dict[Any, tuple[Family, Variant]] = {}
        for family, v in fresh:
            key = (chain_key(family.binding), id(v.program))
            held = smallest.get(key)
            if held is None or _suits(seats[family]) < _suits(seats[held[0]]):
                smallest[key] = (family, v)
        for family, v in smallest.values():
            seat = seats[family]
            why = disagreement(seat, v, family.steps[-1], loss)
            if why is not None:
                for f, variant in fresh:
                    f.variants.remove(variant)
                raise KernelMismatch(why, seat.bound.binding)

    # ------------------------------------------------------------ looking

    def plans(self) -> list[tuple[Program, Plan, int]]:
        """The programs that the last steps ran, and how many elements each served."""
        found: dict[int, tuple[Program, Plan, int]] = {}
        for cast in self.rosters.values():
            for schedule in cast.schedules.values():
                for w in schedule.works:
                    found[id(w.program)] = (w.program, w.plan, w.launch.elements)
        return list(found.values())

    def source(self) -> str:
        """The C of all programs."""
        return "\n".join(p.kernel.source for p in self.library.programs.values())


def _at_one_step(lanes: list[Lane], steps: int | list[int]) -> None:
    """Refuse what kernels compute for each parameter, where the first is to decide for its group."""
    if isinstance(steps, int):
        return
    taken: dict[int, set[int]] = {}
    for lane in lanes:
        if any(v.traced.same_step for v in lane.variants):
            own = taken.setdefault(lane.first.bound.index, set())
            own.update(steps[i] for i in lane.seats)
    if any(len(own) > 1 for own in taken.values()):
        raise NoNumber("a shared value follows from the step, and parameters are at different ones")


def _example(seat: Seat, step: int, loss: Any) -> Example:
    """The seat's example with the numbers that it has now."""
    hypers = {k: v for k, v in seat.bound.group.items() if k not in NOT_HYPERS}
    own = {k: v for k, v in seat.own.items() if not isinstance(v, torch.Tensor)}
    return replace(
        seat.family.example,
        hypers=hypers,
        step=step,
        loss=loss,
        state={**seat.family.example.state, **own},
    )


def _suits(seat: Seat) -> tuple[bool, int]:
    """How well a parameter suits a comparison, the best first: small, and yet of some elements."""
    n = seat.p.numel()
    return (n < ENOUGH, n if n >= ENOUGH else -n)


class _Cast:
    """A roster with its lanes and the schedules of its last patterns of variants."""

    def __init__(self, roster: Roster):
        self.roster = roster
        self.arrange()

    def arrange(self) -> None:
        """Lanes anew: families have got variants."""
        self.lanes: list[Lane] = make_lanes(self.roster.seats)
        variants = {id(lane.variants): lane.variants for lane in self.lanes}.values()
        self.roster.asked = any(v.traced.asked for held in variants for v in held)
        self.schedules: OrderedDict[Any, Schedule] = OrderedDict()
        self.repeats: dict[Any, Repeat | None] = {}

    def schedule(self, which: list[Any]) -> Schedule:
        """The schedule of one pattern of variants."""
        key = tuple(which)
        found = self.schedules.get(key)
        if found is None:
            found = self.schedules[key] = Schedule(self.roster, self.lanes, which)
            while len(self.schedules) > KEPT:
                self.repeats.pop(self.schedules.popitem(last=False)[0], None)
        return found

    def repeat(self, numbers: list[Numbers]) -> Repeat | None:
        """How a step that took such numbers is repeated."""
        key = tuple(n.which for n in numbers)
        if key not in self.repeats:
            self.repeats[key] = repeat_of(self.roster, self.schedules[key], self.lanes, numbers)
        return self.repeats[key]
