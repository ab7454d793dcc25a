"""Kernels as Python calls them: the table of a launch, and the calls into C."""

import ctypes
import functools
import threading
from pathlib import Path
from typing import Any

from weft.engine.backends.c.cache import Entry, library
from weft.engine.backends.c.ops import lowers
from weft.engine.backends.c.render import render
from weft.engine.plan import Plan

__all__ = ["Kernel", "Table", "build", "lowers", "warm_up"]

HERE = Path(__file__).parent
POINTER, LONG = ctypes.c_void_p, ctypes.c_int64


class Table(ctypes.Structure):
    """`weft_table` of weft.h, field by field."""

    _fields_ = (
        *((n, LONG) for n in ("tensors", "scalars", "columns", "values", "dims", "reductions")),
        *((n, POINTER) for n in ("ptr", "rows", "row_of", "column", "value", "dim")),
        *((n, LONG) for n in ("active", "chunks")),
        *((n, POINTER) for n in ("which", "first", "start", "length", "partial")),
        *((n, LONG) for n in ("wholes", "splits", "split_from")),
        *((n, POINTER) for n in ("whole", "split", "owner")),
    )


@functools.cache
def header() -> str:
    """weft.h, put into each source, so that a source is whole and its key says all."""
    return (HERE / "weft.h").read_text(encoding="utf-8")


_runtime_lock = threading.Lock()


@functools.cache
def _runtime() -> Any:
    source = (HERE / "runtime.c").read_text(encoding="utf-8").replace('#include "weft.h"', header())
    lib = library(source).lib
    lib.weft_run.argtypes = [POINTER, POINTER, POINTER, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    lib.weft_tie.argtypes = [POINTER, POINTER, ctypes.c_int]
    lib.weft_count.argtypes = [POINTER, LONG]
    lib.weft_run.restype = lib.weft_tie.restype = lib.weft_count.restype = None
    return lib


def runtime() -> Any:
    """The library that runs phases on the pool; one for all kernels of the process."""
    with _runtime_lock:
        return _runtime()


def warm_up() -> None:
    """Begin to build the runtime while a chain is traced."""
    threading.Thread(target=_quietly, daemon=True).start()


def _quietly() -> None:
    try:
        runtime()
    except Exception:  # said by whoever needs it
        return


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
        self._run, self._tie, self._count = lib.weft_run, lib.weft_tie, lib.weft_count

    def run(self, table: int, begin: int, end: int, threads: int) -> None:
        """Phases `begin` to `end` of the table at this address, each with the knot after it."""
        self._run(table, self.chunk, self.knot, begin, end, threads)

    def count(self, steps: int, n: int) -> None:
        """Add 1 to `n` float32 step counts at this address."""
        self._count(steps, n)

    def tie(self, table: int, phase: int) -> None:
        """The knot before `phase`, again."""
        self._tie(table, self.knot, phase)


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
