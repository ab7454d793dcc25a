"""The host's C, as Python calls it: structures, functions, and the one library that has them.

It looks at tensors, counts steps, computes numbers and lends its threads. It knows nothing of kernels:
what it writes for a launch is `weft_inputs`, addresses and numbers.
"""

import ctypes
from pathlib import Path
from typing import Any

from weft.engine.host.scalar_code import cases
from weft.engine.toolchain.cache import library
from weft.engine.toolchain.once import once

__all__ = ["Column", "Counts", "Native", "Replay", "ScalarRow", "Watched", "check_sizes", "native"]

HERE = Path(__file__).parent / "native"
PARTS = ("inputs.h", "threads.c", "counters.c", "guards.c", "scalars.c", "replay.c")
POINTER, LONG = ctypes.c_void_p, ctypes.c_int64


class Watched(ctypes.Structure):
    """`weft_watched` of guards.c, field by field."""

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


class ScalarRow(ctypes.Structure):
    """`weft_scalar_row` of scalars.c."""

    _fields_ = (
        ("inputs", POINTER),
        *((n, LONG) for n in ("row", "step", "leaves", "codes", "outputs")),
        *((n, POINTER) for n in ("leaf", "code", "output", "reg")),
    )


class Counts(ctypes.Structure):
    """`weft_counts` of counters.c."""

    _fields_ = (("at", POINTER), ("wide", POINTER), ("n", LONG), ("read", POINTER))


class Column(ctypes.Structure):
    """`weft_column` of replay.c."""

    _fields_ = (("inputs", POINTER), ("slot", LONG), ("which", POINTER))


class Replay(ctypes.Structure):
    """`weft_replay` of replay.c."""

    _fields_ = (
        ("watched", POINTER),
        *((n, LONG) for n in ("rows", "columns")),
        *((n, POINTER) for n in ("scalar_row", "column", "counts")),
    )


class Native:
    """What is called for a few microseconds: Python's lock is kept, so that nothing moves meanwhile."""

    def __init__(self, lib: Any):
        check_sizes(lib, {c.__name__: c for c in (Watched, ScalarRow, Counts, Column, Replay)})
        self.lib = lib
        self.count = self._bind("count", None, POINTER)
        self.read_counts = self._bind("read_counts", None, POINTER)
        self.count_of_all = self._bind("count_of_all", ctypes.c_double, POINTER)
        self.can_look = self._bind("can_look", ctypes.c_int)
        self.point_to = self._bind("point_to", ctypes.c_int, POINTER, LONG, POINTER, LONG)
        self.learn_types = self._bind("learn_types", None, POINTER, POINTER)
        self.grads = self._bind("grads", LONG, POINTER, LONG, LONG, POINTER, POINTER, POINTER)
        self.learn_kinds = self._bind("learn_kinds", None, POINTER, LONG)
        self.kinds = self._bind("kinds", None, POINTER, LONG, LONG, POINTER, POINTER)
        self.learn_objects = self._bind("learn_objects", None, POINTER, LONG, LONG, POINTER, LONG)
        self.still = self._bind("still", LONG, POINTER, ctypes.c_int)
        self.take_grads = self._bind("take_grads", ctypes.c_int, POINTER)
        self.ready = self._bind("ready", LONG, POINTER, ctypes.c_int)

    def _bind(self, name: str, gives: Any, *takes: Any) -> Any:
        return ctypes.PYFUNCTYPE(gives, *takes)((f"weft_{name}", self.lib))


def check_sizes(lib: Any, structures: dict[str, type[ctypes.Structure]]) -> None:
    """Hold structures to the sizes that C gives them: `weft_size_of_Name` for each.

    Raises:
        RuntimeError: names the first that is another.
    """
    for name, structure in structures.items():
        size = LONG.in_dll(lib, f"weft_size_of_{name}").value
        if size != ctypes.sizeof(structure):
            raise RuntimeError(f"{name} has {ctypes.sizeof(structure)} bytes, and {size} in C")


@once
def native() -> Native:
    """The host's library; one for the process.

    Raises:
        NoCompiler: where it has to be built and cannot be.
    """
    source = "\n".join((HERE / name).read_text(encoding="utf-8") for name in PARTS)
    return Native(library("#define _GNU_SOURCE\n" + source.replace(*_instructions())).lib)


def _instructions() -> tuple[str, str]:
    return "/* INSTRUCTIONS: those of scalar_code.py */\n", cases()
