"""Kernels as Python calls them: the table of a launch, and the calls into C."""

import ctypes
import functools
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weft.engine.backends.c.cache import Entry, library
from weft.engine.backends.c.ops import lowers
from weft.engine.backends.c.render import render
from weft.engine.plan import Plan

__all__ = [
    "Column", "Counts", "Kernel", "Numbers", "Repeated", "Steps", "Table", "Things", "build", "looks",
    "lowers",
]  # fmt: skip

HERE = Path(__file__).parent
POINTER, LONG = ctypes.c_void_p, ctypes.c_int64


class Table(ctypes.Structure):
    """`weft_table` of weft.h, field by field."""

    _fields_ = (
        *((n, LONG) for n in ("tensors", "scalars", "values", "dims", "reductions")),
        *((n, POINTER) for n in ("ptr", "rows", "row_of", "value", "dim")),
        *((n, LONG) for n in ("active", "chunks")),
        *((n, POINTER) for n in ("which", "first", "start", "length", "partial")),
        *((n, LONG) for n in ("wholes", "splits", "split_from")),
        *((n, POINTER) for n in ("whole", "split", "owner")),
    )


class Things(ctypes.Structure):
    """`weft_things` of looks.c, field by field."""

    _fields_ = (
        *((n, LONG) for n in ("lists", "dicts", "groups", "tensors", "params", "offset")),
        *((n, POINTER) for n in ("list", "list_length", "item")),
        *((n, POINTER) for n in ("dict", "dict_length", "key", "value", "hypers")),
        *((n, POINTER) for n in ("object", "address", "bound", "extent", "type", "view")),
        *((n, POINTER) for n in ("param", "place")),
        *((n, POINTER) for n in ("dtype", "kind", "grad_bound", "grad_extent", "was", "at")),
        *((n, LONG) for n in ("grads", "written")),
        *((n, POINTER) for n in ("param_of", "bytes", "begin", "end")),
    )


class Numbers(ctypes.Structure):
    """`weft_numbers` of numbers.c."""

    _fields_ = (
        ("table", POINTER),
        *((n, LONG) for n in ("row", "step", "leaves", "codes", "outputs")),
        *((n, POINTER) for n in ("leaf", "code", "output", "reg")),
    )


class Counts(ctypes.Structure):
    """`weft_counts` of runtime.c."""

    _fields_ = (("at", POINTER), ("wide", POINTER), ("n", LONG), ("read", POINTER))


class Column(ctypes.Structure):
    """`weft_column` of repeat.c."""

    _fields_ = (("table", POINTER), ("slot", LONG), ("which", POINTER))


class Repeated(ctypes.Structure):
    """`weft_repeat` of repeat.c."""

    _fields_ = (
        ("things", POINTER),
        *((n, LONG) for n in ("rows", "columns")),
        *((n, POINTER) for n in ("numbers", "column", "counts")),
    )


class _Launch(ctypes.Structure):
    """`weft_launch` of runtime.c."""

    _fields_ = (
        *((n, POINTER) for n in ("table", "chunk", "knot")),
        *((n, LONG) for n in ("phases", "alone")),
    )


class _Launches(ctypes.Structure):
    """`weft_launches` of runtime.c."""

    _fields_ = (("launch", POINTER), ("n", LONG), ("counts", POINTER))


@functools.cache
def header() -> str:
    """weft.h, put into each source, so that a source is whole and its key says all."""
    return (HERE / "weft.h").read_text(encoding="utf-8")


_runtime_lock = threading.Lock()


def _forget_others() -> None:
    """In a forked child there is no thread that builds, nor one that would open its lock."""
    global _runtime_lock
    _runtime_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_others)


@functools.cache
def _runtime() -> Any:
    names = ("runtime.c", "looks.c", "numbers.c", "repeat.c")
    parts = [(HERE / name).read_text(encoding="utf-8") for name in names]
    lib = library("\n".join(parts).replace('#include "weft.h"', header())).lib
    lib.weft_run.argtypes = [POINTER, POINTER, POINTER, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    lib.weft_tie.argtypes = [POINTER, POINTER, ctypes.c_int]
    lib.weft_step.argtypes = [POINTER, ctypes.c_int]
    lib.weft_run.restype = lib.weft_tie.restype = lib.weft_step.restype = None
    return lib


def runtime() -> Any:
    """The library that runs phases on the pool; one for all kernels of the process."""
    with _runtime_lock:
        return _runtime()


class Looks:
    """What is called for a few microseconds: Python's lock is kept, so that nothing moves meanwhile."""

    def __init__(self, lib: Any):
        self.count = self._bind(lib, "count", None, POINTER)
        self.read_counts = self._bind(lib, "read_counts", None, POINTER)
        self.count_of_all = self._bind(lib, "count_of_all", ctypes.c_double, POINTER)
        self.can_look = self._bind(lib, "can_look", ctypes.c_int)
        self.point_to = self._bind(lib, "point_to", ctypes.c_int, POINTER, LONG, POINTER, LONG)
        self.learn_types = self._bind(lib, "learn_types", None, POINTER, POINTER)
        self.grads = self._bind(lib, "grads", LONG, POINTER, LONG, LONG, POINTER, POINTER, POINTER)
        self.learn_kinds = self._bind(lib, "learn_kinds", None, POINTER, LONG)
        self.kinds = self._bind(lib, "kinds", None, POINTER, LONG, LONG, POINTER, POINTER)
        self.learn_objects = self._bind(
            lib, "learn_objects", None, POINTER, LONG, LONG, POINTER, LONG
        )
        self.still = self._bind(lib, "still", LONG, POINTER, ctypes.c_int)
        self.take_grads = self._bind(lib, "take_grads", ctypes.c_int, POINTER)
        self.ready = self._bind(lib, "ready", LONG, POINTER, ctypes.c_int)

    @staticmethod
    def _bind(lib: Any, name: str, gives: Any, *takes: Any) -> Any:
        return ctypes.PYFUNCTYPE(gives, *takes)((f"weft_{name}", lib))


@functools.cache
def looks() -> Looks:
    """The functions that look at tensors, and at step counts."""
    return Looks(runtime())


class Kernel:
    """The compiled phases of a plan.

    Attributes:
        source: the generated part of the C.
        entry: the library, with its notes.
    """

    def __init__(self, source: str, entry: Entry):
        self.source, self.entry = source, entry
        self.chunk = ctypes.cast(entry.lib.weft_chunk, POINTER).value
        self.knot = ctypes.cast(entry.lib.weft_knot, POINTER).value
        lib = runtime()
        self._run, self._tie = lib.weft_run, lib.weft_tie

    def run(self, table: int, begin: int, end: int, threads: int) -> None:
        """Phases `begin` to `end` of the table at this address, each with the knot after it."""
        self._run(table, self.chunk, self.knot, begin, end, threads)

    def tie(self, table: int, phase: int) -> None:
        """The knot before `phase`, again."""
        self._tie(table, self.knot, phase)


class Steps:
    """Launches that are all that a step does, with the counts that it advances."""

    def __init__(self, launches: Sequence[tuple[Kernel, int, int, bool]], counts: int):
        """A kernel, the address of its table, its phases, and whether one thread is enough; and
        the address of the counts that go on."""
        self._step = runtime().weft_step
        rows = [(at, k.chunk, k.knot, phases, alone) for k, at, phases, alone in launches]
        self._launch = (_Launch * len(rows))(*rows)
        self._all = _Launches(ctypes.addressof(self._launch), len(rows), counts)
        self._at = ctypes.addressof(self._all)

    def run(self, threads: int) -> None:
        """All of it in one call, which no interrupt of Python's comes between."""
        self._step(self._at, threads)


_kernels: dict[str, Kernel] = {}


def build(plan: Plan, title: str) -> Kernel:
    """The kernel of a plan: the same source is compiled once.

    Raises:
        NoCompiler: where it cannot be compiled.
    """
    source = render(plan, title)
    kernel = _kernels.get(source)
    if kernel is None:
        entry = library(source.replace('#include "weft.h"', header()))
        kernel = _kernels.setdefault(source, Kernel(source, entry))
    return kernel
