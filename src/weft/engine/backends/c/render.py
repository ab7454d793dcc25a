"""A plan as C: a function for each phase and each scalar stage, over the table of `kernel.h`.

void weft_chunk(table, phase, tensor, start, n, partial)    one pass over a chunk of a tensor
void weft_scalars(table, phase, tensor, partial, chunks)       the scalars of a tensor before a phase
"""

import re
from collections.abc import Callable

import torch

from weft.engine.backends.c import ops, vectors
from weft.engine.backends.c.comments import comment, host_words, scalar_words, slot_words
from weft.engine.backends.c.layout import laid
from weft.engine.backends.c.ops import COMBINE
from weft.engine.ir.graph import Node
from weft.engine.ir.ops import REDUCED
from weft.engine.plan.plan import FULL, HOST, SCALAR, TORCH, VECTOR, Plan

__all__ = ["render"]

Local = Callable[[Node, Node], str | None]  # the name that an op's argument has here, if it has one


def render(plan: Plan, title: str = "") -> str:
    """The C source of a plan."""
    out = [comment(title), '#include "kernel.h"', ""]
    for at in range(len(plan.phases) + 1):
        out += _ScalarStage(plan, at).render()
    for at in range(len(plan.phases)):
        out += _Pass(plan, at).render()
    out += _switch(
        "scalars", "const double *partial, int64_t chunks", "partial, chunks", len(plan.phases) + 1
    )
    out += _switch(
        "chunk", "int64_t start, int64_t n, double *partial", "start, n, partial", len(plan.phases)
    )
    return "\n".join(out) + "\n"


def _switch(name: str, parameters: str, args: str, count: int) -> list[str]:
    cases = [f"        case {i}: {name}_{i}(T, t, {args}); break;" for i in range(count)]
    return [
        f"void weft_{name}(const weft_table *T, int phase, int64_t t, {parameters}) {{",
        "    switch (phase) {", *cases, "    }", "}", "",
    ]  # fmt: skip


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII)[:32]


class _Scope:
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


class _ScalarStage(_Scope):
    """The scalars of a tensor that are known before phase `at`."""

    def __init__(self, plan: Plan, at: int):
        super().__init__(plan)
        self.at = at

    def render(self) -> list[str]:
        """The lines of the function."""
        plan, body = self.plan, []
        for turn in laid(plan).stages[self.at]:
            n = turn[0]
            if plan.kind(n) == VECTOR:
                body += vectors.turn(self, turn, self._local)
                continue
            if n.op in REDUCED and plan.kind(n.args[0]) == VECTOR:
                body += vectors.total(self, n)
            body.append(f"    const {ops.CTYPE[n.dtype]} k{n.index} = {self._text(n)};{_from(n)}")
            body.append(f"    value[{plan.values[n.index]}] = (double)k{n.index};")
        if self.at == len(plan.phases):
            for slot, n in plan.tail:
                if plan.kind(n) == VECTOR:
                    body.append(vectors.stored(self, slot, n))
                    continue
                text = self.taken(n, n, n.dtype, self._local)
                to = plan.slots[slot].dtype
                body.append(f"    {self.pointer(slot)}[0] = {ops.stored(text, n.dtype, to)};")
        return [
            f"static void scalars_{self.at}(const weft_table *T, int64_t t, const double *partial, "
            "int64_t chunks) {",
            "    const double *row = T->rows + T->row_of[t] * T->scalars;",
            "    double *value = T->value + t * T->values;",
            "    (void)row, (void)value, (void)partial, (void)chunks;",
            *self.sizes(), *self.head, *body, "}", "",
        ]  # fmt: skip

    def _local(self, n: Node, a: Node) -> str | None:
        known = self.plan.ready_in[a.index] == self.at and a.op != "over"
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
            i = plan.phases[self.at - 1].reductions.index(n)
            tree = f"weft_tree_{COMBINE[n.op][0]}(partial + {i}, chunks, T->reductions)"
            return f"({tree} > 0)" if n.op in ("any", "all") else f"({ops.CTYPE[n.dtype]}){tree}"
        return self.compute(n, self._local)


def _from(n: Node) -> str:
    return f" {comment(n.source)}" if n.source else ""


class _Pass(_Scope):
    """The loop of phase `at` over the elements of a chunk."""

    def __init__(self, plan: Plan, at: int):
        super().__init__(plan)
        self.at, self.phase = at, plan.phases[at]
        self.body = plan.body(at)
        self.inside = {n.index for n in self.body}
        self.windows = vectors.windows(plan, [n for n in self.body if plan.slot_in(n, at) is None])
        self.folds = [r for r in self.phase.reductions if plan.kind(r) == VECTOR]
        self.blocks = bool(self.phase.reductions or self.windows)
        self.i = "b + i" if self.blocks else "i"
        self.divisors: dict[str, None] = {}

    def render(self) -> list[str]:
        """The lines of the function."""
        loop = self._loop(exact=False)
        if self.divisors:
            safe = " && ".join(f"{d}.safe" for d in self.divisors)
            exact = self._loop(exact=True)
            loop = [f"    if ({safe}) {{", *loop, "    } else {", *exact, "    }"]
        return [
            f"static void chunk_{self.at}(const weft_table *T, int64_t t, int64_t start, int64_t n, "
            "double *partial) {",
            "    const double *row = T->rows + T->row_of[t] * T->scalars;",
            "    const double *value = T->value + t * T->values;",
            "    (void)row, (void)value, (void)partial, (void)start, (void)n;",
            *self.sizes(), *self.head, *loop, "}", "",
        ]  # fmt: skip

    def _loop(self, exact: bool) -> list[str]:
        self.exact = exact
        loop = [*self._loads(), *self._computes(), *self._reduced(), *self._stores()]
        if not loop:
            return []
        return self._blocks(loop) if self.blocks else self._plain(loop)

    def _local(self, n: Node, a: Node) -> str | None:
        if self.plan.kind(a) == VECTOR:
            return f"{vectors.window(self.plan, n, a)}[i]"
        return f"x{a.index}" if a.index in self.inside else None

    def _loads(self) -> list[str]:
        lines = []
        for n in self.body:
            slot = self.plan.slot_in(n, self.at)
            if slot is not None:
                text = f"{self.pointer(slot, ' + start')}[{self.i}]"
                text = ops.loaded(text, self.plan.slots[slot].dtype, n.dtype)
                lines.append(f"const {ops.CTYPE[n.dtype]} x{n.index} = {text};")
        return lines

    def _computes(self) -> list[str]:
        lines, source = [], ""
        for n in self.body:
            if self.plan.slot_in(n, self.at) is None:
                if n.source != source:
                    source = n.source
                    lines.append(comment(source))
                text = self._quotient(n) or self.compute(n, self._local)
                lines.append(f"const {ops.CTYPE[n.dtype]} x{n.index} = {text};")
        return lines

    def _quotient(self, n: Node) -> str | None:
        """A division by what is the same for the whole pass, where that may be a multiplication."""
        if self.exact or n.op != "div" or ops.operand_dtype(n) is not torch.float32:
            return None
        x, by = n.args
        if x.index not in self.inside or self.plan.kind(by) not in (HOST, SCALAR):
            return None
        divisor = self.taken(n, by, torch.float32, self._local)
        name = self.declare(f"d{by.index}", "weft_divisor", f"weft_divide_by({divisor})")
        self.divisors[name] = None
        return f"WEFT_OVER(x{x.index}, {name})"

    def _stores(self) -> list[str]:
        lines = []
        for slot, n in self.phase.stores:
            to = self.plan.slots[slot].dtype
            of = n.dtype if self.plan.kind(n) != HOST else to
            text = ops.stored(self.taken(n, n, of, self._local), of, to)
            lines.append(f"{self.pointer(slot, ' + start')}[{self.i}] = {text};")
        return lines

    def _reduced(self) -> list[str]:
        return [
            f"r{a.index}[i] = {self.taken(r, a, a.dtype, self._local)};"
            for a, r in {r.args[0]: r for r in self.phase.reductions}.items()
        ]

    def _plain(self, loop: list[str]) -> list[str]:
        return [
            "#pragma GCC ivdep", "    for (int64_t i = 0; i < n; i++) {", *("        " + x for x in loop),
            "    }",
        ]  # fmt: skip

    def _blocks(self, loop: list[str]) -> list[str]:
        """Blocks: what is reduced goes to a small buffer, then into fixed lanes of double.

        Vectors come from small buffers as well: their elements are found once for many.
        """
        head, sums, ends = [], [], []
        for a in {r.args[0]: None for r in self.phase.reductions}:
            head.append(f"    {_buffered(a)[0]} r{a.index}[WEFT_BLOCK];")
        for i, r in enumerate(self.phase.reductions):
            how, start = COMBINE[r.op]
            suffix, buffer = _buffered(r.args[0])[1], f"r{r.args[0].index}"
            if r in self.folds:
                head += vectors.begin_fold(self, r)
                sums.append(vectors.fold(self.plan, r, f"weft_fold_{how}_{suffix}", buffer))
                continue
            head.append(f"    double lane{i}[WEFT_LANES];")
            head.append(f"    for (int l = 0; l < WEFT_LANES; l++) lane{i}[l] = {start};")
            sums.append(f"        for (int64_t i = m; i < padded; i++) {buffer}[i] = {start};")
            sums.append(f"        weft_{how}_{suffix}(lane{i}, {buffer}, padded);")
            ends.append(f"    partial[{i}] = weft_tree_{how}(lane{i}, WEFT_LANES, 1);")
        reads = [vectors.fill(self, n, a) for n, a in self.windows.values()]
        head += [
            f"    {ops.CTYPE[a.dtype]} {name}[WEFT_BLOCK];" for name, (_, a) in self.windows.items()
        ]
        return [
            *head,
            "    for (int64_t b = 0; b < n; b += WEFT_BLOCK) {",
            "        const int64_t m = n - b < WEFT_BLOCK ? n - b : WEFT_BLOCK;",
            "        const int64_t padded = (m + WEFT_LANES - 1) / WEFT_LANES * WEFT_LANES;",
            "        (void)padded;",
            *reads,
            "#pragma GCC ivdep",
            "        for (int64_t i = 0; i < m; i++) {",
            *("            " + x for x in loop),
            "        }",
            *sums,
            "    }",
            *ends,
        ]


def _buffered(a: Node) -> tuple[str, str]:
    """The C type in which a value waits to be reduced, and its suffix."""
    wide = a.dtype not in (torch.float32, torch.bool)
    return ("double", "f64") if wide else ("float", "f32")
