"""Where a region is cut, if its inputs are spread over ranks: what is done before they are gathered.

What works element by element can be done on every rank's own part, or by the owner on the whole. The
cut is where the fewest bytes travel. Random numbers are drawn by all ranks, for the whole tensor: so
generators stay alike, and numbers are those of one process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from weft.engine.ir.graph import Node
from weft.engine.ir.ops import POINTWISE
from weft.engine.ir.traced import Splits
from weft.engine.plan.plan import FULL, TORCH, Plan, Region

__all__ = ["Cut", "cut", "draws_of_parts", "slot_of", "stays_with_torch"]


# draws that look at the shape of their first argument alone
OF_A_SHAPE = (
    "rand_like", "randn_like", "randint_like", "normal_", "uniform_", "bernoulli_", "exponential_",
    "random_", "cauchy_", "log_normal_", "geometric_",
)  # fmt: skip


class Cut(NamedTuple):
    """A region in two.

    Attributes:
        before: what each rank computes of its part; None where that is nothing.
        takes: the values that travel to the owner; slots, or what `before` gives.
        after: what the owner computes, from slots and what was gathered into others.
        slots: the names that `after` has for what it takes.
        draws: what every rank draws first; `after` has it in slots too. None where that is nothing,
            and where nothing is taken: then all ranks compute all of it.
    """

    before: Region | None
    takes: list[Node]
    after: Region
    slots: list[str]
    draws: Region | None

    @property
    def travels(self) -> bool:
        """Whether an owner computes it; else every rank does, as it has all that it needs."""
        works = any(n.op == "call" for n in self.after.nodes) and not self.after.draws
        return bool(self.takes) or works


def cut(plan: Plan, region: Region, splits: Mapping[str, Splits]) -> Cut:
    """Cut a region; `splits` are of the slots that it loads."""
    return _Cutter(plan, region, splits).cut()


def draws_of_parts(plan: Plan, region: Region, splits: Mapping[str, Splits]) -> Node | None:
    """A draw that depends on values that are split, which no rank has all of; None where none does."""
    cutter = _Cutter(plan, region, splits)
    return next((n for n in cutter.drawn if n.index in cutter.split), None)


def slot_of(n: Node) -> str:
    """What the owner calls a value that it is given: a slot's own name, or one of its own."""
    return n.attr("slot", f"value {n.index}")


def stays_with_torch(plan: Plan, live: Sequence[Node]) -> set[int]:
    """The elementwise end of what torch computes that an owner does too, as less is sent back then."""
    node = {n.index: n for n in live}
    torchs = {i for i in node if plan.kinds[i] == TORCH}
    ends = set(torchs)  # and what follows from it element by element, and from nothing else
    for n in live:
        tensors = [a.index for a in n.args if not a.is_host]
        if plan.kind(n) == FULL and n.op in POINTWISE and tensors and ends.issuperset(tensors):
            ends.add(n.index)
    bytes_of = lambda values: sum(node[i].numel * node[i].dtype.itemsize for i in values)

    def sent(known: set[int]) -> set[int]:
        outer = {a.index for n in live if n.index not in known for a in n.args}
        return known & (outer | {o.node.index for o in plan.graph.outputs})

    def back_to(i: int, known: set[int]) -> set[int]:
        """What a value follows from, up to what is known and to what torch computes."""
        needed, todo = set(), [i]
        while todo:
            j = todo.pop()
            if j not in needed and not node[j].is_host:
                needed.add(j)
                todo += [] if j in known or j in torchs else [a.index for a in node[j].args]
        return needed

    def before(i: int) -> int:
        """The first of some values that follow from each other alone, which are as large."""
        of = [a.index for a in node[i].args if not a.is_host]
        alone = len(of) == 1 and i not in torchs and of[0] in ends - torchs
        return before(of[0]) if alone and bytes_of(of) <= bytes_of([i]) else i

    late = sent(ends)
    for i in sorted(late, reverse=True):
        if not back_to(i, late - {i}) & torchs - late:
            late.discard(i)
    if bytes_of(late) >= bytes_of(sent(torchs)):
        return set()
    late = set(map(before, late))
    return set().union(*(back_to(i, set()) for i in late))


class _Cutter:
    def __init__(self, plan: Plan, region: Region, splits: Mapping[str, Splits]):
        self.plan = plan
        self.split: set[int] = set()  # what follows from something that is split
        self.pointwise: set[int] = set()  # and can be computed in parts
        own = splits.get("p") or splits.get("grad")
        nodes: list[Node] = []
        for n in region.nodes:
            if n.attr("serial") and n.args and n.args[0].index in self.split and _of_a_shape(n):
                like = _blank(n.args[0])
                nodes.append(like)
                n = replace(n, args=(like, *n.args[1:]))
            nodes.append(n)
            if n.op == "load" and any(splits.get(n.attr("slot"), ())):
                self.split.add(n.index)
                if n.shape == plan.shape and own in (None, splits[n.attr("slot")]):
                    self.pointwise.add(n.index)
            elif any(a.index in self.split for a in n.args):
                self.split.add(n.index)
                if n.op in POINTWISE and n.shape == plan.shape and all(map(self._parts, n.args)):
                    self.pointwise.add(n.index)
        self.region = replace(region, nodes=nodes)
        self.node = {n.index: n for n in nodes}
        self.drawn = [n for n in nodes if n.attr("serial")]

    def _parts(self, a: Node) -> bool:
        """Whether each rank has what it needs of a value."""
        if a.is_host or a.index in self.pointwise:
            return True
        one = a.shape == () or (a.op == "full" and a.shape == self.plan.shape)
        return one and a.index not in self.split

    def cut(self) -> Cut:
        """The cheaper of two: at what is loaded, or as late as can be."""
        loads = self._frontier({n.index for n in self.region.nodes if n.op == "load"} & self.split)
        late = self._frontier(self.pointwise)
        for i in sorted(late, reverse=True):
            if self._follows(i, late - {i}):
                late.remove(i)
        takes = [self.node[i] for i in sorted(min(loads, late, key=self._bytes))]
        computed = [n for n in takes if n.op != "load"]
        before = Region(self.region.before, self._local(computed), computed) if computed else None
        drawn = self.drawn if takes else []
        given = {
            n.index: n
            if n.op == "load"
            else replace(n, op="load", args=(), attrs=(("slot", slot_of(n)),))
            for n in (*takes, *drawn)
        }
        needed = self._closure(self.region.gives, set(given))
        nodes = [given.get(n.index, n) for n in self.region.nodes if n.index in needed]
        return Cut(
            before, takes, replace(self.region, nodes=nodes), list(map(slot_of, takes)),
            self._of(drawn) if drawn else None,
        )  # fmt: skip

    def _of(self, wanted: list[Node]) -> Region:
        needed = self._closure(wanted, set())
        return replace(
            self.region, nodes=[n for n in self.region.nodes if n.index in needed], gives=wanted
        )

    def _bytes(self, values: set[int]) -> int:
        return sum(self.node[i].numel * self.node[i].dtype.itemsize for i in values)

    def _frontier(self, known: set[int]) -> set[int]:
        """What of these, and of what is split and loaded, the results follow from."""
        loaded = {i for i in self.split if self.node[i].op == "load"}
        return self._closure(self.region.gives, known | loaded) & (known | loaded)

    def _closure(self, wanted: Sequence[Node], known: set[int]) -> set[int]:
        """What is needed to compute values from those that are known, these included."""
        needed: set[int] = set()
        todo = [n.index for n in wanted]
        while todo:
            i = todo.pop()
            if i in self.node and i not in needed:
                needed.add(i)
                todo += [a.index for a in self.node[i].args] if i not in known else []
        return needed

    def _follows(self, i: int, known: set[int]) -> bool:
        """Whether a value follows from others and from what is whole."""
        needed = self._closure([self.node[i]], known) - known
        return not any(self.node[j].op == "load" and j in self.split for j in needed)

    def _local(self, computed: Sequence[Node]) -> list[Node]:
        """What each rank computes, with the shapes of its part."""
        needed = self._closure(computed, set())
        return [
            replace(n, shape=self.plan.here) if n.shape == self.plan.shape else n
            for n in self.region.nodes if n.index in needed
        ]  # fmt: skip


def _of_a_shape(n: Node) -> bool:
    return getattr(n.attr("fn"), "__name__", "") in OF_A_SHAPE


def _blank(a: Node) -> Node:
    """A tensor of the shape of another."""
    zero = Node("const", (), (("value", 0),), None, int, -1)
    return Node("full", (zero,), (), a.shape, a.dtype, -2 - a.index)
