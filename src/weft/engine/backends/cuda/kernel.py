"""Kernels as Python calls them: the compiled passes and stages of a plan, and what launches them."""

import ctypes
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from weft.engine.backends.cuda.dialect import CUDA, has_pass, has_stage
from weft.engine.backends.source.render import render, with_common
from weft.engine.host.native import check_sizes, native
from weft.engine.plan.plan import Plan
from weft.engine.toolchain.cache import Entry, library
from weft.engine.toolchain.once import once

__all__ = ["ROW", "Args", "Device", "Kernel", "Planned", "build", "launcher"]

HERE = Path(__file__).parent
ROW, THREADS = 256, 256  # WEFT_ROW and WEFT_THREADS of kernel.cuh
POINTER, LONG = ctypes.c_void_p, ctypes.c_int64


class Args(ctypes.Structure):
    """`weft_args` of kernel.cuh, field by field."""

    _fields_ = (
        *((n, LONG) for n in ("tensors", "scalars")),
        *((n, POINTER) for n in ("ptr", "rows")),
        *((n, LONG) for n in ("values", "dims", "reductions")),
        *((n, POINTER) for n in ("row_of", "value", "dim")),
        *((n, POINTER) for n in ("first", "start", "length", "owner", "partial", "left_out")),
        ("row", ctypes.c_double * ROW),
    )


class Planned(ctypes.Structure):
    """`weft_cuda_launch` of launch.c, which begins as `weft_inputs` does."""

    _fields_ = (
        *((n, LONG) for n in ("tensors", "scalars")),
        *((n, POINTER) for n in ("ptr", "rows")),
        *((n, LONG) for n in ("pointers", "numbers", "few")),
        *((n, POINTER) for n in ("sent", "args", "passes", "stages")),
        *((n, LONG) for n in ("phases", "blocks")),
    )


class Device(Protocol):
    """What compiles for one device, and what launches there.

    Attributes:
        memory: where tensors are.
        launch: the address of `cuLaunchKernel`, or of what takes its place.
    """

    memory: torch.device
    launch: int

    def require(self) -> None:
        """See that kernels can be built and launched.

        Raises:
            Unavailable: says why not.
        """
        ...

    def library(self, source: str) -> Entry:
        """A source, compiled or from the cache.

        Raises:
            Unavailable: where it cannot be.
        """
        ...

    def function(self, library: Any, name: str) -> int:
        """The address of one of its kernels."""
        ...

    def capturing(self) -> bool:
        """Whether that stream records a CUDA graph."""
        ...

    def stream(self) -> int | None:
        """The stream that work is given to now."""
        ...

    def call(self, function: Any, *args: Any) -> int:
        """What the host's library launches, on that stream of this device; its result."""
        ...

    def keep(self, tensors: list[torch.Tensor]) -> None:
        """Memory is not given away before that stream is done with it."""
        ...


@functools.cache
def header() -> str:
    """kernel.cuh, put into each source, so that a source is whole and its key says all."""
    return with_common((HERE / "kernel.cuh").read_text(encoding="utf-8"))


@once
def launcher() -> Any:
    """The host's library that launches; one for the process."""
    lib = library((HERE / "launch.c").read_text(encoding="utf-8")).lib
    check_sizes(lib, {c.__name__: c for c in (Args, Planned)})
    lib.weft_cuda_borrow.argtypes = [POINTER, POINTER]
    lib.weft_cuda_moved.argtypes = [POINTER]
    lib.weft_cuda_run.argtypes = [POINTER, LONG, LONG, POINTER]
    lib.weft_cuda_stage.argtypes = [POINTER, LONG, POINTER]
    lib.weft_cuda_step.argtypes = [POINTER, LONG, POINTER, POINTER]
    lib.weft_cuda_step.restype = LONG
    return lib


class Kernel:
    """The compiled passes and stages of a plan.

    Attributes:
        source: the generated part.
        key: of the library.
        passes, stages: the address of each kernel; None where there is nothing to do.
    """

    def __init__(self, source: str, entry: Entry, plan: Plan, device: Device):
        self.source, self.entry, self.key = source, entry, entry.key
        last = len(plan.phases)
        passes = [
            device.function(entry.lib, f"weft_chunk_{number}") if has_pass(plan, number) else None
            for number in range(last)
        ]
        stages = [
            device.function(entry.lib, f"weft_scalars_{number}")
            if has_stage(plan, number)
            else None
            for number in range(last + 1)
        ]
        self.passes, self.stages = (POINTER * last)(*passes), (POINTER * (last + 1))(*stages)
        host = ctypes.cast(native().lib.weft_count, POINTER)
        launcher().weft_cuda_borrow(device.launch, host)

    @property
    def notes(self) -> Mapping[str, list[str]]:
        """What is remembered with the library."""
        return self.entry.notes

    def note(self, name: str, words: list[str]) -> None:
        """Remember something with it."""
        self.entry.note(name, words)


def build(plan: Plan, title: str, device: Device, kernels: dict[str, Kernel]) -> Kernel:
    """The kernel of a plan: the same source is compiled once.

    Raises:
        Unavailable: where it cannot be compiled.
    """
    source = render(plan, title, CUDA)
    kernel = kernels.get(source)
    if kernel is None:
        entry = device.library(source.replace('#include "kernel.cuh"', header()))
        kernel = kernels.setdefault(source, Kernel(source, entry, plan, device))
    return kernel
