"""The members of one program: their launch, what it needs made, the regions that torch computes."""

from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch

from weft.engine.eager.norms import Norms
from weft.engine.fallback import Unsupported
from weft.engine.host.guards import span
from weft.engine.ir.graph import Node, Output, OutputKind
from weft.engine.ir.traced import TensorSpec
from weft.engine.plan.plan import TORCH, Role, Slot
from weft.engine.runtime.active_set import ActiveSet
from weft.engine.runtime.members import Member, alike, overlaps_itself
from weft.engine.runtime.programs import Program, Variant
from weft.engine.runtime.regions import Given, TorchRegion, decomposes, given_name
from weft.engine.runtime.scalars import Scalars
from weft.engine.storage import given_to

__all__ = ["Cohort"]

OF_THE_MEMBER = (Role.P, Role.GRAD, Role.STATE)  # slots whose memory it has already


class Cohort:
    """The members of one program in one step, and their launch.

    Attributes:
        indices: their places in the active set; `variants` and `sources` go with them.
    """

    def __init__(self, program: Program, active: ActiveSet):
        self.program, self.active = program, active
        self.passed: set[str] = set()  # values over all parameters, or over ranks, that are there
        self.ran: set[int] = set()
        self.indices: list[int] = []
        self.variants: list[Variant] = []
        self.sources: list[tuple[int, int]] = []  # (scalar group, member's place in it)
        self.left_out: torch.Tensor | None = None  # of this step
        self.given: dict[str, tuple[list[float], torch.Tensor]] = {}  # parts that the host has told
        self.torchs: dict[int, list[TorchRegion | None]] = {}  # of each region, one a whole member
        self.release()

    def finish(self) -> None:
        """All members are here: lay out the launch."""
        active, self.variant = self.active, self.variants[0]
        self.plan = self.variant.plan
        self.members = [active.members[i] for i in self.indices]
        self.capturable = self.program.backend.waits and any(
            s.bound.capturable for s in self.members
        )
        by_group: dict[int, list[int]] = {}
        for k, member in enumerate(self.members):
            by_group.setdefault(member.bound.index, []).append(k)
        self.firsts = [which[0] for which in by_group.values()]  # they decide shared values
        self.whole = self.indices == list(range(len(active.members)))
        sizes = [active.sizes[i] for i in self.indices]
        backend, plans = self.program.backend, [v.plan for v in self.variants]
        self.launch = backend.launch(self.program.kernel, plans, sizes)
        self.objects = [
            (s, v.objects) for s, v in zip(self.members, self.variants, strict=True) if v.objects
        ]
        self.stateless = [s for s in self.members if s.p not in active.state]
        self.values = self.launch.values
        device = self.values.device
        self.by_group = [
            (self.members[which[0]].bound, torch.tensor(which, device=device))
            for which in by_group.values()
        ]
        self._point_slots()
        self.grads_seen: array | None = active.grad_at[:]
        self.leaves_out = self._leaves_out()
        scalar_groups = dict.fromkeys(scalar_group for scalar_group, _ in self.sources)
        self.group_order = list(scalar_groups)
        place = {scalar_group: i for i, scalar_group in enumerate(self.group_order)}
        self.static_rows = [place[scalar_group] for scalar_group, _ in self.sources]
        self.row_of: list[int] = self.static_rows
        self.rows: list[tuple[Any, ...]] = []
        self.launch.set_rows([], self.static_rows)

    @cached_property
    def repeatable(self) -> bool:
        """Whether the same launches again are the next step: all that counts is on the device."""
        counted = any(s.counted for s in self.members)
        return not counted and all(_in_values(place) for *_, place, _ in self.variant.numbers)

    def _leaves_out(self) -> bool:
        """Whether the device may leave a step out: nothing is new or the host's, and nothing raises."""
        own_states = (
            isinstance(held := s.own.get(name), torch.Tensor)
            and held.dtype is spec.dtype
            and (s.is_split or held.shape == spec.shape)
            for s, v in zip(self.members, self.variants, strict=True)
            for name, spec in v.traced.stores.items()
        )
        return (
            self.program.backend.waits
            and self.repeatable
            and not any(decomposes(n) for region in self.plan.regions for n in region.nodes)
            and all(own_states)
        )

    def leave_out(self, flag: torch.Tensor | None) -> None:
        """Write nothing in this step where `flag` is not 0; None takes the steps that follow."""
        self.left_out = None if flag is None else flag.to(self.values.device)
        self.launch.leave_out(self.left_out)

    def _point_slots(self) -> None:
        """What each slot is: the members' memory, a state to be made, or a copy in another layout."""
        plan, active = self.plan, self.active
        self.grad_slot: int | None = None
        self.resident = [n for n in plan.graph.live() if n.is_given and n.op != "over"]
        self.fresh = [(i, s) for i, s in enumerate(plan.slots) if s.role == Role.NEW]
        for slot, s in enumerate(plan.slots):
            if s.role in OF_THE_MEMBER:
                self.launch.point(
                    slot, self._column(active.addresses[s.name if s.role == Role.STATE else s.role])
                )
            if s.role == Role.GRAD:
                self.grad_slot = slot
        stores = {slot for p in plan.phases for slot, _ in p.stores}
        roles = {plan.slots[s].role for s in stores} | {o.kind for o in plan.copies}
        self.writes = [n for n in ("p", "grad") if n in roles]
        self._refuse_memory()
        self.written = set(stores) | {slot for slot, _ in plan.tail}
        self.staged = [
            (k, slot) for k, member in enumerate(self.members) if member.staged
            for slot, s in enumerate(plan.slots)
            if s.name in member.staged and s.role in OF_THE_MEMBER
        ]  # fmt: skip

    def _refuse_memory(self) -> None:
        """Refuse grads that cannot be written, and captured tensors that the step writes."""
        for member in self.members if "grad" in self.writes else ():
            if "grad" in member.staged and overlaps_itself(member.tensor("grad")):
                raise Unsupported(
                    "the grad of a parameter overlaps itself in memory, and is written",
                    member.bound.binding,
                )
        for v in {id(v): v for v in self.variants}.values():
            for n in v.traced.graph.live():
                if n.op == "external" and not self.active.snapshot.is_apart(
                    *span(n.attr("tensor").tensor)
                ):
                    raise Unsupported(
                        "a captured tensor shares memory with what it writes",
                        self.members[0].bound.binding,
                    )

    @cached_property
    def across(self) -> dict[str, Node]:
        """The values that are combined over ranks, by their names."""
        return self.plan.across()

    def _column(self, column: Sequence[int]) -> Sequence[int]:
        return column if self.whole else [column[i] for i in self.indices]

    def take_numbers(self, numbers: list[Scalars]) -> None:
        """The rows of this step."""
        taken = [numbers[scalar_group] for scalar_group in self.group_order]
        if all(n.row_of is None for n in taken):
            self.rows = [n.rows[0] for n in taken]
            row_of = self.static_rows
        else:
            begins, self.rows = {}, []
            for scalar_group in self.group_order:
                begins[scalar_group] = len(self.rows)
                self.rows += numbers[scalar_group].rows
            row_of = [
                begins[scalar_group] + (numbers[scalar_group].row_of or [0] * (k + 1))[k]
                for scalar_group, k in self.sources
            ]
        changed = row_of is not self.row_of
        self.row_of = [] if changed else row_of
        self.launch.set_rows(self.rows, row_of if changed else None)
        self.row_of = row_of

    def point_grads(self) -> None:
        """Take up the grads' addresses of this step."""
        if self.grad_slot is not None and self.grads_seen != self.active.grad_at:
            self.launch.point(self.grad_slot, self._column(self.active.grad_at))
            self.grads_seen = self.active.grad_at[:]

    def take_resident(self, loss: Any) -> dict[tuple[int, str], torch.Tensor]:
        """The numbers that stay on the device, of each group by name; kernels get them."""
        taken: dict[tuple[int, str], torch.Tensor] = {}
        for n in self.resident:
            for bound, which in self.by_group:
                name = n.attr("name", "loss")
                value = loss if n.op == "loss" else bound.group[name]
                for i in n.attr("index", ()):
                    value = value[i]
                value = value.detach().reshape(()).to(self.values.device)
                taken[bound.index, given_name(n)] = value
                if n.index in self.plan.values:
                    self.values[which, self.plan.values[n.index]] = value.double()
        return taken

    # ------------------------------------------------------------ what a step makes

    def prepare(self) -> None:
        """Allocate what the step makes, and copy what is laid out in another way."""
        for slot, s in self.fresh:
            for k, member in enumerate(self.members):
                t = (
                    _like(member, s.dtype)
                    if s.full
                    else torch.empty(
                        self._shape_here(k, slot), dtype=s.dtype, device=member.p.device
                    )
                )
                self.launch.point_one(slot, k, t.data_ptr())
                self.made.append((k, s.name, t))
        for k, slot in self.staged:
            member, s = self.members[k], self.plan.slots[slot]
            held = member.tensor(s.name).detach()
            t = _like(member, held.dtype)
            t.copy_(held)
            self.launch.point_one(slot, k, t.data_ptr())
            self.copies.append((held, t, slot))

    def _shape_here(self, k: int, slot: int) -> tuple[int, ...]:
        """What is here of the shape of a state that member `k` makes from a vector or a scalar."""
        plan = self.variants[k].plan
        return plan.shape_here(next(n for s, n in plan.tail if s == slot))

    def take(self, k: int, given: Given, value: torch.Tensor) -> None:
        """Keep what a region gives where kernels find it, and so that storing it cannot fail."""
        member, variant = self.members[k], self.variants[k]
        if given.node.index in variant.plan.loadable_from:
            slot, _ = variant.plan.loadable_from[given.node.index]
            s = self.plan.slots[slot]
            t = value if given.own and _lies(value, member, s) else _room(member, s).copy_(value)
            self.temps.append(t)
            self.launch.point_one(slot, k, t.data_ptr())
        for o in given.outputs:
            spec = variant.traced.stores.get(o.name) if o.kind is OutputKind.STATE else None
            if o.kind in (OutputKind.P, OutputKind.GRAD):
                held: Any = member.tensor(o.kind).detach()
            elif isinstance(spec, TensorSpec):
                held = member.own.get(o.name)
                kept = isinstance(held, torch.Tensor) and held.shape == value.shape
                if not kept or held.dtype != spec.dtype:
                    self.born.append((k, o.name, value.to(spec.dtype, copy=True)))
                    continue
            else:
                self.told[k, o.kind, o.name] = value.item()
                continue
            plain = given.own and value.dtype is held.dtype and value.stride() == held.stride()
            self.commits.append((held, value if plain else torch.empty_like(held).copy_(value)))

    # ------------------------------------------------------------ what it leaves

    @cached_property
    def combines(self) -> dict[str, Output]:
        """The values over all parameters that its phases wait for."""
        return {o.name: o for barrier in self.plan.barriers.values() for o in barrier}

    @cached_property
    def taken_at(self) -> dict[str, list[int]]:
        """Where kernels read such a value among those of a tensor."""
        found: dict[str, list[int]] = {}
        for n in self.plan.graph.nodes:
            if n.op == "over" and n.index in self.plan.values:
                found.setdefault(n.attr("name"), []).append(self.plan.values[n.index])
        return found

    @cached_property
    def numbers(self) -> list[tuple[OutputKind, str, Node]]:
        """The numbers that are put back after the phases."""
        of = {(o.kind, o.name): o.node for o in self.plan.graph.outputs}
        return [(kind, name, of[kind, name]) for kind, name, _, _ in self.variant.numbers]

    def parts(self, o: Output) -> torch.Tensor:
        """The members' contributions to a value over all parameters, in double."""
        place = self.plan.values.get(o.node.index)
        if place is not None and o.node.index not in self.plan.rows:
            return self.values[:, place].clone()
        numbers = [float(self._number(k, o.node)) for k in range(len(self.members))]
        held = self.given.get(o.name)
        if held is None or held[0] != numbers:  # mostly they are what they were
            told = torch.tensor(numbers, dtype=torch.float64, device="cpu")
            held = self.given[o.name] = numbers, given_to(self.values.device, told)
        return held[1].clone()

    def _number(self, k: int, node: Node) -> Any:
        """A number of member `k`: from its row, from its values, or a constant."""
        plan = self.plan
        if node.index in plan.rows:
            return self.rows[self.row_of[k]][plan.rows[node.index]]
        if node.index in plan.values:
            value = self.launch.value(k, plan.values[node.index])
            kind = node.dtype if node.is_host else _python(node.dtype)
            return kind(value)
        if plan.kind(node) == TORCH:
            keys = ((k, o.kind, o.name) for o in plan.graph.outputs if o.node is node)
            return next(self.told[key] for key in keys if key in self.told)
        return node.attr("value")

    def _kept(self, k: int, node: Node, waits: bool) -> Any:
        """A number that member `k` leaves; a tensor where reading it `waits`, or a graph repeats it."""
        place, capturable = self.plan.values.get(node.index), self.members[k].bound.capturable
        if not self.program.backend.waits or not (capturable or (waits and place is not None)):
            return self._number(k, node)
        if place is None or node.index in self.plan.rows:
            number = torch.tensor(self._number(k, node), dtype=torch.float64, device="cpu")
            return given_to(self.values.device, number)
        exact = node.is_host or not node.dtype.is_floating_point  # a number, of Python's precision
        return self.values[k, place].to(torch.float64 if exact else node.dtype, copy=True)

    def store(self, shared: dict[tuple[int, str], tuple[int, Any]]) -> None:
        """What is left to do after the phases: copies back, new states, numbers."""
        for held, t, slot in self.copies:
            if slot in self.written:
                held.copy_(t)
        for held, value in self.commits:
            held.copy_(self._taken(held, value))
        for k, name, t in (*self.born, *self.made):
            self.members[k].own[name] = t
        for kind, name, node in self.numbers:
            place = self.plan.rows.get(node.index)
            if kind is OutputKind.STATE and place is not None and not self.capturable:
                for member, row in zip(self.members, self.row_of, strict=True):
                    member.own[name] = self.rows[row][place]  # of one row the same object for all
                continue
            for k in range(len(self.members)) if kind is OutputKind.STATE else self.firsts:
                member, own = self.members[k], kind is OutputKind.STATE
                value = self._kept(k, node, waits=not own)
                if self.left_out is not None:
                    value = self._taken((member.own if own else member.bound.group)[name], value)
                if own:
                    member.own[name] = value
                else:
                    key, index = (member.bound.index, name), self.indices[k]
                    if key not in shared or index < shared[key][0]:
                        shared[key] = (index, value)
        for member, objects in self.objects:
            member.own.update(objects)
        for member in self.stateless:
            if member.own:  # its first state
                self.active.state[member.p] = member.own

    def _taken(self, held: Any, value: torch.Tensor) -> torch.Tensor:
        """A new value; the one that is held where the step is left out."""
        return value if self.left_out is None else torch.where(self.left_out != 0, held, value)

    def release(self) -> None:
        """Let go of what was made for this step."""
        self.made: list[tuple[int, str, torch.Tensor]] = []  # states, by kernels
        self.born: list[tuple[int, str, torch.Tensor]] = []  # states, by torch
        self.commits: list[tuple[torch.Tensor, torch.Tensor]] = []  # what is held, its new value
        self.copies: list[tuple[torch.Tensor, torch.Tensor, int]] = []  # held, staged, its slot
        self.temps: list[torch.Tensor] = []
        self.told: dict[tuple[int, str, str], Any] = {}  # numbers

    def norms(self) -> Iterator[tuple[torch.Tensor, Norms]]:
        """Each parameter with its norms, where the kernel has computed them; on a GPU they stay there."""
        outputs = [o.node.index for o in self.plan.graph.outputs if o.kind is OutputKind.NORM]
        columns = [self.values[:, self.plan.values[i]] for i in outputs]
        roots = torch.stack(columns, 1).sqrt()
        rows = roots.tolist() if roots.device.type == "cpu" else map(torch.unbind, roots)
        for member, row in zip(self.members, rows, strict=True):
            yield member.whole[0], Norms(*row)


def _in_values(place: Any) -> bool:
    """Whether a number of a variant is found among the values of a launch."""
    return isinstance(place, int) and place < 0


def _python(dtype: torch.dtype) -> type:
    return bool if dtype is torch.bool else float if dtype.is_floating_point else int


def _room(member: Member, s: Slot) -> torch.Tensor:
    """Memory for a slot of a member, in the layout that kernels see."""
    return (
        _like(member, s.dtype) if s.full else torch.empty((), dtype=s.dtype, device=member.p.device)
    )


def _lies(value: torch.Tensor, member: Member, s: Slot) -> bool:
    """Whether kernels can read a value where it is."""
    if value.dtype is not s.dtype or not s.full:
        return value.dtype is s.dtype and value.shape == ()
    shape = tuple(member.p.shape)
    return tuple(value.shape) == shape and alike(value.stride(), member.strides, shape)


def _like(member: Member, dtype: torch.dtype) -> torch.Tensor:
    """Memory in the layout that kernels see."""
    return torch.empty_strided(member.p.shape, member.strides, dtype=dtype, device=member.p.device)
