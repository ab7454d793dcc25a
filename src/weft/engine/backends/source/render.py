"""A plan as source: a function for each phase and each scalar stage, over a table of tensors.

A *stage* computes the scalars and vectors of a tensor before a phase; a *pass* walks over a chunk of a
tensor in a phase. A dialect prints both.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from weft.engine.backends.source import ops, vectors
from weft.engine.backends.source.comments import comment, host_words, scalar_words, slot_words
from weft.engine.backends.source.layout import laid
from weft.engine.backends.source.ops import COMBINE
from weft.engine.ir.graph import Node
from weft.engine.ir.ops import REDUCED
from weft.engine.plan.plan import FULL, HOST, SCALAR, TORCH, VECTOR, Plan

__all__ = ["Dialect", "Pass", "Stage", "buffered", "render", "with_common"]

Local = Callable[[Node, Node], str | None]  # the name that an op's argument has here, if it has one


@dataclass(frozen=True)
class Dialect:
    """What a target says in another way.

    Attributes:
        header: the file that sources include.
        stage, walk: how a stage and a pass are printed.
        entries: what the host calls, where stages and passes are not called themselves.
    """

    header: str
    stage: "type[Stage]"
    walk: "type[Pass]"
    entries: Callable[[Plan], list[str]]


def render(plan: Plan, title: str, dialect: Dialect) -> str:
    """The source of a plan."""
    out = [comment(title), f'#include "{dialect.header}"', ""]
    for number in range(len(plan.phases) + 1):
        out += dialect.stage(plan, number).render()
    for number in range(len(plan.phases)):
        out += dialect.walk(plan, number).render()
    return "\n".join([*out, *dialect.entries(plan)]) + "\n"


def with_common(header: str) -> str:
    """A header with what all targets share in it."""
    common = Path(__file__).with_name("common.h").read_text(encoding="utf-8")
    return header.replace('#include "common.h"', common)


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII)[:32]


class Scope:
    """Names for what a function takes from the row, the values and the slots, declared once."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.head: list[str] = []
        self.known: dict[str, None] = {}

    def declare(self, name: str, ctype: str, text: str, why: str = "") -> str:
        """`const ctype name = text;` at the head of the function, the first time."""
        if name not in self.known:
            self.known[name] = None
            note = f" {comment(why)}" if why else ""
            self.head.append(f"    const {ctype} {name} = {text};{note}")
        return name

    def host(self, n: Node, dtype: object) -> str:
        """A host scalar in the type of the op that takes it."""
        if n.op == "const" and n.index not in self.plan.rows:
            return ops.literal(n.attr("value"), dtype)
        ctype = ops.CTYPE[dtype]
        text = f"row[{self.plan.rows[n.index]}]"
        text = f"{text} != 0" if dtype in (torch.bool, bool) else f"({ctype}){text}"
        return self.declare(f"h{n.index}_{_identifier(ctype)}", ctype, text, host_words(n))

    def scalar(self, n: Node) -> str:
        """A scalar of this tensor that an earlier stage has left."""
        ctype = ops.CTYPE[n.dtype]
        return self.declare(
            f"s{n.index}", ctype, f"({ctype})value[{self.plan.values[n.index]}]", scalar_words(n)
        )

    def pointer(self, slot: int, offset: str = "") -> str:
        """The memory of a slot."""
        s = self.plan.slots[slot]
        name = f"{_identifier(s.name)}_{slot}"
        ctype = ops.STORED[s.dtype]
        if name not in self.known:
            self.known[name] = None
            self.head.append(
                f"    {ctype} *restrict {name} = ({ctype} *)T->ptr[{slot} * T->tensors + t]{offset};"
                f" {comment(slot_words(self.plan, slot))}"
            )
        return name

    def element(self, a: Node, index: str) -> str:
        """An element of a vector, from where it is kept."""
        slot = self.plan.loadable_from[a.index][0]
        kept = self.plan.slots[slot].dtype
        return ops.loaded(f"{self.pointer(slot)}[{index}]", kept, a.dtype)

    def sizes(self) -> list[str]:
        """The row of sizes, where a plan has one."""
        return ["    const int64_t *dim = T->dim + t * T->dims;", "    (void)dim;"][
            : 2 * bool(laid(self.plan).sizes)
        ]

    def taken(self, n: Node, a: Node, dtype: object, local: Local) -> str:
        """The text of argument `a`, in the type `dtype` that op `n` works in."""
        plan = self.plan
        if plan.kind(a) == HOST:
            return self.host(a, dtype)
        here = local(n, a)
        if here is None and plan.kind(a) == TORCH:  # a region's result of one element
            slot = plan.loadable_from[a.index][0]
            text = ops.loaded(f"{self.pointer(slot)}[0]", plan.slots[slot].dtype, a.dtype)
            here = self.declare(f"t{a.index}", ops.CTYPE[a.dtype], text)
        elif here is None:
            here = self.scalar(a)
        return ops.cast(here, a.dtype, dtype) if a.is_host or a.dtype in (torch.bool,) else here

    def compute(self, n: Node, local: Local) -> str:
        """The expression of a pointwise op or of what passes a value on."""
        if n.op in ("full", "expand", "reshape") or n.op in REDUCED:  # of one element
            text = self.taken(n, n.args[0], n.dtype, local)
            return ops.rounded(text, n.dtype) if n.op == "full" else text
        if n.op == "where":
            types: list[object] = [torch.bool, n.dtype, n.dtype]
        else:
            types = [ops.operand_dtype(n)] * len(n.args)
        if n.is_host:
            types = [a.dtype for a in n.args]
        return ops.expression(
            n, [self.taken(n, a, t, local) for a, t in zip(n.args, types, strict=False)]
        )


class Stage(Scope):
    """The scalars and vectors of a tensor that are known before phase `at`."""

    def __init__(self, plan: Plan, number: int):
        super().__init__(plan)
        self.number = number

    def opening(self) -> list[str]:
        """How the function begins, with `row`, `value`, `partial` and `chunks` in it."""
        raise NotImplementedError

    def keep(self, place: str, text: str) -> str:
        """A store of what is there once for a tensor."""
        raise NotImplementedError

    def loop(self, length: str, lines: list[str]) -> list[str]:
        """A loop over the elements `i` of a vector."""
        raise NotImplementedError

    def total(self, n: Node) -> list[str]:
        """The reduction of a vector to a scalar, as `a` and the number of the value."""
        raise NotImplementedError

    def render(self) -> list[str]:
        """The lines of the function."""
        plan, body = self.plan, []
        for loop in laid(plan).stages[self.number]:
            n = loop[0]
            if plan.kind(n) == VECTOR:
                body += vectors.loop(self, loop, self._local)
                continue
            if n.op in REDUCED and plan.kind(n.args[0]) == VECTOR:
                body += self.total(n)
            body.append(f"    const {ops.CTYPE[n.dtype]} k{n.index} = {self._text(n)};{_from(n)}")
            body.append(self.keep(f"value[{plan.values[n.index]}]", f"(double)k{n.index}"))
        if self.number == len(plan.phases):
            for slot, n in plan.tail:
                if plan.kind(n) == VECTOR:
                    body += vectors.stored(self, slot, n)
                    continue
                text = ops.stored(
                    self.taken(n, n, n.dtype, self._local), n.dtype, plan.slots[slot].dtype
                )
                body.append(self.keep(f"{self.pointer(slot)}[0]", text))
        return [*self.opening(), *self.sizes(), *self.head, *body, "}", ""]

    def _local(self, n: Node, a: Node) -> str | None:
        known = self.plan.ready_in[a.index] == self.number and not a.is_given
        return f"k{a.index}" if self.plan.kind(a) == SCALAR and known else None

    def _text(self, n: Node) -> str:
        plan = self.plan
        if n.op == "load":
            slot = plan.loadable_from[n.index][0]
            return ops.loaded(f"{self.pointer(slot)}[0]", plan.slots[slot].dtype, n.dtype)
        if n.op in REDUCED:
            a = n.args[0]
            if plan.kind(a) == VECTOR:
                return ops.cast(f"a{n.index}", float, n.dtype)
            if plan.kind(a) != FULL:
                return ops.cast(self.taken(n, a, a.dtype, self._local), a.dtype, n.dtype)
            i = plan.phases[self.number - 1].reductions.index(n)
            tree = f"weft_tree_{COMBINE[n.op][0]}(partial + {i}, chunks, T->reductions)"
            return f"({tree} > 0)" if n.op in ("any", "all") else f"({ops.CTYPE[n.dtype]}){tree}"
        return self.compute(n, self._local)


def _from(n: Node) -> str:
    return f" {comment(n.source)}" if n.source else ""


class Pass(Scope):
    """The loop of phase `at` over the elements of a chunk."""

    def __init__(self, plan: Plan, number: int):
        super().__init__(plan)
        self.number, self.phase = number, plan.phases[number]
        self.body = plan.body(number)
        self.inside = {n.index for n in self.body}
        self.computed = [n for n in self.body if plan.slot_in(n, number) is None]
        self.folds = [r for r in self.phase.reductions if plan.kind(r) == VECTOR]

    def opening(self) -> list[str]:
        """How the function begins, with `row`, `value`, `start`, `n` and `partial` in it."""
        raise NotImplementedError

    def walk(self) -> list[str]:
        """The loop over a chunk."""
        raise NotImplementedError

    def element_of(self, slot: int) -> str:
        """An element of the parameter's size, where it is read."""
        raise NotImplementedError

    def place_of(self, slot: int) -> str:
        """The same, where it is written."""
        return self.element_of(slot)

    def along(self, n: Node, a: Node) -> str:
        """The element of a vector that belongs to this element."""
        raise NotImplementedError

    def quotient(self, n: Node) -> str | None:
        """A division that has a shorter way."""
        return None

    def render(self) -> list[str]:
        """The lines of the function."""
        walk = self.walk()
        return [*self.opening(), *self.sizes(), *self.head, *walk, "}", ""]

    def local(self, n: Node, a: Node) -> str | None:
        """The name of what this element has been given."""
        if self.plan.kind(a) == VECTOR:
            return self.along(n, a)
        return f"x{a.index}" if a.index in self.inside else None

    def loads(self) -> list[str]:
        """What is read."""
        lines = []
        for n in self.body:
            slot = self.plan.slot_in(n, self.number)
            if slot is not None:
                text = ops.loaded(self.element_of(slot), self.plan.slots[slot].dtype, n.dtype)
                lines.append(f"const {ops.CTYPE[n.dtype]} x{n.index} = {text};")
        return lines

    def computes(self) -> list[str]:
        """What is computed, under the callbacks that it comes from."""
        lines, source = [], ""
        for n in self.computed:
            if n.source != source:
                source = n.source
                lines.append(comment(source))
            text = self.quotient(n) or self.compute(n, self.local)
            lines.append(f"const {ops.CTYPE[n.dtype]} x{n.index} = {text};")
        return lines

    def stores(self) -> list[str]:
        """What is written."""
        lines = []
        for slot, n in self.phase.stores:
            to = self.plan.slots[slot].dtype
            of = n.dtype if self.plan.kind(n) != HOST else to
            text = ops.stored(self.taken(n, n, of, self.local), of, to)
            lines.append(f"{self.place_of(slot)} = {text};")
        return lines

    def begin_fold(self, n: Node) -> list[str]:
        """The partial results of this chunk, at their start."""
        offset, start = laid(self.plan).folds[n.index], COMBINE[n.op][1]
        memory = self.pointer(self.plan.loadable_from[n.index][0])
        return [
            f"    double *f{n.index} = {memory} + dim[{offset + 3}] + start / dim[0] * dim[{offset + 2}];",
            f"    weft_begin(f{n.index}, start, n, dim + {offset}, {start});",
        ]

    def fold(self, n: Node) -> str:
        """The part of `m` buffered elements from `b` on in a reduction over a run."""
        offset, how = laid(self.plan).folds[n.index], COMBINE[n.op][0]
        function, buffer = f"weft_fold_{how}_{buffered(n.args[0])[1]}", f"r{n.args[0].index}"
        return f"        {function}(f{n.index}, {buffer}, start + b, m, dim + {offset});"

    def reduced(self) -> dict[Node, str]:
        """What is reduced: value -> its text."""
        return {
            a: self.taken(r, a, a.dtype, self.local)
            for a, r in {r.args[0]: r for r in self.phase.reductions}.items()
        }


def buffered(a: Node) -> tuple[str, str]:
    """The C type in which a value waits to be reduced, and its suffix."""
    wide = a.dtype not in (torch.float32, torch.bool)
    return ("double", "f64") if wide else ("float", "f32")
