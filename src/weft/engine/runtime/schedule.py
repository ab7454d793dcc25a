"""The order in which the launches of a step run, and the values that they wait for.

All that can fail comes first: torch's regions, new states, copies of tensors that are laid out in
another way. Then the phases run, launches side by side where they wait for values over all
parameters; then what torch stores is stored, and numbers are put back.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from weft.contract.groups import BoundGroup
from weft.engine.backends.base import WholeStep
from weft.engine.empty import count
from weft.engine.fallback import Unsupported
from weft.engine.runtime.active_set import ActiveSet
from weft.engine.runtime.batches import draws_of, whole_regions
from weft.engine.runtime.cohort import Cohort
from weft.engine.runtime.columns import columns
from weft.engine.runtime.combined import Combined
from weft.engine.runtime.interrupts import Uninterrupted
from weft.engine.runtime.members import EmptyMember
from weft.engine.runtime.on_owners import OnOwners
from weft.engine.runtime.programs import Variant
from weft.engine.runtime.scalars import ScalarGroup, Scalars
from weft.engine.sharded.exchange import Exchange
from weft.errors import StepError

__all__ = ["Schedule"]

# torch.autograd.graph.increment_version, of which a third of a microsecond is Python
increment_version = torch._C._increment_version
NONE: set[str] = set()


class Schedule:
    """The cohorts of one pattern of variants over an active set."""

    def __init__(self, active: ActiveSet, scalar_groups: list[ScalarGroup], which: list[Any]):
        self.active = active
        by_program: dict[Any, Cohort] = {}
        order: list[tuple[int, int, int, Variant]] = []
        for number, (scalar_group, chosen) in enumerate(zip(scalar_groups, which, strict=True)):
            for k, i in enumerate(scalar_group.indices):
                v = active.members[i].variant_set.variants[
                    chosen if isinstance(chosen, int) else chosen[k]
                ]
                order.append((i, number, k, v))
        for i, number, k, v in sorted(order, key=lambda x: x[0]):
            assert v.program is not None
            cohort = by_program.setdefault(id(v.program), Cohort(v.program, active))
            cohort.indices.append(i)
            cohort.variants.append(v)
            cohort.sources.append((number, k))
        self.cohorts = list(by_program.values())
        for cohort in self.cohorts:
            cohort.finish()
        self.written = [s.p for w in self.cohorts if "p" in w.writes for s in w.members]
        self.writes_grads = any("grad" in w.writes for w in self.cohorts)
        self._refuse_draws()
        self.exchanges: dict[Any, Exchange] = {}
        self.combined: dict[Any, Combined] = {}
        self.on_owners: dict[Any, OnOwners] = {}
        self.counting = [  # their chains keep the count of steps themselves
            (s.bound, s.p) for s in active.members if isinstance(s, EmptyMember) and not s.counted
        ]
        self.uncapturable = {  # whose numbers a graph would repeat
            w.program.backend: w.capturable
            for w in self.cohorts
            if w.program.backend.waits and not w.repeatable
        }
        self.leaves_out = all(w.leaves_out for w in self.cohorts)
        self.has_regions = any(w.plan.regions for w in self.cohorts)
        simple = all(map(_simple, self.cohorts)) and not self.counting
        self.steps = self._steps() if simple else None

    def _refuse_draws(self) -> None:
        """Refuse regions that draw random numbers and cannot take turns in the order of parameters."""
        every = [r for w in self.cohorts for r in w.plan.regions if r.draws]
        if len(every) > 1 and any(r.before for r in every):
            raise Unsupported(
                "parameters of several kinds draw random numbers after a value over all"
            )

    def _steps(self) -> WholeStep | None:
        """Launches that are all that the step does; None where several backends run them."""
        backends = {w.program.backend for w in self.cohorts}
        if len(backends) != 1:
            return None
        launches = [w.launch for w in self.cohorts]
        return backends.pop().whole_step(launches, self.active.counts.address)

    @cached_property
    def variants(self) -> dict[torch.Tensor, Variant]:
        """What each parameter ran."""
        return {s.p: v for w in self.cohorts for s, v in zip(w.members, w.variants, strict=True)}

    def run(
        self,
        numbers: list[Scalars],
        groups: list[BoundGroup],
        loss: Any,
        left_out: torch.Tensor | None = None,
    ) -> None:
        """One step, which changes nothing where `left_out` is not 0; `groups` get its shared values."""
        if left_out is None:
            self._run(numbers, groups, loss, 0)
            return
        try:
            for w in self.cohorts:
                w.leave_out(left_out)
            self._run(numbers, groups, loss, left_out != 0)
        finally:
            for w in self.cohorts:
                w.leave_out(None)

    def _run(
        self, numbers: list[Scalars], groups: list[BoundGroup], loss: Any, left_out: Any
    ) -> None:
        self._refuse_capture()
        for w in self.cohorts:
            w.take_numbers(numbers)
            w.point_grads()
        if self.steps is not None:
            self.launch()
            return
        with Uninterrupted():
            shared: dict[tuple[int, str], tuple[int, Any]] = {}
            try:
                self._run_in_turns(loss)
                for w in self.cohorts:
                    w.store(shared)
            finally:
                for w in self.cohorts:
                    w.release()
            self.active.counts.advance()
            count(self.counting, self.active.state, left_out)
            self._tell_autograd()
            for (index, name), (_, value) in shared.items():
                _put(groups[index].group, name, value)

    def launch(self) -> None:
        """All of a step that is nothing but launches."""
        assert self.steps is not None
        if self.uncapturable:
            self._refuse_capture()
        self._tell_autograd()  # before: an interrupt comes before or after the one call
        self.steps.run()

    def _refuse_capture(self) -> None:
        """A graph repeats the numbers of the step that it recorded.

        Raises:
            StepError: says how to record one.
        """
        for backend, capturable in self.uncapturable.items():
            if backend.capturing():
                way_out = (
                    "take a few steps before you record, which move such numbers to the GPU"
                    if capturable
                    else "give the optimizer capturable=True, and an lr that is a tensor on the GPU where "
                    "it changes"
                )
                raise StepError(
                    "this step is recorded in a CUDA graph, which would repeat its count of steps: "
                    f"{way_out}. Nothing has been stepped; see docs/limits.md#cuda-graphs"
                )

    def _tell_autograd(self) -> None:
        """Parameters and grads are new versions of themselves."""
        if self.written:
            increment_version(self.written)
        if self.writes_grads:
            increment_version(
                [
                    s.p.grad
                    for w in self.cohorts
                    if "grad" in w.writes
                    for s in w.members
                    if s.p.grad is not None
                ]
            )

    def _run_in_turns(self, loss: Any) -> None:
        over = {w: w.take_resident(loss) for w in self.cohorts}
        for w in self.cohorts:
            w.prepare()
            w.passed, w.ran = set(), set()
        rest = self._apart
        self._run_regions(dict.fromkeys(self.cohorts, 0), over, rest)
        for w in self.cohorts:  # here, as several values may wait at the end of the first phase
            if w not in (rest or ()):
                w.launch.run_scalars(0)
        phase_of = dict.fromkeys((w for w in self.cohorts if w not in (rest or ())), 0)
        while True:
            waiting = [w for w in phase_of if not _last_stretch(w, phase_of[w])]
            for w in waiting:
                phase_of[w] = _advance(w, phase_of[w])
            if not waiting:
                break
            now = [w for w in waiting if w.across.keys() & _names(w, phase_of[w])]
            if now:  # first of all, so that all ranks do the same in the same order
                self._exchange(now, phase_of)
            else:
                name = _ready(waiting, phase_of)
                now = [w for w in waiting if name in _names(w, phase_of[w])]
                self._combined(name, now).run(over)
                for w in now:
                    w.passed.add(name)
            further = [w for w in now if not _names(w, phase_of[w])]
            for w in further:
                phase_of[w] += 1
                w.launch.run_scalars(phase_of[w])
            self._run_regions({w: phase_of[w] for w in further}, over)
        for w in phase_of:  # they write, when nothing is left that can fail
            _advance(w, phase_of[w])

    @cached_property
    def _apart(self) -> list[Cohort] | None:
        """The launches that need nothing of an owner; None where there is no such parameter on any
        rank, and where something can still fail when owners are done."""
        spread = lambda w: bool(w.plan.regions) and any(m.is_split for m in w.members)
        every = [(bool(w.plan.regions), m.is_split) for w in self.cohorts for m in w.members]
        if any(w.plan.barriers for w in self.cohorts) or all(map(all, every)):
            return None
        return [w for w in self.cohorts if not spread(w)] if any(map(all, every)) else None

    def _run_regions(
        self, phase_of: dict[Cohort, int], over: Any, rest: Sequence[Cohort] | None = None
    ) -> None:
        """Let torch compute what comes before these phases; launches `rest` while results travel."""
        if not self.has_regions:
            return
        every = [
            (w, region) for w, phase in phase_of.items() for region in w.plan.regions
            if region.before == phase
        ]  # fmt: skip
        key = tuple((id(w), phase) for w, phase in phase_of.items())
        if key not in self.on_owners:
            self.on_owners[key] = OnOwners(every)
        owners = self.on_owners[key]
        draws = [d for w, region in every if region.draws for d in draws_of(w, region, over[w])]
        for _, draw in sorted([*draws, *owners.draws(over)], key=lambda d: d[0]):
            draw()
        for w, region in every:
            if not region.draws:
                whole_regions(w, region).run(over[w])
        owners.run(over, None if rest is None else lambda: [_launch(w) for w in rest])

    def _combined(self, name: str, cohorts: list[Cohort]) -> Combined:
        key = (name, *map(id, cohorts))
        if key not in self.combined:
            self.combined[key] = Combined(name, cohorts)
        return self.combined[key]

    def _exchange(self, cohorts: list[Cohort], phase_of: Mapping[Cohort, int]) -> None:
        """Combine over ranks all that waits for them."""
        key = tuple((id(w), phase_of[w]) for w in cohorts)
        if key not in self.exchanges:
            self.exchanges[key] = Exchange([c for w in cohorts for c in columns(w, phase_of[w])])
        self.exchanges[key].run()
        for w in cohorts:
            w.passed |= w.across.keys() & _names(w, phase_of[w])


def _put(group: dict[str, Any], name: str, value: Any) -> None:
    """A shared value into its group; a tensor keeps its memory, so that a step is like the last."""
    held: Any = group.get(name)
    alike = isinstance(held, torch.Tensor) and isinstance(value, torch.Tensor)
    if alike and (held.dtype, held.device, held.shape) == (value.dtype, value.device, ()):
        held.copy_(value)
    else:
        group[name] = value


def _simple(w: Cohort) -> bool:
    """Whether a cohort's kernel is all there is of it."""
    plan = w.plan
    made = (
        w.resident or w.fresh or w.staged or w.variant.numbers or any(v.objects for v in w.variants)
    )
    return not (made or plan.regions or plan.barriers or plan.copies)


def _launch(w: Cohort) -> None:
    """All of a launch that waits for nothing."""
    w.launch.run_scalars(0)
    _advance(w, 0)


def _last_stretch(w: Cohort, phase: int) -> bool:
    """Whether a cohort waits for nothing any more, from a phase on."""
    return not any(_names(w, k) for k in range(phase, len(w.plan.phases)))


def _advance(w: Cohort, phase: int) -> int:
    """Run a cohort to its next barrier: the phase that waits at its end, or how many there are."""
    begin, last = phase, len(w.plan.phases)
    if _names(w, phase) and phase in w.ran:
        return phase
    end = begin
    while end < last and not _names(w, end):
        end += 1
    w.launch.run(begin, min(end + 1, last))
    w.ran.add(end)
    return end


def _names(w: Cohort, phase: int) -> set[str]:
    """The values that a cohort waits for at the end of a phase."""
    barriers = w.plan.barriers.get(phase)
    return {o.name for o in barriers} - w.passed if barriers else NONE


def _ready(waiting: list[Cohort], phase_of: dict[Cohort, int]) -> str:
    """A value that no waiting cohort has still ahead of the one it waits for."""
    for w in waiting:
        for name in sorted(_names(w, phase_of[w])):
            preview = (
                o.name
                for x in waiting
                for k, os in x.plan.barriers.items()
                if k > phase_of[x]
                for o in os
            )
            if name not in preview:
                return name
    names = sorted({n for w in waiting for n in _names(w, phase_of[w])})
    raise StepError(f"chains of one optimizer combine {names} in opposite orders: make them agree")
