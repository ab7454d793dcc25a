"""The seats of one program: their launch, what it needs made, the regions that torch computes."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from weft.engine import interpret
from weft.engine.graph import Node, Output
from weft.engine.norms import Norms
from weft.engine.plan import TORCH, Plan, Region
from weft.engine.run.lanes import Numbers
from weft.engine.run.program import Program, Variant
from weft.engine.run.roster import Roster
from weft.engine.run.seat import Seat
from weft.engine.run.table import Launch
from weft.engine.trace.api import TensorSpec

__all__ = ["Work"]

SMALL = 8192  # elements that one thread is done with before another has woken


class Work:
    """The seats of one program in one step, and their launch.

    Attributes:
        seats: their places in the roster; `variants` and `lane_rows` go with them.
    """

    def __init__(self, program: Program, roster: Roster):
        self.program, self.roster = program, roster
        self.passed: set[str] = set()
        self.ran: set[int] = set()
        self.seats: list[int] = []
        self.variants: list[Variant] = []
        self.sources: list[tuple[int, int]] = []  # (lane, seat's place in it)

    def finish(self) -> None:
        """All seats are here: lay out the launch."""
        roster, self.variant = self.roster, self.variants[0]
        plan = self.plan = self.variant.plan
        self.members = [roster.seats[i] for i in self.seats]
        self.whole = self.seats == list(range(len(roster.seats)))
        sizes = [roster.sizes[i] for i in self.seats]
        self.launch = Launch(plan, sizes, range(len(sizes)))
        self.threads_wanted = sum(sizes) > SMALL
        self.grad_slot: int | None = None
        self.fresh = [(i, s) for i, s in enumerate(plan.slots) if s.role == "new"]
        for slot, s in enumerate(plan.slots):
            if s.role in ("p", "grad", "state"):
                self.launch.point(
                    slot, self._column(roster.addresses[s.name if s.role == "state" else s.role])
                )
            if s.role == "grad":
                self.grad_slot = slot
        stores = {slot for p in plan.phases for slot, _ in p.stores}
        roles = {plan.slots[s].role for s in stores} | {o.kind for o in plan.copies}
        self.writes = [n for n in ("p", "grad") if n in roles]
        self.written = set(stores) | {slot for slot, _ in plan.tail}
        self.staged = [
            (k, slot) for k, seat in enumerate(self.members) if seat.staged
            for slot, s in enumerate(plan.slots)
            if s.name in seat.staged and s.role in ("p", "grad", "state")
        ]  # fmt: skip
        self.grads_seen = roster.grad_at[:]
        lanes = dict.fromkeys(lane for lane, _ in self.sources)
        self.lane_order = list(lanes)
        place = {lane: i for i, lane in enumerate(self.lane_order)}
        self.static_rows = [place[lane] for lane, _ in self.sources]
        self.row_of: list[int] = self.static_rows
        self.launch.row_of[:] = self.static_rows
        self.rows: list[tuple[Any, ...]] = []

    def _column(self, column: Sequence[int]) -> Sequence[int]:
        return column if self.whole else [column[i] for i in self.seats]

    def take_numbers(self, numbers: list[Numbers]) -> None:
        """The rows of this step."""
        if all(numbers[lane].row_of is None for lane in self.lane_order):
            self.rows = [numbers[lane].rows[0] for lane in self.lane_order]
            row_of = self.static_rows
        else:
            begins, self.rows = {}, []
            for lane in self.lane_order:
                begins[lane] = len(self.rows)
                self.rows += numbers[lane].rows
            row_of = [
                begins[lane] + (numbers[lane].row_of or [0] * (k + 1))[k]
                for lane, k in self.sources
            ]
        changed = row_of is not self.row_of
        self.row_of = row_of
        self.launch.set_rows(self.rows, row_of if changed else None)

    def point_grads(self) -> None:
        """Take up the grads' addresses of this step."""
        if self.grad_slot is not None and self.grads_seen != self.roster.grad_at:
            self.launch.point(self.grad_slot, self._column(self.roster.grad_at))
            self.grads_seen = self.roster.grad_at[:]

    # ------------------------------------------------------------ what a step makes

    def prepare(self) -> None:
        """Allocate what the step makes, and copy what is laid out in another way."""
        launch, n = self.launch, self.launch.tensors
        self.made: list[tuple[int, str, torch.Tensor]] = []
        for slot, s in self.fresh:
            for k, seat in enumerate(self.members):
                spec = self.variants[k].traced.stores[s.name]
                t = _like(seat, s.dtype) if s.full else torch.empty(spec.shape, dtype=s.dtype)
                launch.ptr[slot * n + k] = t.data_ptr()
                self.made.append((k, s.name, t))
        self.copies: list[tuple[torch.Tensor, torch.Tensor, int]] = []
        for k, slot in self.staged:
            seat, s = self.members[k], self.plan.slots[slot]
            held = seat.tensor(s.name).detach()
            t = _like(seat, held.dtype)
            t.copy_(held)
            launch.ptr[slot * n + k] = t.data_ptr()
            self.copies.append((held, t, slot))
        self.temps: list[torch.Tensor] = []
        self.stored: list[tuple[int, Output, torch.Tensor]] = []

    def run_region(self, region: Region, over: dict[tuple[int, str], torch.Tensor]) -> None:
        """Let torch compute a region for each tensor."""
        launch, n = self.launch, self.launch.tensors
        for k, seat in enumerate(self.members):
            plan = self.variants[k].plan
            mine = plan.regions[self.plan.regions.index(region)]
            values = self._compute(plan, mine, k, seat, over)
            for node in mine.gives:
                value = values[node.index]
                if node.index in plan.memory:
                    slot, _ = plan.memory[node.index]
                    s = plan.slots[slot]
                    t = _like(seat, s.dtype) if s.full else torch.empty((), dtype=s.dtype)
                    t.copy_(value)
                    self.temps.append(t)
                    launch.ptr[slot * n + k] = t.data_ptr()
                for o in plan.graph.outputs:
                    if o.node is node:
                        self.stored.append((k, o, value))

    def _compute(self, plan: Plan, region: Region, k: int, seat: Seat, over: Any) -> dict[int, Any]:
        row = self.rows[self.row_of[k]]
        values: dict[int, Any] = {}
        for node in region.nodes:
            args = [
                values[a.index] if a.index in values
                else row[plan.rows[a.index]] if a.index in plan.rows else a.attr("value")
                for a in node.args
            ]  # fmt: skip
            if node.op == "load":
                values[node.index] = (
                    seat.tensor(node.attr("slot")).detach().to(node.dtype, copy=True)
                )
            elif node.op == "over":
                value = over[seat.bound.index, node.attr("name")]
                values[node.index] = value.item() if node.is_host else value.to(node.dtype)
            elif node.is_host:
                values[node.index] = interpret._host(node, args, lambda n: row[plan.rows[n.index]])
            else:
                values[node.index] = interpret._tensor(node, args, seat.p.device)
        return values

    # ------------------------------------------------------------ what it leaves

    def part(self, k: int, o: Output) -> Any:
        """A seat's contribution to a value over all parameters."""
        return self._number(k, o.node)

    def _number(self, k: int, node: Node) -> Any:
        """A number of seat `k`: from its row, from its values, or a constant."""
        plan = self.plan
        if node.index in plan.rows:
            return self.rows[self.row_of[k]][plan.rows[node.index]]
        if node.index in plan.values:
            value = self.launch.value[k * self.launch.values + plan.values[node.index]]
            kind = node.dtype if node.is_host else _python(node.dtype)
            return kind(value)
        if plan.kind(node) == TORCH:
            name = next((o.kind, o.name) for o in plan.graph.outputs if o.node is node)
            return next(v for j, o, v in self.stored if j == k and (o.kind, o.name) == name).item()
        return node.attr("value")

    def store(self, shared: dict[tuple[int, str], tuple[int, Any]]) -> None:
        """What is left to do after the phases: copies back, new states, numbers."""
        for held, t, slot in self.copies:
            if slot in self.written:
                held.copy_(t)
        for k, o, value in self.stored:
            self._store(self.members[k], self.variants[k], o, value)
        for k, name, t in self.made:
            self.members[k].own[name] = t
        for kind, name, _, _ in self.variant.numbers:
            o = next(o for o in self.plan.graph.outputs if (o.kind, o.name) == (kind, name))
            for k, seat in enumerate(self.members):
                value = self._number(k, o.node)
                if kind == "state":
                    seat.own[name] = value
                else:
                    key, at = (seat.bound.index, name), self.seats[k]
                    if key not in shared or at < shared[key][0]:
                        shared[key] = (at, value)
        for seat, v in zip(self.members, self.variants, strict=True):
            for name, value in v.objects:
                seat.own[name] = value
            if seat.own and seat.p not in self.roster.state:  # its first state
                self.roster.state[seat.p] = seat.own
        self.made, self.copies, self.temps, self.stored = [], [], [], []

    def norms(self) -> Iterator[tuple[torch.Tensor, Norms]]:
        """Each parameter with its norms, where the kernel has computed them."""
        values, launch = self.plan.values, self.launch
        at = [values[o.node.index] for o in self.plan.graph.outputs if o.kind == "norm"]
        for k, seat in enumerate(self.members):
            begin = k * launch.values
            yield seat.p, Norms(*(math.sqrt(launch.value[begin + i]) for i in at))

    def _store(self, seat: Seat, variant: Variant, o: Output, value: torch.Tensor) -> None:
        if o.kind in ("p", "grad"):
            seat.tensor(o.kind).detach().copy_(value)
            return
        spec = variant.traced.stores.get(o.name)
        if o.kind != "state" or not isinstance(spec, TensorSpec):
            return  # a number: the caller knows what for
        held = seat.own.get(o.name)
        if (
            isinstance(held, torch.Tensor)
            and held.shape == value.shape
            and held.dtype == spec.dtype
        ):
            held.copy_(value)
        else:
            seat.own[o.name] = value.to(spec.dtype).clone()


def _python(dtype: torch.dtype) -> type:
    return bool if dtype is torch.bool else float if dtype.is_floating_point else int


def _like(seat: Seat, dtype: torch.dtype) -> torch.Tensor:
    """Memory in the layout that kernels see."""
    return torch.empty_strided(seat.p.shape, seat.strides, dtype=dtype)
