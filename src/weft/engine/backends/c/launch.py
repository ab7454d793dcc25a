"""The table of a launch: pointers, numbers and chunks, laid out as kernel.h says."""

import ctypes
from array import array
from collections.abc import Sequence

import torch

from weft.engine.backends.c.kernel import Kernel, Planned, Table, WholeStep, phases
from weft.engine.backends.c.layout import CHUNK, laid
from weft.engine.plan.plan import Plan
from weft.errors import NoNumber

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


def _bounds(costs: Sequence[int], at: int) -> array:
    """Bounds of runs of things that cost about a chunk together, the first at `at`."""
    bounds, total = array("q", [at]), 0
    for i, cost in enumerate(costs):
        total += cost
        if total >= CHUNK or i == len(costs) - 1:
            bounds.append(at + i + 1)
            total = 0
    return bounds


class CLaunch:
    """The memory that a kernel is called with, for one set of tensors.

    Attributes:
        ptr: the address of each slot of each tensor, slot after slot.
        values: the 0-dim values of each tensor.
        inputs: the address of the table, which begins as `weft_inputs` does.
        alone: whether one thread is enough.
    """

    def __init__(self, kernel: Kernel, plans: Sequence[Plan], sizes: Sequence[int]):
        """`plans` has one for each tensor, all of one skeleton."""
        n = len(sizes)
        plan = plans[0]
        lengths = [laid(p).sizes[0] if laid(p).sizes else CHUNK for p in plans]
        self.kernel, self.plan, self.tensors = kernel, plan, n
        self.part = Part(sizes, range(n), len(plan.phases), lengths)
        self.elements = self.part.elements
        self.alone = self.elements <= ALONE
        self.scalars, per_tensor = max(1, plan.scalars), max(1, len(plan.values))
        self.ptr = (ctypes.c_uint64 * (n * max(1, len(plan.slots))))()
        self.row_of = (ctypes.c_int32 * n)()
        self._value = (ctypes.c_double * (n * per_tensor))()
        self.values = torch.frombuffer(self._value, dtype=torch.float64).view(n, per_tensor)
        self.partial = (ctypes.c_double * max(1, self.part.chunks * plan.reductions))()
        self.rows = (ctypes.c_double * self.scalars)()
        self.room = 1
        dims = [size for p in plans for size in laid(p).sizes]
        self.dim = (ctypes.c_int64 * max(1, len(dims)))(*dims)
        self._make_scratch(plans)
        part = self.part
        self.c = Table(
            tensors=n, scalars=self.scalars, values=per_tensor, dims=len(laid(plan).sizes),
            reductions=plan.reductions, ptr=ctypes.addressof(self.ptr), rows=ctypes.addressof(self.rows),
            row_of=ctypes.addressof(self.row_of), value=ctypes.addressof(self._value),
            dim=ctypes.addressof(self.dim),
            active=len(part.which), chunks=part.chunks, which=_at(part.which), first=_at(part.first),
            start=_at(part.start), length=_at(part.length), partial=ctypes.addressof(self.partial),
            wholes=len(part.whole) - 1, splits=len(part.split) - 1, split_from=part.split_from,
            whole=_at(part.whole), split=_at(part.split), owner=_at(part.owner),
        )  # fmt: skip
        self.inputs: int | None = ctypes.addressof(self.c)
        lib = phases()
        self._run, self._run_scalars = lib.weft_run, lib.weft_run_scalars

    def _make_scratch(self, plans: Sequence[Plan]) -> None:
        """Memory for the vectors of all tensors, each at the beginning of a cache line."""
        wanted = [
            (slot * self.tensors + t, -(-p.slots[slot].dtype.itemsize * elements // 64) * 64)
            for t, p in enumerate(plans)
            for slot, elements in laid(p).scratch.items()
        ]
        self.scratch = torch.empty(sum(size for _, size in wanted), dtype=torch.uint8, device="cpu")
        at = self.scratch.data_ptr()
        for place, size in wanted:
            self.ptr[place] = at
            at += size

    def point(self, slot: int, addresses: Sequence[int]) -> None:
        """Set the addresses of one slot."""
        self.ptr[slot * self.tensors : (slot + 1) * self.tensors] = addresses

    def point_one(self, slot: int, tensor: int, address: int) -> None:
        """Set the address of one slot of one tensor."""
        self.ptr[slot * self.tensors + tensor] = address

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

    def set_rows(self, rows: Sequence[Sequence[float]], row_of: Sequence[int] | None) -> None:
        """Set the host scalars: a row for each group and step, and which tensor has which."""
        if len(rows) > self.room:
            self.room = len(rows)
            self.rows = (ctypes.c_double * (self.scalars * self.room))()
            self.c.rows = ctypes.addressof(self.rows)
        for i, row in enumerate(rows):
            row = row[: self.plan.scalars]
            try:
                self.rows[i * self.scalars : i * self.scalars + len(row)] = row
            except (TypeError, OverflowError) as e:  # a hyper that nothing was computed from
                raise NoNumber(f"{type(e).__name__}: {e}") from e
        if row_of is not None:
            self.row_of[:] = row_of


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
