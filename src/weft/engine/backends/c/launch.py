"""The table of a launch: pointers, numbers and chunks, laid out as kernel.h says."""

import ctypes
from array import array
from collections.abc import Sequence

import torch

from weft.engine.backends.c.kernel import Kernel, Planned, Table, WholeStep, phases
from weft.engine.backends.source.inputs import Inputs
from weft.engine.backends.source.layout import CHUNK, laid
from weft.engine.plan.plan import Plan

__all__ = ["CHUNK", "CLaunch", "CStep", "Part"]

WHOLE = 160  # chunks that one thread takes through all phases: a pass finds some in its cache
FAIR = 2  # tensors that a thread is to have at least, where they are large
SMALL = 8  # chunks of a tensor that is never worth more than one thread
ALONE = 8192  # elements that one thread is done with before another has woken
OVERHEAD = 256  # what a tensor costs besides its elements, in elements


class Part:
    """Which tensors of a table step now, cut into chunks and units of work."""

    def __init__(
        self, sizes: Sequence[int], active: Sequence[int], phases: int, lengths: Sequence[int]
    ):
        self.elements = sum(sizes[t] for t in active)
        fair = self.elements // (FAIR * torch.get_num_threads())
        limit = CHUNK if phases == 1 else min(CHUNK * WHOLE, max(CHUNK * SMALL, fair))
        small = [t for t in active if sizes[t] <= limit]
        if phases > 1:
            small.sort(key=sizes.__getitem__, reverse=True)  # threads end at about the same time
        large = [t for t in active if sizes[t] > limit]
        self.which = array("i", [*small, *large])
        self.first = array("q", [0])
        self.start, self.length, self.owner = array("q"), array("q"), array("i")
        for a, t in enumerate(self.which):
            size, length = sizes[t], lengths[t]
            for begin in range(0, size, length):
                self.start.append(begin)
                self.length.append(min(length, size - begin))
                self.owner.append(a)
            self.first.append(len(self.start))
        self.split_from = len(small)
        self.whole = _bounds([sizes[t] + OVERHEAD for t in small], 0)
        head = self.first[self.split_from]
        self.split = _bounds(list(self.length[head:]), head)

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return len(self.start)


def _bounds(costs: Sequence[int], begin: int) -> array:
    """Bounds of runs of things that cost about a chunk together, the first at `at`."""
    bounds, total = array("q", [begin]), 0
    for i, cost in enumerate(costs):
        total += cost
        if total >= CHUNK or i == len(costs) - 1:
            bounds.append(begin + i + 1)
            total = 0
    return bounds


class CLaunch(Inputs):
    """The memory that a kernel is called with, for one set of tensors.

    Attributes:
        alone: whether one thread is enough.
    """

    def __init__(self, kernel: Kernel, plans: Sequence[Plan], sizes: Sequence[int]):
        """`plans` has one for each tensor, all of one skeleton."""
        super().__init__(plans, torch.device("cpu"))
        self.kernel, n, plan = kernel, len(sizes), self.plan
        lengths = [laid(p).sizes[0] if laid(p).sizes else CHUNK for p in plans]
        self.part = Part(sizes, range(n), len(plan.phases), lengths)
        self.elements = self.part.elements
        self.alone = self.elements <= ALONE
        self.grid = f"{self.part.chunks:,} chunks of up to {max(lengths):,} elements"
        self._value = (ctypes.c_double * self.values.numel()).from_address(self.values.data_ptr())
        self.partial = (ctypes.c_double * max(1, self.part.chunks * plan.reductions))()
        dims = [size for p in plans for size in laid(p).sizes]
        self.dim = (ctypes.c_int64 * max(1, len(dims)))(*dims)
        part = self.part
        self.c = Table(
            tensors=n, scalars=self.scalars, values=self.per_tensor, dims=len(laid(plan).sizes),
            reductions=plan.reductions, ptr=ctypes.addressof(self.ptr), rows=ctypes.addressof(self.rows),
            row_of=ctypes.addressof(self.row_of), value=ctypes.addressof(self._value),
            dim=ctypes.addressof(self.dim),
            active=len(part.which), chunks=part.chunks, which=_at(part.which), first=_at(part.first),
            start=_at(part.start), length=_at(part.length), partial=ctypes.addressof(self.partial),
            wholes=len(part.whole) - 1, splits=len(part.split) - 1, split_from=part.split_from,
            whole=_at(part.whole), split=_at(part.split), owner=_at(part.owner),
        )  # fmt: skip
        lib = phases()
        self._run, self._run_scalars = lib.weft_run, lib.weft_run_scalars

    def leave_out(self, flag: torch.Tensor | None) -> None:
        """Never asked: what is on a CPU is read before the step."""
        assert flag is None

    def value(self, tensor: int, place: int) -> float:
        """One of the values."""
        return self._value[tensor * self.c.values + place]

    def run(self, begin: int, end: int) -> None:
        """Phases `begin` to `end`, each with the scalars after it."""
        threads = 1 if self.alone else torch.get_num_threads()
        self._run(self.inputs, self.kernel.chunk, self.kernel.scalars, begin, end, threads)

    def run_scalars(self, phase: int) -> None:
        """The scalars before `phase`, again."""
        self._run_scalars(self.inputs, self.kernel.scalars, phase)


class CStep:
    """Launches that are all that a step does, with the counts that it advances."""

    def __init__(self, launches: Sequence[CLaunch], counts: int):
        """`counts` is the address of those that go on."""
        self._step = phases().weft_step
        rows = [
            (x.inputs, x.kernel.chunk, x.kernel.scalars, len(x.plan.phases), x.alone)
            for x in launches
        ]
        self._launch = (Planned * len(rows))(*rows)
        self._all = WholeStep(ctypes.addressof(self._launch), len(rows), counts)
        self._at = ctypes.addressof(self._all)

    def run(self) -> None:
        """All of it in one call, which no interrupt of Python's comes between."""
        self._step(self._at, torch.get_num_threads())


def _at(a: array) -> int:
    return a.buffer_info()[0]
