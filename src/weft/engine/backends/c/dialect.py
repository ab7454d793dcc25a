"""What C says in its own way: chunks walked by one thread, block by block where something is reduced.

void weft_chunk(table, phase, tensor, start, n, partial)    one pass over a chunk of a tensor
void weft_scalars(table, phase, tensor, partial, chunks)       the scalars of a tensor before a phase

A pass reads a vector through a *window*: a block's elements of it, one for each element of the
parameter, so that the loop over them divides nothing.
"""

from collections.abc import Sequence

import torch

from weft.engine.backends.source import ops, vectors
from weft.engine.backends.source.layout import laid
from weft.engine.backends.source.ops import COMBINE
from weft.engine.backends.source.render import Dialect, Pass, Stage, buffered
from weft.engine.ir.graph import Node
from weft.engine.plan.plan import HOST, SCALAR, VECTOR, Plan

__all__ = ["C"]


class CStage(Stage):
    """A stage, by one thread."""

    def opening(self) -> list[str]:
        """A function of a tensor."""
        return [
            f"static void scalars_{self.number}(const weft_table *T, int64_t t, const double *partial, "
            "int64_t chunks) {",
            "    const double *row = T->rows + T->row_of[t] * T->scalars;",
            "    double *value = T->value + t * T->values;",
            "    (void)row, (void)value, (void)partial, (void)chunks;",
        ]

    def keep(self, place: str, text: str) -> str:
        """An assignment."""
        return f"    {place} = {text};"

    def loop(self, length: str, lines: Sequence[str]) -> list[str]:
        """One element after the other."""
        begin = f"    for (int64_t i = 0; i < {length}; i++) {{"
        return [begin, *("        " + x for x in lines), "    }"]

    def total(self, n: Node) -> list[str]:
        """One element after the other."""
        return vectors.total(self, n)


class CPass(Pass):
    """A pass: a plain loop, or blocks of elements where something is reduced or spread."""

    def __init__(self, plan: Plan, number: int):
        super().__init__(plan, number)
        self.windows = {
            self._window(n, a): (n, a)
            for n in self.computed for a in n.args if plan.kind(a) == VECTOR
        }  # fmt: skip
        self.blocks = bool(self.phase.reductions or self.windows)
        self.i = "b + i" if self.blocks else "i"
        self.divisors: dict[str, None] = {}

    def opening(self) -> list[str]:
        """A function of a chunk."""
        return [
            f"static void chunk_{self.number}(const weft_table *T, int64_t t, int64_t start, int64_t n, "
            "double *partial) {",
            "    const double *row = T->rows + T->row_of[t] * T->scalars;",
            "    const double *value = T->value + t * T->values;",
            "    (void)row, (void)value, (void)partial, (void)start, (void)n;",
        ]

    def walk(self) -> list[str]:
        """The loop; twice, where divisions have a shorter way that unusual divisors cannot take."""
        loop = self._loop(exact=False)
        if not self.divisors:
            return loop
        safe = " && ".join(f"{d}.safe" for d in self.divisors)
        exact = self._loop(exact=True)
        return [f"    if ({safe}) {{", *loop, "    } else {", *exact, "    }"]

    def _loop(self, exact: bool) -> list[str]:
        self.exact = exact
        loop = [*self.loads(), *self.computes()]
        loop += [f"r{a.index}[i] = {text};" for a, text in self.reduced().items()]
        loop += self.stores()
        if not loop:
            return []
        return self._blocks(loop) if self.blocks else self._plain(loop)

    def element_of(self, slot: int) -> str:
        """From memory, the chunk's first at 0."""
        return f"{self.pointer(slot, ' + start')}[{self.i}]"

    def along(self, n: Node, a: Node) -> str:
        """Through its window."""
        return f"{self._window(n, a)}[i]"

    def quotient(self, n: Node) -> str | None:
        """A division by what is the same for the whole pass, where that may be a multiplication."""
        if self.exact or n.op != "div" or ops.operand_dtype(n) is not torch.float32:
            return None
        x, by = n.args
        if x.index not in self.inside or self.plan.kind(by) not in (HOST, SCALAR):
            return None
        divisor = self.taken(n, by, torch.float32, self.local)
        name = self.declare(f"d{by.index}", "weft_divisor", f"weft_divide_by({divisor})")
        self.divisors[name] = None
        return f"WEFT_OVER(x{x.index}, {name})"

    def _plain(self, loop: list[str]) -> list[str]:
        return [
            "#pragma GCC ivdep", "    for (int64_t i = 0; i < n; i++) {", *("        " + x for x in loop),
            "    }",
        ]  # fmt: skip

    def _blocks(self, loop: list[str]) -> list[str]:
        """Blocks: what is reduced goes to a small buffer, then into fixed lanes of double."""
        head, sums, ends = [], [], []
        for a in {r.args[0]: None for r in self.phase.reductions}:
            head.append(f"    {buffered(a)[0]} r{a.index}[WEFT_BLOCK];")
        for i, r in enumerate(self.phase.reductions):
            how, start = COMBINE[r.op]
            suffix, buffer = buffered(r.args[0])[1], f"r{r.args[0].index}"
            if r in self.folds:
                head += self.begin_fold(r)
                sums.append(self.fold(r))
                continue
            head.append(f"    double lane{i}[WEFT_LANES];")
            head.append(f"    for (int l = 0; l < WEFT_LANES; l++) lane{i}[l] = {start};")
            sums.append(f"        for (int64_t i = m; i < padded; i++) {buffer}[i] = {start};")
            sums.append(f"        weft_{how}_{suffix}(lane{i}, {buffer}, padded);")
            ends.append(f"    partial[{i}] = weft_tree_{how}(lane{i}, WEFT_LANES, 1);")
        reads = [self._fill(n, a) for n, a in self.windows.values()]
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

    # ------------------------------------------------------------ vectors

    def _window(self, n: Node, a: Node) -> str:
        """The name of the window through which an op sees a vector."""
        run = laid(self.plan).runs.get((n.index, a.index))
        return f"w{a.index}" if run is None else f"w{a.index}along{run}"

    def _fill(self, n: Node, a: Node) -> str:
        """A window's elements for the block at hand."""
        run, name = laid(self.plan).runs.get((n.index, a.index)), self._window(n, a)
        if run is None:
            text = self.element(a, "start + b + i")
            return f"        for (int64_t i = 0; i < m; i++) {name}[i] = {text};"
        return f"        WEFT_SPREAD({name}, {self.element(a, 'c')}, start + b, m, dim + {run});"


def _switch(name: str, parameters: str, args: str, count: int) -> list[str]:
    cases = [f"        case {i}: {name}_{i}(T, t, {args}); break;" for i in range(count)]
    return [
        f"void weft_{name}(const weft_table *T, int phase, int64_t t, {parameters}) {{",
        "    switch (phase) {", *cases, "    }", "}", "",
    ]  # fmt: skip


def _entries(plan: Plan) -> list[str]:
    phases = len(plan.phases)
    partials, chunk = (
        "const double *partial, int64_t chunks",
        "int64_t start, int64_t n, double *partial",
    )
    return [
        *_switch("scalars", partials, "partial, chunks", phases + 1),
        *_switch("chunk", chunk, "start, n, partial", phases),
    ]


C = Dialect("kernel.h", CStage, CPass, _entries)
