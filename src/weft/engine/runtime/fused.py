"""The step of the groups that kernels serve: an active set, its scalar groups, a schedule of launches."""

from collections import OrderedDict
from collections.abc import MutableMapping
from dataclasses import replace
from itertools import chain
from operator import is_
from typing import Any

import torch

from weft.contract.groups import NOT_HYPERS, BoundGroup
from weft.contract.sparse import check_grads, has_sparse
from weft.engine.backends.base import Launch
from weft.engine.eager import loop
from weft.engine.eager.infer_state import init_state
from weft.engine.eager.norms import Norms
from weft.engine.fallback import Fallback, KernelMismatch, Unsupported
from weft.engine.host.guards import Grads, watch_grads
from weft.engine.ir.traced import static
from weft.engine.plan.plan import Plan
from weft.engine.runtime.active_set import ActiveSet
from weft.engine.runtime.members import Member, take_members
from weft.engine.runtime.programs import (
    Program,
    ProgramCache,
    Variant,
    VariantSet,
    chain_key,
)
from weft.engine.runtime.replay import Replay, replay_of
from weft.engine.runtime.scalars import NoVariant, ScalarGroup, Scalars, scalar_groups_of
from weft.engine.runtime.schedule import Schedule
from weft.engine.runtime.stand_in import stand_in
from weft.engine.runtime.verify import disagreement
from weft.engine.sharded.local import Locals
from weft.engine.trace import Example
from weft.errors import NoNumber, SparseGrads

__all__ = ["Fused"]

ENOUGH = 64  # elements of a parameter that a comparison says something about
KEPT = 4  # patterns of grads, and of variants, that are remembered


class Fused:
    """Runs steps with kernels; whatever cannot be run raises before anything is written.

    Attributes:
        replay: the last step, where it may come again without a loss.
        leaves_out: whether the device can leave a step like the last one out.
    """

    chain_key = staticmethod(chain_key)
    reasons = Fallback

    def __init__(self) -> None:
        self.cache = ProgramCache()
        self.active_sets: OrderedDict[Any, CompiledStep] = OrderedDict()
        self.locals = Locals()
        self.params: list[torch.Tensor] = []
        self.grads = Grads([])
        self.last: tuple[Any, CompiledStep] | None = None
        self.replay: Replay | None = None
        self.leaves_out = False

    def step(
        self,
        every: list[BoundGroup],
        groups: list[BoundGroup],
        state: MutableMapping,
        loss: Any,
        norms: MutableMapping[torch.Tensor, Norms] | None = None,
        left_out: torch.Tensor | None = None,
    ) -> None:
        """One step of `groups`, of all groups those that run fused; leaves norms, where asked.

        With `left_out` not 0 the step changes nothing, which the device decides where it can.

        Raises:
            reasons: why a chain cannot; nothing has been written.
            NoNumber: why this step cannot; neither.
        """
        self.cache.norms, self.replay = norms, None
        groups, own = self.locals.enter(groups, state)
        if not self.locals.shards:
            self._step(every, groups, state, loss, left_out)
            return
        schedule = None
        try:
            schedule = self._step(every, groups, own, loss, left_out)
        finally:
            self.replay = None  # grads are taken up anew in each step
            launched = schedule is not None and schedule.steps is not None
            self.locals.leave(state, schedule.variants if schedule else {}, launched)

    def _step(
        self,
        every: list[BoundGroup],
        groups: list[BoundGroup],
        state: MutableMapping,
        loss: Any,
        left_out: torch.Tensor | None,
    ) -> Schedule | None:
        """One step of plain tensors: the schedule that it ran."""
        with self.locals.together():
            compiled, norms = self._compiled(groups, state, loss), self.cache.norms
            if compiled is None:
                return None
            numbers = self._numbers(compiled, compiled.active.steps(), loss)
            schedule = compiled.schedule([n.which for n in numbers])
        self.leaves_out = schedule.leaves_out
        if left_out is not None and not self.leaves_out:
            if left_out:
                return None
            left_out = None
        schedule.run(numbers, every, loss, left_out)
        if norms is not None:
            for cohort in schedule.cohorts:
                norms.update(cohort.norms())
        elif loss is None and len(groups) == len(every):
            self.replay = compiled.replay_of(numbers)
        return schedule

    def _compiled(
        self, groups: list[BoundGroup], state: MutableMapping, loss: Any
    ) -> "CompiledStep | None":
        """The active set of this step: the one that is there, if it holds, or a new one."""
        asked = (static(loss), self.cache.norms is None, torch.get_default_dtype())
        last = self.last
        if last is not None and last[0] == asked and last[1].active.holds_for(groups, state):
            return last[1]
        compiled, self.last = self._other_compiled(groups, state, loss, asked), None
        if compiled is not None:
            self.last = asked, compiled
        return compiled

    def _other_compiled(
        self, groups: list[BoundGroup], state: MutableMapping, loss: Any, asked: tuple[Any, ...]
    ) -> "CompiledStep | None":
        """One of the last few active sets, for a pattern of grads that is back; or a new one."""
        params = list(chain.from_iterable([g.group["params"] for g in groups]))
        if len(params) != len(self.params) or not all(map(is_, params, self.params)):
            self.params, self.grads = params, watch_grads(params)
            self.active_sets.clear()
        grads = self.grads
        have_memory = grads.look()
        key = (grads.which, *asked)
        compiled = self.active_sets.get(key)
        if have_memory and compiled is not None and compiled.active.holds_for(groups, state):
            self.active_sets.move_to_end(key)
            return compiled
        check_grads(groups)
        if not have_memory and any(map(has_sparse, groups)):
            raise SparseGrads
        shards = self.locals.shards
        init_state(groups, state, shards)
        members = take_members(groups, state, self.cache, loss, shards)
        if not members:
            return None
        if not have_memory:
            raise Unsupported("a grad has no memory of its own")
        loop.agree_on_order({s.bound.binding.over for s in members})
        for stale in [k for k, c in self.active_sets.items() if not c.active.keeps_states()]:
            del self.active_sets[stale]  # not to keep the states that it holds
        compiled = self.active_sets[key] = CompiledStep(ActiveSet(members, groups, state))
        while len(self.active_sets) > KEPT:
            self.active_sets.popitem(last=False)
        if compiled.active.overlap:
            self.active_sets.clear()
            raise Unsupported("parameters, grads or states share memory")
        return compiled

    def _numbers(
        self, compiled: "CompiledStep", steps: int | list[int], loss: Any
    ) -> list[Scalars]:
        """The numbers of every scalar group; what has no variant yet is traced first."""
        while True:
            missing: dict[Any, Any] = {}
            out: list[Scalars] = []
            for scalar_group in compiled.scalar_groups:
                try:
                    out.append(scalar_group.numbers(compiled.active, steps, loss))
                except NoVariant as e:
                    for member, step in e.members:
                        missing.setdefault(
                            member.variant_set, (member, _example(member, step, loss))
                        )
            if not missing:
                _at_one_step(compiled.scalar_groups, steps)
                return out
            self.locals.fresh = True
            for member, example in list(missing.values()):
                if member.shard is not None:
                    other, example = stand_in(member, example)
                    missing[other.variant_set] = (other, example)
            fresh = self.cache.trace({f: example for f, (_, example) in missing.items()})
            self.check(fresh, {f: member for f, (member, _) in missing.items()}, loss)
            compiled.arrange()

    def check(
        self, fresh: list[tuple[VariantSet, Variant]], members: dict[VariantSet, Member], loss: Any
    ) -> None:
        """Compare each new program with the eager loop, on the smallest parameter that it serves.

        For a shard it is a tensor that is whole, and stands in for it.

        Raises:
            KernelMismatch: where they disagree.
        """
        smallest: dict[Any, tuple[VariantSet, Variant]] = {}
        for variant_set, v in fresh:
            if members[variant_set].shard is not None:
                continue
            key = (chain_key(variant_set.binding), id(v.program))
            held = smallest.get(key)
            if held is None or _suits(members[variant_set]) < _suits(members[held[0]]):
                smallest[key] = (variant_set, v)
        for variant_set, v in smallest.values():
            member = members[variant_set]
            why = disagreement(member, v, variant_set.steps[-1], loss)
            if why is not None:
                for f, variant in fresh:
                    f.variants.remove(variant)
                raise KernelMismatch(why, member.bound.binding)

    # ------------------------------------------------------------ looking

    def plans(self) -> list[tuple[Program, Plan, Launch]]:
        """The programs that the last steps ran, each with its launch."""
        found: dict[int, tuple[Program, Plan, Launch]] = {}
        for compiled in self.active_sets.values():
            for schedule in compiled.schedules.values():
                for w in schedule.cohorts:
                    found[id(w.program)] = (w.program, w.plan, w.launch)
        return list(found.values())

    def source(self) -> str:
        """The C of all programs."""
        return "\n".join(p.kernel.source for p in self.cache.programs.values())


def _at_one_step(scalar_groups: list[ScalarGroup], steps: int | list[int]) -> None:
    """Refuse what kernels compute for each parameter, where the first is to decide for its group."""
    if isinstance(steps, int):
        return
    taken: dict[int, set[int]] = {}
    for scalar_group in scalar_groups:
        if any(v.traced.same_step for v in scalar_group.variants):
            own = taken.setdefault(scalar_group.first.bound.index, set())
            own.update(steps[i] for i in scalar_group.indices)
    if any(len(own) > 1 for own in taken.values()):
        raise NoNumber("a shared value follows from the step, and parameters are at different ones")


def _example(member: Member, step: int, loss: Any) -> Example:
    """The member's example with the numbers that it has now."""
    hypers = {k: v for k, v in member.bound.group.items() if k not in NOT_HYPERS}
    own = {k: v for k, v in member.own.items() if not isinstance(v, torch.Tensor)}
    return replace(
        member.variant_set.example,
        hypers=hypers,
        step=step,
        loss=loss,
        state={**member.variant_set.example.state, **own},
    )


def _suits(member: Member) -> tuple[bool, int]:
    """How well a parameter suits a comparison, the best first: small, and yet of some elements."""
    n = member.p.numel()
    return (n < ENOUGH, n if n >= ENOUGH else -n)


class CompiledStep:
    """A active set with its scalar groups and the schedules of its last patterns of variants."""

    def __init__(self, active: ActiveSet):
        self.active = active
        self.arrange()

    def arrange(self) -> None:
        """Lanes anew: there are new variants."""
        self.scalar_groups: list[ScalarGroup] = scalar_groups_of(self.active.members)
        variants = {
            id(scalar_group.variants): scalar_group.variants for scalar_group in self.scalar_groups
        }.values()
        self.active.asked = any(v.traced.asked for held in variants for v in held)
        self.schedules: OrderedDict[Any, Schedule] = OrderedDict()
        self.replays: dict[Any, Replay | None] = {}

    def schedule(self, which: list[Any]) -> Schedule:
        """The schedule of one pattern of variants."""
        key = tuple(which)
        found = self.schedules.get(key)
        if found is None:
            found = self.schedules[key] = Schedule(self.active, self.scalar_groups, which)
            while len(self.schedules) > KEPT:
                self.replays.pop(self.schedules.popitem(last=False)[0], None)
        return found

    def replay_of(self, numbers: list[Scalars]) -> Replay | None:
        """How a step that took such numbers is repeated."""
        key = tuple(n.which for n in numbers)
        if key not in self.replays:
            self.replays[key] = replay_of(
                self.active, self.schedules[key], self.scalar_groups, numbers
            )
        return self.replays[key]
