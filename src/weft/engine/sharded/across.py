"""What has to be combined with whom: the reductions of a graph, each followed by its combination.

A graph is traced for the whole tensor, so that every number that follows from its shape is right;
kernels run it on the elements that are local. Every value has a placement of its own, which follows
from those of its arguments. A reduction over what is split gives this rank's part: it becomes an
output, and what took it takes the combined value instead.

What torch computes is computed from whole tensors, by an owner: its results are split where they have
the parameter's shape, and whole otherwise.
"""

from collections.abc import Container
from dataclasses import dataclass, field, replace

import torch

from weft.contract.bind import Binding
from weft.engine.ir.graph import Graph, Node, OutputKind
from weft.engine.ir.ops import POINTWISE, REDUCED
from weft.engine.ir.traced import Example, Sharding, Splits, TensorSpec, Traced, Untraceable
from weft.engine.plan.cut import draws_of_parts
from weft.engine.plan.plan import TORCH, Plan

__all__ = ["NotOnShards", "Placed", "check_plan", "combined"]


class NotOnShards(Untraceable):
    """A chain that would come to something else on shards than on the whole."""


@dataclass
class Placed:
    """Where the values of a graph are.

    Attributes:
        shape: what is local of the parameter's.
        local: value -> what is local of its shape, where that is not all.
        states: name -> which dims of the mesh split each of its dims, as a step leaves it.
        slots: the same of what a step finds: "p", "grad" and states.
    """

    shape: tuple[int, ...] = ()
    local: dict[int, tuple[int, ...]] = field(default_factory=dict)
    states: dict[str, Splits] = field(default_factory=dict)
    slots: dict[str, Splits] = field(default_factory=dict)


def combined(
    traced: Traced, example: Example, binding: Binding, whole: Plan
) -> tuple[Traced, Placed]:
    """The same trace for a parameter that is split over ranks; `whole` is its plan for one that is not.

    Raises:
        NotOnShards: names the callback.
    """
    assert example.sharding is not None
    if not any(example.sharding.splits):
        return traced, Placed()
    return _Across(traced, example, example.sharding, binding, _inside(whole)).run()


def _inside(plan: Plan) -> set[int]:
    """The values that only torch computes: whatever is reduced there is whole."""
    outside: set[int] = set()
    todo = [o.node for o in plan.graph.outputs]
    while todo:
        n = todo.pop()
        if n.index not in outside and plan.kind(n) != TORCH:
            outside.add(n.index)
            todo.extend(n.args)
    return {n.index for n in plan.graph.live() if n.index not in outside}


class _Across:
    """A walk over a graph that finds each value's placement; None where any would do, as of a constant."""

    def __init__(
        self, traced: Traced, example: Example, sharding: Sharding, binding: Binding,
        inside: Container[int],
    ):  # fmt: skip
        self.traced, self.example, self.sharding, self.binding = traced, example, sharding, binding
        self.inside = inside
        self.shape, self.states = tuple(example.shape), dict(sharding.states)
        self.graph = Graph()
        self.splits: dict[int, Splits | None] = {}
        self.torchs: set[int] = set()  # values of regions
        self.crossings = 0

    def run(self) -> tuple[Traced, Placed]:
        """The graph with its combinations, and where everything is."""
        traced, made = self.traced, {}
        live = {n.index for n in traced.graph.live()}
        for n in traced.graph.nodes:
            if n.index in live or n.is_host:
                self.graph.source = n.source
                made[n.index] = self._one(n, tuple(made[a.index] for a in n.args))
        for o in traced.graph.outputs:
            self.graph.output(o.kind, o.name, made[o.node.index])
        new = replace(
            traced,
            graph=self.graph,
            decisions=[(made[n.index], outcome) for n, outcome in traced.decisions],
            pins=[(made[n.index], value) for n, value in traced.pins],
        )
        loads = [n for n in self.graph.live() if n.op == "load"]
        slots = {n.attr("slot"): self.splits[n.index] or () for n in loads}
        return new, Placed(self.sharding.local, self._local(), self._states(), slots)

    def _one(self, n: Node, args: tuple[Node, ...]) -> Node:
        if n.index in self.inside and not n.is_host:
            return self._whole(n, args)
        across = self._crossed(n, args)
        dtype = (
            torch.float64 if across and n.dtype.is_floating_point else n.dtype
        )  # till it is whole
        own = self.graph.add(n.op, args, shape=n.shape, dtype=dtype, **dict(n.attrs))
        if n.is_host:
            return own
        splits = self._placement(own, args)
        if across:
            self.splits[own.index] = splits
            name = f"{n.op} over shards, {self.crossings}"
            self.crossings += 1
            self.graph.output(OutputKind.OVER, name, own)
            own = self.graph.add(
                "over", shape=n.shape, dtype=n.dtype, name=name, across=n.op, dims=across
            )
        if own.index not in self.splits:
            self.splits[own.index] = splits
        return own

    def _whole(self, n: Node, args: tuple[Node, ...]) -> Node:
        """A value of a region: its owner has all of it, and kernels get what is local."""
        own = self.graph.add(n.op, args, shape=n.shape, dtype=n.dtype, **dict(n.attrs))
        if own.index not in self.splits:
            as_slot = n.op == "load" or n.shape == self.shape
            self.splits[own.index] = self._slot(n) if as_slot else ((),) * len(n.shape or ())
            self.torchs.add(own.index)
        return own

    # ------------------------------------------------------------ placements

    def _slot(self, n: Node) -> Splits:
        """The placement of what is found or left in memory."""
        if n.attr("slot") in ("p", "grad") or n.shape == self.shape:
            return self.sharding.splits
        return self.states.get(n.attr("slot"), ((),) * len(n.shape or ()))

    def _placement(self, n: Node, args: tuple[Node, ...]) -> Splits | None:
        """Which dims of the mesh split each dim of a value."""
        whole: Splits = ((),) * len(n.shape or ())
        tensors = [a for a in args if not a.is_host]
        if n.op == "load":
            return self._slot(n)
        if n.op in POINTWISE:
            return self._joined(n, tensors)
        if n.op in REDUCED:
            return self._reduced(n, args[0])
        split = any(map(any, (self.splits[a.index] or () for a in tensors)))
        if n.op == "full" or (n.op == "expand" and not split):
            free = None if n.numel > 1 else whole
            return self.sharding.splits if n.shape == self.shape else free
        if not split:
            return whole
        if n.op == "permute":
            of = self.splits[args[0].index] or ()
            return tuple(of[d] for d in n.attr("dims"))
        if n.op in ("reshape", "expand"):
            return self._carried(n, args[0])
        raise self._refuse(n)

    def _joined(self, n: Node, tensors: list[Node]) -> Splits | None:
        """The placement of values that are worked on together: where one is split, so are all."""
        shape = n.shape or ()
        placed = {a.index: s for a in tensors if (s := self.splits[a.index]) is not None}
        known = [a for a in tensors if a.index in placed and (a.numel > 1 or any(placed[a.index]))]
        if not known:
            if n.shape == self.shape:
                return self.sharding.splits
            return None if len(placed) < len(tensors) else ((),) * len(shape)
        out: list[tuple[int, ...]] = [()] * len(shape)
        for a in known:
            for d, split in enumerate(placed[a.index], len(shape) - len(a.shape or ())):
                if split and out[d] and split != out[d]:
                    raise self._refuse(n)
                out[d] = split or out[d]
        for a in tensors:
            if a.numel > 1 or a.index not in placed:
                self._settle(a, _aligned(a, tuple(out)), n)
        return tuple(out)

    def _settle(self, a: Node, splits: Splits, by: Node) -> None:
        """A value is to have this placement: one that may have any gets it, and what it is made of."""
        held = self.splits[a.index]
        if held is None:
            self.splits[a.index] = splits
            for x in a.args:
                if not x.is_host and self.splits[x.index] is None:
                    self._settle(x, _aligned(x, splits), by)
        elif any(s != t and n > 1 for s, t, n in zip(held, splits, a.shape or (), strict=True)):
            raise self._refuse(by, "a value that is whole meets one that is split")

    def _crossed(self, n: Node, args: tuple[Node, ...]) -> tuple[int, ...]:
        """The dims of the mesh over which a reduction has to be combined."""
        if n.op not in REDUCED or n.is_host or (n.shape == args[0].shape and n.numel > 1):
            return ()
        splits = self.splits[args[0].index] or ((),) * len(args[0].shape or ())
        gone = range(len(splits)) if n.numel == 1 else n.attr("dims")
        return tuple(sorted({i for d in gone for i in splits[d]}))

    def _reduced(self, n: Node, a: Node) -> Splits:
        splits = self.splits[a.index] or ((),) * len(a.shape or ())
        if n.numel == 1:
            return ((),) * len(n.shape or ())
        if n.shape == a.shape:
            return splits
        gone, kept = n.attr("dims"), n.attr("keepdim")
        return tuple(() if d in gone else s for d, s in enumerate(splits) if kept or d not in gone)

    def _carried(self, n: Node, a: Node) -> Splits:
        """The placement of the same elements in another shape, if no split dim is cut or joined."""
        splits, shape = self.splits[a.index] or (), n.shape or ()
        if n.op == "expand":
            splits = ((),) * (len(shape) - len(splits)) + splits
            if shape == self.shape:
                return tuple(s or t for s, t in zip(splits, self.sharding.splits, strict=True))
            return splits
        large = [(size, s) for size, s in zip(a.shape or (), splits, strict=True) if size != 1]
        if [size for size, _ in large] != [size for size in shape if size != 1]:
            raise self._refuse(n)
        if any(s for size, s in zip(a.shape or (), splits, strict=True) if size == 1):
            raise self._refuse(n)
        rest = iter(s for _, s in large)
        return tuple(() if size == 1 else next(rest) for size in shape)

    # ------------------------------------------------------------ what follows

    def _local(self) -> dict[int, tuple[int, ...]]:
        """What is local of each value."""
        sizes = {
            s: (n, m)
            for s, n, m in zip(self.sharding.splits, self.shape, self.sharding.local, strict=True)
        }
        out: dict[int, tuple[int, ...]] = {}
        for n in self.graph.live():
            shape, splits = n.shape or (), None if n.is_host else self.splits[n.index]
            kept = shape == self.shape
            if not splits or not (any(splits) or kept) or (n.index in self.torchs and not kept):
                continue
            pairs = list(zip(splits, shape, strict=True))
            fits = all(not s or sizes.get(s, (0, 0))[0] == size for s, size in pairs)
            whole = shape == self.shape and n.numel > 1
            if not fits or (whole and splits != self.sharding.splits):
                raise self._refuse(n)
            out[n.index] = tuple(sizes[s][1] if s else size for s, size in pairs)
        return out

    def _states(self) -> dict[str, Splits]:
        out: dict[str, Splits] = {}
        for o in self.graph.outputs:
            shape = o.node.shape
            if o.kind is not OutputKind.STATE or not shape:
                continue
            whole: Splits = ((),) * len(shape)
            out[o.name] = splits = self.splits[o.node.index] or whole
            spec = self.example.state.get(o.name)
            kept = isinstance(spec, TensorSpec) and spec.shape == shape != self.shape
            if kept and splits != self.states.get(o.name, whole):
                raise self._refuse(o.node, f"the state {o.name!r} is placed otherwise")
        return out

    def _refuse(self, n: Node, why: str = "") -> NotOnShards:
        return _refusal(why or f"{_word(n)} needs the whole tensor", n, self.binding)


def check_plan(plan: Plan, placed: Placed, binding: Binding) -> None:
    """See that kernels can run a plan on what is local.

    Raises:
        NotOnShards: names the callback that needs more.
    """
    across = plan.across()
    for o in plan.graph.outputs:
        if o.kind is OutputKind.OVER and o.name in across and plan.kind(o.node) == TORCH:
            raise _refusal(f"{_word(o.node)} needs the whole tensor", o.node, binding)
    for region in plan.regions if placed.shape else ():
        n = draws_of_parts(plan, region, placed.slots)
        if n is not None:
            raise _refusal(f"{_word(n)} draws random numbers that depend on its values", n, binding)


def _aligned(a: Node, splits: Splits) -> Splits:
    """What of a result's placement concerns an argument that is broadcast to it."""
    shape = a.shape or ()
    own = splits[len(splits) - len(shape) :]
    return tuple(s if size > 1 else () for s, size in zip(own, shape, strict=True))


def _word(n: Node) -> str:
    return getattr(n.attr("fn"), "__name__", n.op)


def _refusal(why: str, n: Node, binding: Binding) -> NotOnShards:
    call = next((c for c in binding.calls if c.name == n.source), binding.calls[0])
    reason = f"{why}, and the parameter is spread over ranks"
    return NotOnShards(reason, n.source or call.name, call.spec.file, call.spec.line)
