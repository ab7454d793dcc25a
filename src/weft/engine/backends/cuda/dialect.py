"""What CUDA C says in its own way: a block of threads for a chunk, and for a tensor in a stage.

weft_chunk_K(args)       phase K, a block for each chunk
weft_scalars_K(args)     the scalars and vectors of a tensor before phase K, a block for each tensor

A thread takes neighbours at once. Those behind the end of a chunk are computed from zeros and kept
nowhere.
"""

from collections.abc import Sequence

from weft.engine.backends.source import ops, vectors
from weft.engine.backends.source.layout import laid
from weft.engine.backends.source.ops import COMBINE, COMBINED
from weft.engine.backends.source.render import Dialect, Pass, Stage, buffered
from weft.engine.ir.graph import Node
from weft.engine.plan.plan import Plan

__all__ = ["CUDA", "has_pass", "has_stage"]


def has_stage(plan: Plan, number: int) -> bool:
    """Whether there is anything to compute before phase `at`, or to store behind the last."""
    return bool(laid(plan).stages[number] or (number == len(plan.phases) and plan.tail))


def has_pass(plan: Plan, number: int) -> bool:
    """Whether phase `at` stores or reduces anything."""
    return bool(plan.phases[number].stores or plan.phases[number].reductions)


class CudaStage(Stage):
    """A stage, by a block: vectors by all of its threads, what there is once by the first."""

    def opening(self) -> list[str]:
        """A kernel, a tensor for each block."""
        return [f"WEFT_KERNEL(weft_scalars_{self.number}) {{", "    WEFT_A_TENSOR"]

    def keep(self, place: str, text: str) -> str:
        """An assignment by one thread."""
        return f"    if (!threadIdx.x) {place} = {text};"

    def loop(self, length: str, lines: Sequence[str]) -> list[str]:
        """Elements by all threads; others read them afterwards."""
        begin = f"    for (int64_t i = threadIdx.x; i < {length}; i += blockDim.x) {{"
        return [begin, *("        " + x for x in lines), "    }", "    __syncthreads();"]

    def total(self, n: Node) -> list[str]:
        """Elements by all threads, then a tree."""
        lines = vectors.total(self, n, loop="int64_t r = threadIdx.x; r < {count}; r += blockDim.x")
        return [*lines, f"    a{n.index} = weft_block_{COMBINE[n.op][0]}(a{n.index});"]

    def render(self) -> list[str]:
        """The kernel, where there is anything to do."""
        return super().render() if has_stage(self.plan, self.number) else []


class CudaPass(Pass):
    """A pass, by a block: each thread neighbours, a tile of the chunk at a time."""

    def __init__(self, plan: Plan, number: int):
        super().__init__(plan, number)
        self.read: dict[int, None] = {}
        self.written: dict[int, None] = {}
        self.indexed = False

    def opening(self) -> list[str]:
        """A kernel, a chunk for each block."""
        return [f"WEFT_KERNEL(weft_chunk_{self.number}) {{", "    WEFT_A_CHUNK"]

    def element_of(self, slot: int) -> str:
        """From the neighbours that were read."""
        self.read[slot] = None
        return f"{self.pointer(slot, ' + start')}_in[i]"

    def place_of(self, slot: int) -> str:
        """Among the neighbours that will be written."""
        self.written[slot] = None
        return f"{self.pointer(slot, ' + start')}_out[i]"

    def along(self, n: Node, a: Node) -> str:
        """From memory, where this element's result is."""
        run, self.indexed = laid(self.plan).runs.get((n.index, a.index)), True
        if run is None:
            return self.element(a, "start + e")
        cells = self.declare(f"cells{run}", "weft_cells", f"weft_cells_of(start, dim + {run})")
        return self.element(a, f"weft_cell(&{cells}, e)")

    def render(self) -> list[str]:
        """The kernel, where the phase does anything."""
        return super().render() if has_pass(self.plan, self.number) else []

    def walk(self) -> list[str]:
        """Tile after tile."""
        lines = [*self.loads(), *self.computes()]
        head, sums, ends = self._reductions(lines)
        lines += self.stores()
        if self.indexed:
            lines.insert(0, "const int e = b + WEFT_LEAST(j + i, m - 1);")
        slots = dict.fromkeys([*self.read, *self.written])
        wide = " && ".join(f"WEFT_ALIGNED({self.pointer(s)})" for s in slots) or "0"
        return [
            *head,
            f"    const int wide = {wide}, j = threadIdx.x * WEFT_WIDE;",
            "    for (int b = 0; b < n; b += blockDim.x * WEFT_WIDE) {",
            "        const int m = WEFT_LEAST(n - b, (int)blockDim.x * WEFT_WIDE);",
            *(self._load(s) for s in self.read),
            *(f"        {self._type(s)} {self.pointer(s)}_out[WEFT_WIDE];" for s in self.written),
            "#pragma unroll",
            "        for (int i = 0; i < WEFT_WIDE; i++) {",
            *("            " + x for x in lines),
            "        }",
            *(self._store(s) for s in self.written),
            *sums,
            "    }",
            *ends,
        ]

    def _type(self, slot: int) -> str:
        return ops.STORED[self.plan.slots[slot].dtype]

    def _load(self, slot: int) -> str:
        """Neighbours from memory."""
        name, ctype = self.pointer(slot), self._type(slot)
        moved = f"weft_load_{ctype}({name}_in, {name} + b + j, m - j, wide);"
        return f"        {ctype} {name}_in[WEFT_WIDE]; {moved}"

    def _store(self, slot: int) -> str:
        """Neighbours to memory."""
        name, ctype = self.pointer(slot), self._type(slot)
        return f"        weft_store_{ctype}({name} + b + j, {name}_out, m - j, wide);"

    def _reductions(self, lines: list[str]) -> tuple[list[str], list[str], list[str]]:
        """What is reduced: into a number of each thread, or by way of a tile that all threads see."""
        head, sums, ends = [], [], []
        texts = self.reduced()
        for a in dict.fromkeys(r.args[0] for r in self.folds):
            head.append(f"    __shared__ {buffered(a)[0]} r{a.index}[WEFT_TILE];")
            lines.append(f"r{a.index}[j + i] = {texts[a]};")
        for i, r in enumerate(self.phase.reductions):
            how, start = COMBINE[r.op]
            if r in self.folds:
                head += self.begin_fold(r)
                sums.append(self.fold(r))
                continue
            head.append(f"    double part{i} = {start};")
            value = f"const double v = (double){texts[r.args[0]]}, a = part{i};"
            lines.append(f"if (j + i < m) {{ {value} part{i} = {COMBINED[how]}; }}")
            ends.append(f"    part{i} = weft_block_{how}(part{i});")
            ends.append(f"    if (!threadIdx.x) partial[{i}] = part{i};")
        return head, sums, ends


CUDA = Dialect("kernel.cuh", CudaStage, CudaPass, lambda _: [])
