"""Regions: what torch computes between the passes of kernels, for parameters of one shape at once.

Parameters share a batch if they run the same graph on the same numbers, and it decomposes no
matrix. A batch is as many as keep a stack of the largest value within `BATCH` elements, so the
workspace is fixed: a stack, those that are alive with it, and never more than one batch. Where two do
not fit they run one by one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from weft.engine.ir import interpret
from weft.engine.ir.graph import Node, Output
from weft.engine.ir.ops import evaluate
from weft.engine.ir.vmap import Batch
from weft.engine.plan.plan import Plan, Region
from weft.engine.runtime.members import Member

__all__ = ["BATCH", "Failed", "Given", "TorchRegion", "Workspace", "decomposes", "given_name"]

BATCH = 1 << 17  # elements: what a core's cache holds; beyond it separate products are as fast
# a factor without full rank is decided by how its products were rounded, and a stack rounds otherwise
DECOMPOSITIONS = ("eig", "svd", "qr", "cholesky", "inv", "solve", "lstsq", "lu_factor")
LEAST = 1 << 12  # elements of a value that is worth a buffer
INTO_BUFFERS = frozenset(("add", "sub", "mul", "div", "maximum", "minimum", "sqrt"))


def given_name(n: Node) -> str:
    """What a value that comes from outside is called: `d`, `betas[0]`."""
    return str(n.attr("name", n.op)) + "".join(f"[{i}]" for i in n.attr("index", ()))


def decomposes(n: Node) -> bool:
    """Whether a node decomposes a matrix, which torch refuses to do where one is not finite."""
    name = getattr(n.attr("fn"), "__name__", "")
    return any(word in name for word in DECOMPOSITIONS)


class Failed(Exception):
    """torch raised, in what `callback` computes; the cause says what."""

    def __init__(self, callback: str):
        super().__init__(callback)
        self.callback = callback


class Workspace:
    """Buffers that values of a region take turns in.

    Given back to the system and taken again, memory is cleared page by page: for matrices of 768 x
    768 that costs a third of Muon's step.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.free: dict[tuple[torch.dtype, int], list[torch.Tensor]] = {}

    def take(self, n: Node) -> torch.Tensor:
        """Memory for a value."""
        free = self.free.get((n.dtype, n.numel))
        room = free.pop() if free else torch.empty(n.numel, dtype=n.dtype, device=self.device)
        return room.view(n.shape or ())

    def give(self, t: torch.Tensor) -> None:
        """Take memory back that nobody looks at any more."""
        self.free.setdefault((t.dtype, t.numel()), []).append(t.view(-1))


class Given(NamedTuple):
    """A value that a region gives, for one member or for all of a batch."""

    node: Node
    outputs: list[Output]
    values: Sequence[torch.Tensor]  # one a member
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
        self.combined = [given_name(n) for n in region.nodes if n.is_given]
        self.draws = region.draws
        largest = max((n.numel for n in region.nodes), default=1)
        alone = self.draws or any(map(decomposes, region.nodes))
        self.most = 1 if alone else max(1, BATCH // max(1, largest))
        self._recipes: dict[int, _Recipe] = {}

    def apart(self, row: Sequence[Any], over: Callable[[str], torch.Tensor]) -> Any:
        """What sets members of this variant apart: numbers that are not the same."""
        numbers = tuple(repr(row[i]) for i in self.places)  # 1 is not 1.0, -0.0 is not 0.0
        return numbers, tuple(id(over(name)) for name in self.combined)

    def run(
        self,
        members: Sequence[Member],
        row: Sequence[Any],
        over: Callable[[str], torch.Tensor],
        space: Workspace,
    ) -> Iterator[Given]:
        """Compute the region for members that nothing sets apart."""
        many = len(members)
        recipe = self._recipes.get(many)
        if recipe is None:
            recipe = self._recipes[many] = _Recipe(self.plan, self.region, many)
        values, lent = recipe.run(members, row, over, space)
        for node, outputs, place in zip(
            self.region.gives, self.outputs, recipe.results, strict=True
        ):
            value = values[place]
            each = value.unbind() if place in recipe.stacked else [value] * many
            memory = value.untyped_storage()
            own = (many == 1 or place in recipe.stacked) and memory.nbytes() == value.nbytes
            yield Given(node, outputs, each, own and memory.data_ptr() not in lent)


class _Recipe:
    """The nodes of a region in order, for `many` members at once, and when each value can go."""

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
        back = self._back(nodes, last)
        self.steps = [
            (n, [a.index for a in n.args], gone.get(n.index, ()), back.get(n.index, ()))
            for n in nodes
        ]

    def _back(self, nodes: Iterable[Node], last: dict[int, int]) -> dict[int, list[int]]:
        """After which node each buffer is free: when all that may be views of it have gone."""
        memory: dict[int, set[int]] = {}
        end: dict[int, int] = {}
        for n in nodes:
            own = {n.index} if _takes_buffer(n) else set()
            memory[n.index] = own or {b for a in n.args for b in memory.get(a.index, ())}
            for buffer in memory[n.index]:
                end[buffer] = max(end.get(buffer, 0), last.get(n.index, n.index))
        for i in self.results:
            for buffer in memory[i]:
                end.pop(buffer, None)
        back: dict[int, list[int]] = {}
        for buffer, node in end.items():
            back.setdefault(node, []).append(buffer)
        return back

    def run(
        self,
        members: Sequence[Member],
        row: Sequence[Any],
        over: Callable[[str], torch.Tensor],
        space: Workspace,
    ) -> tuple[dict[int, Any], set[int]]:
        """The values that are left, and the addresses of memory that others have too."""
        device = members[0].p.device
        lent: set[int] = set()
        values: dict[int, Any] = {
            i: value if place is None else row[place] for i, place, value in self.given
        }
        buffers: dict[int, torch.Tensor] = {}
        for n, places, gone, back in self.steps:
            args = [values[i] for i in places]
            if n.op == "load":
                value: Any = _load(n, members)
            elif n.is_given:
                value = over(given_name(n))
                value = value.to(n.dtype)
            elif n.is_host:
                value = evaluate(n.op, args)
            elif _takes_buffer(n) and _fills_buffer(n, args):
                value = buffers[n.index] = space.take(n)
                n.attr("fn", getattr(torch, n.op, None))(*args, out=value)
            else:
                try:
                    value = interpret._tensor(n, args, device)
                except MemoryError:
                    raise  # of nobody's making
                except Exception as e:
                    raise Failed(n.source) from e
            others = n.is_given or n.op == "external" or (n.op == "load" and len(members) == 1)
            if others and not n.is_host:
                lent.add(value.untyped_storage().data_ptr())
            values[n.index] = value
            for i in gone:
                del values[i]
            for i in back:
                if i in buffers:
                    space.give(buffers.pop(i))
        return values, lent


def _takes_buffer(n: Node) -> bool:
    """Whether a value can be written into memory that is there."""
    known = n.op in INTO_BUFFERS or n.attr("fn") is torch.matmul
    return known and not n.is_host and n.numel >= LEAST and n.dtype.is_floating_point


def _fills_buffer(n: Node, args: list[Any]) -> bool:
    """Whether torch would lay the result out as a buffer is, and takes these arguments."""
    tensors = [a for a in args if isinstance(a, torch.Tensor)]
    if n.op == "call":
        return len(tensors) == 2
    if n.op in ("maximum", "minimum") and len(tensors) < 2:
        return False
    return isinstance(args[0], torch.Tensor) and all(t.is_contiguous() for t in tensors)


def _load(n: Node, members: Sequence[Member]) -> torch.Tensor:
    """A slot of all members; of a single one as it is, as nothing in a region writes."""
    slot = n.attr("slot")
    held = [member.tensor(slot).detach() for member in members]
    return (held[0] if len(held) == 1 else torch.stack(held)).to(n.dtype)
