"""A device that is the CPU: the GPU's kernels, compiled for the host, block after block."""

import ctypes
import functools
from pathlib import Path

import torch

from weft.engine.backends.cuda.backend import Cuda
from weft.engine.toolchain.cache import library
from weft.engine.toolchain.compiler import find_compiler

HERE = Path(__file__).parent


class Blocks:
    """Compiles what a GPU would run with words of the host for the GPU's own."""

    memory = torch.device("cpu")

    def __init__(self, threads=1):
        self.head = f"#define THREADS {threads}\n" + (HERE / "block.h").read_text(encoding="utf-8")
        self.tail = (HERE / "block_run.h").read_text(encoding="utf-8")

        self.kept, self.captures = [], False

    def require(self):
        """The host's compiler."""
        find_compiler()

    def library(self, source):
        return library(self.head + source + self.tail, extra=("-O1",))

    def function(self, lib, name):
        pair = (ctypes.c_void_p * 2)(
            *(ctypes.cast(f, ctypes.c_void_p) for f in (lib.block_run, getattr(lib, name)))
        )
        self.kept.append(pair)
        return ctypes.addressof(pair)

    @functools.cached_property
    def launch(self):
        lib = library((HERE / "block_launch.c").read_text(encoding="utf-8")).lib
        return ctypes.cast(lib.block_launch, ctypes.c_void_p).value

    def capturing(self):
        return self.captures

    def stream(self):
        return None

    def call(self, function, *args):
        return function(*args, None)

    def keep(self, tensors):
        assert all(t.device == self.memory for t in tensors)


def emulated(threads=1):
    """The GPU's backend, in the CPU's place."""
    device = Blocks(threads)
    return Cuda(device.memory, device)
