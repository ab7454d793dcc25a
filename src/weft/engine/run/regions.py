"""Regions: what torch computes between the passes of kernels, for parameters of one shape at once.

Parameters share a batch if they run the same graph on the same numbers. A batch is as many as keep
a stack of the largest value within `BATCH` elements, so the workspace is fixed: a stack, those that
are alive with it, and never more than one batch. Where two do not fit they run one by one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from weft.engine import interpret
from weft.engine.batch import Batch
from weft.engine.graph import Node, Output
from weft.engine.plan import Plan, Region
from weft.engine.run.seat import Seat
from weft.engine.trace.hostcode import evaluate

__all__ = ["BATCH", "Given", "TorchRegion"]

BATCH = 1 << 17  # elements: what a core's cache holds; beyond it separate products are as fast


class Given(NamedTuple):
    """A value that a region gives, for one seat or for all of a batch."""

    node: Node
    outputs: list[Output]
    values: Sequence[torch.Tensor]  # one a seat
    own: bool  # whether they fill memory that no parameter, state or captured tensor has


class TorchRegion:
    """One region of one variant.

    Attributes:
        most: how many parameters it takes at once.
        draws: whether it draws random numbers: then the order of parameters counts.
    """

    def __init__(self, plan: Plan, region: Region):
        self.plan, self.region = plan, region
        self.outputs = [[o for o in plan.graph.outputs if o.node is n] for n in region.gives]
        read = {a.index for n in region.nodes for a in n.args}
        self.places = [plan.rows[i] for i in sorted(read) if i in plan.rows]
        self.combined = [n.attr("name") for n in region.nodes if n.op == "over"]
        self.draws = any(n.attr("serial") for n in region.nodes)
        largest = max((n.numel for n in region.nodes), default=1)
        self.most = 1 if self.draws else max(1, BATCH // max(1, largest))
        self._recipes: dict[int, _Recipe] = {}

    def apart(self, row: Sequence[Any], over: Callable[[str], torch.Tensor]) -> Any:
        """What sets seats of this variant apart: numbers that are not the same."""
        numbers = tuple(repr(row[i]) for i in self.places)  # 1 is not 1.0, -0.0 is not 0.0
        return numbers, tuple(id(over(name)) for name in self.combined)

    def run(
        self, seats: Sequence[Seat], row: Sequence[Any], over: Callable[[str], torch.Tensor]
    ) -> Iterator[Given]:
        """Compute the region for seats that nothing sets apart."""
        many = len(seats)
        recipe = self._recipes.get(many)
        if recipe is None:
            recipe = self._recipes[many] = _Recipe(self.plan, self.region, many)
        values, lent = recipe.run(seats, row, over)
        for node, outputs, place in zip(
            self.region.gives, self.outputs, recipe.results, strict=True
        ):
            value = values[place]
            each = value.unbind() if place in recipe.stacked else [value] * many
            memory = value.untyped_storage()
            own = (many == 1 or place in recipe.stacked) and memory.nbytes() == value.nbytes
            yield Given(node, outputs, each, own and memory.data_ptr() not in lent)


class _Recipe:
    """The nodes of a region in order, for `many` seats at once, and when each value can go."""

    def __init__(self, plan: Plan, region: Region, many: int):
        self.plan = plan
        nodes: Iterable[Node] = region.nodes
        self.stacked: set[int] = set()
        if many == 1:
            inner = {n.index for n in nodes}
            given = {a.index: a for n in nodes for a in n.args if a.index not in inner}
            self.results = [n.index for n in region.gives]
        else:
            batch = Batch(nodes, many)
            nodes, given, self.stacked = batch.nodes, batch.given, batch.stacked
            self.results = [batch.place[n.index].index for n in region.gives]
        self.given = [(i, plan.rows.get(a.index), a.attr("value")) for i, a in given.items()]
        last = {a.index: n.index for n in nodes for a in n.args}
        gone: dict[int, list[int]] = {}
        for value, user in last.items():
            if value not in self.results and value not in given:
                gone.setdefault(user, []).append(value)
        self.steps = [(n, [a.index for a in n.args], gone.get(n.index, ())) for n in nodes]

    def run(
        self, seats: Sequence[Seat], row: Sequence[Any], over: Callable[[str], torch.Tensor]
    ) -> tuple[dict[int, Any], set[int]]:
        """The values that are left, and the addresses of memory that others have too."""
        device = seats[0].p.device
        lent: set[int] = set()
        values: dict[int, Any] = {
            i: value if place is None else row[place] for i, place, value in self.given
        }
        for n, args, gone in self.steps:
            if n.op == "load":
                value: Any = _load(n, seats)
            elif n.op == "over":
                value = over(n.attr("name"))
                value = value.item() if n.is_host else value.to(n.dtype)
            elif n.is_host:
                value = evaluate(n.op, [values[a] for a in args])
            else:
                value = interpret._tensor(n, [values[a] for a in args], device)
            others = n.op in ("over", "external") or (n.op == "load" and len(seats) == 1)
            if others and not n.is_host:
                lent.add(value.untyped_storage().data_ptr())
            values[n.index] = value
            for i in gone:
                del values[i]
        return values, lent


def _load(n: Node, seats: Sequence[Seat]) -> torch.Tensor:
    """A slot of all seats; of a single one as it is, as nothing in a region writes."""
    slot = n.attr("slot")
    held = [seat.tensor(slot).detach() for seat in seats]
    return (held[0] if len(held) == 1 else torch.stack(held)).to(n.dtype)
