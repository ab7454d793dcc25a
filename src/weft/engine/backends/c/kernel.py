"""Kernels as Python calls them: a library for each plan, and the one that runs their phases."""

import ctypes
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weft.engine.backends.c.dialect import C
from weft.engine.backends.source.render import render, with_common
from weft.engine.host.native import check_sizes, native
from weft.engine.plan.plan import Plan
from weft.engine.toolchain.cache import Entry, library
from weft.engine.toolchain.once import once

__all__ = ["Kernel", "Table", "build", "phases"]

HERE = Path(__file__).parent
POINTER, LONG = ctypes.c_void_p, ctypes.c_int64


class Table(ctypes.Structure):
    """`weft_table` of kernel.h, field by field."""

    _fields_ = (
        *((n, LONG) for n in ("tensors", "scalars")),
        *((n, POINTER) for n in ("ptr", "rows")),
        *((n, LONG) for n in ("values", "dims", "reductions")),
        *((n, POINTER) for n in ("row_of", "value", "dim")),
        *((n, LONG) for n in ("active", "chunks")),
        *((n, POINTER) for n in ("which", "first", "start", "length", "partial")),
        *((n, LONG) for n in ("wholes", "splits", "split_from")),
        *((n, POINTER) for n in ("whole", "split", "owner")),
    )


class Planned(ctypes.Structure):
    """`weft_launch` of phases.c."""

    _fields_ = (
        *((n, POINTER) for n in ("table", "chunk", "scalars")),
        *((n, LONG) for n in ("phases", "alone")),
    )


class WholeStep(ctypes.Structure):
    """`weft_launches` of phases.c."""

    _fields_ = (("launch", POINTER), ("n", LONG), ("counts", POINTER))


@functools.cache
def header() -> str:
    """kernel.h, put into each source, so that a source is whole and its key says all."""
    return with_common((HERE / "kernel.h").read_text(encoding="utf-8"))


@once
def phases() -> Any:
    """The library that runs phases on the host's threads; one for all kernels of the process."""
    text = (HERE / "phases.c").read_text(encoding="utf-8")
    lib = library(text.replace('#include "kernel.h"', header())).lib
    check_sizes(lib, {c.__name__: c for c in (Table, Planned, WholeStep)})
    lib.weft_run.argtypes = [POINTER, POINTER, POINTER, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    lib.weft_run_scalars.argtypes = [POINTER, POINTER, ctypes.c_int]
    lib.weft_step.argtypes = [POINTER, ctypes.c_int]
    lib.weft_borrow.argtypes = [POINTER, POINTER]
    lib.weft_run.restype = lib.weft_run_scalars.restype = lib.weft_step.restype = None
    host = native().lib
    lib.weft_borrow(*(ctypes.cast(f, POINTER) for f in (host.weft_parallel_for, host.weft_count)))
    return lib


class Kernel:
    """The compiled phases of a plan.

    Attributes:
        source: the generated part of the C.
        key: of the library.
        entry: the library, with its notes.
        chunk, scalars: the addresses of its two functions.
    """

    def __init__(self, source: str, entry: Entry):
        self.source, self.entry, self.key = source, entry, entry.key
        self.chunk = ctypes.cast(entry.lib.weft_chunk, POINTER).value
        self.scalars = ctypes.cast(entry.lib.weft_scalars, POINTER).value
        phases()  # what cannot run is not built either

    @property
    def notes(self) -> Mapping[str, list[str]]:
        """What is remembered with the library."""
        return self.entry.notes

    def note(self, name: str, words: list[str]) -> None:
        """Remember something with it."""
        self.entry.note(name, words)


_kernels: dict[str, Kernel] = {}


def build(plan: Plan, title: str) -> Kernel:
    """The kernel of a plan: the same source is compiled once.

    Raises:
        NoCompiler: where it cannot be compiled.
    """
    source = render(plan, title, C)
    kernel = _kernels.get(source)
    if kernel is None:
        entry = library(source.replace('#include "kernel.h"', header()))
        kernel = _kernels.setdefault(source, Kernel(source, entry))
    return kernel
