"""A step that is the last one again, with other numbers and grads at most: two calls into C.

The first looks at everything, takes up grads that have moved and computes the numbers; the second
launches. Python decides nothing in between but whether hypers that were replaced select another
chain. Whatever else is found is left to the long way round.
"""

import ctypes
from array import array
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import torch

from weft.engine.host import native as c
from weft.engine.host.guards import MOVED, REPLACED, NativeSnapshot
from weft.engine.host.scalar_code import Code, assemble
from weft.engine.runtime.active_set import ActiveSet
from weft.engine.runtime.scalars import ScalarGroup, Scalars
from weft.engine.runtime.schedule import Schedule

__all__ = ["Replay", "replay_of"]


class Replay:
    """One step's schedule, to be run again."""

    def __init__(
        self,
        active: ActiveSet,
        snapshot: NativeSnapshot,
        schedule: Schedule,
        codes: Sequence[tuple[int, int, Code]],
    ):
        """`codes`: for each row its cohort, its place in that cohort's table, and what computes it."""
        self.active, self.schedule = active, schedule
        self.floats = torch.get_default_dtype()
        cohorts = schedule.cohorts
        self.kept: list[Any] = [code for *_, code in codes]
        rows = [
            c.ScalarRow(
                inputs=cohorts[w].launch.inputs, row=row, step=code.step, leaves=len(code.leaves) // 3,
                codes=len(code.codes) // 6, outputs=len(code.output), leaf=_address(code.leaves),
                code=_address(code.codes), output=_address(code.output), reg=_address(code.registers),
            )
            for w, row, code in codes
        ]  # fmt: skip
        reading = [w for w in cohorts if w.grad_slot is not None]
        which = [array("q", w.indices) for w in reading]
        columns = [
            c.Column(inputs=w.launch.inputs, slot=w.grad_slot, which=_address(members))
            for w, members in zip(reading, which, strict=True)
        ]
        numbers, column = (c.ScalarRow * len(rows))(*rows), (c.Column * len(columns))(*columns)
        self.c = c.Replay(
            watched=snapshot.address, rows=len(rows), columns=len(columns), counts=active.counts.address,
            scalar_row=ctypes.addressof(numbers), column=ctypes.addressof(column),
        )  # fmt: skip
        self.kept += [which, numbers, column]
        self.address, self.ready = ctypes.addressof(self.c), c.native().ready
        traced = {id(v): v.traced for w in cohorts for v in w.variants}.values()
        self.captures = [capture for t in traced for capture in t.captures]

    def run(
        self, groups: list[dict[str, Any]], state: MutableMapping, reselects: Callable[[], bool]
    ) -> bool:
        """Take the step; False, and nothing is written, where it is another than the last.

        `reselects` says whether hypers that were replaced select another chain.
        """
        if torch.get_default_dtype() is not self.floats or not self.active.serves(groups, state):
            return False
        for capture in self.captures:
            if not capture.holds():
                return False
        seen = self.ready(self.address, torch.get_num_threads())
        if seen & MOVED:
            for w in self.schedule.cohorts:
                w.grads_seen = None  # whether they were taken up is not told
        if seen and (seen & ~(MOVED | REPLACED) or (seen & REPLACED and reselects())):
            return False
        self.schedule.launch()
        return True


def replay_of(
    active: ActiveSet,
    schedule: Schedule,
    scalar_groups: Sequence[ScalarGroup],
    numbers: Sequence[Scalars],
) -> Replay | None:
    """The repetition of a step that took these numbers; None where more than C can tell goes into it."""
    snapshot = active.snapshot
    uniform = len(active.counts) in (0, len(active.members)) and all(
        n.row_of is None for n in numbers
    )
    simple = schedule.steps is not None and active.fixed and not active.set and not active.plain
    if active.asked or not (simple and uniform and isinstance(snapshot, NativeSnapshot)):
        return None
    if any(w.launch.inputs is None for w in schedule.cohorts):
        return None
    codes: list[tuple[int, int, Code]] = []
    for w, cohort in enumerate(schedule.cohorts):
        for row, scalar_group in enumerate(cohort.group_order):
            variant = scalar_groups[scalar_group].variants[numbers[scalar_group].which]
            place = snapshot.places(scalar_groups[scalar_group].first.bound.group)
            code = assemble(variant.traced, variant.row, place.get)
            if code is None:
                return None
            codes.append((w, row, code))
    return Replay(active, snapshot, schedule, codes)


def _address(a: array) -> int:
    return a.buffer_info()[0]
